"""Takeouts: a snapshot, and its manifest as JSON lines. The bytes are fetched version by version."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated
from uuid import UUID

from fastapi import Query
from fastapi.responses import StreamingResponse

from simples3dms.api.deps import After, Limit, Seat, ServicesDep, TakeoutMaker, as_id
from simples3dms.api.pages import as_page
from simples3dms.api.routing import new_router
from simples3dms.bootstrap import Services
from simples3dms.documents.takeouts.errors import not_found
from simples3dms.documents.takeouts.service import parse_cursor
from simples3dms.documents.takeouts.values import Takeout
from simples3dms.schemas import takeouts as schemas
from simples3dms.schemas.base import Page

router = new_router(prefix="/tenants/{tenant}/takeouts", tags=["takeouts"])
_LINES = "application/jsonl"


@router.post("", operation_id="create_takeout", status_code=201, summary="Draw the line for a takeout")
async def create_takeout(services: ServicesDep, seat: TakeoutMaker) -> schemas.Takeout:
    return schemas.Takeout.model_validate(await services.takeouts.create_takeout(seat.principal, seat.tenant_id))


@router.get("", operation_id="list_takeouts", summary="Takeouts, newest first")
async def list_takeouts(
    services: ServicesDep, seat: TakeoutMaker, after: After = None, limit: Limit = 100
) -> Page[schemas.Takeout]:
    rows = await services.takeouts.list_takeouts(seat.tenant_id, after=after, limit=limit + 1)
    return as_page(schemas.Takeout, rows, limit)


@router.get("/{takeout}", operation_id="get_takeout", summary="One takeout")
async def get_takeout(takeout: str, services: ServicesDep, seat: TakeoutMaker) -> schemas.Takeout:
    return schemas.Takeout.model_validate(await services.takeouts.get_takeout(seat.tenant_id, _id(takeout)))


def _id(takeout: str) -> UUID:
    return as_id(takeout, not_found())


@router.get(
    "/{takeout}/manifest",
    operation_id="get_takeout_manifest",
    summary="Every version, a line each, and a last line that says so",
    response_class=StreamingResponse,
    responses={200: {"content": {_LINES: {}}}},
)
async def get_takeout_manifest(
    takeout: str,
    services: ServicesDep,
    seat: TakeoutMaker,
    after: Annotated[
        str | None, Query(max_length=60, description="DOCUMENT:VERSION of the last line that you have.")
    ] = None,
) -> StreamingResponse:
    """Streamed, however many there are. One that was broken off goes on after the last line."""
    found = await services.takeouts.get_takeout(seat.tenant_id, _id(takeout))
    return StreamingResponse(_lines(services, seat, found, parse_cursor(after)), media_type=_LINES)


async def _lines(services: Services, seat: Seat, takeout: Takeout, after: tuple[UUID, int]) -> AsyncIterator[str]:
    async for entry in services.takeouts.iter_entries(seat.tenant_id, takeout, after=after):
        # As it is recorded: whoever reads it back checks it, and a name of long ago must not break the listing.
        yield (
            schemas.Entry.model_construct(
                **{name: getattr(entry, name) for name in schemas.Entry.model_fields}
            ).model_dump_json()
            + "\n"
        )
    yield schemas.End().model_dump_json() + "\n"
