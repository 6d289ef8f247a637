"""Locks at stores follow the records: whatever is lost on the way, whoever else locks, and in which order it comes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from tests.locking import hold, locking_place, locks, release, view
from tests.support import Place, assert_clean, make_place, working

from simples3dms.bootstrap import Services
from simples3dms.context import HOST
from simples3dms.documents import repository as documents_repository
from simples3dms.documents.holds import repository as holds_repository
from simples3dms.documents.values import ReplicaView
from simples3dms.kit import failpoints
from simples3dms.kit.ids import new_id
from simples3dms.providers.base import ObjectLock
from simples3dms.providers.kinds import memory
from simples3dms.storage.locks import repository
from simples3dms.storage.locks.values import ENDING, Change, DueLock, is_enough, is_too_much, plan_change

NOW = datetime.now(UTC).replace(microsecond=0)
DAY = timedelta(days=1)
NOTHING = ObjectLock()


@pytest.fixture
async def place(services: Services) -> Place:
    return await locking_place(services)


@pytest.fixture(autouse=True)
def _only_this_test_s() -> Any:
    yield
    failpoints.arm("", environment="test")
    memory._shelves.clear()


@pytest.mark.anyio
@pytest.mark.parametrize("point", ["lock.claimed", "lock.after_set", "lock.in_confirm_txn"])
async def test_a_lock_whose_job_crashed_is_set_by_the_next_one(
    place: Place, point: str, eventually: Callable[..., Any]
) -> None:
    document = (await place.upload(b"evidence")).document.id
    made = await hold(place, document)
    for wanted in (True, False):
        failpoints.arm(f"{point}=raise", environment="test")
        with pytest.raises((failpoints.FailPointError, ExceptionGroup)):
            await place.services.locks.apply_due(place.tenant_id)
        assert (await view(place, document)).lock == "waiting"
        failpoints.arm("", environment="test")
        async with working(place.services):

            async def settled() -> bool:
                found = await view(place, document)
                return (found.lock, found.lock_set_hold) == ("set" if wanted else "none", wanted)  # noqa: B023

            await eventually(settled, seconds=20)
        assert [one.held for one in locks(place).values()] == [wanted]
        if wanted:
            await release(place, document, made)
    await assert_clean(place.services)


@pytest.mark.anyio
async def test_what_changes_while_a_lock_is_set_is_looked_at_anew(place: Place) -> None:
    document = (await place.upload(b"evidence")).document.id
    made = await hold(place, document)
    provider = await place.services.stores.provider(place.a_id)
    setting = provider.set_hold

    async def released_meanwhile(*args: Any, **how: Any) -> None:
        await setting(*args, **how)
        if how["on"]:
            await release(place, document, made)

    provider.set_hold = released_meanwhile  # type: ignore[method-assign]
    await place.services.locks.apply_due(place.tenant_id)
    assert [one.held for one in locks(place).values()] == [False]
    assert (await view(place, document)).lock == "none"


@pytest.mark.anyio
async def test_a_release_beside_a_claim_is_not_lost(place: Place, eventually: Callable[..., Any]) -> None:
    """Whoever claims sees the hold that is being released, and the release what nothing was asked of yet."""
    document = (await place.upload(b"evidence")).document.id
    made = await hold(place, document)
    database = place.services.database
    async with database.tenant(place.tenant_id) as uow:
        (claimed,) = await repository.claim(uow, lease_seconds=60, limit=10)
        releasing = asyncio.create_task(release(place, document, made))

        async def has_come_to_it() -> bool:
            async with database.platform() as other:
                waits = await other.scalar("SELECT 1 FROM pg_locks WHERE NOT granted LIMIT 1")
            return releasing.done() or waits is not None

        await eventually(has_come_to_it, seconds=20)
    await releasing
    assert claimed.hold
    async with database.tenant(place.tenant_id) as uow:
        assert not await repository.settle(uow, claimed, ObjectLock(held=True))


@pytest.mark.anyio
async def test_a_purge_waits_for_a_lock_of_the_store_s_owner_and_says_so(
    place: Place, eventually: Callable[..., Any]
) -> None:
    document = (await place.upload(b"evidence")).document.id
    ((path, [stored]),) = [one for one in memory._shelves[next(iter(memory._shelves))].objects.items() if "/" in one[0]]
    shelf = next(shelf for shelf in memory._shelves.values() if path in shelf.objects)
    shelf.locks[str(stored.info.version_id)] = ObjectLock(held=True)
    services = place.services
    await services.documents.delete_document(HOST, place.tenant_id, document)
    await services.documents.purge_document(HOST, place.tenant_id, document)
    async with working(services):

        async def waits() -> bool:
            return bool((await services.upkeep.fsck()).counts["locked_removals"])

        await eventually(waits, seconds=20)
        # Nothing of ours: it is not let go by us, and the object is not forgotten.
        assert path in shelf.objects
        await assert_clean(services)
        shelf.locks.clear()
        await eventually(lambda: path not in shelf.objects, seconds=20)

        async def over() -> bool:
            return not await waits()

        await eventually(over, seconds=20)
    await assert_clean(services)


@pytest.mark.anyio
async def test_of_versions_that_share_bytes_the_last_one_decides(place: Place) -> None:
    """Two documents with one blob, which importers may make: released is what nobody holds any more."""
    one, two = [(await place.upload(b"evidence")).document.id for _ in range(2)]
    async with place.services.database.platform() as uow:
        await uow.execute(
            """UPDATE versions SET blob_id = (SELECT blob_id FROM versions WHERE document_id = %s)
               WHERE document_id = %s""",
            [one, two],
        )
    first, second = await hold(place, one), await hold(place, two)
    await place.services.locks.apply_due(place.tenant_id)
    await release(place, one, first)
    await place.services.locks.apply_due(place.tenant_id)
    assert (await view(place, one)).lock == "set"
    await release(place, two, second)
    await place.services.locks.apply_due(place.tenant_id)
    assert (await view(place, one)).lock == "none"
    assert not any(found.held for found in locks(place).values())


@pytest.mark.anyio
async def test_a_new_version_lengthens_the_locks_of_all(place: Place) -> None:
    await place.services.tenants.change_settings(
        HOST, place.tenant_id, {"retention_days": 10, "retention_mode": "compliance"}
    )
    document = (await place.upload(b"one")).document.id
    await place.services.locks.apply_due(place.tenant_id)
    (before,) = [found.until for found in locks(place).values()]
    assert before is not None
    assert before >= NOW + 10 * DAY
    await place.services.tenants.change_settings(HOST, place.tenant_id, {"retention_days": 20})
    await place.upload(b"two", document_id=document)
    await place.services.locks.apply_due(place.tenant_id)
    untils = [found.until for found in locks(place).values()]
    assert len(untils) == 2
    assert all(until is not None and until >= NOW + 20 * DAY for until in untils)


@pytest.mark.anyio
async def test_a_hold_and_a_copy_at_the_same_moment_do_not_miss_one_another(
    services: Services, eventually: Callable[..., Any]
) -> None:
    mark = new_id().hex
    locking = {"name": f"a-{mark}", "object_lock": "compliance"}
    place = await make_place(services, settings=({"name": f"b-{mark}"}, locking))
    await services.placements.set_placement(HOST, place.tenant_id, write=place.a, copies=[place.b], read=[])
    document = (await place.upload(b"evidence")).document.id

    async def copy() -> ReplicaView | None:
        found = await services.documents.list_replicas(place.tenant_id, document)
        return next((one for one in found if one.store == place.b), None)

    async def copy_waits_or_is_done() -> bool:
        """The copy knows nothing of the hold, which is not committed."""
        async with services.database.platform() as uow:
            waiting = await uow.scalar("SELECT count(*) FROM pg_locks WHERE NOT granted")
        found = await copy()
        return bool(waiting) or (found is not None and found.state == "live")

    async def is_set() -> bool:
        found = await copy()
        return found is not None and (found.lock, found.lock_set_hold) == ("set", True)

    async with AsyncExitStack() as stack:
        async with services.database.tenant(place.tenant_id) as uow:
            await documents_repository.lock(uow, document)
            await holds_repository.insert(uow, new_id(), document, "one", "asked for", by="somebody")
            await services.locks.want_for_document(uow, document)
            await stack.enter_async_context(working(services))
            await eventually(copy_waits_or_is_done, seconds=30)
        await eventually(is_set, seconds=30)


def due(**wanted: Any) -> DueLock:
    nothing = DueLock(new_id(), new_id(), "key", "v", 1, NOW, False, None, None, False, None)
    return replace(nothing, **wanted)


GOVERNED, COMPLIED = ObjectLock(False, "governance", NOW + 2 * DAY), ObjectLock(False, "compliance", NOW + 2 * DAY)
ENDS = NOW + ENDING
OURS = {"asked_until": NOW + 2 * DAY}


@pytest.mark.parametrize(
    ("wanted", "found", "change"),
    [
        ({}, NOTHING, Change()),
        ({"hold": True}, NOTHING, Change(hold=True)),
        ({"hold": True, "asked_hold": True}, ObjectLock(True), Change()),
        ({"asked_hold": True}, ObjectLock(True), Change(hold=False)),
        # A hold that we never asked for is somebody else's.
        ({}, ObjectLock(True), Change()),
        ({"mode": "governance", "until": NOW + DAY}, NOTHING, Change(None, "governance", NOW + DAY)),
        # One that is over counts for nothing.
        (
            {"mode": "governance", "until": NOW + DAY},
            ObjectLock(False, "compliance", NOW - DAY),
            Change(None, "governance", NOW + DAY),
        ),
        ({"mode": "governance", "until": NOW + 3 * DAY}, GOVERNED, Change(None, "governance", NOW + 3 * DAY)),
        ({"mode": "compliance", "until": NOW + 3 * DAY}, COMPLIED, Change(None, "compliance", NOW + 3 * DAY)),
        ({"mode": "compliance", "until": NOW + 3 * DAY}, GOVERNED, Change(None, "compliance", NOW + 3 * DAY, True)),
        ({"mode": "compliance", "until": NOW + DAY}, GOVERNED, Change(None, "compliance", NOW + DAY, True)),
        # Shortened is what is ours and for governance alone.
        ({"mode": "governance", "until": NOW + DAY, **OURS}, GOVERNED, Change(None, "governance", NOW + DAY, True)),
        ({"mode": "governance", "until": NOW + DAY}, GOVERNED, Change()),
        ({**OURS}, GOVERNED, Change(None, "governance", ENDS, True)),
        ({}, GOVERNED, Change()),
        ({**OURS}, COMPLIED, Change()),
        ({"mode": "compliance", "until": NOW + DAY, **OURS}, COMPLIED, Change()),
        ({"mode": "governance", "until": NOW + 3 * DAY}, COMPLIED, Change()),
        ({**OURS}, ObjectLock(False, "governance", ENDS), Change()),
    ],
)
def test_what_a_store_is_asked(wanted: dict[str, Any], found: ObjectLock, change: Change) -> None:
    assert plan_change(due(**wanted), found) == change


def test_what_is_enough_and_what_is_too_much() -> None:
    assert is_enough(due(), NOTHING)
    assert not is_enough(due(hold=True), COMPLIED)
    assert is_enough(due(mode="governance", until=NOW + DAY), COMPLIED)
    assert not is_enough(due(mode="compliance", until=NOW + DAY), GOVERNED)
    assert not is_enough(due(mode="governance", until=NOW + 3 * DAY), GOVERNED)
    assert not is_enough(due(mode="governance", until=NOW + 3 * DAY), COMPLIED)
    assert is_too_much(due(asked_hold=True), ObjectLock(True))
    assert not is_too_much(due(), ObjectLock(True))
    assert is_too_much(due(**OURS), GOVERNED)
    assert not is_too_much(due(**OURS), COMPLIED)
    assert not is_too_much(due(**OURS), ObjectLock(False, "governance", ENDS))
