"""Migrations of a part of a tenant: what they move and leave, the way back, and what a rule keeps elsewhere."""

from __future__ import annotations

import asyncio
import itertools
import json
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from tests.support import Place, assert_clean, chunked, make_place, quiet, working

from simples3dms.bootstrap import Services
from simples3dms.context import HOST
from simples3dms.documents import repository as documents_repository
from simples3dms.documents.values import UploadRequest
from simples3dms.errors import Conflict, Failure, Invalid
from simples3dms.storage.drains.values import DrainPlan
from simples3dms.storage.migrations import repository as migrations_repository
from simples3dms.storage.migrations import service
from simples3dms.storage.migrations.chunks import repository as chunks
from simples3dms.storage.migrations.values import Migration
from simples3dms.storage.placement import repository
from simples3dms.storage.placement.router import matches
from simples3dms.storage.placement.selections import Selection
from simples3dms.storage.placement.turns import Move, selected
from simples3dms.storage.placement.values import Match, Policy, RuleWords
from simples3dms.storage.transfers import repository as transfers_repository

pytestmark = pytest.mark.anyio

IMAGES = Match(("image/*",))


@pytest.fixture
async def place(services: Services, tmp_path: Path) -> Place:
    settings = ({"path": str(tmp_path / "a")}, {"path": str(tmp_path / "b")})
    for one in settings:
        Path(one["path"]).mkdir()
    return await make_place(services, kind="local", settings=settings)


async def put(place: Place, body: bytes, content_type: str) -> UUID:
    request = UploadRequest("file", content_type, size_bytes=len(body))
    done = await place.services.uploads.upload(HOST, place.tenant_id, request, chunked(body))
    return done.document.id


async def filled(place: Place, count: int = 30) -> dict[UUID, tuple[bytes, str]]:
    """Documents, two thirds of them images."""
    kinds = itertools.cycle(("image/png", "text/plain", "Image/JPEG; q=1"))
    made = [(bytes([number]) * (10 + number), next(kinds)) for number in range(count)]
    return {await put(place, body, kind): (body, kind) for body, kind in made}


async def stores_of(place: Place) -> dict[UUID, set[UUID]]:
    """For each document the stores with a live replica of it."""
    async with place.services.database.tenant(place.tenant_id) as uow:
        cursor = await uow.connection.execute(
            """SELECT v.document_id, r.store_id FROM versions v JOIN replicas r ON r.tenant_id = v.tenant_id
               AND r.blob_id = v.blob_id AND r.state = 'live'"""
        )
        found: dict[UUID, set[UUID]] = {}
        for document_id, store_id in await cursor.fetchall():
            found.setdefault(document_id, set()).add(store_id)
    return found


async def read_first(place: Place, document_id: UUID) -> str:
    """The store that a reader is sent to first, by the explanation and by the plan of a read."""
    explained = await place.services.documents.explain_placement(place.tenant_id, document_id)
    async with place.services.database.tenant(place.tenant_id) as uow:
        blob = await documents_repository.find_version_blob(uow, document_id, 1)
        assert blob is not None
        first = (await place.services.blobs.plan_read(uow, blob)).replicas[0].store_id
    name = place.a if first == place.a_id else place.b
    assert [one.store for one in explained.stores if one.read_place == 1] == [name]
    return name


def is_image(kind: str) -> bool:
    return kind.lower().startswith("image/")


async def assert_parted(place: Place, documents: dict[UUID, tuple[bytes, str]]) -> None:
    """Images at b, all else at a, nothing twice; in the records and at the stores."""
    there = await stores_of(place)
    assert there == {one: {place.b_id if is_image(kind) else place.a_id} for one, (_, kind) in documents.items()}
    images = sum(is_image(kind) for _, kind in documents.values())
    assert len(await place.listing(place.b_id)) == images
    assert len(await place.listing(place.a_id)) == len(documents) - images
    for document_id, (body, _) in documents.items():
        assert await place.read(document_id) == body
    await assert_clean(place.services)


async def begun(place: Place, only: Match | None = IMAGES, **more: Any) -> Migration:
    m = place.services.migrations
    planned = await m.plan_migration(HOST, place.tenant_id, target=more.pop("target", place.b), only=only, **more)
    await m.start_migration(HOST, place.tenant_id, planned.id)
    return planned


