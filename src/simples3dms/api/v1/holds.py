"""Legal holds and retention of documents."""

from __future__ import annotations

from uuid import UUID

from simples3dms.api.deps import After, HoldReader, HoldWriter, Limit, RetentionLifter, ServicesDep, as_id
from simples3dms.api.pages import as_page
from simples3dms.api.routing import new_router
from simples3dms.documents.errors import not_found
from simples3dms.documents.holds.errors import not_found as hold_not_found
from simples3dms.documents.holds.values import RetentionMode
from simples3dms.schemas import holds as schemas
from simples3dms.schemas.base import Page

router = new_router(prefix="/tenants/{tenant}", tags=["holds"])


def _id(document: str) -> UUID:
    return as_id(document, not_found())


@router.get("/holds", operation_id="list_tenant_holds", summary="Holds in force, oldest first")
async def list_tenant_holds(
    services: ServicesDep, seat: HoldReader, after: After = None, limit: Limit = 100
) -> Page[schemas.Hold]:
    rows = await services.holds.list_tenant_holds(seat.tenant_id, after=after, limit=limit + 1)
    return as_page(schemas.Hold, rows, limit)


@router.get("/documents/{document}/holds", operation_id="list_holds", summary="A document's holds, released ones too")
async def list_holds(document: str, services: ServicesDep, seat: HoldReader) -> list[schemas.Hold]:
    rows = await services.holds.list_holds(seat.tenant_id, _id(document))
    return [schemas.Hold.model_validate(row) for row in rows]


@router.post(
    "/documents/{document}/holds", operation_id="place_hold", status_code=201, summary="Keep it until this is released"
)
async def place_hold(document: str, body: schemas.PlaceHold, services: ServicesDep, seat: HoldWriter) -> schemas.Hold:
    hold = await services.holds.place_hold(
        seat.principal, seat.tenant_id, _id(document), name=body.name, reason=body.reason
    )
    return schemas.Hold.model_validate(hold)


@router.post("/documents/{document}/holds/{hold}/release", operation_id="release_hold", summary="End a hold")
async def release_hold(
    document: str, hold: str, body: schemas.ReleaseHold, services: ServicesDep, seat: HoldWriter
) -> schemas.Hold:
    released = await services.holds.release_hold(
        seat.principal, seat.tenant_id, _id(document), as_id(hold, hold_not_found()), reason=body.reason
    )
    return schemas.Hold.model_validate(released)


@router.get("/documents/{document}/retention", operation_id="get_retention", summary="What keeps a document")
async def get_retention(document: str, services: ServicesDep, seat: HoldReader) -> schemas.Retention:
    return schemas.Retention.model_validate(await services.holds.get_retention(seat.tenant_id, _id(document)))


@router.put("/documents/{document}/retention", operation_id="set_retention", summary="Retain it, or for longer")
async def set_retention(
    document: str, body: schemas.SetRetention, services: ServicesDep, seat: HoldWriter
) -> schemas.Retention:
    retention = await services.holds.set_retention(
        seat.principal, seat.tenant_id, _id(document), until=body.until, mode=RetentionMode(body.mode)
    )
    return schemas.Retention.model_validate(retention)


@router.post("/documents/{document}/retention/lift", operation_id="lift_retention", summary="End it early (owners)")
async def lift_retention(
    document: str, body: schemas.LiftRetention, services: ServicesDep, seat: RetentionLifter
) -> schemas.Retention:
    """Only of the mode governance, and with a reason."""
    retention = await services.holds.lift_retention(
        seat.principal, seat.tenant_id, _id(document), until=body.until, reason=body.reason
    )
    return schemas.Retention.model_validate(retention)
