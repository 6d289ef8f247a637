"""Drains: a store emptied of all its tenants (operators)."""

from __future__ import annotations

from simples3dms.api.deps import After, Limit, ServicesDep, StoresReader, StoresWriter
from simples3dms.api.routing import new_router
from simples3dms.schemas import drains as schemas
from simples3dms.schemas.base import Page
from simples3dms.storage.blobs.proofs import parse
from simples3dms.storage.drains.values import DrainPlan

router = new_router(prefix="/stores/{store}/drain", tags=["stores"])


@router.post("", operation_id="start_drain", status_code=201, summary="Move every tenant to another store")
async def start_drain(
    store: str, body: schemas.StartDrain, services: ServicesDep, principal: StoresWriter
) -> schemas.Drain:
    """Each by a migration of its own. The store is granted to nobody meanwhile."""
    plan = DrainPlan(
        tuple(body.steps),
        body.automatic,
        body.most_active,
        body.finalize_after_seconds,
        body.most_failed_percent,
        body.most_read_ms,
        parse(body.proof),
    )
    return schemas.Drain.model_validate(await services.drains.start(principal, store, body.target, plan))


@router.get("", operation_id="get_drain", summary="The newest, with its progress")
async def get_drain(store: str, services: ServicesDep, _operator: StoresReader) -> schemas.Drain:
    return schemas.Drain.model_validate(await services.drains.get(store))


@router.get("/tenants", operation_id="list_drain_tenants", summary="Its tenants, with what is in the way of each")
async def list_drain_tenants(
    store: str,
    services: ServicesDep,
    _operator: StoresReader,
    state: schemas.TenantState | None = None,
    after: After = None,
    limit: Limit = 100,
) -> Page[schemas.DrainTenant]:
    rows = await services.drains.list_tenants(store, state=state, after=after, limit=limit + 1)
    items = [schemas.DrainTenant.model_validate(row) for row in rows[:limit]]
    return Page(items=items, next_after=items[-1].tenant_id if len(rows) > limit else None)


@router.post("/confirm", operation_id="confirm_drain", summary="Begin the next step")
async def confirm_drain(store: str, services: ServicesDep, principal: StoresWriter) -> schemas.Drain:
    return schemas.Drain.model_validate(await services.drains.confirm(principal, store))


@router.post("/pause", operation_id="pause_drain", summary="Begin no more tenants")
async def pause_drain(store: str, services: ServicesDep, principal: StoresWriter) -> schemas.Drain:
    return schemas.Drain.model_validate(await services.drains.pause(principal, store))


@router.post("/resume", operation_id="resume_drain", summary="Go on, and try again what was blocked")
async def resume_drain(store: str, services: ServicesDep, principal: StoresWriter) -> schemas.Drain:
    return schemas.Drain.model_validate(await services.drains.resume(principal, store))


@router.post("/cancel", operation_id="cancel_drain", summary="End it where it is")
async def cancel_drain(store: str, services: ServicesDep, principal: StoresWriter) -> schemas.Drain:
    return schemas.Drain.model_validate(await services.drains.cancel(principal, store))