async def policy_of(place: Place) -> Policy:
    async with place.services.database.tenant(place.tenant_id) as uow:
        row = await repository.find(uow)
    assert row is not None
    return row.policy


async def refused(code: str, failure: type[Failure], act: Any) -> None:
    with pytest.raises(failure) as caught:
        await act
    assert caught.value.problem_code == code


async def test_a_part_is_moved_while_people_write_and_the_rest_stays(place: Place) -> None:
    documents = await filled(place)
    m, t = place.services.migrations, place.tenant_id
    stop = asyncio.Event()

    async def write() -> None:
        for number in itertools.count():
            if stop.is_set():
                return
            body, kind = b"new" * number, ("image/gif", "text/html")[number % 2]
            documents[await put(place, body, kind)] = (body, kind)

    planned = await m.plan_migration(HOST, t, target=place.b, only=Match(("IMAGE/*",)))
    plan = planned.plan
    assert (plan.blob_count, plan.left_count, plan.is_exact, planned.only) == (20, 10, True, IMAGES)
    assert plan.size_bytes + plan.left_bytes == sum(len(body) for body, _ in documents.values())
    async with working(place.services):
        writer = asyncio.create_task(write())
        await m.start_migration(HOST, t, planned.id)
        await place.until(planned.id, "ready")
        await m.cut_over(HOST, t, planned.id)
        placed = await place.services.placements.get_placement(t)
        assert (placed.write, placed.copies) == (place.a, ())
        assert placed.rules == (RuleWords(place.b, (place.a,), match=IMAGES),), "the way back is kept for the part"
        await m.finalize(HOST, t, planned.id)
        await place.until(planned.id, "done")
        stop.set()
        await writer
        await quiet(place)
    placed = await place.services.placements.get_placement(t)
    assert (placed.write, placed.copies, placed.rules) == (place.a, (), (RuleWords(place.b, match=IMAGES),))
    lines = [json.loads(line) async for line in await place.services.reports.open_report(t, planned.id)]
    assert lines[0]["report"]["only"] == {"content_types": ["image/*"]}
    assert int(lines[-1]["trailer"]["items"]) == sum(is_image(kind) for _, kind in documents.values())
    assert int(lines[-1]["trailer"]["proven"]) >= plan.blob_count
    await assert_parted(place, documents)


async def test_f57_a_part_is_rolled_back_and_loses_nothing(place: Place) -> None:
    documents = await filled(place)
    before = await policy_of(place)
    async with working(place.services):
        planned = await begun(place)
        await place.until(planned.id, "ready")
        await place.services.migrations.cut_over(HOST, place.tenant_id, planned.id)
        first = {(await read_first(place, one), is_image(kind)) for one, (_, kind) in documents.items()}
        assert first == {(place.b, True), (place.a, False)}, "the part is read from the target"
        for kind in ("image/late", "text/late"):
            documents[await put(place, kind.encode(), kind)] = (kind.encode(), kind)
        gone = next(iter(documents))
        await place.services.documents.delete_document(HOST, place.tenant_id, gone)
        await place.services.documents.purge_document(HOST, place.tenant_id, gone)
        del documents[gone]
        await place.services.migrations.roll_back(HOST, place.tenant_id, planned.id)
        await place.until(planned.id, "rolled_back")
        await quiet(place)
    assert await policy_of(place) == before
    assert await place.listing(place.b_id) == []
    assert await stores_of(place) == {document_id: {place.a_id} for document_id in documents}
    for document_id, (body, _) in documents.items():
        assert await place.read(document_id) == body
    await assert_clean(place.services)


