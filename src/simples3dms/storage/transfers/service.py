"""Transfers: copies that single blobs are owed, recorded with the change that owes them and run by workers."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from uuid import UUID

from simples3dms.audit.service import record
from simples3dms.context import Principal
from simples3dms.db.session import Database, UnitOfWork
from simples3dms.jobqueue.app import JobQueue
from simples3dms.kit.ids import new_id
from simples3dms.kit.streams import heartbeat
from simples3dms.storage.blobs import repository as blobs_repository
from simples3dms.storage.blobs.proofs import READ_BACK, Proof
from simples3dms.storage.placement import repository as placement_repository
from simples3dms.storage.placement.router import owed_stores, write_store_of
from simples3dms.storage.placement.turns import waits_for_age
from simples3dms.storage.placement.values import Grant, Policy, Survey
from simples3dms.storage.stores.errors import not_granted, untrusted
from simples3dms.storage.transfers import repository
from simples3dms.storage.transfers.engine import STORE_FAULT_KINDS, CopyEngine
from simples3dms.storage.transfers.values import Outcome, Repaired, Result, TransferRow

_LONGEST_DELAY_SECONDS = 3600.0
#: Doubtful replicas that one request sees to.
_REPAIR_PAGE = 200
#: Debts that one job pays at a time.
_BATCH = 32
#: Jobs that are queued at once when a store has come back.
_AT_ONCE = 4
#: By when a store that failed is asked again, however long it has been away.
_ASKED_AGAIN_SECONDS = 20.0
#: Debts that become due when a store takes copies again, at a time: each further batch lets as many follow.
_HASTENED = 1000
_SURVEY_PAGE = 200
#: So many debts towards a store are enough for now.
_SURVEY_BACKLOG = 1000
_SURVEY_PAUSE_SECONDS = 30.0
#: How often a placement with rules about age looks at all blobs.
_SURVEY_AGAIN_SECONDS = 86_400.0


class Transfers:
    """The debts of copies of all tenants."""

    def __init__(
        self,
        database: Database,
        queue: JobQueue,
        engine: CopyEngine,
        *,
        lease_seconds: float,
        attempts: int,
        retry_base_seconds: float,
    ) -> None:
        self._database = database
        self._queue = queue
        self._engine = engine
        self._lease_seconds = lease_seconds
        self._attempts = attempts
        self._retry_base_seconds = retry_base_seconds

    def delay(self, attempt: int) -> float:
        """Seconds before the attempt after this one: doubling, an hour at most."""
        return float(min(_LONGEST_DELAY_SECONDS, self._retry_base_seconds * 2 ** min(attempt - 1, 20)))

    async def owe_copies(
        self, uow: UnitOfWork, blob_id: UUID, store_ids: Iterable[UUID], *, migration_id: UUID | None
    ) -> None:
        """Record, in the unit of work that makes the blob, which stores are owed a copy of it, and queue the work."""
        for store_id in store_ids:
            transfer_id = new_id()
            if await repository.owe(
                uow, blob_id, transfer_id=transfer_id, target_store_id=store_id, migration_id=migration_id
            ):
                await self.defer_run(uow, transfer_id)

    async def defer_run(
        self, uow: UnitOfWork, transfer_id: UUID, *, delay_seconds: float = 0, once: bool = False
    ) -> None:
        assert uow.tenant_id is not None
        await self._queue.defer(
            uow,
            "transfer.run",
            once=f"transfer:{transfer_id}" if once else None,
            tenant_id=uow.tenant_id,
            transfer_id=transfer_id,
            delay_seconds=int(delay_seconds + 0.999),
        )

    async def repair(self, tenant_id: UUID, blob_id: UUID, store_id: UUID) -> None:
        """See to a replica that is suspect or missing: owe a fresh copy, to its store or to where new ones are written.

        The watchdog calls again until nothing doubtful is left of the blob or a transfer of it has failed for good.
        Nothing happens while the store is not trusted.
        """
        async with self._database.tenant(tenant_id) as uow:
            if not await blobs_repository.is_trusted(uow, store_id):
                return
            placement = await placement_repository.share(uow)
            if placement is not None:
                await self._repair(uow, placement.policy, blob_id, store_id)

    async def _repair(self, uow: UnitOfWork, policy: Policy, blob_id: UUID, store_id: UUID) -> None:
        assert uow.tenant_id is not None
        wanted = policy.wanted_store_ids
        if await blobs_repository.retire_doubtful(uow, blob_id, except_at=wanted):
            await self._queue.defer(uow, "replica.sweep", once=f"sweep:{uow.tenant_id}", tenant_id=uow.tenant_id)
        if await blobs_repository.has_doubtful(uow, blob_id):
            subject = await placement_repository.find_subject(uow, blob_id)
            if subject is not None:
                target = store_id if store_id in wanted else write_store_of(policy, subject)
                await self.owe_copies(uow, blob_id, [target], migration_id=None)

    async def repair_page(
        self, principal: Principal, tenant_id: UUID, *, store: str | None = None, after: UUID | None = None
    ) -> Repaired:
        """Owe a fresh copy for the next doubtful replicas of the tenant (of one store), also where that was given up.

        Stores that are not trusted are passed over; to name one is Conflict (`store_untrusted`). Raises NotFound
        (`store_not_granted`).
        """
        async with self._database.tenant(tenant_id) as uow:
            placement = await placement_repository.share(uow)
            store_id = None if store is None else await self._find_store(uow, store)
            found = await blobs_repository.list_doubtful_ones(uow, store_id=store_id, after=after, limit=_REPAIR_PAGE)
            for transfer_id in await repository.revive_blobs(uow, [one.blob_id for one in found]):
                await self.defer_run(uow, transfer_id)
            if placement is not None:
                for one in found:
                    await self._repair(uow, placement.policy, one.blob_id, one.store_id)
            await record(
                uow,
                principal,
                "replica.repair_asked",
                target_type="tenant",
                target_id=str(tenant_id),
                tenant_id=tenant_id,
                details={"store": store, "count": len(found)},
            )
        return Repaired(len(found), found[-1].id if len(found) == _REPAIR_PAGE else None)

    async def _find_store(self, uow: UnitOfWork, name: str) -> UUID:
        found = await repository.find_granted(uow, name)
        if found is None:
            raise not_granted(name)
        if found.untrusted_reason is not None:
            raise untrusted(found.untrusted_reason)
        return found.id

    async def defer_due_surveys(self, *, limit: int) -> None:
        """Queue the looks at tenants' blobs that are due."""
        async with self._database.platform() as uow:
            for tenant_id in await placement_repository.list_due_surveys(uow, limit=limit):
                await self._queue.defer(
                    uow, "placement.survey", once=f"placement-survey:{tenant_id}", tenant_id=tenant_id
                )

    async def survey(self, tenant_id: UUID) -> None:
        """Owe the copies that the placement wants of blobs that are there already, page by page.

        Where many are owed already, it waits until they are paid; while a migration is under way, until it has ended.
        """
        async with self._database.tenant(tenant_id) as uow:
            survey = await placement_repository.claim_survey(uow, lease_seconds=self._lease_seconds)
        while survey is not None:
            async with self._database.tenant(tenant_id) as uow:
                survey = await self._survey_page(uow, survey)

    async def _survey_page(self, uow: UnitOfWork, survey: Survey) -> Survey | None:
        """The next page; where to go on, or None if that is for later, or for another worker."""
        # Shared, so that the policy that a page is held against is the one in force when it commits.
        placement = await placement_repository.share(uow)
        if placement is None:
            return None
        policy, after = placement.policy, survey.after_seq
        pause = await self._survey_pause(uow, policy)
        if pause is not None:
            await placement_repository.advance_survey(uow, survey, after_seq=after, due_in_seconds=pause)
            return None
        page = await placement_repository.list_seen(uow, after_seq=after, limit=_SURVEY_PAGE)
        for blob in page:
            owed = owed_stores(policy, blob.subject, blob.store_ids)
            await self.owe_copies(uow, blob.blob_id, owed, migration_id=None)
        is_over = len(page) < _SURVEY_PAGE
        due = self._lease_seconds if not is_over else _SURVEY_AGAIN_SECONDS if waits_for_age(policy) else None
        after = 0 if is_over else page[-1].seq
        mine = await placement_repository.advance_survey(uow, survey, after_seq=after, due_in_seconds=due)
        # What another worker has taken over is owed once all the same: a debt is one row for a blob and a store.
        return None if is_over or not mine else Survey(after, survey.fence)

    async def _survey_pause(self, uow: UnitOfWork, policy: Policy) -> float | None:
        """Seconds to wait before the next page; None: none."""
        if await placement_repository.is_migrating(uow):
            return _SURVEY_PAUSE_SECONDS
        for store_id in policy.wanted_store_ids:
            backlog = await repository.count_backlog(uow, target_store_id=store_id)
            if backlog.pending >= _SURVEY_BACKLOG:
                return _SURVEY_PAUSE_SECONDS
        return None

    async def run(self, tenant_id: UUID, transfer_id: UUID) -> None:
        """Pay a debt, and with it others towards the same store. Nothing happens if it is paid, or held by another.

        While the store is left alone after faults, they wait as they are; then one goes ahead, and the others follow if
        the store took it. So a store that comes back is not met by all that it is owed, and by what failed copies left.
        """
        async with self._database.tenant(tenant_id) as uow:
            store_id = await repository.find_target(uow, transfer_id)
            rest_seconds = None if store_id is None else self._engine.rest_seconds(store_id)
            if store_id is None or rest_seconds:
                if store_id is not None and rest_seconds:
                    await self._wait(uow, store_id, transfer_id, rest_seconds)
                return
            limit = _BATCH if rest_seconds is None else 1
            rows = await repository.claim(uow, transfer_id, limit=limit, lease_seconds=self._lease_seconds)
            if not rows:
                return
            grants = {grant.store_id: grant for grant in await placement_repository.list_grants(uow)}
            proof = await self._proof(uow, rows)
        grant = grants.get(rows[0].target_store_id)
        try:
            results = await self._copy(tenant_id, rows, grant, proof) if grant else {}
        except asyncio.CancelledError:
            await asyncio.shield(self._put_back(tenant_id, rows))
            raise
        async with self._database.tenant(tenant_id) as uow:
            await self._record(uow, rows, results)
            if len(rows) == limit and not any(result.store_fault for result in results.values()):
                await self._go_on(uow, store_id, _AT_ONCE if rest_seconds is not None else 1)

    async def _wait(self, uow: UnitOfWork, store_id: UUID, transfer_id: UUID, seconds: float) -> None:
        """One job for all that the tenant owes the store: the first to come back."""
        assert uow.tenant_id is not None
        await self._queue.defer(
            uow,
            "transfer.run",
            once=f"transfers:{uow.tenant_id}:{store_id}",
            tenant_id=uow.tenant_id,
            transfer_id=transfer_id,
            delay_seconds=int(seconds + 0.999),
        )

    async def _go_on(self, uow: UnitOfWork, store_id: UUID, jobs: int) -> None:
        """Queue the next batches: a backlog need not wait for the watchdog to find it."""
        for transfer_id in await repository.list_due_at(uow, target_store_id=store_id, limit=jobs):
            await self.defer_run(uow, transfer_id, once=True)

    async def _put_back(self, tenant_id: UUID, rows: Sequence[TransferRow]) -> None:
        """Let go at once when this worker is told to stop, so that another need not wait for the leases."""
        async with self._database.tenant(tenant_id) as uow:
            await repository.put_back(uow, rows)
            # Whoever takes one of them takes the others with it.
            await self.defer_run(uow, rows[0].id)

    async def _proof(self, uow: UnitOfWork, rows: Sequence[TransferRow]) -> Proof:
        """As the migration that owes them asks; where others are among them, all are read back."""
        migrations = {row.migration_id for row in rows}
        (one, *others) = migrations
        return READ_BACK if one is None or others else await repository.find_proof(uow, one)

    async def _copy(
        self, tenant_id: UUID, rows: Sequence[TransferRow], grant: Grant, proof: Proof
    ) -> dict[UUID, Result]:
        async def beat() -> bool:
            async with self._database.tenant(tenant_id) as uow:
                await repository.extend(uow, rows, lease_seconds=self._lease_seconds)
            return True

        async with heartbeat(beat, lease_seconds=self._lease_seconds):
            results = await self._engine.copy(tenant_id, [row.blob_id for row in rows], grant, proof, debts=rows)
        return {result.blob_id: result for result in results}

    async def _record(self, uow: UnitOfWork, rows: Sequence[TransferRow], results: dict[UUID, Result]) -> None:
        """No result means that there was nothing to do: the blob is gone, or has its copy already."""
        settled: list[TransferRow] = []
        # Of what a target that is away is owed, which may be a lot, one of each batch finds out that it is back.
        asking = next((row for row in rows if _is_away(results.get(row.blob_id))), None)
        for row in rows:
            result = results.get(row.blob_id)
            if result is not None and result.outcome in (Outcome.FAILED, Outcome.BUSY):
                await self._postpone(uow, row, result, is_asking=row is asking)
            else:
                settled.append(row)
        await repository.settle(uow, settled)
        if any(result.outcome in (Outcome.COPIED, Outcome.PROVEN) for result in results.values()):
            await self._hasten(uow, rows[0].target_store_id)
        for migration_id in {row.migration_id for row in rows if row.migration_id is not None}:
            assert uow.tenant_id is not None
            await self._queue.defer(
                uow,
                "migration.advance",
                once=f"advance:{migration_id}",
                tenant_id=uow.tenant_id,
                migration_id=migration_id,
            )

    async def _hasten(self, uow: UnitOfWork, target_store_id: UUID) -> None:
        """The store takes copies again: what is owed to it has not to wait as long as it was away."""
        hastened = await repository.hasten(
            uow, target_store_id, STORE_FAULT_KINDS, beyond_seconds=_ASKED_AGAIN_SECONDS, limit=_HASTENED
        )
        # A few jobs at once: each that pays a whole batch queues the next.
        for transfer_id in hastened[: _AT_ONCE * _BATCH : _BATCH]:
            await self.defer_run(uow, transfer_id)

    async def _postpone(self, uow: UnitOfWork, row: TransferRow, result: Result, *, is_asking: bool) -> None:
        # A store that is down says nothing of the item: its copies stay owed, however long that lasts.
        final = (
            result.outcome is Outcome.FAILED
            and not result.store_fault
            and (row.attempt >= self._attempts or not result.retryable)
        )
        delay = self.delay(row.attempt)
        if is_asking or result.outcome is Outcome.BUSY or (result.store_fault and result.at_source):
            # The others follow when the store has taken this one: see `_hasten`.
            delay = min(delay, _ASKED_AGAIN_SECONDS)
        kind = result.error_kind or result.outcome.value
        message = result.error_message or "another worker is writing this copy"
        await repository.postpone(uow, row, kind=kind, message=message, delay_seconds=delay, final=final)
        if not final:
            await self.defer_run(uow, row.id, delay_seconds=delay)


def _is_away(result: Result | None) -> bool:
    """Whether the target is at fault."""
    return result is not None and result.store_fault and not result.at_source
