"""Locks of the store: what is held or retained stays whoever deletes it, and goes when that is over."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Final

from simples3dms.providers.base import LockMode, ObjectLock, ObjectRef
from simples3dms.providers.conformance.harness import Bench, behaviour, require
from simples3dms.providers.errors import AccessDenied, ObjectNotFound

_LOCK: Final = "object_lock"
_BODY: Final = b"kept"
#: Short, since it is waited for: a retention can't be ended everywhere, and nothing may be left behind.
_RETAINED_SECONDS: Final = 3.0
#: And long enough for this many calls to a store that is far away.
_CALLS: Final = 20
_MOST_LOOKS: Final = 200


@asynccontextmanager
async def _object(bench: Bench, name: str = "x") -> AsyncIterator[ObjectRef]:
    """An object to lock; removed afterwards, as soon as the store lets it go."""
    made = await bench.put(name, _BODY)
    ref = ObjectRef(bench.key(name), made.version_id)
    try:
        yield ref
    finally:
        with suppress(ObjectNotFound):
            await bench.store.set_hold(ref, on=False)
        for _ in range(_MOST_LOOKS):
            if await _deleted(bench, ref):
                break
            await asyncio.sleep(_RETAINED_SECONDS / 10)


async def _deleted(bench: Bench, ref: ObjectRef) -> bool:
    [outcome] = await bench.store.delete([ref])
    if outcome.error is not None and not isinstance(outcome.error, AccessDenied):
        raise outcome.error
    return outcome.error is None


async def _require_kept(bench: Bench, ref: ObjectRef) -> None:
    require(not await _deleted(bench, ref), "it could be deleted")
    require(
        await bench.read(ref.key.removeprefix(bench.scratch), version_id=ref.version_id) == _BODY,
        "it can't be read any more",
    )


async def _soon(bench: Bench, ref: ObjectRef) -> datetime:
    """A moment ahead, by whichever clock is ahead; whole seconds, which is all that some services keep."""
    began = time.monotonic()
    written_at = (await bench.store.head(ref.key, version_id=ref.version_id)).modified_at
    took = time.monotonic() - began
    now = datetime.now(UTC)
    ahead = timedelta(seconds=_RETAINED_SECONDS + 1 + _CALLS * took)
    return (max(now, written_at or now) + ahead).replace(microsecond=0)


@behaviour("locking", _LOCK)
async def nothing_is_locked_unasked(bench: Bench) -> None:
    """What was written is neither held nor retained, and that can be asked."""
    made = await bench.put("x", b"1")
    found = await bench.store.get_lock(ObjectRef(bench.key("x"), made.version_id))
    require(found == ObjectLock(), f"it is locked: {found}")


@behaviour("locking", _LOCK)
async def a_hold_keeps(bench: Bench) -> None:
    """What is under a legal hold can't be deleted, and goes once it is released."""
    async with _object(bench) as ref:
        await bench.store.set_hold(ref, on=True)
        require((await bench.store.get_lock(ref)).held, "the hold is not told")
        await _require_kept(bench, ref)
        await bench.store.set_hold(ref, on=False)
        require(not (await bench.store.get_lock(ref)).held, "the hold is still told")
        require(await _deleted(bench, ref), "it could not be deleted")


@behaviour("locking", _LOCK)
async def a_hold_twice_is_one(bench: Bench) -> None:
    """Placing or releasing a hold again changes nothing."""
    async with _object(bench) as ref:
        for on in (True, True, False, False):
            await bench.store.set_hold(ref, on=on)
            require((await bench.store.get_lock(ref)).held is on, "another state is told")


@behaviour("locking", _LOCK)
async def a_hold_spares_other_versions(bench: Bench) -> None:
    """A hold is one version's: another version of the key goes."""
    async with _object(bench) as ref:
        other = await bench.put("x", b"other")
        await bench.store.set_hold(ref, on=True)
        require(await _deleted(bench, ObjectRef(ref.key, other.version_id)), "the other version could not be deleted")
        await _require_kept(bench, ref)


@behaviour("locking", _LOCK)
async def a_retention_keeps(bench: Bench) -> None:
    """What is retained can't be deleted before its time; longer is taken, shorter or weaker refused, and so it ends."""
    modes: tuple[LockMode, ...] = ("governance", "compliance")
    async with _object(bench, "governance") as one, _object(bench, "compliance") as other:
        for mode, ref in zip(modes, (one, other), strict=True):
            until = await _soon(bench, ref)
            for wanted in (until, until, until + timedelta(seconds=1)):
                await bench.store.set_retention(ref, mode=mode, until=wanted)
                found = await bench.store.get_lock(ref)
                require(found == ObjectLock(False, mode, wanted), f"another retention is told: {found}")
            await _require_kept(bench, ref)
            # The mode governance yields to whoever has the right to: that is not asked for here.
            softer: list[tuple[LockMode, datetime]] = (
                [("governance", until + timedelta(seconds=1))] if mode == "compliance" else []
            )
            for weaker, wanted in [(mode, until), *softer]:
                change = bench.store.set_retention(ref, mode=weaker, until=wanted, bypass=mode == "compliance")
                await bench.require_raises(AccessDenied, change, f"the retention for {mode} was weakened")


@behaviour("locking", _LOCK)
async def what_is_gone_is_not_locked(bench: Bench) -> None:
    """The lock of what is not there is an error, never an answer."""
    async with _object(bench) as ref:
        require(await _deleted(bench, ref), "it could not be deleted")
        await bench.require_raises(ObjectNotFound, bench.store.get_lock(ref), "a lock was told")
        await bench.require_raises(ObjectNotFound, bench.store.set_hold(ref, on=True), "a hold was placed")
