"""How far stores are behind; the installation's health, and its numbers for Prometheus."""

from __future__ import annotations

from collections.abc import Sequence

from fastapi import Response

from simples3dms.api.deps import After, Limit, MigrationWriter, ServicesDep, StorageReader, StoresReader
from simples3dms.api.pages import as_page
from simples3dms.api.routing import new_router
from simples3dms.schemas import replication as schemas
from simples3dms.schemas.base import Page
from simples3dms.schemas.migrations import Retried, TransferFailure
from simples3dms.storage.replication.values import StoreLag
from simples3dms.telemetry.metrics import CONTENT_TYPE, render

router = new_router(tags=["health"])


def _lags(lags: Sequence[StoreLag], late_seconds: float) -> list[schemas.StoreLag]:
    return [
        schemas.StoreLag(
            **schemas.Lag.model_validate(lag).model_dump(),
            store_id=lag.store_id,
            store=lag.store,
            is_brought=lag.is_brought,
            is_late=lag.is_later_than(late_seconds),
        )
        for lag in lags
    ]


@router.get("/replication", operation_id="get_replication", summary="How far stores are behind (operators)")
async def get_replication(services: ServicesDep, _operator: StoresReader) -> schemas.Replication:
    """Up to 500 stores, the one that is most behind first."""
    late = services.replication.late_seconds
    lags = await services.replication.of_all()
    return schemas.Replication(late_seconds=late, stores=_lags(lags[:500], late))


@router.get(
    "/stores/{store}/replication", operation_id="get_store_replication", summary="And whose documents (operators)"
)
async def get_store_replication(store: str, services: ServicesDep, _operator: StoresReader) -> schemas.StoreReplication:
    """A store that a tenant brought: by its id."""
    found = await services.replication.of_store(store)
    late = services.replication.late_seconds
    tenants = [schemas.TenantLag.model_validate(one) for one in found.tenants]
    return schemas.StoreReplication(late_seconds=late, store=_lags([found.store], late)[0], tenants=tenants)


@router.get(
    "/tenants/{tenant}/replication", operation_id="get_tenant_replication", summary="How far its stores are behind"
)
async def get_tenant_replication(services: ServicesDep, seat: StorageReader) -> schemas.TenantReplication:
    """With the tenant's documents, and nobody else's."""
    found = await services.replication.of_tenant(seat.tenant_id)
    late = services.replication.late_seconds
    return schemas.TenantReplication(
        late_seconds=late, stores=_lags(found.stores, late), is_surveying=found.is_surveying
    )


@router.get(
    "/tenants/{tenant}/replication/{store}/failures",
    operation_id="list_failed_copies",
    summary="Copies towards a store that are tried no more",
)
async def list_failed_copies(
    store: str, services: ServicesDep, seat: StorageReader, after: After = None, limit: Limit = 100
) -> Page[TransferFailure]:
    """Also those that somebody let stand as they are: `waived`. Only the others are tried again."""
    rows = await services.replication.failures.list_page(seat.tenant_id, store, after=after, limit=limit + 1)
    return as_page(TransferFailure, rows, limit)


@router.post(
    "/tenants/{tenant}/replication/{store}/retry", operation_id="retry_failed_copies", summary="Try them again"
)
async def retry_failed_copies(store: str, services: ServicesDep, seat: MigrationWriter) -> Retried:
    """Up to 1,000 at a time: where as many were, call again."""
    return Retried(count=await services.replication.failures.retry(seat.principal, seat.tenant_id, store))


@router.get("/health", operation_id="get_health", summary="What is wrong, by name (operators)")
async def get_health(services: ServicesDep, _operator: StoresReader) -> schemas.Health:
    """For a machine that takes a server out of service there is `/readyz`: what is listed here harms no request."""
    found = [schemas.Degradation.model_validate(one) for one in await services.health.list_degradations()]
    return schemas.Health(status="degraded" if found else "ok", degradations=found)


@router.get(
    "/metrics",
    operation_id="get_metrics",
    summary="Numbers for Prometheus (operators)",
    response_class=Response,
    responses={200: {"content": {"text/plain": {}}, "description": "The text format, version 0.0.4"}},
)
async def get_metrics(services: ServicesDep, _operator: StoresReader) -> Response:
    return Response(render(await services.health.measure()), media_type=CONTENT_TYPE)
