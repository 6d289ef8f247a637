"""Documents: upload, list, look, delete, restore, purge."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime
from typing import Annotated
from uuid import UUID

from fastapi import Header, Query, Request, Response
from pydantic import AwareDatetime
from starlette.requests import ClientDisconnect

from simples3dms.api.deps import (
    After,
    DocumentPurger,
    DocumentReader,
    DocumentWriter,
    Limit,
    Seat,
    ServicesDep,
    StorageReader,
    as_id,
)
from simples3dms.api.headers import parse_content_digest
from simples3dms.api.pages import as_page
from simples3dms.api.routing import new_router
from simples3dms.bootstrap import Services
from simples3dms.documents.errors import not_found
from simples3dms.documents.values import UploadRequest, UploadResult
from simples3dms.errors import Invalid
from simples3dms.schemas import documents as schemas
from simples3dms.schemas.base import Page

router = new_router(prefix="/tenants/{tenant}/documents", tags=["documents"])

_BODY = {
    "requestBody": {
        "required": True,
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    }
}
ContentDigest = Annotated[str | None, Header(description="`sha-256=:BASE64:`; a body that differs is refused.")]
OriginalTime = Annotated[
    AwareDatetime | None, Query(description="When it was made where it is taken over from: kept beside our own time.")
]
VersionNumber = Annotated[
    int | None, Query(ge=1, le=2**31 - 1, description="Which version; the newest one by default.")
]
IdempotencyKey = Annotated[
    str | None, Header(min_length=1, max_length=255, description="A repeat with the same key has the same one effect.")
]


@router.post("", operation_id="upload_document", status_code=201, summary="Upload a document", openapi_extra=_BODY)
async def upload_document(
    request: Request,
    response: Response,
    services: ServicesDep,
    seat: DocumentWriter,
    name: Annotated[str, Query(description="The document's name, 1 to 255 characters.")],
    original_created_at: OriginalTime = None,
    content_digest: ContentDigest = None,
    idempotency_key: IdempotencyKey = None,
) -> schemas.Document:
    """The request's body is the document; it is streamed to the tenant's store and never held whole."""
    announced = _announced(request, name, None, content_digest, idempotency_key, original_created_at)
    return await _upload(request, response, services, seat, announced)


@router.post(
    "/{document}/versions",
    operation_id="upload_version",
    status_code=201,
    summary="Upload a new version",
    openapi_extra=_BODY,
)
async def upload_version(
    document: str,
    request: Request,
    response: Response,
    services: ServicesDep,
    seat: DocumentWriter,
    original_created_at: OriginalTime = None,
    content_digest: ContentDigest = None,
    idempotency_key: IdempotencyKey = None,
) -> schemas.Document:
    announced = _announced(request, "", _id(document), content_digest, idempotency_key, original_created_at)
    return await _upload(request, response, services, seat, announced)


def _id(document: str) -> UUID:
    return as_id(document, not_found())


def _announced(
    request: Request,
    name: str,
    document_id: UUID | None,
    digest: str | None,
    idempotency_key: str | None,
    original_created_at: datetime | None,
) -> UploadRequest:
    length = request.headers.get("content-length")
    return UploadRequest(
        name=name,
        content_type=request.headers.get("content-type", "application/octet-stream"),
        document_id=document_id,
        size_bytes=int(length) if length is not None and length.isdecimal() else None,
        sha256=parse_content_digest(digest),
        idempotency_key=idempotency_key,
        original_created_at=original_created_at,
    )


async def _upload(
    request: Request, response: Response, services: Services, seat: Seat, announced: UploadRequest
) -> schemas.Document:
    result = await services.uploads.upload(seat.principal, seat.tenant_id, announced, _body(request))
    response.headers["Location"] = f"/api/v1/tenants/{seat.tenant.slug}/documents/{result.document.id}"
    if result.replayed:
        response.headers["Idempotent-Replay"] = "true"
    return _as_it_was(result)


def _as_it_was(result: UploadResult) -> schemas.Document:
    """The document at the version that the upload made: a replay answers what the first request was answered."""
    made = result.version
    return schemas.Document(
        id=result.document.id,
        name=result.document.name,
        content_type=made.content_type,
        size_bytes=made.size_bytes,
        sha256=made.sha256,
        version=made.number,
        created_at=result.document.created_at,
        updated_at=made.created_at,
        deleted_at=None,
    )


async def _body(request: Request) -> AsyncIterator[bytes]:
    try:
        async for chunk in request.stream():
            if chunk:
                yield chunk
    except ClientDisconnect as error:
        raise Invalid("The connection ended before the whole body had come.", code="body_incomplete") from error


@router.get("", operation_id="list_documents", summary="Documents in the order they were made")
async def list_documents(
    services: ServicesDep,
    seat: DocumentReader,
    after: After = None,
    limit: Limit = 100,
    trash: Annotated[bool, Query(description="Those in the trash instead.")] = False,
) -> Page[schemas.Document]:
    rows = await services.documents.list_documents(seat.tenant_id, after=after, limit=limit + 1, trash=trash)
    return as_page(schemas.Document, rows, limit)


@router.get("/{document}", operation_id="get_document", summary="One document")
async def get_document(document: str, services: ServicesDep, seat: DocumentReader) -> schemas.Document:
    return schemas.Document.model_validate(await services.documents.get_document(seat.tenant_id, _id(document)))


@router.get("/{document}/versions", operation_id="list_versions", summary="Its versions, newest first")
async def list_versions(document: str, services: ServicesDep, seat: DocumentReader) -> list[schemas.Version]:
    rows = await services.documents.list_versions(seat.tenant_id, _id(document))
    return [schemas.Version.model_validate(row) for row in rows]


@router.get("/{document}/replicas", operation_id="list_replicas", summary="Where its bytes are")
async def list_replicas(document: str, services: ServicesDep, seat: StorageReader) -> list[schemas.Replica]:
    rows = await services.documents.list_replicas(seat.tenant_id, _id(document))
    return [schemas.Replica.model_validate(row) for row in rows]


@router.get("/{document}/placement", operation_id="explain_placement", summary="Why its bytes are where they are")
async def explain_placement(
    document: str, services: ServicesDep, seat: StorageReader, version: VersionNumber = None
) -> schemas.Explanation:
    found = await services.documents.explain_placement(seat.tenant_id, _id(document), version)
    return schemas.Explanation.model_validate(found)


@router.delete("/{document}", operation_id="delete_document", summary="Put it into the trash")
async def delete_document(document: str, services: ServicesDep, seat: DocumentWriter) -> schemas.Document:
    row = await services.documents.delete_document(seat.principal, seat.tenant_id, _id(document))
    return schemas.Document.model_validate(row)


@router.post("/{document}/restore", operation_id="restore_document", summary="Take it out of the trash")
async def restore_document(document: str, services: ServicesDep, seat: DocumentWriter) -> schemas.Document:
    row = await services.documents.restore_document(seat.principal, seat.tenant_id, _id(document))
    return schemas.Document.model_validate(row)


@router.post("/{document}/purge", operation_id="purge_document", status_code=204, summary="Remove it for good")
async def purge_document(document: str, services: ServicesDep, seat: DocumentPurger) -> None:
    """Only from the trash; its bytes are removed from every store, and nothing brings it back."""
    await services.documents.purge_document(seat.principal, seat.tenant_id, _id(document))
