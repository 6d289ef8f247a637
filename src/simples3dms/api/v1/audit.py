"""The audit: search, export, checkpoints, keys, retention; of a tenant, and of the platform itself."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import Depends, Query
from pydantic import AwareDatetime
from starlette.responses import Response, StreamingResponse

from simples3dms.api.deps import (
    After,
    AuditReader,
    AuditWriter,
    Limit,
    Oneself,
    SecurityReader,
    SecurityWriter,
    ServicesDep,
)
from simples3dms.api.pages import as_page
from simples3dms.api.routing import new_router
from simples3dms.api.sheets import as_row
from simples3dms.audit.chain import checkpoint_document, spell_time
from simples3dms.audit.service import Export
from simples3dms.audit.values import Checkpoint, Search, SigningKey
from simples3dms.bootstrap import Services
from simples3dms.schemas import audit as schemas
from simples3dms.schemas.base import Page

router = new_router(tags=["audit"])

_EXPORTED: dict[int | str, dict[str, Any]] = {200: {"content": {"application/x-ndjson": {}, "text/csv": {}}}}
_COLUMNS = (
    "seq",
    "at",
    "principal_name",
    "principal_id",
    "action",
    "target_type",
    "target_id",
    "outcome",
    "details",
    "id",
    "hash",
)


async def get_search(
    principal: Annotated[str | None, Query(max_length=320, description="Who: a user's id, or a name.")] = None,
    action: Annotated[str | None, Query(max_length=200, description="What: `noun.verb` or `noun.*`.")] = None,
    target_type: Annotated[str | None, Query(max_length=100)] = None,
    target_id: Annotated[str | None, Query(max_length=320, description="To what.")] = None,
    outcome: Annotated[Literal["done", "refused", "failed"] | None, Query()] = None,
    since: Annotated[AwareDatetime | None, Query(description="From then on.")] = None,
    until: Annotated[AwareDatetime | None, Query(description="Before then.")] = None,
) -> Search:
    return Search(principal, action, target_type, target_id, outcome, since, until)


SearchDep = Annotated[Search, Depends(get_search)]
Order = Annotated[Literal["newest", "oldest"], Query(description="Which come first.")]
Format = Annotated[Literal["jsonl", "csv"], Query(description="`audit verify` reads jsonl; csv is for spreadsheets.")]
AfterSeq = Annotated[int | None, Query(ge=0, le=2**63 - 1, description="Only events after this number.")]
BeforeSeq = Annotated[int | None, Query(ge=1, le=2**63 - 1, description="The `next_before` of the page before.")]


@router.get("/tenants/{tenant}/audit", operation_id="list_audit_events", summary="Who did what")
async def list_audit_events(
    services: ServicesDep,
    seat: AuditReader,
    wanted: SearchDep,
    order: Order = "newest",
    after: After = None,
    limit: Limit = 100,
) -> Page[schemas.AuditEvent]:
    return await _search(services, seat.tenant_id, wanted, order, after, limit)


@router.get(
    "/tenants/{tenant}/audit/export",
    operation_id="export_audit",
    summary="The chain, to be kept and verified",
    response_class=Response,
    responses=_EXPORTED,
)
async def export_audit(
    services: ServicesDep, seat: AuditReader, format: Format = "jsonl", after_seq: AfterSeq = None
) -> Response:
    return _stream(await services.audit.open_export(seat.tenant_id, after_seq=after_seq), format, seat.tenant.slug)


@router.get("/tenants/{tenant}/audit/trail", operation_id="get_audit_trail", summary="What is kept, and for how long")
async def get_audit_trail(services: ServicesDep, seat: AuditReader) -> schemas.AuditTrail:
    return schemas.AuditTrail.model_validate(await services.audit.get_trail(seat.tenant_id))


@router.put("/tenants/{tenant}/audit/retention", operation_id="set_audit_retention", summary="For how long it is kept")
async def set_audit_retention(
    body: schemas.SetRetention, services: ServicesDep, seat: AuditWriter
) -> schemas.AuditTrail:
    trail = await services.audit.set_retention(seat.principal, seat.tenant_id, body.days)
    return schemas.AuditTrail.model_validate(trail)


@router.get("/tenants/{tenant}/audit/checkpoints", operation_id="list_audit_checkpoints", summary="Newest first")
async def list_audit_checkpoints(
    services: ServicesDep, seat: AuditReader, before: BeforeSeq = None, limit: Limit = 100
) -> schemas.AuditCheckpoints:
    return await _checkpoints(services, seat.tenant_id, before, limit)


@router.post(
    "/tenants/{tenant}/audit/checkpoints",
    operation_id="create_audit_checkpoint",
    status_code=201,
    summary="Sign the chain as it is now",
)
async def create_audit_checkpoint(services: ServicesDep, seat: AuditReader) -> schemas.AuditCheckpoint:
    return _as_checkpoint(await services.audit.create_checkpoint(seat.principal, seat.tenant_id))


@router.get("/audit", operation_id="list_platform_events", summary="Who did what to the platform (operators, auditors)")
async def list_platform_events(
    services: ServicesDep,
    _reader: SecurityReader,
    wanted: SearchDep,
    order: Order = "newest",
    after: After = None,
    limit: Limit = 100,
) -> Page[schemas.AuditEvent]:
    return await _search(services, None, wanted, order, after, limit)


@router.get(
    "/audit/export",
    operation_id="export_platform_audit",
    summary="The platform's chain, to be kept and verified",
    response_class=Response,
    responses=_EXPORTED,
)
async def export_platform_audit(
    services: ServicesDep, _reader: SecurityReader, format: Format = "jsonl", after_seq: AfterSeq = None
) -> Response:
    return _stream(await services.audit.open_export(None, after_seq=after_seq), format, "platform")


@router.get("/audit/trail", operation_id="get_platform_trail", summary="What is kept of the platform's, for how long")
async def get_platform_trail(services: ServicesDep, _reader: SecurityReader) -> schemas.AuditTrail:
    return schemas.AuditTrail.model_validate(await services.audit.get_trail(None))


@router.put("/audit/retention", operation_id="set_platform_retention", summary="For how long the platform's is kept")
async def set_platform_retention(
    body: schemas.SetRetention, services: ServicesDep, principal: SecurityWriter
) -> schemas.AuditTrail:
    return schemas.AuditTrail.model_validate(await services.audit.set_retention(principal, None, body.days))


@router.get("/audit/checkpoints", operation_id="list_platform_checkpoints", summary="Of the platform, newest first")
async def list_platform_checkpoints(
    services: ServicesDep, _reader: SecurityReader, before: BeforeSeq = None, limit: Limit = 100
) -> schemas.AuditCheckpoints:
    return await _checkpoints(services, None, before, limit)


@router.post(
    "/audit/checkpoints",
    operation_id="create_platform_checkpoint",
    status_code=201,
    summary="Sign the platform's chain as it is now",
)
async def create_platform_checkpoint(services: ServicesDep, principal: SecurityReader) -> schemas.AuditCheckpoint:
    return _as_checkpoint(await services.audit.create_checkpoint(principal, None))


@router.get("/audit/keys", operation_id="list_audit_keys", summary="Public keys that signed checkpoints, newest first")
async def list_audit_keys(services: ServicesDep, _anybody: Oneself) -> list[schemas.AuditKey]:
    return [_as_key(key) for key in await services.audit.list_keys()]


@router.post("/audit/keys", operation_id="rotate_audit_key", status_code=201, summary="Sign with a fresh key")
async def rotate_audit_key(services: ServicesDep, principal: SecurityWriter) -> schemas.AuditKey:
    return _as_key(await services.audit.rotate_key(principal))


async def _search(
    services: Services, tenant_id: UUID | None, wanted: Search, order: str, after: UUID | None, limit: int
) -> Page[schemas.AuditEvent]:
    rows = await services.audit.list_events(
        tenant_id, wanted=wanted, after=after, oldest_first=order == "oldest", limit=limit + 1
    )
    return as_page(schemas.AuditEvent, rows, limit)


async def _checkpoints(
    services: Services, tenant_id: UUID | None, before: int | None, limit: int
) -> schemas.AuditCheckpoints:
    rows = await services.audit.list_checkpoints(tenant_id, before_seq=before, limit=limit + 1)
    items = [_as_checkpoint(row) for row in rows[:limit]]
    return schemas.AuditCheckpoints(items=items, next_before=items[-1].seq if len(rows) > limit else None)


def _as_checkpoint(checkpoint: Checkpoint) -> schemas.AuditCheckpoint:
    return schemas.AuditCheckpoint.model_validate(checkpoint_document(checkpoint))


def _as_key(key: SigningKey) -> schemas.AuditKey:
    return schemas.AuditKey(
        key_id=key.key_id, public_key=key.public_key.hex(), created_at=key.created_at, retired_at=key.retired_at
    )


def _stream(export: Export, format_: str, name: str) -> StreamingResponse:
    """What breaks off breaks the connection off, so that nobody takes a part for the whole."""
    is_csv = format_ == "csv"
    headers = {"Content-Disposition": f'attachment; filename="audit-{name}.{format_}"'}
    kind = "text/csv; charset=utf-8; header=present" if is_csv else "application/x-ndjson"
    return StreamingResponse(_rows(export) if is_csv else export.lines(), headers=headers, media_type=kind)


async def _rows(export: Export) -> AsyncIterator[bytes]:
    yield as_row(_COLUMNS)
    async for event in export.events:
        assert event.hash is not None
        fields = {name: getattr(event, name) for name in _COLUMNS}
        yield as_row([*(fields | {"at": spell_time(event.at), "hash": event.hash.hex()}).values()])
