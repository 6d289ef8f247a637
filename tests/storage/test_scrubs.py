"""Scrubs: what is bad is found and mended, a mass of it waits for a person, a store's fault says nothing of objects."""

from __future__ import annotations

import asyncio
import dataclasses
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from tests.support import Place, assert_clean, make_place, quiet, working

from simples3dms.bootstrap import Services
from simples3dms.context import HOST
from simples3dms.errors import Conflict, Failure, Invalid, NotFound
from simples3dms.kit.streams import LeaseLost
from simples3dms.providers.errors import BucketMissing, IntegrityError, ObjectNotFound, StoreUnavailable
from simples3dms.providers.kinds import memory
from simples3dms.storage.blobs import repository as blobs_repository
from simples3dms.storage.scrubs import engine, repository
from simples3dms.storage.scrubs.values import Found, Level, Page, Scrub

pytestmark = pytest.mark.anyio


@pytest.fixture
async def place(services: Services) -> Place:
    return await make_place(services)


async def fill(place: Place, count: int) -> list[UUID]:
    """Documents with a copy in both stores, each read back."""
    await place.services.placements.set_placement(HOST, place.tenant_id, write=place.a, copies=[place.b])
    documents = [(await place.upload(f"body {number}".encode())).document.id for number in range(count)]
    async with working(place.services):
        await quiet(place)
    assert await states(place) == {("a", "live"): count, ("b", "live"): count}
    return documents


async def states(place: Place) -> dict[tuple[str, str], int]:
    """How many replicas there are in each state, by store."""
    names = {place.a_id: "a", place.b_id: "b"}
    async with place.services.database.tenant(place.tenant_id) as uow, uow.connection.cursor() as cursor:
        await cursor.execute("SELECT store_id, state, count(*) FROM replicas GROUP BY 1, 2")
        return {(names[store], state): count for store, state, count in await cursor.fetchall()}


def paths(place: Place, store: str) -> list[str]:
    """Of the tenant's documents at a store."""
    found = memory._shelves[store].objects
    return sorted(path for path in found if str(place.tenant_id) in path and "audit/" not in path)


def flip(store: str, path: str) -> None:
    """The same size, another byte; in every version."""
    objects = memory._shelves[store].objects
    objects[path] = [dataclasses.replace(one, data=bytes([one.data[0] ^ 1]) + one.data[1:]) for one in objects[path]]


async def scrub(place: Place, store: str, level: Level = "deep") -> Scrub:
    """One from its beginning until it ends, waits or is paused; without a worker, so that nothing is mended yet."""
    begun = await place.services.scrubs.start(HOST, place.tenant_id, store=store, level=level)
    return await go_on(place, begun)


async def go_on(place: Place, begun: Scrub) -> Scrub:
    await place.services.scrubs.engine.run(place.tenant_id, begun.id)
    return await place.services.scrubs.get(place.tenant_id, begun.id)


async def mended(place: Place) -> None:
    async with working(place.services):
        async with asyncio.timeout(60):
            while any(state != "live" for _, state in await states(place)):
                await asyncio.sleep(0.05)
        await quiet(place)


async def actions(place: Place, tenant_id: UUID | None) -> list[str]:
    return [event.action for event in await place.services.audit.list_events(tenant_id, limit=50)]


async def test_what_is_good_is_proven(place: Place) -> None:
    await fill(place, 12)
    for store in (place.a, place.b):
        done = await scrub(place, store)
        assert (done.state, done.progress, done.checked_count) == ("done", 1.0, 12)
        assert (done.suspect_count, done.missing_count, done.lost_count, done.error_code) == (0, 0, 0, None)
        assert done.checked_bytes == sum(len(f"body {number}") for number in range(12))
    async with place.services.database.tenant(place.tenant_id) as uow:
        unproven = await uow.scalar("SELECT count(*) FROM replicas WHERE evidence <> 'read-back'")
    assert unproven == 0
    light = await scrub(place, place.a, "light")
    assert (light.state, light.checked_count, light.checked_bytes) == ("done", 12, 0)


async def test_an_empty_store_is_done_at_once(place: Place) -> None:
    done = await scrub(place, place.b)
    assert (done.state, done.checked_count) == ("done", 0)


