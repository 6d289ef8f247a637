"""Reconciles: what a store has and the records have not, and the other way round; and what may be removed of it."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support import Place, assert_clean, make_place, quiet, working

from simples3dms.bootstrap import Services
from simples3dms.context import HOST
from simples3dms.errors import Conflict, Failure, Invalid, NotFound
from simples3dms.kit.streams import LeaseLost
from simples3dms.providers.base import ObjectInfo
from simples3dms.providers.errors import BucketMissing
from simples3dms.providers.kinds import memory
from simples3dms.storage.prices.values import OwnPrices
from simples3dms.storage.reconciles import engine, moving, repository
from simples3dms.storage.reconciles.values import Known, Reconcile

pytestmark = pytest.mark.anyio
_OLD = datetime(2020, 1, 1, tzinfo=UTC)


@pytest.fixture
async def place(services: Services) -> Place:
    return await make_place(services)


async def fill(place: Place, count: int) -> list[UUID]:
    await place.services.placements.set_placement(HOST, place.tenant_id, write=place.a, copies=[place.b])
    documents = [(await place.upload(f"body {number}".encode())).document.id for number in range(count)]
    async with working(place.services):
        await quiet(place)
    return documents


async def plant(place: Place, store: str, name: str, body: bytes = b"nobody's", *, at: datetime = _OLD) -> str:
    """An object below the tenant's prefix that nobody recorded."""
    provider = await place.services.stores.provider(place.a_id if store == place.a else place.b_id)
    key = f"t/{place.tenant_id}/{name}"
    await provider.put(key, body)
    objects = memory._shelves[store].objects
    newest = objects[key][-1]
    objects[key][-1] = dataclasses.replace(newest, info=dataclasses.replace(newest.info, modified_at=at))
    return key


def paths(place: Place, store: str) -> list[str]:
    found = memory._shelves[store].objects
    return sorted(path for path in found if str(place.tenant_id) in path and "audit/" not in path)


async def compare(place: Place, store: str, *, older_than_days: float = 7) -> Reconcile:
    begun = await place.services.reconciles.start(HOST, place.tenant_id, store=store, older_than_days=older_than_days)
    return await go_on(place, begun)


async def go_on(place: Place, begun: Reconcile) -> Reconcile:
    await place.services.reconciles.engine.run(place.tenant_id, begun.id)
    return await place.services.reconciles.get(place.tenant_id, begun.id)


async def states(place: Place) -> set[tuple[str, str]]:
    names = {place.a_id: "a", place.b_id: "b"}
    async with place.services.database.tenant(place.tenant_id) as uow, uow.connection.cursor() as cursor:
        await cursor.execute("SELECT DISTINCT store_id, state FROM replicas")
        return {(names[store], state) for store, state in await cursor.fetchall()}


@pytest.mark.parametrize("page", [1000, 3, 1])
async def test_both_sides_agree(place: Place, monkeypatch: pytest.MonkeyPatch, page: int) -> None:
    await fill(place, 11)
    monkeypatch.setattr(engine, "_PAGE", page)
    for store in (place.a, place.b):
        done = await compare(place, store, older_than_days=0)
        assert (done.state, done.is_sorted, done.compared_count, done.listed_count) == ("done", True, 11, 11)
        assert (done.unexplained_count, done.hidden_count, done.unfinished_count, done.missing_count) == (0, 0, 0, 0)
        with pytest.raises(Invalid):
            await place.services.reconciles.remove(HOST, place.tenant_id, done.id, count=0)


@pytest.mark.parametrize("page", [1000, 2, 1])
async def test_what_nobody_explains_is_counted_priced_and_removed_on_demand(
    place: Place, monkeypatch: pytest.MonkeyPatch, page: int
) -> None:
    await fill(place, 4)
    monkeypatch.setattr(engine, "_PAGE", page)
    reconciles = place.services.reconciles
    keys = [await plant(place, place.b, name, b"x" * 2**20) for name in ("00/first", "7f/mid", "ff/last", "zz")]
    young = await plant(place, place.b, "88/young", at=datetime.now(UTC) - timedelta(days=1))
    await reconciles.set_price(HOST, place.b, OwnPrices(storage_per_gib_month=Decimal("0.01")))
    found = await compare(place, place.b)
    assert (found.state, found.unexplained_count, found.unexplained_bytes) == ("done", 4, 4 * 2**20)
    assert (found.compared_count, found.missing_count, found.listed_count) == (4, 0, 9)
    assert found.cost_per_month == Decimal("0.000039")
    listed = await reconciles.list_findings(place.tenant_id, found.id)
    assert [(one.kind, one.key, one.state) for one in listed] == [("object", key, "found") for key in sorted(keys)]
    assert len(paths(place, place.b)) == 9, "nothing is removed unless it is asked for"
    with pytest.raises(Invalid) as caught:
        await reconciles.remove(HOST, place.tenant_id, found.id, count=3)
    assert caught.value.problem_code == "reconcile_count_wrong"
    await reconciles.remove(HOST, place.tenant_id, found.id, count=4)
    removed = await go_on(place, found)
    assert (removed.state, removed.removed_count, removed.kept_count) == ("removed", 4, 0)
    assert young in paths(place, place.b)
    assert len(paths(place, place.b)) == 5
    with pytest.raises(Conflict):
        await reconciles.remove(HOST, place.tenant_id, found.id, count=4)
    actions = [event.action for event in await place.services.audit.list_events(place.tenant_id, limit=50)]
    for action in ("reconcile.started", "reconcile.finished", "reconcile.removal_started", "reconcile.removed"):
        assert action in actions