async def test_a_target_in_use_keeps_what_it_had_when_another_part_is_rolled_back(place: Place) -> None:
    documents = await filled(place, 9)
    m, t = place.services.migrations, place.tenant_id
    async with working(place.services):
        images = await begun(place)
        await place.until(images.id, "ready")
        await m.cut_over(HOST, t, images.id)
        await m.finalize(HOST, t, images.id)
        await place.until(images.id, "done")
        before = await policy_of(place)
        # The rest, by size: what the first rule keeps at b already is none of it.
        rest = await begun(place, Match(min_bytes=1))
        assert (rest.plan.blob_count, rest.plan.left_count) == (3, 6)
        await place.until(rest.id, "ready")
        await m.cut_over(HOST, t, rest.id)
        documents[await put(place, b"late", "text/late")] = (b"late", "text/late")
        await m.roll_back(HOST, t, rest.id)
        await place.until(rest.id, "rolled_back")
        await quiet(place)
        assert await policy_of(place) == before
        await assert_parted(place, documents)
        back = await begun(place, source=place.b, target=place.a)
        await place.until(back.id, "ready")
        await m.cut_over(HOST, t, back.id)
        await m.finalize(HOST, t, back.id)
        await place.until(back.id, "done")
        await quiet(place)
    assert await place.listing(place.b_id) == []
    assert len(await place.listing(place.a_id)) == len(documents)
    await assert_clean(place.services)


async def test_a_migration_of_all_leaves_what_a_rule_keeps_elsewhere(place: Place, tmp_path: Path) -> None:
    services, t = place.services, place.tenant_id
    (tmp_path / "c").mkdir()
    c = await services.stores.add_store(HOST, "c", "local", {"path": str(tmp_path / "c")}, {})
    await services.stores.grant_store(HOST, t, "c")
    stray = await put(place, b"from before the rule", "image/png")
    await services.placements.set_placement(HOST, t, write=place.a, rules=[RuleWords("c", match=IMAGES)])
    kept, plain = await put(place, b"image", "image/png"), await put(place, b"text", "text/plain")
    async with working(services):
        planned = await begun(place, None)
        assert (planned.plan.blob_count, planned.plan.left_count) == (2, 1)
        await place.until(planned.id, "ready")
        assert await stores_of(place) == {
            stray: {place.a_id, place.b_id},
            kept: {c.id},
            plain: {place.a_id, place.b_id},
        }
        await services.migrations.cut_over(HOST, t, planned.id)
        later = await put(place, b"later", "image/png")
        await services.migrations.finalize(HOST, t, planned.id)
        await place.until(planned.id, "done")
        await quiet(place)
    assert await stores_of(place) == {stray: {place.b_id}, kept: {c.id}, later: {c.id}, plain: {place.b_id}}
    lines = [json.loads(line) async for line in await services.reports.open_report(t, planned.id)]
    assert (lines[-1]["trailer"]["items"], lines[-1]["trailer"]["unproven"]) == (2, 0)
    await assert_clean(services)


async def test_an_upload_that_began_before_the_turn_is_waited_out(place: Place) -> None:
    await filled(place, 3)
    m, t = place.services.migrations, place.tenant_id
    go_on = asyncio.Event()

    async def body() -> AsyncIterator[bytes]:
        yield b"slow "
        await go_on.wait()
        yield b"image"

    async with working(place.services):
        request = UploadRequest("slow", "image/png", size_bytes=10)
        slow = asyncio.create_task(place.services.uploads.upload(HOST, t, request, body()))
        async with asyncio.timeout(20):
            while not await _count(place, "SELECT count(*) FROM replicas WHERE state = 'writing'"):
                await asyncio.sleep(0.02)
        planned = await begun(place)
        await place.until(planned.id, "ready")
        await m.cut_over(HOST, t, planned.id)
        await m.finalize(HOST, t, planned.id)
        async with asyncio.timeout(20):
            while await _count(place, "SELECT count(*) FROM replicas WHERE state = 'retiring'") or not await _count(
                place, "SELECT count(*) FROM migration_chunks WHERE phase = 'evacuate' AND state = 'done'"
            ):
                await asyncio.sleep(0.02)
        await place.services.migration_engine.advance(t, planned.id)
        assert (await place.migration(planned.id)).state == "finalizing"
        go_on.set()
        late = (await slow).document.id
        await place.until(planned.id, "done")
        await quiet(place)
    assert (await stores_of(place))[late] == {place.b_id}
    await assert_clean(place.services)


async def _count(place: Place, query: str) -> int:
    async with place.services.database.tenant(place.tenant_id) as uow:
        return int(await uow.scalar(query))


