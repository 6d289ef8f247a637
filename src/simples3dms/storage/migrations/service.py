"""Migrations: what people ask for. Plan, start, pause, resume, cut over, roll back, finalize, and look."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from uuid import UUID

from simples3dms.audit.service import record
from simples3dms.context import WORKER, Principal
from simples3dms.db.session import Database, UnitOfWork
from simples3dms.errors import Conflict, Invalid
from simples3dms.kit.failpoints import fp
from simples3dms.kit.ids import new_id
from simples3dms.storage.blobs.proofs import READ_BACK, Proof
from simples3dms.storage.migrations import errors, parts_of, repository
from simples3dms.storage.migrations.chunks import repository as chunks
from simples3dms.storage.migrations.engine import MigrationEngine
from simples3dms.storage.migrations.failures import Failures
from simples3dms.storage.migrations.looking import in_words
from simples3dms.storage.migrations.planning import Planner
from simples3dms.storage.migrations.schedules import Schedules
from simples3dms.storage.migrations.values import Migration, MigrationRow, Schedule, State
from simples3dms.storage.placement import repository as placement_repository
from simples3dms.storage.placement.residency import refuse_new
from simples3dms.storage.placement.service import not_set, swap
from simples3dms.storage.placement.turns import Move, moved, scope, selected, soaking, started
from simples3dms.storage.placement.values import Match, PlacementRow, Policy, match_document
from simples3dms.storage.rollout.service import Rollouts
from simples3dms.storage.transfers import repository as transfers_repository
from simples3dms.storage.transfers.parts import repository as parts
from simples3dms.storage.transfers.service import Transfers

_CUT_OVER_TRIES = 120
_CUT_OVER_WAIT_SECONDS = 0.1
#: How long new versions wait for a cut-over at most, and after how many tries they are asked to again.
_HOLD_SECONDS = 4.0
_HOLD_EVERY = 60
#: Of what holds a cut-over up, how much is told by name.
_MOST_HINDRANCES = 20


@dataclass(frozen=True, slots=True)
class _Hindered:
    """Why a cut-over was not done, and the blobs (by sequence) that have no proven copy at the target."""

    reason: str
    seqs: Sequence[int] = ()


class Migrations:
    """The migrations of all tenants."""

    def __init__(self, database: Database, planner: Planner, transfers: Transfers, engine: MigrationEngine) -> None:
        self._database = database
        self._planner = planner
        self._engine = engine
        self._rollouts = Rollouts(database)
        self.failures = Failures(database, transfers, engine)
        self.schedules = Schedules(database)

    async def plan_migration(
        self,
        principal: Principal,
        tenant_id: UUID,
        *,
        target: str,
        source: str | None = None,
        only: Match | None = None,
        schedule: Schedule = Schedule(),
        with_canary: bool = False,
        proof: Proof = READ_BACK,
    ) -> Migration:
        """Work out what moving the tenant to `target` would take, and keep it as a planned migration.

        `only`: of the blobs that meet it, by a rule that the placement gets. What a rule keeps elsewhere is never part
        of it. `with_canary`: try the target out with a few small objects first; one that fails is in the way of
        a start.
        `proof`: what every copy takes before the cut-over and the emptying of the source count on it.

        Raises Conflict (`kind_not_enabled`, `residency_violated`) where the tenant may not begin to use the target, and
        what `parts_of.check` raises.
        """
        only = None if only is None else parts_of.checked_part(only)
        closed = await self._rollouts.closed_kinds(tenant_id)
        async with self._database.tenant(tenant_id) as uow:
            placement = await placement_repository.find(uow)
            if placement is None:
                raise not_set()
            grants = {grant.name: grant for grant in await placement_repository.list_grants(uow)}
        names = {grant.store_id: grant.name for grant in grants.values()}
        leaving = source or names.get(placement.write_store_id, "")
        if target == leaving:
            raise errors.same_store(target)
        for name in (leaving, target):
            if name not in grants:
                raise Invalid(f"There is no store {name!r} granted to this tenant.", code="store_not_granted")
        move = Move(grants[leaving].store_id, grants[target].store_id, only)
        parts_of.check(placement, move)
        async with self._database.tenant(tenant_id) as uow:
            await refuse_new(uow, [grants[target]], closed)
        plan = await self._planner.plan(
            principal,
            tenant_id,
            placement=placement,
            move=move,
            target=grants[target],
            schedule=schedule,
            proof=proof,
            with_canary=with_canary,
        )
        migration_id = new_id()
        async with self._database.tenant(tenant_id) as uow:
            if not await repository.insert(uow, migration_id, move, schedule=schedule, proof=proof, plan=plan):
                raise errors.active()
            details = {} if only is None else {"only": match_document(only)}
            await self._audit(
                uow,
                principal,
                "migration.planned",
                migration_id,
                source=leaving,
                target=target,
                proof=str(proof),
                **details,
            )
            return await self._load(uow, migration_id)

    async def get_migration(self, tenant_id: UUID, migration_id: UUID) -> Migration:
        async with self._database.tenant(tenant_id) as uow:
            return await self._load(uow, migration_id)

    async def list_migrations(self, tenant_id: UUID, *, after: UUID | None = None, limit: int = 50) -> list[Migration]:
        """Newest first."""
        async with self._database.tenant(tenant_id) as uow:
            grants = await placement_repository.list_grants(uow)
            rows = await repository.list_page(uow, after=after, limit=limit)
            return [await in_words(uow, row, grants) for row in rows]

    async def start_migration(self, principal: Principal, tenant_id: UUID, migration_id: UUID) -> Migration:
        """Begin copying; from now on new documents gain a copy at the target too."""
        async with self._database.tenant(tenant_id) as uow:
            row = await self._get(uow, migration_id)
        blockers = await self._planner.start_blockers(tenant_id, row.target_store_id, row.plan)
        if blockers and row.state == State.PLANNED:
            raise errors.blocked(blockers)
        closed = await self._rollouts.closed_kinds(tenant_id)
        async with self._database.tenant(tenant_id) as uow:
            placement, row = await self._lock(uow, migration_id)
            if row.state != State.PLANNED:
                raise errors.wrong_state("start", row.state)
            if not parts_of.is_source(placement, row.move):
                raise Conflict("The placement has changed since this was planned; plan anew.", code="plan_outdated")
            parts_of.check(placement, row.move)
            # Held from here on, or a grant could be taken back between the look and the policy that names it.
            grants = {grant.store_id: grant for grant in await placement_repository.hold_grants(uow)}
            if row.target_store_id not in grants:
                raise errors.blocked(("the target is no longer granted to this tenant",))
            await refuse_new(uow, [grants[row.target_store_id]], closed)
            # Roll-back has to leave the tenant with what it had: a target that held its copies before keeps them.
            await repository.note_before(
                uow,
                row,
                was_copy=row.target_store_id in placement.policy.wanted_store_ids,
                scope=scope(placement.policy, row.move),
            )
            selection = selected(placement.policy, row.move)
            await transfers_repository.drop(uow, selection, target_store_id=row.target_store_id, only_waived=True)
            await swap(uow, placement, started(placement.policy, row.move), reason=_started(row))
            await repository.set_state(uow, row, State.COPYING)
            await repository.begin_phase(uow, row.id)
            await self._engine.defer_advance(uow, row.id)
            await self._audit(uow, principal, "migration.started", row.id)
            return await self._load(uow, row.id)

    async def pause_migration(self, principal: Principal, tenant_id: UUID, migration_id: UUID) -> Migration:
        """Stop the workers' part. New documents go on gaining their copies, so nothing falls behind."""
        async with self._database.tenant(tenant_id) as uow:
            _, row = await self._lock(uow, migration_id)
            waits = row.state == State.SOAKING and row.finalize_at is not None
            if not waits and row.state not in {State.COPYING, State.READY, State.FINALIZING, State.ROLLING_BACK}:
                raise errors.wrong_state("pause", row.state)
            await repository.set_state(uow, row, State.PAUSED, resume_state=row.state)
            await self._audit(uow, principal, "migration.paused", row.id)
            return await self._load(uow, row.id)

    async def resume_migration(self, principal: Principal, tenant_id: UUID, migration_id: UUID) -> Migration:
        """Go on where it was paused or failed; a roll-back window that was stopped begins anew."""
        async with self._database.tenant(tenant_id) as uow:
            _, row = await self._lock(uow, migration_id)
            if row.state not in {State.PAUSED, State.FAILED} or row.resume_state is None:
                raise errors.wrong_state("resume", row.state)
            await repository.set_state(uow, row, row.resume_state)
            await chunks.refresh(uow, row.id)
            await self._engine.defer_advance(uow, row.id)
            await self._audit(uow, principal, "migration.resumed", row.id)
            return await self._load(uow, row.id)

    async def cancel_migration(self, principal: Principal, tenant_id: UUID, migration_id: UUID) -> Migration:
        """Drop a migration that was never started; one that was is rolled back instead."""
        async with self._database.tenant(tenant_id) as uow:
            row = await repository.lock(uow, migration_id)
            if row is None:
                raise errors.not_found()
            if row.state != State.PLANNED:
                raise errors.wrong_state("cancel", row.state)
            await repository.set_state(uow, row, State.CANCELLED)
            await self._audit(uow, principal, "migration.cancelled", row.id)
            return await self._load(uow, row.id)

    async def cut_over(self, principal: Principal, tenant_id: UUID, migration_id: UUID) -> Migration:
        """Turn writes and reads to the target, if the records prove that everything is there.

        Raises Conflict `migration_not_proven` and changes nothing if anything is missing, failed or in doubt; its
        `hindrances` name the first of these.
        """
        async with self._database.tenant(tenant_id) as uow:
            row = await self._get(uow, migration_id)
        if row.state != State.READY:
            raise errors.wrong_state("cut over", row.state)
        blockers = await self._planner.blockers(tenant_id, row.target_store_id)
        if blockers:
            raise errors.not_proven(blockers[0])
        hindered: _Hindered | None = None
        for attempt in range(_CUT_OVER_TRIES):
            hindered = await self._prove_and_cut_over(principal, tenant_id, migration_id)
            if hindered is None:
                await fp("cutover.committed")
                return await self.get_migration(tenant_id, migration_id)
            if attempt % _HOLD_EVERY == 0:
                # New documents keep coming and their copies take a moment: ask them to wait for it, once in a while.
                await self._hold(tenant_id, _HOLD_SECONDS)
            await asyncio.sleep(_CUT_OVER_WAIT_SECONDS)
        await self._hold(tenant_id, 0)
        assert hindered is not None
        async with self._database.tenant(tenant_id) as uow:
            named = await repository.list_hindrances(
                uow, hindered.seqs, target_store_id=row.target_store_id, limit=_MOST_HINDRANCES
            )
        await self._back_to_copying(tenant_id, migration_id)
        raise errors.not_proven(hindered.reason, [asdict(one) for one in named])

    async def _hold(self, tenant_id: UUID, seconds: float) -> None:
        async with self._database.tenant(tenant_id) as uow:
            await placement_repository.hold(uow, seconds=seconds)

    async def _prove_and_cut_over(self, principal: Principal, tenant_id: UUID, migration_id: UUID) -> _Hindered | None:
        """Prove up to now, then try the fenced transaction. Returns why it was not done, or None when it was."""
        barrier = await self._engine.barrier(tenant_id)
        async with self._database.tenant(tenant_id) as uow:
            row = await self._get(uow, migration_id)
        unproven = await self._engine.prove(row, upto_seq=barrier)
        await fp("cutover.proven")
        if unproven:
            return _Hindered(f"{len(unproven)} blobs have no proven copy at the target", unproven)
        return await self._try_cut_over(principal, tenant_id, migration_id)

    async def _try_cut_over(self, principal: Principal, tenant_id: UUID, migration_id: UUID) -> _Hindered | None:
        """The fenced transaction. Returns why it was not done, or None when it was."""
        async with self._database.tenant(tenant_id) as uow:
            placement, row = await self._lock(uow, migration_id)
            if row.state != State.READY:
                raise errors.wrong_state("cut over", row.state)
            if not parts_of.is_source(placement, row.move):
                raise Conflict("The placement has changed since this was planned.", code="plan_outdated")
            if row.proven_seq is None:
                return _Hindered("an item that had been waived is to be copied after all")
            # A kind that was closed since the start stops nothing; where documents may lie holds to the end.
            grants_now = await placement_repository.list_grants(uow)
            await refuse_new(uow, [grant for grant in grants_now if grant.store_id == row.target_store_id])
            losses = await placement_repository.get_loss_count(uow, row.target_store_id)
            if losses != row.proof_loss_count:
                return _Hindered("a copy at the target was lost since the proof")
            page = await repository.prove_page(uow, row, after_seq=row.proven_seq, upto_seq=None, limit=1000)
            if page.unproven or await repository.last_seq(uow) > (page.last_seq or row.proven_seq):
                return _Hindered("documents that were added just now are still being copied", page.unproven)
            backlog = await transfers_repository.count_backlog(uow, target_store_id=row.target_store_id)
            if backlog.failed:
                return _Hindered(f"{backlog.failed} copies have failed")
            policy = soaking(await _policy_before(uow, row), row.move)
            await swap(uow, placement, policy, reason=f"migration {row.id} cut over")
            await repository.set_state(uow, row, State.SOAKING)
            await self._audit(uow, principal, "migration.cut_over", row.id)
            await fp("cutover.in_txn")
        return None

    async def _back_to_copying(self, tenant_id: UUID, migration_id: UUID) -> None:
        async with self._database.tenant(tenant_id) as uow:
            _, row = await self._lock(uow, migration_id)
            if row.state == State.READY:
                await repository.set_state(uow, row, State.COPYING)
                await self._engine.defer_advance(uow, row.id)

    async def roll_back(self, principal: Principal, tenant_id: UUID, migration_id: UUID) -> Migration:
        """Turn writes and reads back to the source at once; then empty the target, blob by proven blob.

        Loses nothing: what was written after cut-over is read from the target until its copy at the source is proven.
        """
        async with self._database.tenant(tenant_id) as uow:
            placement, row = await self._lock(uow, migration_id)
            state = row.resume_state or row.state
            if state not in {State.COPYING, State.READY, State.SOAKING}:
                raise errors.wrong_state("roll back", row.state)
            await swap(uow, placement, await _policy_before(uow, row), reason=f"migration {row.id} rolled back")
            if replace(row, state=State.ROLLING_BACK, resume_state=None).leaving.is_none:
                # Nothing is to be emptied: the target goes on holding copies, as it did before.
                await repository.set_state(uow, row, State.ROLLED_BACK)
                await self._audit(uow, principal, "migration.rolled_back", row.id)
            else:
                await self._leave(uow, row, State.ROLLING_BACK)
                await self._audit(uow, principal, "migration.rolling_back", row.id)
            turned_back = await self._load(uow, row.id)
            await fp("rollback.in_txn")
        await fp("rollback.committed")
        return turned_back

    async def finalize(self, principal: Principal, tenant_id: UUID, migration_id: UUID) -> Migration:
        """Give the way back up: empty the source, each replica only once another is proven. Ends in `done`."""
        async with self._database.tenant(tenant_id) as uow:
            placement, row = await self._lock(uow, migration_id)
            if row.state != State.SOAKING:
                raise errors.wrong_state("finalize", row.state)
            await self._finalize(uow, principal, placement, row)
            return await self._load(uow, row.id)

    async def _finalize(
        self, uow: UnitOfWork, principal: Principal, placement: PlacementRow, row: MigrationRow
    ) -> None:
        policy = moved(await _policy_before(uow, row), row.move)
        await swap(uow, placement, policy, reason=f"migration {row.id} finalized")
        await self._leave(uow, row, State.FINALIZING)
        await self._audit(uow, principal, "migration.finalizing", row.id)
        await fp("finalize.in_txn")

    async def _finalize_due(self, seen: MigrationRow) -> None:
        """The roll-back window is over: finalize, or stop and say why not. Whatever a person did meanwhile holds."""
        reasons = [*await self._planner.blockers(seen.tenant_id, seen.target_store_id)]
        await fp("finalize.checked")
        async with self._database.tenant(seen.tenant_id) as uow:
            placement, row = await self._lock(uow, seen.id)
            if row.state != State.SOAKING or not row.finalize_due or row.fence != seen.fence:
                return
            if await repository.has_doubtful(uow, store_id=row.target_store_id):
                reasons.append("a copy at the target is missing or in doubt")
            if reasons:
                message = f"Not finalized after the roll-back window: {reasons[0]}"
                await self._engine.fail(uow, row, code="migration_finalize_stopped", message=message)
            else:
                await self._finalize(uow, WORKER, placement, row)
        await fp("finalize.committed")

    async def _leave(self, uow: UnitOfWork, row: MigrationRow, state: State) -> None:
        there = replace(row, state=state, resume_state=None)
        await transfers_repository.drop(uow, there.leaving, target_store_id=there.leaving_store_id)
        await parts.forget_parts(uow, there.leaving, store_id=there.leaving_store_id)
        await repository.set_state(uow, row, state)
        await repository.begin_phase(uow, row.id)
        await self._engine.defer_advance(uow, row.id)

    async def advance(self, tenant_id: UUID, migration_id: UUID) -> None:
        """The worker's step; in automatic mode it cuts over once all is proven, and finalizes when it is time."""
        await self._engine.advance(tenant_id, migration_id)
        async with self._database.tenant(tenant_id) as uow:
            row = await repository.find(uow, migration_id)
        if row is not None and row.state == State.READY and row.automatic_cutover:
            try:
                await self.cut_over(WORKER, tenant_id, migration_id)
            except Conflict as failure:
                if failure.problem_code != "residency_violated":
                    raise
                await self._engine.park(tenant_id, migration_id, failure)
        elif row is not None and row.state == State.SOAKING and row.finalize_due:
            await self._finalize_due(row)

    async def _get(self, uow: UnitOfWork, migration_id: UUID) -> MigrationRow:
        row = await repository.find(uow, migration_id)
        if row is None:
            raise errors.not_found()
        return row

    async def _lock(self, uow: UnitOfWork, migration_id: UUID) -> tuple[PlacementRow, MigrationRow]:
        placement = await placement_repository.lock(uow)
        row = await repository.lock(uow, migration_id)
        if placement is None or row is None:
            raise errors.not_found()
        return placement, row

    async def _load(self, uow: UnitOfWork, migration_id: UUID) -> Migration:
        row = await self._get(uow, migration_id)
        return await in_words(uow, row, await placement_repository.list_grants(uow))

    async def _audit(
        self, uow: UnitOfWork, principal: Principal, action: str, migration_id: UUID, **details: object
    ) -> None:
        await record(
            uow,
            principal,
            action,
            target_type="migration",
            target_id=str(migration_id),
            tenant_id=uow.tenant_id,
            details=details,
        )


def _started(row: MigrationRow) -> str:
    return f"migration {row.id} started"


async def _policy_before(uow: UnitOfWork, row: MigrationRow) -> Policy:
    """What the tenant had when the migration started. Nobody else has changed it since: the migration owns it."""
    policy = await placement_repository.find_before(uow, reason=_started(row))
    assert policy is not None, "the history keeps what was in force before the start"
    return policy
