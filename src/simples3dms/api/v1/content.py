"""Content: download a document's bytes, whole or a range, checked on the way."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Annotated, Any

import structlog
from fastapi import Header, Path, Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from simples3dms.api.deps import DocumentReader, Seat, ServicesDep, as_id
from simples3dms.api.headers import attachment, is_held, parse_range, safe_type
from simples3dms.api.routing import new_router
from simples3dms.bootstrap import Services
from simples3dms.documents.errors import in_trash, not_found
from simples3dms.documents.values import Document, Version
from simples3dms.errors import Failure

log = structlog.get_logger(__name__)
router = new_router(prefix="/tenants/{tenant}/documents/{document}", tags=["documents"])

RangeHeader = Annotated[str | None, Header(alias="Range", description="A single range of bytes.")]
IfNoneMatch = Annotated[str | None, Header()]
IfRange = Annotated[str | None, Header()]
_CONTENT: dict[int | str, dict[str, Any]] = {
    200: {"content": {"application/octet-stream": {}}},
    206: {"description": "The range", "content": {"application/octet-stream": {}}},
    304: {"description": "The caller has these bytes already"},
}


@router.head("/content", operation_id="head_content", include_in_schema=False)
@router.get(
    "/content",
    operation_id="get_content",
    summary="Download the newest version",
    response_class=Response,
    responses=_CONTENT,
)
async def get_content(
    document: str,
    request: Request,
    services: ServicesDep,
    seat: DocumentReader,
    range_header: RangeHeader = None,
    if_none_match: IfNoneMatch = None,
    if_range: IfRange = None,
) -> Response:
    return await _answer(request, services, seat, document, None, range_header, if_none_match, if_range)


@router.head("/versions/{number}/content", operation_id="head_version_content", include_in_schema=False)
@router.get(
    "/versions/{number}/content",
    operation_id="get_version_content",
    summary="Download a version",
    response_class=Response,
    responses=_CONTENT,
)
async def get_version_content(
    document: str,
    number: Annotated[int, Path(ge=1, le=2**31 - 1)],
    request: Request,
    services: ServicesDep,
    seat: DocumentReader,
    range_header: RangeHeader = None,
    if_none_match: IfNoneMatch = None,
    if_range: IfRange = None,
) -> Response:
    return await _answer(request, services, seat, document, number, range_header, if_none_match, if_range)


async def _answer(
    request: Request,
    services: Services,
    seat: Seat,
    document: str,
    number: int | None,
    range_header: str | None,
    if_none_match: str | None,
    if_range: str | None,
) -> Response:
    document_id = as_id(document, not_found())
    found, version = await services.documents.get_version(seat.tenant_id, document_id, number)
    if found.deleted_at is not None:
        raise in_trash()
    headers = _headers(found, version)
    if is_held(if_none_match, headers["ETag"]):
        return Response(status_code=304, headers={name: headers[name] for name in ("ETag", "Cache-Control")})
    # A range is of what GET would send now: not of a HEAD, nor of bytes other than those the caller began with.
    is_ranged = request.method == "GET" and if_range in (None, headers["ETag"])
    part = parse_range(range_header, version.size_bytes) if is_ranged else None
    start, length = part or (0, version.size_bytes)
    if part is not None:
        headers["Content-Range"] = f"bytes {start}-{start + length - 1}/{version.size_bytes}"
    headers["Content-Length"] = str(length)
    status = 206 if part else 200
    if request.method == "HEAD":
        return Response(status_code=status, headers=headers)
    stack = AsyncExitStack()
    # Opened before the answer begins, so that what can be told as a problem still is.
    opening = services.documents.open_download(
        seat.tenant_id, document_id, number=version.number, start=start, length=None if part is None else length
    )
    with services.throttle.reading():
        download = await stack.enter_async_context(opening)
    return _Stream(download.chunks, stack, status, headers)


class _Stream(StreamingResponse):
    """The bytes. An error among them breaks the connection off, so that nobody takes a part of them for the whole."""

    def __init__(
        self, chunks: AsyncIterator[bytes], stack: AsyncExitStack, status: int, headers: dict[str, str]
    ) -> None:
        super().__init__(chunks, status_code=status, headers=headers)
        self._stack = stack

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # Closed by the task that opened it, and also when the caller has gone before the first byte.
        async with self._stack:
            try:
                await super().__call__(scope, receive, send)
            except Failure as failure:
                log.warning("download.broken_off", code=failure.problem_code, request_id=scope["state"]["request_id"])
                raise


def _headers(document: Document, version: Version) -> dict[str, str]:
    return {
        "ETag": f'"{version.sha256}"',
        "Accept-Ranges": "bytes",
        "Content-Type": safe_type(version.content_type),
        "Content-Disposition": attachment(document.name),
        "Cache-Control": "private, no-cache",
        "Content-Security-Policy": "sandbox; default-src 'none'",
    }
