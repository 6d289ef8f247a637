"""Rewrap: bring every sealed row under the primary key, a page at a time, while everything goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final
from uuid import UUID

import structlog

from simples3dms.crypto.errors import KeyServiceRefused, SealBroken, SealKeyUnknown
from simples3dms.crypto.keyring import Keyring
from simples3dms.crypto.sealing import SealContext, Sealed, rewrap, unseal_apart
from simples3dms.db.session import Database
from simples3dms.errors import Failure
from simples3dms.keys import repository
from simples3dms.keys.repository import Moved
from simples3dms.keys.values import Broken, Rewrap, SealedColumn, SealedRow
from simples3dms.kit.failpoints import fp

log = structlog.get_logger(__name__)

_PAGE: Final = 100
#: Round trips to a service that keeps a key, at a time.
_AT_ONCE: Final = 8
_RETRY_SECONDS: Final = 10.0


class RewrapEngine:
    """Runs a rewrap. Any number may be called at once: one works, under a lease and a fence."""

    def __init__(
        self, database: Database, keyring: Keyring, columns: Sequence[SealedColumn], *, lease_seconds: float
    ) -> None:
        self._database = database
        self._keyring = keyring
        self._columns = columns
        self._lease_seconds = lease_seconds
        self._slots = asyncio.Semaphore(_AT_ONCE)

    async def run(self, rewrap_id: UUID) -> None:
        """Work until every row is done, or the claim is lost. What it leaves is found by the next one.

        Raises what the keys' services do; the rewrap is due again a little later then.
        """
        async with self._database.platform() as uow:
            claimed = await repository.claim_rewrap(uow, rewrap_id, lease_seconds=self._lease_seconds)
        if claimed is None:
            return
        await fp("rewrap.claimed")
        try:
            self._keyring.choose(claimed.key_id)
            broken = await self._pass(claimed)
            while not await self._finish(claimed, broken):
                broken = await self._pass(claimed)
        except Failure as failure:
            async with self._database.platform() as uow:
                await repository.postpone_rewrap(uow, claimed, error_code=failure.problem_code, seconds=_RETRY_SECONDS)
            raise
        except _ClaimLost:
            return
        await fp("rewrap.finished")

    async def _pass(self, claimed: Rewrap) -> int:
        """Once through all that is sealed: how many rows don't open."""
        return sum([await self._column(claimed, column) for column in self._columns])

    async def _finish(self, claimed: Rewrap, broken: int) -> bool:
        """False if a row names another key again: its writer had sealed it before it heard of the change."""
        async with self._database.platform() as uow:
            named = await repository.list_named(uow, self._columns)
            if not broken and any(key_id != claimed.key_id for key_id in named):
                return False
            await repository.finish_rewrap(uow, claimed, broken=broken)
        return True

    async def _column(self, claimed: Rewrap, column: SealedColumn) -> int:
        """How many rows of it don't open."""
        async with self._database.platform() as uow:
            named = await repository.list_named(uow, [column])
        broken = 0
        for key_id in named:
            if key_id != claimed.key_id:
                broken += await self._key(claimed, column, key_id)
        return broken

    async def _key(self, claimed: Rewrap, column: SealedColumn, key_id: str) -> int:
        after: list[str] | None = None
        broken = 0
        while True:
            async with self._database.platform() as uow:
                page = await repository.list_sealed(uow, column, key_id, after=after, limit=_PAGE)
            if not page:
                return broken
            # Outside any transaction: a key may be a network away.
            moved = [one for one in await asyncio.gather(*(self._move(column, row) for row in page)) if one]
            await fp("rewrap.page_wrapped")
            await self._save(claimed, column, moved, len(page) - len(moved))
            await fp("rewrap.page_committed")
            broken += len(page) - len(moved)
            after = page[-1].key

    async def _move(self, column: SealedColumn, row: SealedRow) -> Moved | None:
        context = SealContext(row.owner, column.table, column.column, row.row_id, row.version)
        value = Sealed(row.key_id, row.wrapped_key, row.sealed)
        async with self._slots:
            try:
                new = await asyncio.to_thread(rewrap, self._keyring, value, context=context)
            except (SealBroken, SealKeyUnknown, KeyServiceRefused) as failure:
                if isinstance(failure, KeyServiceRefused) and failure.extra.get("key_id") == self._keyring.primary_id:
                    raise
                log.error("rewrap.broken", table=column.table, row=row.key, code=failure.problem_code)
                return None
        return Moved(row, new.key_id, new.wrapped_key, new.sealed)

    async def _save(self, claimed: Rewrap, column: SealedColumn, moved: Sequence[Moved], broken: int) -> None:
        async with self._database.platform() as uow:
            stands = await repository.count_page(
                uow, claimed, done=len(moved), broken=broken, lease_seconds=self._lease_seconds
            )
            if not stands:
                raise _ClaimLost
            for one in moved:
                await repository.move(uow, column, one)
            await fp("rewrap.in_page_txn")


async def list_broken(database: Database, keyring: Keyring, columns: Sequence[SealedColumn]) -> list[Broken]:
    """Every sealed row that does not open under the key that it names. Changes nothing."""
    found: list[Broken] = []
    for column in columns:
        async with database.platform() as uow:
            named = await repository.list_named(uow, [column])
        for key_id in named:
            after: list[str] | None = None
            while True:
                async with database.platform() as uow:
                    page = await repository.list_sealed(uow, column, key_id, after=after, limit=_PAGE)
                if not page:
                    break
                found += [broken for row in page if (broken := await _try_to_open(keyring, column, row))]
                after = page[-1].key
    return found


async def _try_to_open(keyring: Keyring, column: SealedColumn, row: SealedRow) -> Broken | None:
    context = SealContext(row.owner, column.table, column.column, row.row_id, row.version)
    try:
        await unseal_apart(keyring, Sealed(row.key_id, row.wrapped_key, row.sealed), context=context)
    except Failure as failure:
        return Broken(column.table, "/".join(row.key), failure.problem_code)
    return None


class _ClaimLost(Exception):
    """Another worker has taken over: what this one still holds counts for nothing."""
