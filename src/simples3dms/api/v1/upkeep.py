"""Upkeep: scrubs, replicas that are doubtful, and the trust in a store."""

from __future__ import annotations

from typing import Annotated

from fastapi import Query

from simples3dms.api.deps import (
    After,
    Limit,
    ServicesDep,
    StorageReader,
    StoresReader,
    StoresWriter,
    UpkeepWriter,
    as_id,
)
from simples3dms.api.pages import as_page
from simples3dms.api.routing import new_router
from simples3dms.schemas import upkeep as schemas
from simples3dms.schemas.base import Page
from simples3dms.schemas.stores import Store
from simples3dms.storage.prices.values import OwnPrices
from simples3dms.storage.reconciles.errors import not_found as reconcile_not_found
from simples3dms.storage.scrubs.errors import not_found

router = new_router(tags=["upkeep"])
_SCRUBS = "/tenants/{tenant}/scrubs"
_RECONCILES = "/tenants/{tenant}/reconciles"


@router.post(_SCRUBS, operation_id="start_scrub", status_code=201, summary="Look at every replica in a store")
async def start_scrub(body: schemas.StartScrub, services: ServicesDep, seat: UpkeepWriter) -> schemas.Scrub:
    """What is bad is marked, and copied anew from another replica. One at a time in each store."""
    scrub = await services.scrubs.start(seat.principal, seat.tenant_id, store=body.store, level=body.level)
    return schemas.Scrub.model_validate(scrub)


@router.get(_SCRUBS, operation_id="list_scrubs", summary="Newest first")
async def list_scrubs(
    services: ServicesDep, seat: StorageReader, after: After = None, limit: Limit = 50
) -> Page[schemas.Scrub]:
    rows = await services.scrubs.list_page(seat.tenant_id, after=after, limit=limit + 1)
    return as_page(schemas.Scrub, rows, limit)


@router.get(f"{_SCRUBS}/{{scrub}}", operation_id="get_scrub", summary="One, with its progress")
async def get_scrub(scrub: str, services: ServicesDep, seat: StorageReader) -> schemas.Scrub:
    return schemas.Scrub.model_validate(await services.scrubs.get(seat.tenant_id, as_id(scrub, not_found())))


@router.post(f"{_SCRUBS}/{{scrub}}/pause", operation_id="pause_scrub", summary="Stop for a while")
async def pause_scrub(scrub: str, services: ServicesDep, seat: UpkeepWriter) -> schemas.Scrub:
    paused = await services.scrubs.pause(seat.principal, seat.tenant_id, as_id(scrub, not_found()))
    return schemas.Scrub.model_validate(paused)


@router.post(f"{_SCRUBS}/{{scrub}}/resume", operation_id="resume_scrub", summary="Go on where it was")
async def resume_scrub(scrub: str, services: ServicesDep, seat: UpkeepWriter) -> schemas.Scrub:
    resumed = await services.scrubs.resume(seat.principal, seat.tenant_id, as_id(scrub, not_found()))
    return schemas.Scrub.model_validate(resumed)


@router.get(
    "/tenants/{tenant}/doubtful-replicas", operation_id="list_doubtful_replicas", summary="What was found wrong or gone"
)
async def list_doubtful_replicas(
    services: ServicesDep, seat: StorageReader, after: After = None, limit: Limit = 100
) -> Page[schemas.DoubtfulReplica]:
    """And not copied anew yet. Of those with `is_lost` there is no good replica: they are kept until somebody acts."""
    rows = await services.scrubs.list_doubtful(seat.tenant_id, after=after, limit=limit + 1)
    return as_page(schemas.DoubtfulReplica, rows, limit)


@router.post("/tenants/{tenant}/repairs", operation_id="repair_replicas", summary="Copy what is doubtful anew")
async def repair_replicas(body: schemas.RepairReplicas, services: ServicesDep, seat: UpkeepWriter) -> schemas.Repaired:
    """Up to 200 replicas a request, also those that were given up. What is not given up is copied anew by itself."""
    done = await services.transfers.repair_page(seat.principal, seat.tenant_id, store=body.store, after=body.after)
    return schemas.Repaired.model_validate(done)


@router.post("/stores/{store}/trust", operation_id="trust_store", summary="Let repairs at it go on (operators)")
async def trust_store(store: str, body: schemas.TrustStore, services: ServicesDep, principal: StoresWriter) -> Store:
    """After a scrub found too much that was bad to be mended without a person. A store of a tenant's: by its id."""
    return Store.model_validate(await services.scrubs.trust_store(principal, store, reason=body.reason))


@router.get("/restore", operation_id="get_restore", summary="Are removals held back? (operators)")
async def get_restore(services: ServicesDep, _operator: StoresReader) -> schemas.RestoreGuard:
    return schemas.RestoreGuard.model_validate(await services.restores.get())