async def test_what_a_record_has_come_to_explain_or_what_changed_is_kept(place: Place) -> None:
    (document, *_) = await fill(place, 2)
    reconciles = place.services.reconciles
    explained, changed, gone = [await plant(place, place.b, name) for name in ("00/a", "00/b", "00/c")]
    found = await compare(place, place.b)
    await plant(place, place.b, "00/b", b"another size")
    del memory._shelves[place.b].objects[gone]
    async with place.services.database.tenant(place.tenant_id) as uow:
        blob_id = await uow.scalar("SELECT blob_id FROM versions WHERE document_id = %s", [document])
        await uow.execute(
            """UPDATE replicas SET key = %s WHERE store_id = %s AND blob_id = %s""", [explained, place.b_id, blob_id]
        )
    await reconciles.remove(HOST, place.tenant_id, found.id, count=3)
    removed = await go_on(place, found)
    assert (removed.removed_count, removed.kept_count) == (1, 2)
    outcomes = {one.key: (one.state, one.error) for one in await reconciles.list_findings(place.tenant_id, found.id)}
    assert outcomes == {explained: ("kept", "explained"), changed: ("kept", "changed"), gone: ("removed", None)}
    assert explained in paths(place, place.b)


async def test_mode_19_a_hidden_version_is_found_and_removed_by_its_id(place: Place) -> None:
    document = (await place.upload(b"ours")).document.id
    path = paths(place, place.a)[0]
    name = path.removeprefix(f"t/{place.tenant_id}/")
    await plant(place, place.a, name, b"left by a repeat")
    objects = memory._shelves[place.a].objects
    objects[path].reverse()
    found = await compare(place, place.a)
    assert (found.hidden_count, found.hidden_bytes, found.unexplained_count) == (1, 16, 0)
    await place.services.reconciles.remove(HOST, place.tenant_id, found.id, count=1)
    assert (await go_on(place, found)).removed_count == 1
    assert [one.data for one in objects[path]] == [b"ours"]
    assert await place.read(document) == b"ours"


async def test_an_unfinished_upload_without_a_record_is_found_and_given_up(place: Place) -> None:
    await fill(place, 1)
    provider = await place.services.stores.provider(place.b_id)
    upload = await provider.begin_parts(f"t/{place.tenant_id}/00/never-finished", size_bytes=20 * 2**20)
    await provider.put_part(upload, 1, b"x" * upload.part_size_bytes)
    found = await compare(place, place.b)
    assert (found.unfinished_count, found.unexplained_count, found.removable_count) == (1, 0, 1)
    await place.services.reconciles.remove(HOST, place.tenant_id, found.id, count=1)
    assert (await go_on(place, found)).removed_count == 1
    assert [info async for info in provider.list_unfinished(f"t/{place.tenant_id}/")] == []


@pytest.mark.parametrize("page", [1000, 2])
async def test_f34_what_the_listing_lacks_is_asked_for_and_copied_anew(
    place: Place, monkeypatch: pytest.MonkeyPatch, page: int
) -> None:
    documents = await fill(place, 6)
    monkeypatch.setattr(engine, "_PAGE", page)
    for path in paths(place, place.b)[::3]:
        del memory._shelves[place.b].objects[path]
    found = await compare(place, place.b)
    assert (found.state, found.compared_count, found.missing_count, found.lost_count) == ("done", 6, 2, 0)
    async with working(place.services):
        async with asyncio.timeout(60):
            while await states(place) != {("a", "live"), ("b", "live")}:
                await asyncio.sleep(0.05)
        await quiet(place)
    for number, document in enumerate(documents):
        assert await place.read(document) == f"body {number}".encode()
    await assert_clean(place.services)