async def _age(place: Place, document_id: UUID, hours: int) -> None:
    async with place.services.database.tenant(place.tenant_id) as uow:
        await uow.execute(
            """UPDATE blobs SET created_at = created_at - make_interval(hours => %s) WHERE id = (
                 SELECT blob_id FROM versions WHERE document_id = %s)""",
            [hours, document_id],
        )


async def test_ages_count_from_the_start_and_the_rule_has_what_comes_of_age_later(place: Place) -> None:
    old, young = await put(place, b"old", "text/a"), await put(place, b"young", "text/a")
    await _age(place, old, 31 * 24)
    await _age(place, young, 30 * 24 - 12)
    async with working(place.services):
        planned = await begun(place, Match(min_age_days=30))
        assert (planned.plan.blob_count, planned.plan.left_count) == (1, 1)
        await place.until(planned.id, "ready")
        # A day passes.
        async with place.services.database.tenant(place.tenant_id) as uow:
            await uow.execute("UPDATE migrations SET started_at = started_at - interval '1 day'")
        await _age(place, young, 24)
        await place.services.migrations.cut_over(HOST, place.tenant_id, planned.id)
        new = await put(place, b"new", "text/a")
        await place.services.migrations.finalize(HOST, place.tenant_id, planned.id)
        await place.until(planned.id, "done")
        lasting = {old: {place.b_id}, young: {place.a_id, place.b_id}, new: {place.a_id}}
        async with asyncio.timeout(30):
            while await stores_of(place) != lasting:
                await asyncio.sleep(0.05)
        await quiet(place)
    await assert_clean(place.services)


async def test_debts_of_the_rest_towards_a_store_that_a_part_leaves_stay(place: Place) -> None:
    documents = await filled(place, 3)
    async with place.services.database.tenant(place.tenant_id) as uow:
        blobs = await uow.scalars("SELECT blob_id FROM versions")
        for blob_id in blobs:
            await place.services.transfers.owe_copies(uow, blob_id, [place.b_id], migration_id=None)
        await transfers_repository.drop(uow, Selection(IMAGES), target_store_id=place.b_id, only_waived=True)
        assert await uow.scalar("SELECT count(*) FROM transfers") == len(documents)
        await transfers_repository.drop(uow, Selection(IMAGES), target_store_id=place.b_id)
        left = await uow.scalars(
            "SELECT b.content_type FROM transfers t JOIN blobs b ON b.tenant_id = t.tenant_id AND b.id = t.blob_id"
        )
    assert left == ["text/plain"]


async def test_i6_a_part_is_not_cut_over_while_one_of_it_is_unproven(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "_CUT_OVER_TRIES", 3)
    documents = await filled(place, 9)
    m, t = place.services.migrations, place.tenant_id
    async with working(place.services):
        planned = await begun(place)
        await place.until(planned.id, "ready")
    doubt = """UPDATE replicas r SET evidence = 'written' FROM blobs b WHERE b.tenant_id = r.tenant_id
      AND b.id = r.blob_id AND r.store_id = %s AND lower(b.content_type) LIKE %s"""
    before = await policy_of(place)
    async with place.services.database.tenant(t) as uow:
        assert await uow.execute(doubt, [place.b_id, "image/j%"]) == 3
        await uow.execute("UPDATE migrations SET proven_seq = NULL")
    await refused("migration_not_proven", Conflict, m.cut_over(HOST, t, planned.id))
    assert await policy_of(place) == before
    async with working(place.services):
        await place.until(planned.id, "ready")
        await m.cut_over(HOST, t, planned.id)
        await m.finalize(HOST, t, planned.id)
        await place.until(planned.id, "done")
        await quiet(place)
    await assert_parted(place, documents)