@pytest.mark.parametrize("level", ["light", "deep"])
async def test_f34_an_object_that_was_deleted_behind_our_back_is_copied_anew(place: Place, level: Level) -> None:
    documents = await fill(place, 3)
    gone = paths(place, place.b)[1]
    del memory._shelves[place.b].objects[gone]
    found = await scrub(place, place.b, level)
    assert (found.state, found.missing_count, found.suspect_count, found.lost_count) == ("done", 1, 0, 0)
    assert await states(place) == {("a", "live"): 3, ("b", "live"): 2, ("b", "missing"): 1}
    await mended(place)
    assert len(paths(place, place.b)) == 3
    for number, document in enumerate(documents):
        assert await place.read(document) == f"body {number}".encode()
    await assert_clean(place.services)


async def test_f35_an_object_that_was_replaced_by_another_of_its_size_is_copied_anew(place: Place) -> None:
    await fill(place, 3)
    flip(place.b, paths(place, place.b)[0])
    light = await scrub(place, place.b, "light")
    assert (light.state, light.suspect_count) == ("done", 0), "a head proves nothing"
    deep = await scrub(place, place.b, "deep")
    assert (deep.state, deep.suspect_count, deep.missing_count) == ("done", 1, 0)
    await mended(place)
    await assert_clean(place.services)


async def test_an_object_of_another_size_is_seen_without_reading_it(place: Place) -> None:
    await fill(place, 2)
    objects, path = memory._shelves[place.b].objects, paths(place, place.b)[0]
    (stored,) = objects[path]
    short = dataclasses.replace(stored.info, size_bytes=1)
    objects[path] = [dataclasses.replace(stored, data=b"x", info=short)]
    assert (await scrub(place, place.b, "light")).suspect_count == 1
    await mended(place)
    await assert_clean(place.services)


async def test_f33_a_bit_that_flips_in_all_replicas_is_reported_and_nothing_is_deleted(place: Place) -> None:
    documents = await fill(place, 3)
    async with place.services.database.tenant(place.tenant_id) as uow:
        keys = await uow.scalars(
            """SELECT r.key FROM replicas r JOIN versions v ON v.blob_id = r.blob_id
               WHERE v.document_id = %s""",
            [documents[1]],
        )
    for store in (place.a, place.b):
        for path in set(paths(place, store)) & set(keys):
            flip(store, path)
    first, second = await scrub(place, place.a), await scrub(place, place.b)
    assert (first.suspect_count, first.lost_count) == (1, 0)
    assert (second.suspect_count, second.lost_count) == (1, 1)
    assert "blob.lost" in await actions(place, place.tenant_id)
    before = (paths(place, place.a), paths(place, place.b))
    async with working(place.services):
        async with asyncio.timeout(60):
            while not await _given_up(place):
                await asyncio.sleep(0.05)
    # Never bytes that are wrong; and all that there is stays: rows, objects, the document.
    with pytest.raises(Failure) as caught:
        await place.read(documents[1])
    assert (caught.value.problem_code, caught.value.code) == ("no_readable_replica", "storage_failed")
    assert (paths(place, place.a), paths(place, place.b)) == before
    doubtful = await place.services.scrubs.list_doubtful(place.tenant_id)
    assert [(one.document_id, one.state, one.is_lost) for one in doubtful] == [(documents[1], "suspect", True)] * 2
    assert (await place.services.documents.get_document(place.tenant_id, documents[1])).name == "file.bin"
    kinds = {finding.kind for finding in (await place.services.upkeep.fsck()).findings}
    assert kinds == {"version_without_replica", "failed_transfers"}


async def _given_up(place: Place) -> bool:
    async with place.services.database.tenant(place.tenant_id) as uow:
        return bool(await uow.scalar("SELECT 1 FROM transfers WHERE state = 'failed' LIMIT 1"))


async def test_f34_the_last_copy_that_is_gone_leaves_the_document_and_says_so(place: Place) -> None:
    document = (await place.upload(b"only once")).document.id
    memory._shelves[place.a].objects.clear()
    found = await scrub(place, place.a, "light")
    assert (found.missing_count, found.lost_count) == (1, 1)
    (doubtful,) = await place.services.scrubs.list_doubtful(place.tenant_id)
    assert (doubtful.document_id, doubtful.state, doubtful.is_lost) == (document, "missing", True)
    assert (await place.services.documents.get_document(place.tenant_id, document)).id == document
    details = [e for e in await place.services.audit.list_events(place.tenant_id, limit=50) if e.action == "blob.lost"]
    assert details[0].details["blobs"] == [str(doubtful.blob_id)]


