"""A canary: a few small objects that are written to a store, read back, compared and removed, before a move to it.

Each has a row first, as every write has (`writing`, of no blob), and is given up in the records before it is removed at
the store. A crash leaves such a row, and the sweep removes what there is of it.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

from simples3dms.db.session import Database
from simples3dms.errors import Failure
from simples3dms.kit.leases import LeaseLost
from simples3dms.providers.base import Expected, StorageProvider
from simples3dms.providers.errors import ObjectNotFound, ProviderError
from simples3dms.providers.layers.ratelimit import share_as
from simples3dms.storage.blobs.service import Blobs
from simples3dms.storage.blobs.values import WriteTicket
from simples3dms.storage.placement.values import Grant
from simples3dms.storage.stores.errors import explain

#: Three that tell how long a call takes, then one that tells how fast bytes go.
SIZES: Final = (1024, 1024, 1024, 4 * 2**20)
LONGEST_SECONDS: Final = 60.0


@dataclass(slots=True)
class _Trial:
    """One object, and how long each step with it took."""

    ticket: WriteTicket
    body: bytes
    seconds: dict[str, float] = field(default_factory=dict)


class Canaries:
    """Tries stores out, for one tenant at a time and below its own prefix."""

    def __init__(self, database: Database, blobs: Blobs) -> None:
        self._database = database
        self._blobs = blobs

    async def run(self, tenant_id: UUID, grant: Grant) -> dict[str, Any]:
        """What came of it, as `schemas.migrations.Canary` reads it. Outside any transaction. A store's errors are
        told in it.

        Bounded in time; what it wrote is removed whatever happens.
        """
        share_as(str(tenant_id))
        async with self._database.tenant(tenant_id) as uow:
            trials = [_Trial(await self._blobs.begin_write(uow, grant), os.urandom(size)) for size in SIZES]
        error: tuple[str, str] | None = None
        try:
            async with asyncio.timeout(LONGEST_SECONDS), self._blobs.keep_alive(tenant_id, [t.ticket for t in trials]):
                provider = await self._blobs.provider(grant.store_id)
                for trial in trials:
                    await _write_and_read(provider, trial)
        except (Failure, ProviderError, TimeoutError) as failed:
            error = _told(failed)
        except LeaseLost:
            error = "canary_too_slow", "The database was out of reach for too long meanwhile: plan again."
        finally:
            await asyncio.shield(self._give_up(tenant_id, trials))
        if error is None:
            error = await self._remove(grant.store_id, trials)
        return _document(trials, error)

    async def _give_up(self, tenant_id: UUID, trials: Sequence[_Trial]) -> None:
        for trial in trials:
            await self._blobs.give_up(tenant_id, trial.ticket)

    async def _remove(self, store_id: UUID, trials: Sequence[_Trial]) -> tuple[str, str] | None:
        """Remove the objects now, which the sweep would do later: a store that can't is no place to move to."""
        try:
            async with asyncio.timeout(LONGEST_SECONDS):
                provider = await self._blobs.provider(store_id)
                for trial in trials:
                    begun = time.perf_counter()
                    await provider.discard(trial.ticket.key)
                    trial.seconds["delete"] = time.perf_counter() - begun
                    if await _is_there(provider, trial.ticket.key):
                        return "canary_not_deleted", "What was deleted is still there."
        except (Failure, ProviderError, TimeoutError) as failed:
            return _told(failed)
        return None


async def _write_and_read(provider: StorageProvider, trial: _Trial) -> None:
    """The integrity layer compares what comes back with the digest of what was sent."""
    expected = Expected(len(trial.body), hashlib.sha256(trial.body).digest())
    begun = time.perf_counter()
    put = await provider.put(trial.ticket.key, trial.body, expected=expected)
    trial.seconds["write"] = time.perf_counter() - begun
    begun = time.perf_counter()
    await provider.get(trial.ticket.key, version_id=put.version_id, expected=expected)
    trial.seconds["read"] = time.perf_counter() - begun


async def _is_there(provider: StorageProvider, key: str) -> bool:
    try:
        await provider.head(key)
    except ObjectNotFound:
        return False
    return True


def _told(failed: Failure | ProviderError | TimeoutError) -> tuple[str, str]:
    if isinstance(failed, TimeoutError):
        return "canary_too_slow", f"It took longer than {LONGEST_SECONDS:.0f} seconds."
    failure = explain(failed) if isinstance(failed, ProviderError) else failed
    return failure.problem_code, failure.message


def _document(trials: Sequence[_Trial], error: tuple[str, str] | None) -> dict[str, Any]:
    *small, large = trials
    return {
        "at": datetime.now(UTC).isoformat(),
        "object_count": len(trials),
        "size_bytes": sum(len(trial.body) for trial in trials),
        **{f"{step}_seconds": _median(small, step) for step in ("write", "read", "delete")},
        **{f"{step}_bytes_per_second": _rate(large, step) for step in ("write", "read")},
        "error_code": error and error[0],
        "error_message": error and error[1],
    }


def _median(trials: Sequence[_Trial], step: str) -> float | None:
    found = [trial.seconds[step] for trial in trials if step in trial.seconds]
    return round(statistics.median(found), 6) if found else None


def _rate(trial: _Trial, step: str) -> float | None:
    return round(len(trial.body) / max(trial.seconds[step], 1e-6)) if step in trial.seconds else None
