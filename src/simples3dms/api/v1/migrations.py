"""Migrations: plan, start, steer, watch."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID

from starlette.responses import Response, StreamingResponse

from simples3dms.api.deps import After, Limit, MigrationWriter, Seat, ServicesDep, StorageReader, as_id
from simples3dms.api.pages import as_page
from simples3dms.api.routing import new_router
from simples3dms.api.v1.stores import match_of
from simples3dms.context import Principal
from simples3dms.schemas import migrations as schemas
from simples3dms.schemas.base import Page
from simples3dms.storage.blobs.proofs import parse
from simples3dms.storage.migrations.errors import not_found
from simples3dms.storage.migrations.schedules import checked
from simples3dms.storage.migrations.values import Migration, Schedule

router = new_router(prefix="/tenants/{tenant}/migrations", tags=["migrations"])

_REPORTED: dict[int | str, dict[str, Any]] = {200: {"content": {"application/x-ndjson": {}}}}
Step = Callable[[Principal, UUID, UUID], Awaitable[Migration]]


@router.post("", operation_id="plan_migration", status_code=201, summary="Plan one; nothing moves yet")
async def plan_migration(
    body: schemas.PlanMigration, services: ServicesDep, seat: MigrationWriter
) -> schemas.Migration:
    planned = await services.migrations.plan_migration(
        seat.principal,
        seat.tenant_id,
        target=body.target,
        source=body.source,
        only=None if body.only is None else match_of(body.only),
        schedule=_schedule(body),
        with_canary=body.canary,
        proof=parse(body.proof),
    )
    return schemas.Migration.model_validate(planned)


def _schedule(body: schemas.Schedule) -> Schedule:
    return checked(
        automatic_cutover=body.automatic_cutover,
        finalize_after_seconds=body.finalize_after_seconds,
        given=[window.model_dump() for window in body.windows],
    )


@router.get("", operation_id="list_migrations", summary="Newest first")
async def list_migrations(
    services: ServicesDep, seat: StorageReader, after: After = None, limit: Limit = 50
) -> Page[schemas.Migration]:
    rows = await services.migrations.list_migrations(seat.tenant_id, after=after, limit=limit + 1)
    return as_page(schemas.Migration, rows, limit)


@router.get("/{migration}", operation_id="get_migration", summary="One, with its progress")
async def get_migration(migration: str, services: ServicesDep, seat: StorageReader) -> schemas.Migration:
    found = await services.migrations.get_migration(seat.tenant_id, as_id(migration, not_found()))
    return schemas.Migration.model_validate(found)


async def _step(seat: Seat, migration: str, step: Step) -> schemas.Migration:
    moved = await step(seat.principal, seat.tenant_id, as_id(migration, not_found()))
    return schemas.Migration.model_validate(moved)


@router.post("/{migration}/start", operation_id="start_migration", summary="Begin copying")
async def start_migration(migration: str, services: ServicesDep, seat: MigrationWriter) -> schemas.Migration:
    return await _step(seat, migration, services.migrations.start_migration)


@router.put("/{migration}/schedule", operation_id="set_schedule", summary="Say what it does by itself, and when")
async def set_schedule(
    migration: str, body: schemas.Schedule, services: ServicesDep, seat: MigrationWriter
) -> schemas.Migration:
    migration_id = as_id(migration, not_found())
    await services.migrations.schedules.set_schedule(seat.principal, seat.tenant_id, migration_id, _schedule(body))
    return schemas.Migration.model_validate(await services.migrations.get_migration(seat.tenant_id, migration_id))


@router.post("/{migration}/pause", operation_id="pause_migration", summary="Stop for a while")
async def pause_migration(migration: str, services: ServicesDep, seat: MigrationWriter) -> schemas.Migration:
    return await _step(seat, migration, services.migrations.pause_migration)


@router.post("/{migration}/resume", operation_id="resume_migration", summary="Go on after a pause or a failure")
async def resume_migration(migration: str, services: ServicesDep, seat: MigrationWriter) -> schemas.Migration:
    return await _step(seat, migration, services.migrations.resume_migration)


@router.post("/{migration}/cutover", operation_id="cut_over_migration", summary="Turn to the target, if proven")
async def cut_over_migration(migration: str, services: ServicesDep, seat: MigrationWriter) -> schemas.Migration:
    return await _step(seat, migration, services.migrations.cut_over)


@router.post("/{migration}/rollback", operation_id="roll_back_migration", summary="Turn back; nothing is lost")
async def roll_back_migration(migration: str, services: ServicesDep, seat: MigrationWriter) -> schemas.Migration:
    return await _step(seat, migration, services.migrations.roll_back)


@router.post("/{migration}/finalize", operation_id="finalize_migration", summary="Empty the source; no way back then")
async def finalize_migration(migration: str, services: ServicesDep, seat: MigrationWriter) -> schemas.Migration:
    return await _step(seat, migration, services.migrations.finalize)


@router.post("/{migration}/cancel", operation_id="cancel_migration", summary="Drop one that was never started")
async def cancel_migration(migration: str, services: ServicesDep, seat: MigrationWriter) -> schemas.Migration:
    return await _step(seat, migration, services.migrations.cancel_migration)


@router.get(
    "/{migration}/report",
    operation_id="get_report",
    summary="What the records prove of each item, signed, as JSON lines",
    response_class=Response,
    responses=_REPORTED,
)
async def get_report(migration: str, services: ServicesDep, seat: StorageReader) -> Response:
    migration_id = as_id(migration, not_found())
    lines = await services.reports.open_report(seat.tenant_id, migration_id)
    headers = {"Content-Disposition": f'attachment; filename="migration-{migration_id}.jsonl"'}
    return StreamingResponse(lines, headers=headers, media_type="application/x-ndjson")


@router.get("/{migration}/failures", operation_id="list_failures", summary="Items that were given up")
async def list_failures(
    migration: str, services: ServicesDep, seat: StorageReader, after: After = None, limit: Limit = 100
) -> Page[schemas.TransferFailure]:
    rows = await services.migrations.failures.list_page(
        seat.tenant_id, as_id(migration, not_found()), after=after, limit=limit + 1
    )
    return as_page(schemas.TransferFailure, rows, limit)


@router.post("/{migration}/failures/retry", operation_id="retry_failures", summary="Try them again")
async def retry_failures(
    migration: str, body: schemas.RetryFailures, services: ServicesDep, seat: MigrationWriter
) -> schemas.Retried:
    count = await services.migrations.failures.retry(
        seat.principal, seat.tenant_id, as_id(migration, not_found()), body.failure_ids
    )
    return schemas.Retried(count=count)


@router.post("/{migration}/failures/waive", operation_id="waive_failures", summary="Go on without them, for a reason")
async def waive_failures(
    migration: str, body: schemas.WaiveFailures, services: ServicesDep, seat: MigrationWriter
) -> schemas.Waived:
    count = await services.migrations.failures.waive(
        seat.principal, seat.tenant_id, as_id(migration, not_found()), body.failure_ids, reason=body.reason
    )
    return schemas.Waived(count=count)
