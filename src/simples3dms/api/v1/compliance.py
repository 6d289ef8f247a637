"""Deleting a tenant."""

from __future__ import annotations

from fastapi import Response

from simples3dms.api.deps import After, Limit, ServicesDep, TenantDeleter, TenantsReader, as_id
from simples3dms.api.pages import as_page
from simples3dms.api.routing import new_router
from simples3dms.compliance.deletions.errors import not_found
from simples3dms.schemas import compliance as schemas
from simples3dms.schemas.audit import AuditEvent
from simples3dms.schemas.base import Page

router = new_router(tags=["compliance"])


@router.post(
    "/tenants/{tenant}/deletion", operation_id="request_deletion", status_code=201, summary="Ask for its deletion"
)
async def request_deletion(
    body: schemas.RequestDeletion, services: ServicesDep, seat: TenantDeleter
) -> schemas.Deletion:
    """Nothing happens until it is confirmed: at once by another owner or operator, after a wait by whoever asked."""
    deletion = await services.deletions.request_deletion(
        seat.principal, seat.tenant, short_name=body.short_name, reason=body.reason
    )
    return schemas.Deletion.model_validate(deletion)


@router.get("/tenants/{tenant}/deletion", operation_id="get_deletion", summary="How far its deletion is")
async def get_deletion(services: ServicesDep, seat: TenantDeleter) -> schemas.Deletion:
    return schemas.Deletion.model_validate(await services.deletions.get_deletion(seat.tenant_id))


@router.delete(
    "/tenants/{tenant}/deletion", operation_id="cancel_deletion", status_code=204, summary="Take the request back"
)
async def cancel_deletion(services: ServicesDep, seat: TenantDeleter) -> None:
    await services.deletions.cancel_deletion(seat.principal, seat.tenant_id)


@router.post("/tenants/{tenant}/deletion/confirm", operation_id="confirm_deletion", summary="Delete it for good")
async def confirm_deletion(
    body: schemas.ConfirmDeletion, services: ServicesDep, seat: TenantDeleter
) -> schemas.Deletion:
    """From here on nothing brings it back. Workers do the rest."""
    deletion = await services.deletions.confirm_deletion(seat.principal, seat.tenant, short_name=body.short_name)
    return schemas.Deletion.model_validate(deletion)


@router.get("/deletions", operation_id="list_deletions", summary="Deletions of tenants, newest first (operators)")
async def list_deletions(
    services: ServicesDep, _operator: TenantsReader, after: After = None, limit: Limit = 100
) -> Page[schemas.Deletion]:
    rows = await services.deletions.list_deletions(after=after, limit=limit + 1)
    return as_page(schemas.Deletion, rows, limit)


@router.get(
    "/deletions/{deletion}/certificate", operation_id="get_deletion_certificate", summary="The certificate (operators)"
)
async def get_deletion_certificate(
    deletion: str, services: ServicesDep, _operator: TenantsReader, response: Response
) -> schemas.Certificate:
    deletion_id = as_id(deletion, not_found())
    response.headers["Content-Disposition"] = f'attachment; filename="deletion-{deletion_id}.json"'
    return schemas.Certificate(certificate=await services.deletions.get_certificate(deletion_id))


@router.get(
    "/deletions/{deletion}/audit", operation_id="list_deletion_audit", summary="The tenant's audit, kept (operators)"
)
async def list_deletion_audit(
    deletion: str, services: ServicesDep, _operator: TenantsReader, after: After = None, limit: Limit = 100
) -> Page[AuditEvent]:
    """What was done in a tenant that is not there any more, newest first."""
    found = await services.deletions.get_deletion_by_id(as_id(deletion, not_found()))
    rows = await services.audit.list_events(found.tenant_id, after=after, limit=limit + 1)
    return as_page(AuditEvent, rows, limit)
