"""Drains: what operators ask for. Start, look, confirm a step, pause, resume, cancel."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final
from uuid import UUID

from simples3dms.context import Principal
from simples3dms.db.session import Database, UnitOfWork
from simples3dms.kit.ids import new_id
from simples3dms.storage.drains import errors, repository
from simples3dms.storage.drains.engine import DrainEngine, begin_step, note
from simples3dms.storage.drains.values import OPEN, Drain, DrainPlan, DrainRow, DrainState, DrainTenant
from simples3dms.storage.stores import repository as stores_repository
from simples3dms.storage.stores.service import Stores
from simples3dms.tenants.service import require_operator

_MOST_ACTIVE: Final = 100


class Drains:
    """The drains of all stores of the platform."""

    def __init__(self, database: Database, stores: Stores, engine: DrainEngine) -> None:
        self._database, self._stores = database, stores
        self.engine = engine

    async def start(self, principal: Principal, store: str, target: str, plan: DrainPlan) -> Drain:
        """Begin to move every tenant of the store to the target; the store is granted to nobody meanwhile.

        For operators. Raises Invalid (`drain_invalid`, with `fields`), NotFound (`store_not_found`), Conflict
        (`drain_active`, `drain_target_drained`).
        """
        require_operator(principal)
        source, goal = await self._stores.get_store(store), await self._stores.get_store(target)
        for field, message in _problems(plan, is_same=source.id == goal.id):
            raise errors.invalid(field, message)
        async with self._database.platform() as uow:
            # In one order, whoever drains what: and a grant that is being made comes before or after.
            for store_id in sorted((source.id, goal.id)):
                await stores_repository.lock(uow, store_id)
            if await stores_repository.is_draining(uow, goal.id):
                raise errors.target_drained(goal.name)
            drain_id = new_id()
            if not await repository.insert(uow, drain_id, source.id, goal.id, plan):
                raise errors.active()
            row = await repository.lock(uow, drain_id)
            assert row is not None
            await note(uow, principal, "drain.started", row, percent=row.steps[0], steps=row.steps)
            await self.engine.defer(uow, drain_id)
            return await _in_words(uow, row)

    async def get(self, store: str) -> Drain:
        """The store's newest. Raises NotFound (`drain_not_found`)."""
        async with self._database.platform() as uow:
            return await _in_words(uow, await self._newest(uow, store))

    async def list_tenants(
        self, store: str, *, state: str | None = None, after: UUID | None = None, limit: int = 100
    ) -> list[DrainTenant]:
        """A page of its tenants, by id, with what is in the way of each."""
        async with self._database.platform() as uow:
            row = await self._newest(uow, store)
            if state is not None:
                return await repository.list_tenants(uow, row, states=[state], after=after, limit=limit)
            return await repository.list_tenants(uow, row, after=after, limit=limit)

    async def confirm(self, principal: Principal, store: str) -> Drain:
        """Have the next step begin. Raises Conflict (`drain_wrong_state`) unless one waits for that."""
        require_operator(principal)
        async with self._database.platform() as uow:
            row = await self._lock(uow, store, "be confirmed", {DrainState.CONFIRMING})
            await begin_step(uow, principal, row)
            await repository.set_state(uow, row, DrainState.RUNNING)
            return await self._go_on(uow, row)

    async def pause(self, principal: Principal, store: str) -> Drain:
        """Begin no more; the migrations that were begun go on, and are their tenants' own."""
        require_operator(principal)
        async with self._database.platform() as uow:
            row = await self._lock(uow, store, "pause", {DrainState.RUNNING, DrainState.CONFIRMING})
            await repository.set_state(uow, row, DrainState.PAUSED)
            await note(uow, principal, "drain.paused", row)
            return await self._go_on(uow, row)

    async def resume(self, principal: Principal, store: str) -> Drain:
        """Go on; whoever was blocked or stepped back is tried again."""
        require_operator(principal)
        async with self._database.platform() as uow:
            row = await self._lock(uow, store, "resume", OPEN - {DrainState.STEPPING_BACK})
            await repository.try_again(uow, row)
            await repository.set_state(uow, row, DrainState.RUNNING)
            await note(uow, principal, "drain.resumed", row)
            return await self._go_on(uow, row)

    async def cancel(self, principal: Principal, store: str) -> Drain:
        """End it where it is: nothing is moved back, and the store may be granted again."""
        require_operator(principal)
        async with self._database.platform() as uow:
            row = await self._lock(uow, store, "cancel", OPEN - {DrainState.STEPPING_BACK})
            await repository.set_state(uow, row, DrainState.CANCELLED)
            await note(uow, principal, "drain.cancelled", row)
            return await self._go_on(uow, row)

    async def _go_on(self, uow: UnitOfWork, row: DrainRow) -> Drain:
        changed = await repository.find(uow, row.id)
        assert changed is not None
        if changed.state == DrainState.RUNNING:
            await self.engine.defer(uow, row.id)
        return await _in_words(uow, changed)

    async def _newest(self, uow: UnitOfWork, store: str) -> DrainRow:
        found = await repository.find_newest(uow, (await self._stores.get_store(store)).id)
        if found is None:
            raise errors.not_found()
        return found

    async def _lock(
        self, uow: UnitOfWork, store: str, action: str, states: frozenset[str] | set[DrainState]
    ) -> DrainRow:
        row = await repository.lock(uow, (await self._newest(uow, store)).id)
        assert row is not None
        if row.state not in states:
            raise errors.wrong_state(action, row.state)
        return row


def _problems(plan: DrainPlan, *, is_same: bool) -> Iterator[tuple[str, str]]:
    if is_same:
        yield "target", "A store is drained to another one."
    steps = list(plan.steps)
    if not steps or steps != sorted(set(steps)) or steps[0] < 1 or steps[-1] != 100:
        yield "steps", "Steps are percentages that rise, from 1 at least to 100, such as 10, 50, 100."
    if not 1 <= plan.most_active <= _MOST_ACTIVE:
        yield "most_active", f"1 to {_MOST_ACTIVE} tenants are moved at once."
    if not 0 <= plan.most_failed_percent <= 100:
        yield "most_failed_percent", "A share of failures is 0 to 100 percent."
    if plan.most_read_ms is not None and not 1 <= plan.most_read_ms <= 600_000:
        yield "most_read_ms", "A read may take 1 to 600,000 ms."
    if plan.finalize_after_seconds is not None and not 0 <= plan.finalize_after_seconds <= 366 * 86_400:
        yield "finalize_after_seconds", "The roll-back window lasts from 0 seconds to 366 days."


async def _in_words(uow: UnitOfWork, row: DrainRow) -> Drain:
    return Drain(
        id=row.id,
        store=row.store,
        target=row.target,
        state=row.state,
        steps=row.steps,
        percent=row.steps[row.step],
        automatic=row.automatic,
        most_active=row.most_active,
        finalize_after_seconds=row.finalize_after_seconds,
        most_failed_percent=row.most_failed_percent,
        most_read_ms=row.most_read_ms,
        proof=row.proof,
        read_ms=row.read_ms,
        reason=row.reason,
        created_at=row.created_at,
        finished_at=row.finished_at,
        progress=await repository.get_progress(uow, row),
    )
