"""What workers do for a drain: find its tenants, move some at a time, watch, and step back when it goes wrong.

Every step is read from the records and may be done twice. A tenant's migration is planned, then noted, then started:
where a worker dies in between, the next one finds what was planned, or starts what was noted.
"""

from __future__ import annotations

import time
from typing import Final
from uuid import UUID

import structlog

from simples3dms.audit.service import record
from simples3dms.context import WORKER, Principal
from simples3dms.db.session import Database, UnitOfWork
from simples3dms.errors import Conflict, Failure
from simples3dms.jobqueue.app import JobQueue
from simples3dms.kit.failpoints import fp
from simples3dms.kit.streams import heartbeat
from simples3dms.providers.errors import ProviderError
from simples3dms.storage.blobs.proofs import parse
from simples3dms.storage.drains import repository
from simples3dms.storage.drains.values import DrainRow, DrainState, DrainTenant, Place, StepCounts, is_failing, step_of
from simples3dms.storage.migrations.service import Migrations
from simples3dms.storage.migrations.values import Schedule, State
from simples3dms.storage.stores.service import Stores

log = structlog.get_logger(__name__)

_PAGE: Final = 500
_SAMPLES: Final = 5
#: Looks in a row at which reads must be slow before the drain halts: one slow moment is no reason.
_SLOW_LOOKS: Final = 3
_TAKEN_BACK: Final = (State.ROLLING_BACK, State.ROLLED_BACK, State.CANCELLED)
#: What a read that fails takes.
_FOR_EVER_MS: Final = 2**31 - 1
#: An operator has begun the drain; what it grants, it grants for them.
_ON_BEHALF: Final = Principal(id=None, name="worker", is_operator=True)


