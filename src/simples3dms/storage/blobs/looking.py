"""Look at one replica at its store, and tell what is wrong with it from what is wrong with the store."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

from simples3dms.providers.base import Expected, StorageProvider
from simples3dms.providers.errors import IntegrityError, ObjectNotFound, ProviderError


@dataclass(frozen=True, slots=True)
class Target:
    """What should be at a key."""

    key: str
    version_id: str | None
    size_bytes: int
    digest: bytes


class Pace:
    """At most so many bytes a second (0: as many as come), for all who share it."""

    def __init__(self, bytes_per_second: float) -> None:
        self._per_second = bytes_per_second
        self._free_at = time.monotonic()

    async def spend(self, count: int) -> None:
        if not self._per_second:
            return
        now = time.monotonic()
        self._free_at = max(now, self._free_at) + count / self._per_second
        await asyncio.sleep(self._free_at - now)


async def find_fault(provider: StorageProvider, target: Target, *, deep: bool, pace: Pace) -> ProviderError | None:
    """What is wrong with the object itself, seen twice; None where it is good.

    `deep`: read and compared; else it is only asked whether it is there, and how large. Raises ProviderError where the
    store is at fault: then nothing is known of the object.
    """
    found: ProviderError | None = None
    for _ in range(2):
        try:
            await _look(provider, target, deep=deep, pace=pace)
        except (IntegrityError, ObjectNotFound) as error:
            # Bytes may be hurt on the way, and a store may be wrong for a moment: only a second time counts.
            found = error
        else:
            return None
    if isinstance(found, ObjectNotFound):
        await confirm_place(provider)
    return found


async def confirm_place(provider: StorageProvider) -> None:
    """Raise what is wrong with the store, if that may be why an object was not found: a bucket that is gone, say.

    Most stores tell the two apart by themselves; to take one for the other would start a repair of everything.
    """
    await provider.check()


async def _look(provider: StorageProvider, target: Target, *, deep: bool, pace: Pace) -> None:
    if not deep:
        info = await provider.head(target.key, version_id=target.version_id)
        if info.size_bytes != target.size_bytes:
            raise IntegrityError("the object is not of the recorded size", key=target.key)
        return
    expected = Expected(target.size_bytes, target.digest)
    async with provider.open(target.key, version_id=target.version_id, expected=expected) as reader:
        async for chunk in reader:
            await pace.spend(len(chunk))
