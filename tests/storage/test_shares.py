"""Shares of new writes: a blob's store is decided by its id and the weights, and everything else stays right."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support import Place, assert_clean, make_place, quiet, working

from simples3dms.bootstrap import Services
from simples3dms.context import HOST
from simples3dms.errors import Conflict, Failure, Invalid
from simples3dms.kit.ids import new_id
from simples3dms.storage.placement import repository
from simples3dms.storage.placement.router import missing_stores, write_store_of
from simples3dms.storage.placement.values import Policy, Subject

STORES = [UUID(int=n) for n in range(1, 6)]
WEIGHTS = st.lists(st.integers(1, 1000), min_size=2, max_size=5)


def store_of(policy: Policy, blob_id: UUID) -> UUID:
    return write_store_of(policy, Subject(blob_id))


def policy(weights: list[int]) -> Policy:
    shares = tuple(zip(STORES, weights, strict=False))
    return Policy(STORES[0], write_weights=shares)


@given(WEIGHTS, st.integers(0, 4), st.integers(1, 5000), st.lists(st.uuids(), max_size=50))
def test_a_raised_weight_only_draws_blobs_to_its_store(
    weights: list[int], index: int, more: int, blobs: list[UUID]
) -> None:
    index %= len(weights)
    raised = [weight + more * (n == index) for n, weight in enumerate(weights)]
    for blob_id in blobs:
        before, after = store_of(policy(weights), blob_id), store_of(policy(raised), blob_id)
        assert after in (before, STORES[index])
        # Back again, and each is where it was: nothing but id and weights decides.
        assert store_of(policy(weights), blob_id) == before


@given(WEIGHTS, st.lists(st.integers(0, 900), min_size=5, max_size=5), st.uuids())
def test_ten_per_cent_stay_the_same_ten_per_cent(weights: list[int], lowered: list[int], blob_id: UUID) -> None:
    """One weight rises while all others fall, as in 10:90 becoming 20:80: what was at its store stays there."""
    fewer = [weights[0], *(max(1, weight - less) for weight, less in zip(weights[1:], lowered, strict=False))]
    if store_of(policy(weights), blob_id) == STORES[0]:
        assert store_of(policy(fewer), blob_id) == STORES[0]


@given(WEIGHTS, st.uuids(), st.sets(st.sampled_from(STORES)))
def test_a_blob_is_wanted_in_one_of_the_shared_stores_and_in_all_copies(
    weights: list[int], blob_id: UUID, present: set[UUID]
) -> None:
    copies = (UUID(int=8), UUID(int=9))
    shared = Policy(STORES[0], copies, write_weights=policy(weights).write_weights)
    missing = missing_stores(shared, Subject(blob_id), present)
    mine = store_of(shared, blob_id)
    assert missing == [one for one in (mine, *copies) if one not in present]
    assert set(shared.wanted_store_ids) >= {mine, *copies}


def test_each_store_has_its_share() -> None:
    blobs = [new_id() for _ in range(20_000)]
    for weights in ([10, 90], [1, 1], [1, 99], [50, 30, 20]):
        counts = [0] * len(weights)
        for blob_id in blobs:
            counts[STORES.index(store_of(policy(weights), blob_id))] += 1
        for weight, count in zip(weights, counts, strict=True):
            assert abs(count / len(blobs) - weight / sum(weights)) < 0.015, weights


def test_without_weights_the_write_target_has_all() -> None:
    assert {store_of(Policy(STORES[2]), new_id()) for _ in range(50)} == {STORES[2]}


@pytest.fixture
async def place(services: Services) -> Place:
    return await make_place(services)


async def refused(failure: type[Failure], code: str, act: Any) -> None:
    with pytest.raises(failure) as caught:
        await act
    assert caught.value.problem_code == code


@pytest.mark.anyio
async def test_new_documents_are_shared_out_and_the_rest_stays_right(services: Services, place: Place) -> None:
    old = await place.upload(b"before")
    set_to = services.placements.set_placement
    placed = await set_to(HOST, place.tenant_id, write=place.a, shares={place.a: 50, place.b: 50})
    assert placed.shares == {place.a: 50, place.b: 50}
    done = await asyncio.gather(*(place.upload(f"{n}".encode() * 100) for n in range(24)))
    here, there = len(await place.listing(place.a_id)), len(await place.listing(place.b_id))
    assert here + there == 25, "each is written once"
    assert here > 1
    assert there > 1
    for number, one in enumerate(done):
        assert await place.read(one.document.id) == f"{number}".encode() * 100
    row_policy = await _policy(services, place)
    for blob_id, store_id in await _replicas(services, place):
        if blob_id != await _blob_of(services, place, old.document.id):
            assert store_of(row_policy, blob_id) == store_id
    await assert_clean(services)
    # Both are in use now.
    for name in (place.a, place.b):
        await refused(Conflict, "store_in_use", services.stores.disable(HOST, name))
        await refused(Conflict, "store_grant_in_use", services.stores.revoke_grant(HOST, place.tenant_id, name))


@pytest.mark.anyio
async def test_a_migration_begins_from_one_write_target(services: Services, place: Place) -> None:
    set_to = services.placements.set_placement
    planned = await services.migrations.plan_migration(HOST, place.tenant_id, target=place.b)
    await set_to(HOST, place.tenant_id, write=place.a, shares={place.a: 1, place.b: 1})
    act = services.migrations.start_migration(HOST, place.tenant_id, planned.id)
    await refused(Conflict, "placement_shared_out", act)
    await services.migrations.cancel_migration(HOST, place.tenant_id, planned.id)
    act = services.migrations.plan_migration(HOST, place.tenant_id, target=place.b)
    await refused(Conflict, "placement_shared_out", act)
    bodies = [f"{n}".encode() * 50 for n in range(12)]
    done = [await place.upload(body) for body in bodies]
    await set_to(HOST, place.tenant_id, write=place.a)
    async with working(services):
        migration = await services.migrations.plan_migration(HOST, place.tenant_id, target=place.b)
        await services.migrations.start_migration(HOST, place.tenant_id, migration.id)
        await place.until(migration.id, "ready")
        await services.migrations.cut_over(HOST, place.tenant_id, migration.id)
        await services.migrations.finalize(HOST, place.tenant_id, migration.id)
        await place.until(migration.id, "done")
        await quiet(place)
    assert await place.listing(place.a_id) == []
    for body, one in zip(bodies, done, strict=True):
        assert await place.read(one.document.id) == body
    await assert_clean(services)


@pytest.mark.anyio
async def test_an_upload_that_began_under_other_shares_is_swept_up(services: Services, place: Place) -> None:
    """It ends where it began; what the new policy wants besides is owed, and paid."""
    await services.placements.set_placement(HOST, place.tenant_id, write=place.a, shares={place.a: 1, place.b: 10_000})
    seen: list[UUID] = []

    async with working(services):
        original = services.blobs.write

        async def write(*args: Any, **words: Any) -> Any:
            written = await original(*args, **words)
            if not seen:
                seen.append(written.ticket.store_id)
                await services.placements.set_placement(HOST, place.tenant_id, write=place.a)
            return written

        services.blobs.write = write  # type: ignore[method-assign]
        done = await place.upload(b"across the change")
        services.blobs.write = original  # type: ignore[method-assign]
        await quiet(place)
    assert seen == [place.b_id]
    stores = {store_id for _, store_id in await _replicas(services, place)}
    assert place.a_id in stores
    assert await place.read(done.document.id) == b"across the change"
    await assert_clean(services)


@pytest.mark.anyio
async def test_shares_that_make_no_sense_are_refused(services: Services, place: Place) -> None:
    for change in (
        {"shares": {place.b: 10}},
        {"shares": {place.a: 0, place.b: 10}},
        {"shares": {place.a: 10, place.b: -1}},
        {"shares": {place.a: 10, place.b: 10_001}},
        {"shares": {place.a: 10, "nobodys": 10}},
        {"shares": {place.a: 10, place.b: 10}, "copies": [place.b]},
    ):
        act = services.placements.set_placement(HOST, place.tenant_id, write=place.a, **change)  # type: ignore[arg-type]
        await refused(Invalid, "placement_invalid", act)
    assert (await services.placements.get_placement(place.tenant_id)).version == 1


async def _policy(services: Services, place: Place) -> Policy:
    async with services.database.tenant(place.tenant_id) as uow:
        row = await repository.find(uow)
    assert row is not None
    return row.policy


async def _replicas(services: Services, place: Place) -> list[tuple[UUID, UUID]]:
    async with services.database.tenant(place.tenant_id) as uow:
        cursor = await uow.connection.execute("SELECT blob_id, store_id FROM replicas WHERE state = 'live'")
        return await cursor.fetchall()


async def _blob_of(services: Services, place: Place, document_id: UUID) -> UUID:
    async with services.database.tenant(place.tenant_id) as uow:
        found = await uow.scalar("SELECT blob_id FROM versions WHERE document_id = %s", [document_id])
        assert isinstance(found, UUID)
        return found
