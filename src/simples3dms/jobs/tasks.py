"""The tasks. Arguments are ids; what is true is read from our rows; running one twice changes nothing more."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from uuid import UUID

import procrastinate
import structlog

from simples3dms.bootstrap import Services
from simples3dms.errors import Conflict, Failure
from simples3dms.jobs.unknown import leave_unknown
from simples3dms.kit.leases import LeaseLost

log = structlog.get_logger(__name__)

_QUEUE = "simples3dms"
Work = Callable[..., Awaitable[object]]


def register(app: procrastinate.App, services: Services) -> None:
    """Bind every task name to its work. Names are a contract between versions: never reuse one for other work."""

    async def run_transfer(tenant_id: str, transfer_id: str) -> None:
        await services.transfers.run(UUID(tenant_id), UUID(transfer_id))

    async def repair_blob(tenant_id: str, blob_id: str, store_id: str) -> None:
        await services.transfers.repair(UUID(tenant_id), UUID(blob_id), UUID(store_id))

    async def sweep_replicas(tenant_id: str) -> None:
        await services.blobs.sweep(UUID(tenant_id))

    async def advance_migration(tenant_id: str, migration_id: str) -> None:
        try:
            await services.migrations.advance(UUID(tenant_id), UUID(migration_id))
        except Conflict as conflict:
            # Automatic cut-over found something unproven; the migration went back to copying and says so.
            log.info("migration.not_advanced", migration=migration_id, code=conflict.problem_code)

    async def run_chunk(tenant_id: str, migration_id: str, phase: str, low_seq: str) -> None:
        if phase not in ("copy", "evacuate"):
            raise ValueError(f"unknown phase {phase!r}")
        await services.migration_engine.run_chunk(
            UUID(tenant_id), UUID(migration_id), "copy" if phase == "copy" else "evacuate", int(low_seq)
        )

    # No retries by the queue: our own rows (due_at, lease_until) decide, and the watchdog queues again.
    tasks: tuple[tuple[str, Work], ...] = (
        ("transfer.run", run_transfer),
        ("blob.repair", repair_blob),
        ("replica.sweep", sweep_replicas),
        ("migration.advance", advance_migration),
        ("chunk.run", run_chunk),
        ("checkpoint.copy", _copying_checkpoints(services)),
        ("letter.send", services.letters.run),
        *_of_stores(services),
        *_of_locks(services),
        *_of_upkeep(services),
        *_of_keys(services),
        *_of_endings(services),
    )
    for name, work in tasks:
        app.task(name=name, queue=_QUEUE)(_quietly(work))
    leave_unknown(app, _QUEUE)


def _of_stores(services: Services) -> list[tuple[str, Work]]:
    async def advance_drain(drain_id: str) -> None:
        await services.drains.engine.advance(UUID(drain_id))

    async def probe_store(store_id: str) -> None:
        await services.stores.probe_due(UUID(store_id), hours=services.probe_hours)

    return [("drain.advance", advance_drain), ("store.probe", probe_store)]


def _of_keys(services: Services) -> list[tuple[str, Work]]:
    async def rewrap(rewrap_id: str) -> None:
        await services.keys.engine.run(UUID(rewrap_id))

    async def advance_rotation(rotation_id: str) -> None:
        await services.rotations.engine.advance(UUID(rotation_id))

    async def start_rotation(store_id: str) -> None:
        await services.rotations.start_due(UUID(store_id))

    return [("key.rewrap", rewrap), ("rotation.advance", advance_rotation), ("rotation.start", start_rotation)]


def _of_locks(services: Services) -> list[tuple[str, Work]]:
    async def apply_locks(tenant_id: str) -> None:
        await services.locks.apply_due(UUID(tenant_id))

    async def survey_locks(tenant_id: str) -> None:
        await services.locks.survey(UUID(tenant_id))

    async def survey_placement(tenant_id: str) -> None:
        await services.transfers.survey(UUID(tenant_id))

    return [("lock.apply", apply_locks), ("lock.survey", survey_locks), ("placement.survey", survey_placement)]


def _of_upkeep(services: Services) -> list[tuple[str, Work]]:
    async def run_scrub(tenant_id: str, scrub_id: str) -> None:
        await services.scrubs.engine.run(UUID(tenant_id), UUID(scrub_id))

    async def run_reconcile(tenant_id: str, reconcile_id: str) -> None:
        await services.reconciles.engine.run(UUID(tenant_id), UUID(reconcile_id))

    return [("scrub.run", run_scrub), ("reconcile.run", run_reconcile)]


def _copying_checkpoints(services: Services) -> Work:
    async def copy_checkpoints(tenant_id: str) -> None:
        await services.checkpoints.copy_due(UUID(tenant_id))

    return copy_checkpoints


def _of_endings(services: Services) -> list[tuple[str, Work]]:
    """What ends tenants and forgets persons."""

    async def delete_tenant(tenant_id: str, deletion_id: str) -> None:
        await services.deletion_engine.run(UUID(tenant_id), UUID(deletion_id))

    async def run_erasure(erasure_id: str) -> None:
        await services.persons.run_erasure(UUID(erasure_id))

    return [("tenant.delete", delete_tenant), ("erasure.run", run_erasure)]


def _quietly(work: Work) -> Work:
    """Log a failure as one line or, where nobody foresaw it, with its traceback; our rows say what is left to do."""

    async def run(**ids: str) -> None:
        try:
            await work(**ids)
        except Failure as failure:
            log.warning("job.failed", code=failure.problem_code, **ids)
        except LeaseLost:
            log.warning("job.lease_lost", task=work.__name__, **ids)
        except Exception:
            log.exception("job.crashed", **ids)

    return run