async def test_what_can_not_be_moved_in_part_is_refused(place: Place) -> None:
    services, t = place.services, place.tenant_id
    plan, put_in_force = services.migrations.plan_migration, services.placements.set_placement
    for only in (Match(), Match(("images",)), Match(min_bytes=3, max_bytes=2), Match(min_age_days=-1)):
        await refused("migration_part_invalid", Invalid, plan(HOST, t, target=place.b, only=only))
    await put_in_force(HOST, t, write=place.a, rules=[RuleWords(place.a, match=Match(("*/png",)))])
    await refused("migration_part_unclear", Invalid, plan(HOST, t, target=place.b, only=IMAGES))
    rules = [RuleWords(place.a, match=Match((f"text/{n}",))) for n in range(20)]
    await put_in_force(HOST, t, write=place.a, rules=rules)
    await refused("placement_rules_full", Conflict, plan(HOST, t, target=place.b, only=IMAGES))
    await put_in_force(HOST, t, write=place.a, rules=[RuleWords(place.b, match=IMAGES)])
    await refused("migration_source_not_in_use", Invalid, plan(HOST, t, source=place.b, target=place.a))
    back = await plan(HOST, t, source=place.b, target=place.a, only=IMAGES)
    assert (back.source, back.target, back.state) == (place.b, place.a, "planned")


async def test_a_drain_takes_no_part_for_the_whole(place: Place) -> None:
    documents = await filled(place, 3)
    m, t = place.services.migrations, place.tenant_id
    planned = await m.plan_migration(HOST, t, target=place.b, only=IMAGES)
    await place.services.drains.start(HOST, place.a, place.b, DrainPlan(automatic=True, finalize_after_seconds=0))
    async with working(place.services), asyncio.timeout(30):
        while (await place.services.drains.get(place.a)).state != "halted":
            await asyncio.sleep(0.05)
    assert (await place.migration(planned.id)).state == "planned", "a person's, and in the way"
    assert set(await stores_of(place)) == set(documents)


async def test_the_database_selects_what_the_router_does(place: Place) -> None:
    chance = random.Random(7)
    types = ("image/png", "Image/X_y; q=1", "text/plain", "image/xay", "application/pdf", "imagexpng/a")
    for number in range(12):
        await put(place, bytes(number * 5), types[number % len(types)])
    async with place.services.database.tenant(place.tenant_id) as uow:
        await uow.execute("UPDATE blobs SET created_at = now() - make_interval(hours => (seq %% 7)::int * 11)", {})
        blobs = [seen.subject for seen in await repository.list_seen(uow, after_seq=0, limit=100)]
        patterns = ("image/*", "image/x_y", "*/p*", "text/plain", "*/*", "image*")

        def some() -> Match:
            low, high = sorted(chance.sample(range(60), 2))
            young, old = sorted(chance.sample(range(4), 2))
            picked = tuple(chance.sample(patterns, chance.randrange(3)))
            pick = lambda value: chance.choice((None, value))  # noqa: E731
            return Match(picked, pick(low), pick(high), pick(young), pick(old))

        move = Move(place.a_id, place.b_id)
        for _ in range(150):
            rules = tuple((some(), chance.random() < 0.5) for _ in range(chance.randrange(4)))
            selection = Selection(chance.choice((None, some())), rules, chance.random() < 0.5)
            page = await migrations_repository.count_page(uow, selection, move, after_seq=0, limit=100)
            expected = [blob for blob in blobs if _is_in(selection, blob)]
            assert page.blob_count == len(expected), selection
            assert page.size_bytes == sum(blob.size_bytes or 0 for blob in expected)
            assert page.left_count == len(blobs) - len(expected)
            assert (page.source_count, page.target_count) == (len(expected), 0)
            met = [blob for blob in blobs if selection.only is None or matches(selection.only, blob)]
            assert selection.is_all or page.leaving_count == len(met)


def _is_in(selection: Selection, blob: Any) -> bool:
    if selection.only is not None and not matches(selection.only, blob):
        return False
    return next((is_in for match, is_in in selection.rules if matches(match, blob)), selection.otherwise)


async def test_a_chunk_is_bounded_by_what_is_selected_and_by_what_is_looked_at(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    await filled(place, 30)
    monkeypatch.setattr(chunks, "_SCAN", 9)
    selection = selected(await policy_of(place), Move(place.a_id, place.b_id, Match(("text/*",))))
    seen, after = [], 0
    async with place.services.database.tenant(place.tenant_id) as uow:
        while True:
            one = await chunks.next_range(
                uow, selection, after_seq=after, upto_seq=10_000, limit=2, limit_bytes=1 << 40
            )
            if one.high_seq is None:
                break
            seen.append(one.blob_count)
            after = one.high_seq
    assert sum(seen) == 10
    assert max(seen) == 2
