"""One person: a report of what is held about them, and their erasure."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

from fastapi.encoders import jsonable_encoder
from fastapi.responses import StreamingResponse

from simples3dms.api.deps import After, Limit, Oneself, PersonEraser, PersonReporter, ServicesDep, as_id
from simples3dms.api.pages import as_page
from simples3dms.api.routing import new_router
from simples3dms.compliance.persons.errors import not_found
from simples3dms.schemas import compliance as schemas
from simples3dms.schemas.base import Page

router = new_router(tags=["compliance"])
_LINES = "application/jsonl"
_STREAMED: dict[int | str, dict[str, Any]] = {200: {"content": {_LINES: {}}}}


@router.get(
    "/users/{user}/report",
    operation_id="get_person_report",
    summary="All that is held about a user, as JSON lines (operators)",
    response_class=StreamingResponse,
    responses=_STREAMED,
)
async def get_person_report(user: str, services: ServicesDep, principal: PersonReporter) -> StreamingResponse:
    """By id or e-mail address. Each line has a `kind`; without a last one of the kind `end` it was broken off."""
    person = await services.persons.find_person(user)
    return StreamingResponse(_lines(services.persons.iter_report(principal, person)), media_type=_LINES)


@router.get(
    "/report",
    operation_id="get_own_report",
    summary="All that is held about oneself, as JSON lines",
    response_class=StreamingResponse,
    responses=_STREAMED,
)
async def get_own_report(services: ServicesDep, principal: Oneself) -> StreamingResponse:
    """Without who else acted: that is about others."""
    person = await services.persons.find_person(str(principal.id))
    report = services.persons.iter_report(principal, person, for_oneself=True)
    return StreamingResponse(_lines(report), media_type=_LINES)


async def _lines(pieces: AsyncIterator[dict[str, Any]]) -> AsyncIterator[str]:
    async for piece in pieces:
        yield json.dumps(jsonable_encoder(piece), ensure_ascii=False) + "\n"


@router.post(
    "/users/{user}/erasure", operation_id="request_erasure", status_code=201, summary="Erase a user (operators)"
)
async def request_erasure(
    user: str, body: schemas.RequestErasure, services: ServicesDep, principal: PersonEraser
) -> schemas.Erasure:
    """The account at once, the named documents soon; what a hold or a retention keeps stays, and is told."""
    named = [(one.tenant, one.document) for one in body.documents]
    erasure = await services.persons.request_erasure(principal, user, reason=body.reason, documents=named)
    return schemas.Erasure.model_validate(erasure)


@router.get("/erasures", operation_id="list_erasures", summary="Erasures, newest first (operators)")
async def list_erasures(
    services: ServicesDep, _operator: PersonEraser, after: After = None, limit: Limit = 100
) -> Page[schemas.Erasure]:
    return as_page(schemas.Erasure, await services.persons.list_erasures(after=after, limit=limit + 1), limit)


@router.get("/erasures/{erasure}", operation_id="get_erasure", summary="An erasure, with its certificate (operators)")
async def get_erasure(erasure: str, services: ServicesDep, _operator: PersonEraser) -> schemas.Erasure:
    return schemas.Erasure.model_validate(await services.persons.get_erasure(as_id(erasure, not_found())))