class DrainEngine:
    """Takes drains as far as they go now."""

    def __init__(
        self, database: Database, queue: JobQueue, stores: Stores, migrations: Migrations, *, lease_seconds: float
    ) -> None:
        self._database, self._queue = database, queue
        self._stores, self._migrations = stores, migrations
        self._lease_seconds = lease_seconds

    async def defer(self, uow: UnitOfWork, drain_id: UUID) -> None:
        await self._queue.defer(uow, "drain.advance", once=f"drain:{drain_id}", drain_id=drain_id)

    async def defer_due(self, *, limit: int) -> None:
        """For the watchdog."""
        async with self._database.platform() as uow:
            for drain_id in await repository.list_working(uow, limit=limit):
                await self.defer(uow, drain_id)

    async def advance(self, drain_id: UUID) -> None:
        async with self._database.platform() as uow:
            row = await repository.claim(uow, drain_id, lease_seconds=self._lease_seconds)
        if row is None:
            return

        async def beat() -> bool:
            async with self._database.platform() as uow:
                return await repository.extend(uow, row, lease_seconds=self._lease_seconds)

        try:
            async with heartbeat(beat, lease_seconds=self._lease_seconds):
                await self._advance(row)
        finally:
            async with self._database.platform() as uow:
                await repository.release(uow, row)

    async def _advance(self, row: DrainRow) -> None:
        async with self._database.platform() as uow:
            await repository.refresh(uow, row)
        if row.state == DrainState.STEPPING_BACK:
            await self._step_back(row)
            return
        if not row.is_listed:
            await self._list(row)
            return
        async with self._database.platform() as uow:
            counts = await repository.count_step(uow, row)
        reason = await self._trouble(row, counts)
        if reason:
            await self._halt(row, reason)
            return
        await self._move(row, counts)
        await self._end_step(row)

    async def _list(self, row: DrainRow) -> None:
        """Look through all placements for the store, a page at a time, and begin when that is done."""
        after = row.listed_after
        while True:
            async with self._database.platform() as uow:
                current = await repository.lock(uow, row.id)
                if current is None or current.fence != row.fence or current.listed_after != after:
                    return
                page = await repository.list_placed(uow, current, limit=_PAGE)
                placed = [(tenant_id, step_of(tenant_id, row.steps)) for tenant_id, is_placed in page if is_placed]
                if placed:
                    await repository.insert_tenants(uow, row, placed)
                after = page[-1][0] if page else after
                is_listed = len(page) < _PAGE
                await repository.note_listed(uow, row, after=after, is_listed=is_listed)
                if is_listed:
                    await self.defer(uow, row.id)
                    return

    async def _trouble(self, row: DrainRow, counts: StepCounts) -> str | None:
        """Why the step must halt, or None."""
        if is_failing(counts, row.most_failed_percent):
            return f"{counts.step_failed} of {counts.started} migrations of this step have failed"
        if row.most_read_ms is None or not counts.cut_over + counts.moved:
            return None
        read_ms = await self._time_reads(row)
        if read_ms is None:
            return None
        async with self._database.platform() as uow:
            slow = await repository.note_reads(uow, row, read_ms=read_ms, is_slow=read_ms > row.most_read_ms)
        if slow < _SLOW_LOOKS:
            return None
        return f"reads at {row.target} " + ("fail" if read_ms == _FOR_EVER_MS else f"take {read_ms} ms")

    async def _time_reads(self, row: DrainRow) -> int | None:
        """The median, in ms, until the first bytes of some documents come; a read that fails takes for ever."""
        async with self._database.platform() as uow:
            samples = await repository.list_samples(uow, row, limit=_SAMPLES)
        if not samples:
            return None
        provider = await self._stores.provider(row.target_store_id)
        times = []
        for key, version_id in samples:
            begun = time.monotonic()
            try:
                async with provider.open(key, version_id=version_id, length=1) as stream:
                    async for _ in stream:
                        break
                times.append(int((time.monotonic() - begun) * 1000))
            except ProviderError:
                times.append(_FOR_EVER_MS)
        return sorted(times)[len(times) // 2]

    async def _halt(self, row: DrainRow, reason: str) -> None:
        async with self._database.platform() as uow:
            current = await repository.lock(uow, row.id)
            if current is None or current.fence != row.fence or current.state != DrainState.RUNNING:
                return
            await repository.set_state(uow, current, DrainState.STEPPING_BACK, reason=reason)
            await note(uow, WORKER, "drain.halted", current, reason=reason)
            await self.defer(uow, row.id)
        log.warning("drain.halted", drain=str(row.id), reason=reason)

    async def _step_back(self, row: DrainRow) -> None:
        """Roll back what this step has begun, cut over or not; what has given its source up can't be."""
        begun = (Place.MOVING, Place.CUT_OVER, Place.FAILED)
        async with self._database.platform() as uow:
            page = await repository.list_tenants(uow, row, states=begun, steps=(row.step, row.step), limit=_PAGE)
        for tenant in page:
            message = await self._take_back(tenant)
            state = Place.STEPPED_BACK if message is None else Place.BLOCKED
            async with self._database.platform() as uow:
                code = None if message is None else "migration_not_rolled_back"
                await repository.set_tenant(uow, row, tenant.tenant_id, state, code=code, message=message)
        async with self._database.platform() as uow:
            current = await repository.lock(uow, row.id)
            if current is None or current.fence != row.fence:
                return
            if len(page) == _PAGE:
                await self.defer(uow, row.id)
                return
            await repository.set_state(uow, current, DrainState.HALTED, reason=row.reason)
            await note(uow, WORKER, "drain.stepped_back", current, reason=row.reason or "")

    async def _take_back(self, tenant: DrainTenant) -> str | None:
        """None if it was rolled back, or was never started; else why it can't be."""
        assert tenant.migration_id is not None
        try:
            migration = await self._migrations.get_migration(tenant.tenant_id, tenant.migration_id)
            if migration.state in _TAKEN_BACK:
                return None
            undo = self._migrations.cancel_migration if migration.state == State.PLANNED else self._migrations.roll_back
            await undo(WORKER, tenant.tenant_id, tenant.migration_id)
        except Conflict as failure:
            return failure.message
        return None

    async def _move(self, row: DrainRow, counts: StepCounts) -> None:
        """Start what was noted and not started, then as many more as may be under way at once."""
        async with self._database.platform() as uow:
            noted = await repository.list_tenants(uow, row, states=(Place.MOVING,), limit=row.most_active)
            free = max(row.most_active - counts.active, 0)
            next_ones = await repository.list_tenants(
                uow, row, states=(Place.WAITING,), steps=(0, row.step), limit=free
            )
        for tenant in [*noted, *next_ones]:
            if not await self._is_mine(row):
                return
            try:
                if tenant.migration_id is None and await self._has_left(row, tenant):
                    continue
                migration_id = tenant.migration_id or await self._plan(row, tenant)
                if migration_id is None:
                    return
                await self._start(tenant, migration_id)
            except Failure as failure:
                async with self._database.platform() as uow:
                    await repository.set_tenant(
                        uow,
                        row,
                        tenant.tenant_id,
                        Place.BLOCKED,
                        code=failure.problem_code,
                        message=failure.message,
                    )

    async def _is_mine(self, row: DrainRow) -> bool:
        async with self._database.platform() as uow:
            current = await repository.find(uow, row.id)
        return current is not None and current.fence == row.fence and current.state == DrainState.RUNNING

    async def _has_left(self, row: DrainRow, tenant: DrainTenant) -> bool:
        """Note a tenant as moved that names the store no more: by itself, or by a migration that was not taken back.

        Nothing could be planned for it. If it names the store again by the end, it has its turn then.
        """
        async with self._database.platform() as uow:
            if await repository.is_placed(uow, row, tenant.tenant_id):
                return False
            await repository.set_tenant(uow, row, tenant.tenant_id, Place.MOVED)
        return True

    async def _plan(self, row: DrainRow, tenant: DrainTenant) -> UUID | None:
        """The tenant's migration, planned and noted; None if the claim was lost meanwhile."""
        async with self._database.platform() as uow:
            migration_id = await repository.find_planned(uow, row, tenant.tenant_id)
        if migration_id is None:
            await self._stores.grant_store(_ON_BEHALF, tenant.tenant_id, row.target)
            schedule = Schedule(automatic_cutover=True, finalize_after_seconds=row.finalize_after_seconds)
            planned = await self._migrations.plan_migration(
                WORKER,
                tenant.tenant_id,
                source=row.store,
                target=row.target,
                schedule=schedule,
                proof=parse(row.proof),
            )
            migration_id = planned.id
        await fp("drain.planned")
        async with self._database.platform() as uow:
            is_mine = await repository.set_tenant(uow, row, tenant.tenant_id, Place.MOVING, migration_id=migration_id)
            await fp("drain.in_note_txn")
        await fp("drain.noted")
        return migration_id if is_mine else None

    async def _start(self, tenant: DrainTenant, migration_id: UUID) -> None:
        migration = await self._migrations.get_migration(tenant.tenant_id, migration_id)
        if migration.state == State.PLANNED:
            await self._migrations.start_migration(WORKER, tenant.tenant_id, migration_id)
            await fp("drain.started")

    async def _end_step(self, row: DrainRow) -> None:
        """Go to the next step when all of this one have been cut over, or are in nobody's way; the last one ends it."""
        async with self._database.platform() as uow:
            await repository.refresh(uow, row)
            counts = await repository.count_step(uow, row)
            current = await repository.lock(uow, row.id)
            if current is None or current.fence != row.fence or current.state != DrainState.RUNNING:
                return
            if counts.waiting or counts.active or counts.failed:
                return
            if row.step + 1 < len(row.steps):
                await self._next_step(uow, current)
            elif not counts.cut_over:
                await self._finish(uow, current)

    async def _next_step(self, uow: UnitOfWork, row: DrainRow) -> None:
        if row.automatic:
            await begin_step(uow, WORKER, row)
            await self.defer(uow, row.id)
        else:
            await repository.set_state(uow, row, DrainState.CONFIRMING)
            await note(uow, WORKER, "drain.step_ended", row, percent=row.steps[row.step])

    async def _finish(self, uow: UnitOfWork, row: DrainRow) -> None:
        """Done is what the placements say: none names the store any more. Else those that do have their turn."""
        placed = await repository.has_placed(uow, row)
        blocked = (await repository.get_progress(uow, row)).blocked
        if blocked:
            await repository.set_state(uow, row, DrainState.HALTED, reason=f"{blocked} tenants are blocked")
            await note(uow, WORKER, "drain.halted", row, reason="tenants are blocked")
        elif placed:
            await repository.note_listed(uow, row, after=None, is_listed=False)
            await self.defer(uow, row.id)
        else:
            await repository.set_state(uow, row, DrainState.DONE)
            await note(uow, WORKER, "drain.done", row)


async def begin_step(uow: UnitOfWork, principal: Principal, row: DrainRow) -> None:
    """The next share of the tenants has its turn. The caller holds the row's lock."""
    await repository.set_step(uow, row, row.step + 1)
    await note(uow, principal, "drain.step_begun", row, percent=row.steps[row.step + 1])


async def note(uow: UnitOfWork, principal: Principal, action: str, row: DrainRow, **details: object) -> None:
    await record(
        uow,
        principal,
        action,
        target_type="drain",
        target_id=str(row.id),
        details={"store": row.store, "target": row.target, **details},
    )