async def test_f34_a_listing_that_lies_marks_nothing(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    await fill(place, 3)
    provider = await place.services.stores.provider(place.b_id)

    async def nothing(*_: object, **__: object) -> AsyncIterator[ObjectInfo]:
        return
        yield

    monkeypatch.setattr(provider, "list", nothing)
    found = await compare(place, place.b)
    assert (found.state, found.compared_count, found.missing_count) == ("done", 3, 0)
    assert await states(place) == {("a", "live"), ("b", "live")}


async def test_f49_a_bucket_that_is_gone_marks_nothing_missing(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    await fill(place, 3)
    provider = await place.services.stores.provider(place.b_id)
    shelf = memory._shelves[place.b]
    away, shelf.objects = shelf.objects, {}

    async def gone() -> None:
        raise BucketMissing("no bucket")

    monkeypatch.setattr(provider, "check", gone)
    found = await compare(place, place.b)
    assert (found.state, found.error_code, found.missing_count) == ("running", "store_bucket_missing", 0)
    assert await states(place) == {("a", "live"), ("b", "live")}
    monkeypatch.undo()
    shelf.objects = away
    async with working(place.services), asyncio.timeout(60):
        while (await place.services.reconciles.get(place.tenant_id, found.id)).state != "done":
            await asyncio.sleep(0.05)


async def test_f36_a_store_that_lacks_much_is_not_mended_without_a_person(place: Place) -> None:
    await fill(place, 20)
    for path in paths(place, place.b)[:10]:
        del memory._shelves[place.b].objects[path]
    found = await compare(place, place.b)
    assert (found.state, found.missing_count) == ("done", 10)
    store = await place.services.stores.get_store(place.b)
    assert "reconcile found 10 of 20" in (store.untrusted_reason or "")
    async with working(place.services):
        await quiet(place)
    assert len(paths(place, place.b)) == 10


async def test_f52_nothing_is_removed_while_a_restore_waits_to_be_confirmed(place: Place) -> None:
    await fill(place, 1)
    reconciles, restores = place.services.reconciles, place.services.restores
    key = await plant(place, place.b, "00/newer-than-the-backup")
    found = await compare(place, place.b)
    await restores.declare(HOST, "yesterday's")
    with pytest.raises(Failure) as caught:
        await reconciles.remove(HOST, place.tenant_id, found.id, count=1)
    assert caught.value.problem_code == "restore_unconfirmed"
    await restores.confirm(HOST)
    await reconciles.remove(HOST, place.tenant_id, found.id, count=1)
    await restores.declare(HOST, "and once more")
    waits = await go_on(place, found)
    assert (waits.state, waits.error_code, key in paths(place, place.b)) == ("removing", "restore_unconfirmed", True)


async def test_one_at_a_time_and_by_whoever_holds_the_claim(place: Place) -> None:
    await fill(place, 2)
    reconciles = place.services.reconciles
    begun = await reconciles.start(HOST, place.tenant_id, store=place.b, older_than_days=7)
    with pytest.raises(Conflict) as caught:
        await reconciles.start(HOST, place.tenant_id, store=place.b, older_than_days=7)
    assert caught.value.problem_code == "reconcile_active"
    with pytest.raises(Conflict):
        await reconciles.remove(HOST, place.tenant_id, begun.id, count=1)
    with pytest.raises(NotFound):
        await reconciles.start(HOST, place.tenant_id, store="never-was", older_than_days=7)
    with pytest.raises(NotFound):
        await reconciles.get(place.tenant_id, place.a_id)
    async with place.services.database.tenant(place.tenant_id) as uow:
        claimed = await repository.claim(uow, begun.id, lease_seconds=60, base_seconds=0)
        assert claimed is not None
        assert await repository.claim(uow, begun.id, lease_seconds=60, base_seconds=0) is None
        await uow.execute("UPDATE reconciles SET fence = fence + 1")
    batch = moving.Batch([], "", True, True)
    with pytest.raises(LeaseLost):
        await reconciles.engine._settle(place.tenant_id, claimed, batch, [], [], [])


KEYS = st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(1, 3)), max_size=12)


@given(keys=KEYS, limit=st.integers(1, 4))
def test_batches_end_between_keys_and_leave_nothing_out(keys: list[tuple[str, int]], limit: int) -> None:
    versions = dict(keys)
    items = [ObjectInfo(key, 1, f"v{number}") for key in sorted(versions) for number in range(versions[key])]

    async def listing() -> AsyncIterator[ObjectInfo]:
        for info in items:
            yield info

    async def gather() -> list[moving.Batch]:
        return [batch async for batch in moving.batches(listing(), "", limit)]

    found = asyncio.run(gather())
    assert [info for batch in found for info in batch.items] == items
    assert [batch.is_last for batch in found] == [False] * (len(found) - 1) + [True]
    assert all(batch.is_sorted for batch in found)
    for batch, after in itertools.pairwise(found):
        assert all(info.key > batch.end for info in after.items)
    first, rest = found[0].split("c")
    assert [*first.items, *rest.items] == found[0].items
    assert all(info.key <= "c" for info in first.items)
    assert all(info.key > "c" for info in rest.items)


async def test_a_listing_in_another_order_is_told() -> None:
    async def listing() -> AsyncIterator[ObjectInfo]:
        for key in ("b", "a", "c"):
            yield ObjectInfo(key, 1)

    assert [batch.is_sorted async for batch in moving.batches(listing(), "", 1)] == [True, False, False]


def test_what_is_young_or_without_a_time_is_passed_over() -> None:
    items = [
        ObjectInfo("a", 1, modified_at=_OLD),
        ObjectInfo("b", 1),
        ObjectInfo("c", 1, modified_at=datetime.now(UTC)),
        ObjectInfo("d", 1, modified_at=_OLD),
    ]
    known = [Known("d", "v1", "live", None, None, None, None)]
    # Another version of a key, of which the listing tells no id, can't be removed without ours.
    assert [one.key for one in moving.explain_away(items, known, datetime.now(UTC) - timedelta(days=1))] == ["a"]