async def test_f36_more_than_one_percent_stops_the_repairs_until_an_operator_trusts_the_store(place: Place) -> None:
    await fill(place, 100)
    for path in paths(place, place.b)[:5]:
        flip(place.b, path)
    found = await scrub(place, place.b)
    assert (found.state, found.error_code, found.suspect_count) == ("paused", "store_untrusted", 5)
    store = await place.services.stores.get_store(place.b)
    assert store.untrusted_at is not None
    assert "5 of 100 replicas bad" in (store.untrusted_reason or "")
    health = await place.services.stores.check_store(place.b)
    assert (health.ok, health.code) == (False, "store_untrusted")
    assert "store.distrusted" in await actions(place, None)
    # Neither by the jobs that there are, nor by the watchdog, nor because somebody reads.
    async with place.services.database.tenant(place.tenant_id) as uow:
        bad = await uow.scalars("SELECT blob_id FROM replicas WHERE state = 'suspect'")
    async with place.services.database.platform() as platform:
        assert await blobs_repository.list_doubtful(platform, limit=100) == []
    for blob_id in bad:
        await place.services.transfers.repair(place.tenant_id, blob_id, place.b_id)
    async with working(place.services):
        await quiet(place)
    assert await states(place) == {("a", "live"): 100, ("b", "live"): 95, ("b", "suspect"): 5}
    with pytest.raises(Invalid):
        await place.services.scrubs.trust_store(HOST, place.b, reason=" ")
    trusted = await place.services.scrubs.trust_store(HOST, place.b, reason="a controller was replaced")
    assert trusted.untrusted_reason is None
    assert (await place.services.stores.check_store(place.b)).ok
    with pytest.raises(Conflict):
        await place.services.scrubs.trust_store(HOST, place.b, reason="again")
    # What was bad before is forgiven: the scrub goes on to its end.
    await place.services.scrubs.resume(HOST, place.tenant_id, found.id)
    assert (await go_on(place, found)).state == "done"
    await mended(place)
    await assert_clean(place.services)


async def test_f36_a_few_are_mended_without_a_person(place: Place) -> None:
    await fill(place, 30)
    for path in paths(place, place.b)[:4]:
        flip(place.b, path)
    found = await scrub(place, place.b)
    assert (found.state, found.suspect_count) == ("done", 4)
    await mended(place)
    await assert_clean(place.services)


async def test_f36_a_scrub_of_a_store_that_is_not_trusted_goes_on_and_mends_nothing(place: Place) -> None:
    await fill(place, 20)
    async with place.services.database.platform() as uow:
        assert await repository.distrust(uow, place.b_id, "it smells")
    for path in paths(place, place.b)[:10]:
        flip(place.b, path)
    found = await scrub(place, place.b)
    assert (found.state, found.suspect_count) == ("done", 10)
    async with working(place.services):
        await quiet(place)
    assert (await states(place))[("b", "suspect")] == 10


async def test_f49_a_bucket_that_is_gone_marks_nothing(services: Services, tmp_path: Path) -> None:
    roots = [tmp_path / name for name in ("one", "two")]
    for root in roots:
        root.mkdir()
    place = await make_place(services, kind="local", settings=({"path": str(roots[0])}, {"path": str(roots[1])}))
    documents = await fill(place, 8)
    roots[1].rename(tmp_path / "away")
    for level in ("light", "deep"):
        found = await scrub(place, place.b, level)
        assert (found.state, found.error_code, found.checked_count) == ("running", "store_bucket_missing", 0)
        await services.scrubs.pause(HOST, place.tenant_id, found.id)
        async with services.database.tenant(place.tenant_id) as uow:
            await uow.execute("UPDATE scrubs SET state = 'done', finished_at = now() WHERE id = %s", [found.id])
    roots[0].rename(tmp_path / "away-too")
    with pytest.raises(Failure):
        await place.read(documents[0])
    assert await states(place) == {("a", "live"): 8, ("b", "live"): 8}
    (tmp_path / "away").rename(roots[1])
    (tmp_path / "away-too").rename(roots[0])
    begun = await services.scrubs.start(HOST, place.tenant_id, store=place.b, level="deep")
    async with working(services), asyncio.timeout(60):
        while (begun := await services.scrubs.get(place.tenant_id, begun.id)).state != "done":
            await asyncio.sleep(0.05)
    assert (begun.checked_count, begun.missing_count) == (8, 0)
    await assert_clean(services)


