"""Tenants."""

from __future__ import annotations

from simples3dms.api.deps import (
    After,
    Limit,
    ServicesDep,
    SettingsWriter,
    TenantReader,
    TenantsReader,
    TenantsWriter,
)
from simples3dms.api.pages import as_page
from simples3dms.api.routing import new_router
from simples3dms.schemas import tenants as schemas
from simples3dms.schemas.base import Page

router = new_router(tags=["tenants"])


@router.post("/tenants", operation_id="create_tenant", status_code=201, summary="Make a tenant (operators)")
async def create_tenant(body: schemas.CreateTenant, services: ServicesDep, principal: TenantsWriter) -> schemas.Tenant:
    return schemas.Tenant.model_validate(await services.tenants.create_tenant(principal, body.slug, body.name))


@router.get("/tenants", operation_id="list_tenants", summary="All tenants (operators)")
async def list_tenants(
    services: ServicesDep, _operator: TenantsReader, after: After = None, limit: Limit = 100
) -> Page[schemas.Tenant]:
    return as_page(schemas.Tenant, await services.tenants.list_tenants(after=after, limit=limit + 1), limit)


@router.get("/tenants/{tenant}", operation_id="get_tenant", summary="One tenant")
async def get_tenant(seat: TenantReader) -> schemas.Tenant:
    return schemas.Tenant.model_validate(seat.tenant)


@router.put("/tenants/{tenant}/suspension", operation_id="suspend_tenant", summary="Serve it no longer (operators)")
async def suspend_tenant(
    tenant: str, body: schemas.SuspendTenant, services: ServicesDep, principal: TenantsWriter
) -> schemas.Tenant:
    return schemas.Tenant.model_validate(await services.tenants.suspend_tenant(principal, tenant, body.reason))


@router.delete("/tenants/{tenant}/suspension", operation_id="resume_tenant", summary="Serve it again (operators)")
async def resume_tenant(tenant: str, services: ServicesDep, principal: TenantsWriter) -> schemas.Tenant:
    return schemas.Tenant.model_validate(await services.tenants.resume_tenant(principal, tenant))


@router.get("/tenants/{tenant}/settings", operation_id="get_settings", summary="What is set for it")
async def get_settings(services: ServicesDep, seat: TenantReader) -> schemas.TenantSettings:
    return schemas.TenantSettings.model_validate(await services.tenants.get_settings(seat.tenant_id))


@router.put(
    "/tenants/{tenant}/settings", operation_id="set_settings", summary="Trash, retention, region, jurisdictions"
)
async def set_settings(
    body: schemas.SetSettings, services: ServicesDep, seat: SettingsWriter
) -> schemas.TenantSettings:
    changes = body.model_dump(exclude_unset=True, exclude={"expected_version"})
    settings = await services.tenants.change_settings(
        seat.principal, seat.tenant_id, changes, expected_version=body.expected_version
    )
    return schemas.TenantSettings.model_validate(settings)


@router.put("/tenants/{tenant}/limits", operation_id="set_limits", summary="How much it may keep (operators)")
async def set_limits(
    tenant: str, body: schemas.SetLimits, services: ServicesDep, principal: TenantsWriter
) -> schemas.TenantSettings:
    """For uploads that begin from now on; what is there stays."""
    found = await services.tenants.get_tenant(tenant)
    changes = body.model_dump(exclude_unset=True, exclude={"expected_version"})
    settings = await services.tenants.change_settings(
        principal, found.id, changes, expected_version=body.expected_version
    )
    return schemas.TenantSettings.model_validate(settings)
