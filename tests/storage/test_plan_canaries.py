"""A canary in a plan: a target is tried out before a move relies on it, and nothing of the trial stays."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from tests.storage.test_plans import holds
from tests.support import Place, assert_clean, make_place

from simples3dms.bootstrap import Services
from simples3dms.context import HOST
from simples3dms.errors import Conflict
from simples3dms.providers.errors import AccessDenied, StoreUnavailable
from simples3dms.providers.kinds.memory import MemoryProvider
from simples3dms.storage.migrations import canary as canaries
from simples3dms.storage.migrations.canary import SIZES, Canaries
from simples3dms.storage.migrations.values import Migration

pytestmark = pytest.mark.anyio


@pytest.fixture
async def place(services: Services) -> Place:
    return await make_place(services)


async def planned(place: Place) -> Migration:
    return await place.services.migrations.plan_migration(HOST, place.tenant_id, target=place.b, with_canary=True)


async def rows(place: Place) -> list[tuple[str, str]]:
    async with place.services.database.tenant(place.tenant_id) as uow:
        cursor = await uow.connection.execute("SELECT key, state FROM replicas ORDER BY key")
        return list(await cursor.fetchall())


async def swept(place: Place) -> None:
    """As it is after leases have run out: first that of a write, then the grace of what was given up."""
    for _ in range(2):
        async with place.services.database.tenant(place.tenant_id) as uow:
            await uow.execute("UPDATE replicas SET lease_until = now() - interval '1 hour'")
        await place.services.blobs.sweep(place.tenant_id)
    assert await rows(place) == []
    assert await place.listing(place.b_id) == []
    await assert_clean(place.services)


async def refused(place: Place, migration: Migration) -> None:
    with pytest.raises(Conflict) as caught:
        await place.services.migrations.start_migration(HOST, place.tenant_id, migration.id)
    assert caught.value.problem_code == "migration_blocked"


async def test_a_good_target_is_measured_and_left_empty(place: Place) -> None:
    await holds(place, None, 1000, 2**30)
    migration = await planned(place)
    canary, time = migration.plan.canary, migration.plan.time
    assert canary is not None
    assert (canary["error_code"], canary["object_count"], canary["size_bytes"]) == (None, len(SIZES), sum(SIZES))
    assert all(canary[f"{step}_seconds"] >= 0 for step in ("write", "read", "delete"))
    assert time is not None
    alone = 1000 * (canary["write_seconds"] + canary["read_seconds"]) + sum(
        2**30 / canary[f"{step}_bytes_per_second"] for step in ("write", "read")
    )
    assert (time["basis"], time["most_seconds"]) == ("canary", pytest.approx(alone))
    assert time["least_seconds"] < time["most_seconds"]
    assert migration.plan.blockers == ()
    assert await place.listing(place.b_id) == [], "removed at once, not when the sweep comes"
    assert {state for _, state in await rows(place)} == {"retiring"}
    await place.services.counters.recount()
    await swept(place)


async def test_every_object_of_it_has_a_row_first(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """And is given up in the records before it is removed."""
    seen: list[tuple[str, str | None]] = []
    put, discard = MemoryProvider.put, MemoryProvider.discard

    async def state_of(key: str) -> str | None:
        found = {row: state for row, state in await rows(place) if key.endswith(row)}
        return next(iter(found.values()), None)

    async def watched_put(self: MemoryProvider, key: str, *rest: Any, **more: Any) -> Any:
        seen.append(("put", await state_of(key)))
        return await put(self, key, *rest, **more)

    async def watched_discard(self: MemoryProvider, key: str) -> None:
        seen.append(("discard", await state_of(key)))
        await discard(self, key)

    monkeypatch.setattr(MemoryProvider, "put", watched_put)
    monkeypatch.setattr(MemoryProvider, "discard", watched_discard)
    await planned(place)
    assert seen == [("put", "writing")] * len(SIZES) + [("discard", "retiring")] * len(SIZES)


async def _refuse(*_given: object, **_more: object) -> None:
    raise AccessDenied("no")


async def _keep(*_given: object, **_more: object) -> None:
    return


@asynccontextmanager
async def _other_bytes(*_given: object, **_more: object) -> AsyncIterator[Any]:
    raise StoreUnavailable("cut off")
    yield


@pytest.mark.parametrize(
    ("method", "fault", "code"),
    [
        ("put", _refuse, "store_access_denied"),
        ("open", _other_bytes, "store_unreachable"),
        ("discard", _refuse, "store_access_denied"),
        ("discard", _keep, "canary_not_deleted"),
    ],
)
async def test_a_canary_that_fails_is_in_the_way(
    place: Place, monkeypatch: pytest.MonkeyPatch, method: str, fault: Any, code: str
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(MemoryProvider, method, fault)
        migration = await planned(place)
    canary = migration.plan.canary
    assert canary is not None
    assert canary["error_code"] == code
    assert migration.plan.blockers[0].startswith("The canary failed: ")
    await refused(place, migration)
    await swept(place)
    await place.services.migrations.cancel_migration(HOST, place.tenant_id, migration.id)
    again = await planned(place)
    assert again.plan.blockers == ()
    started = await place.services.migrations.start_migration(HOST, place.tenant_id, again.id)
    assert started.state == "copying"


async def test_bytes_that_come_back_wrong_are_found(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    store = MemoryProvider._store
    monkeypatch.setattr(MemoryProvider, "_store", lambda self, key, data: store(self, key, data[:-1] + b"?"))
    migration = await planned(place)
    assert migration.plan.canary is not None
    assert migration.plan.canary["error_code"] is not None
    await refused(place, migration)
    await swept(place)


async def test_one_that_hangs_is_given_up_in_time(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(canaries, "LONGEST_SECONDS", 0.2)

    async def hang(*_given: object, **_more: object) -> None:
        await asyncio.Event().wait()

    with monkeypatch.context() as patched:
        patched.setattr(MemoryProvider, "put", hang)
        migration = await planned(place)
    assert migration.plan.canary is not None
    assert migration.plan.canary["error_code"] == "canary_too_slow"
    assert {state for _, state in await rows(place)} == {"retiring"}
    await swept(place)


async def test_what_a_crash_leaves_is_swept(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process dies between a write and giving it up."""

    async def die(*_given: object) -> None:
        raise KeyError("the process is gone")

    with monkeypatch.context() as patched:
        patched.setattr(Canaries, "_give_up", die)
        with pytest.raises(KeyError):
            await planned(place)
    assert len(await place.listing(place.b_id)) == len(SIZES)
    assert {state for _, state in await rows(place)} == {"writing"}, "none of them is unknown"
    await swept(place)


async def test_a_red_probe_is_in_the_way_and_its_age_is_told(place: Place) -> None:
    migrations = place.services.migrations
    good = await migrations.plan_migration(HOST, place.tenant_id, target=place.b)
    assert (good.plan.probe_verdict, good.plan.blockers, good.plan.canary) == ("green", (), None)
    assert good.plan.probed_at is not None
    async with place.services.database.platform() as uow:
        await uow.execute("UPDATE stores SET probe_verdict = 'red' WHERE id = %s", [place.b_id])
    await refused(place, good)
    await migrations.cancel_migration(HOST, place.tenant_id, good.id)
    bad = await migrations.plan_migration(HOST, place.tenant_id, target=place.b)
    assert bad.plan.blockers == ("The target's last probe found something red: see `simples3dms store probe`.",)