async def test_f49_a_reader_is_told_of_no_object_that_is_missing_where_the_bucket_may_be(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store that says "not found" of everything while its bucket is away: the bucket is asked for before."""
    document = (await place.upload(b"body")).document.id
    provider = await place.services.stores.provider(place.a_id)
    shelf = memory._shelves[place.a]
    away, shelf.objects = shelf.objects, {}

    async def gone() -> None:
        raise BucketMissing("no bucket")

    monkeypatch.setattr(provider, "check", gone)
    with pytest.raises(Failure):
        await place.read(document)
    found = await scrub(place, place.a, "light")
    assert (found.state, found.error_code, found.missing_count) == ("running", "store_bucket_missing", 0)
    assert await states(place) == {("a", "live"): 1}
    shelf.objects = away
    assert await place.read(document) == b"body"


async def test_an_object_that_its_store_fails_for_ever_is_bad_while_others_can_be_read(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As SeaweedFS answers 500 to every read of an object whose bytes changed on its disk, and 200 to a head."""
    await fill(place, 6)
    provider = await place.services.stores.provider(place.b_id)
    broken, real = paths(place, place.b)[2], provider.open

    @asynccontextmanager
    async def failing(key: str, **given: Any) -> Any:
        if key == broken:
            raise StoreUnavailable("500")
        async with real(key, **given) as reader:
            yield reader

    monkeypatch.setattr(provider, "open", failing)
    found = await scrub(place, place.b)
    assert (found.state, found.suspect_count, found.checked_count) == ("done", 1, 6)
    monkeypatch.setattr(provider, "open", real)
    await mended(place)
    await assert_clean(place.services)


async def test_a_store_that_fails_for_everything_says_nothing_of_its_objects(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(place, 3)
    provider = await place.services.stores.provider(place.b_id)
    real = provider.open

    @asynccontextmanager
    async def failing(key: str, **given: Any) -> Any:
        raise StoreUnavailable("500")
        yield

    monkeypatch.setattr(provider, "open", failing)
    found = await scrub(place, place.b)
    assert (found.state, found.error_code, found.checked_count) == ("running", "store_unreachable", 0)
    assert await states(place) == {("a", "live"): 3, ("b", "live"): 3}
    monkeypatch.setattr(provider, "open", real)
    async with working(place.services):
        async with asyncio.timeout(60):
            while (await place.services.scrubs.get(place.tenant_id, found.id)).state != "done":
                await asyncio.sleep(0.05)


async def test_bytes_that_were_hurt_on_the_way_once_are_read_again(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(place, 2)
    provider = await place.services.stores.provider(place.b_id)
    real, hurt = provider.open, set[str]()

    @asynccontextmanager
    async def once(key: str, **given: Any) -> Any:
        if key not in hurt:
            hurt.add(key)
            raise IntegrityError("a bit flipped")
        async with real(key, **given) as reader:
            yield reader

    monkeypatch.setattr(provider, "open", once)
    found = await scrub(place, place.b)
    assert (found.state, found.suspect_count, len(hurt)) == ("done", 0, 2)


async def test_it_goes_on_where_it_was_after_a_pause(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    await fill(place, 9)
    monkeypatch.setattr(engine, "_PAGE", 2)
    monkeypatch.setattr(engine, "_TURN_SECONDS", 0.000001)
    begun = await scrub(place, place.b)
    assert (begun.state, begun.checked_count) == ("running", 2)
    with pytest.raises(Conflict) as caught:
        await place.services.scrubs.start(HOST, place.tenant_id, store=place.b, level="light")
    assert caught.value.problem_code == "scrub_active"
    paused = await place.services.scrubs.pause(HOST, place.tenant_id, begun.id)
    assert (await go_on(place, paused)).checked_count == 2
    with pytest.raises(Conflict):
        await place.services.scrubs.pause(HOST, place.tenant_id, begun.id)
    resumed = await place.services.scrubs.resume(HOST, place.tenant_id, begun.id)
    while resumed.state == "running":
        resumed = await go_on(place, resumed)
    assert (resumed.state, resumed.checked_count) == ("done", 9)
    with pytest.raises(Conflict):
        await place.services.scrubs.resume(HOST, place.tenant_id, begun.id)
    with pytest.raises(NotFound):
        await place.services.scrubs.get(place.tenant_id, place.a_id)
    with pytest.raises(NotFound):
        await place.services.scrubs.start(HOST, place.tenant_id, store="never-was", level="light")


async def test_a_page_of_one_who_lost_the_claim_counts_for_nothing(place: Place) -> None:
    await fill(place, 1)
    scrubs = place.services.scrubs
    begun = await scrubs.start(HOST, place.tenant_id, store=place.b, level="deep")
    async with place.services.database.tenant(place.tenant_id) as uow:
        claimed = await repository.claim(uow, begun.id, lease_seconds=60)
        assert claimed is not None
        assert await repository.claim(uow, begun.id, lease_seconds=60) is None
        (copy,) = await repository.list_copies(uow, place.b_id, begin=UUID(int=0), end=UUID(int=2**128 - 1), limit=10)
    await scrubs.pause(HOST, place.tenant_id, begun.id)
    with pytest.raises(LeaseLost):
        await scrubs.engine._settle(place.tenant_id, claimed, Page(0, copy.id), [Found(copy, "suspect", "integrity")])
    assert await states(place) == {("a", "live"): 1, ("b", "live"): 1}


async def test_one_whose_job_is_lost_is_found_by_the_watchdog(place: Place) -> None:
    await fill(place, 2)
    scrubs = place.services.scrubs
    begun = await scrubs.start(HOST, place.tenant_id, store=place.b, level="deep")
    async with place.services.database.platform() as uow, uow.as_queue() as connection:
        await connection.execute("DELETE FROM procrastinate_jobs")
    async with working(place.services):
        async with asyncio.timeout(60):
            while (await scrubs.get(place.tenant_id, begun.id)).state != "done":
                await asyncio.sleep(0.05)


async def test_it_begins_by_itself_when_it_is_due_and_once(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    await fill(place, 2)
    scrubs = place.services.scrubs
    monkeypatch.setattr(scrubs, "_days", {"light": 7, "deep": 30})
    await scrubs.start_due(limit=100)
    assert await scrubs.list_page(place.tenant_id) == []
    async with place.services.database.platform() as uow:
        await uow.execute(
            """UPDATE store_grants SET light_scrub_at = now() - interval '8 days',
                 deep_scrub_at = now() - CASE WHEN store_id = %s THEN interval '31 days' ELSE interval '1 day' END
               WHERE tenant_id = %s""",
            [place.b_id, place.tenant_id],
        )
        await repository.distrust(uow, place.a_id, "it smells")
    await asyncio.gather(*(scrubs.start_due(limit=100) for _ in range(3)))
    (begun,) = await scrubs.list_page(place.tenant_id)
    assert (begun.store, begun.level, begun.is_scheduled) == (place.b, "deep", True)
    await go_on(place, begun)
    await scrubs.start_due(limit=100)
    assert len(await scrubs.list_page(place.tenant_id)) == 1, "a deep one is a light one, too"


async def test_a_doubtful_replica_is_reported_by_its_error(place: Place) -> None:
    document = (await place.upload(b"body")).document.id
    async with place.services.database.tenant(place.tenant_id) as uow:
        blob_id = await uow.scalar("SELECT blob_id FROM versions WHERE document_id = %s", [document])
        (replica,) = await blobs_repository.list_replicas(uow, [blob_id])
    memory._shelves[place.a].objects.clear()
    await place.services.blobs.report_bad(place.tenant_id, replica, ObjectNotFound("gone"))
    (found,) = await place.services.scrubs.list_doubtful(place.tenant_id)
    assert (found.document_name, found.error, found.is_lost) == ("file.bin", "object_not_found", True)