@router.post("/restore/declare", operation_id="declare_restore", summary="The database was restored (operators)")
async def declare_restore(
    body: schemas.DeclareRestore, services: ServicesDep, principal: StoresWriter
) -> schemas.RestoreGuard:
    """Nothing is removed from any store from now on, until that is confirmed."""
    return schemas.RestoreGuard.model_validate(await services.restores.declare(principal, body.reason))


@router.post("/restore/confirm", operation_id="confirm_restore", summary="Let removals go on (operators)")
async def confirm_restore(services: ServicesDep, principal: StoresWriter) -> schemas.RestoreGuard:
    """By the records as they are now: first see to what they lack (`reconcile`)."""
    return schemas.RestoreGuard.model_validate(await services.restores.confirm(principal))


@router.put("/stores/{store}/price", operation_id="set_price", summary="What it costs (operators)")
async def set_price(store: str, body: schemas.SetPrice, services: ServicesDep, principal: StoresWriter) -> Store:
    """For estimates, and by which `reconcile` says what unexplained objects cost. In `SIMPLES3DMS_CURRENCY`."""
    given = body.model_dump()
    own = OwnPrices(given.pop("price_per_gib_month"), **given)
    return Store.model_validate(await services.reconciles.set_price(principal, store, own))


@router.get(
    "/stores/{store}/reconcile-schedule",
    operation_id="get_reconcile_schedule",
    summary="Is it reconciled by itself? (operators)",
)
async def get_reconcile_schedule(store: str, services: ServicesDep, _operator: StoresReader) -> schemas.StoreSchedule:
    """And what was found there, tenant by tenant. A store that a tenant brought: by its id."""
    return schemas.StoreSchedule.model_validate(await services.reconciles.get_schedule(store))


@router.put(
    "/stores/{store}/reconcile-schedule",
    operation_id="set_reconcile_schedule",
    summary="Reconcile it by itself (operators)",
)
async def set_reconcile_schedule(
    store: str, body: schemas.SetReconcileSchedule, services: ServicesDep, principal: StoresWriter
) -> schemas.StoreSchedule:
    """One tenant's place after the other, spread over the days; not while the store is disabled or not trusted."""
    found = await services.reconciles.set_schedule(
        principal, store, every_days=body.every_days, older_than_days=body.older_than_days
    )
    return schemas.StoreSchedule.model_validate(found)


@router.post(_RECONCILES, operation_id="start_reconcile", status_code=201, summary="Compare a store with the records")
async def start_reconcile(body: schemas.StartReconcile, services: ServicesDep, seat: UpkeepWriter) -> schemas.Reconcile:
    """In both directions: what no record explains, and what the records have and the store has not."""
    row = await services.reconciles.start(
        seat.principal, seat.tenant_id, store=body.store, older_than_days=body.older_than_days
    )
    return schemas.Reconcile.model_validate(row)


@router.get(_RECONCILES, operation_id="list_reconciles", summary="Newest first")
async def list_reconciles(
    services: ServicesDep, seat: StorageReader, after: After = None, limit: Limit = 50
) -> Page[schemas.Reconcile]:
    rows = await services.reconciles.list_page(seat.tenant_id, after=after, limit=limit + 1)
    return as_page(schemas.Reconcile, rows, limit)


@router.get(f"{_RECONCILES}/{{reconcile}}", operation_id="get_reconcile", summary="One, with what it found")
async def get_reconcile(reconcile: str, services: ServicesDep, seat: StorageReader) -> schemas.Reconcile:
    found = await services.reconciles.get(seat.tenant_id, as_id(reconcile, reconcile_not_found()))
    return schemas.Reconcile.model_validate(found)


@router.get(
    f"{_RECONCILES}/{{reconcile}}/findings", operation_id="list_reconcile_findings", summary="What no record explains"
)
async def list_reconcile_findings(
    reconcile: str,
    services: ServicesDep,
    seat: StorageReader,
    after_key: Annotated[str, Query(max_length=1024, description="The last key of the page before.")] = "",
    after_version: Annotated[str, Query(max_length=1024, description="And its version.")] = "",
    limit: Limit = 100,
) -> list[schemas.ReconcileFinding]:
    """By key and version."""
    rows = await services.reconciles.list_findings(
        seat.tenant_id, as_id(reconcile, reconcile_not_found()), after=(after_key, after_version), limit=limit
    )
    return [schemas.ReconcileFinding.model_validate(row) for row in rows]


@router.post(
    f"{_RECONCILES}/{{reconcile}}/remove", operation_id="remove_unexplained", summary="Remove what no record explains"
)
async def remove_unexplained(
    reconcile: str, body: schemas.RemoveUnexplained, services: ServicesDep, principal: StoresWriter, tenant: str
) -> schemas.Reconcile:
    """For operators. Each is looked at once more: what a record explains by now is kept."""
    found = await services.tenants.get_tenant(tenant)
    row = await services.reconciles.remove(
        principal, found.id, as_id(reconcile, reconcile_not_found()), count=body.count
    )
    return schemas.Reconcile.model_validate(row)
