"""Letters that could not be sent, for operators."""

from __future__ import annotations

from simples3dms.api.deps import After, Limit, ServicesDep, UsersReader, UsersWriter, as_id
from simples3dms.api.pages import as_page
from simples3dms.api.routing import new_router
from simples3dms.identity.errors import letter_not_found
from simples3dms.schemas import letters as schemas
from simples3dms.schemas.base import Page

router = new_router(tags=["identity"])


@router.get("/letters", operation_id="list_letters", summary="Letters that could not be sent (operators)")
async def list_letters(
    services: ServicesDep, _operator: UsersReader, after: After = None, limit: Limit = 100
) -> Page[schemas.Letter]:
    return as_page(schemas.Letter, await services.letters.list_unsent(after=after, limit=limit + 1), limit)


@router.post("/letters/{letter}/retry", operation_id="retry_letter", summary="Try to send it again now (operators)")
async def retry_letter(letter: str, services: ServicesDep, principal: UsersWriter) -> schemas.Letter:
    return schemas.Letter.model_validate(await services.letters.retry(principal, as_id(letter, letter_not_found())))


@router.delete("/letters/{letter}", operation_id="drop_letter", status_code=204, summary="Send it no more (operators)")
async def drop_letter(letter: str, services: ServicesDep, principal: UsersWriter) -> None:
    await services.letters.drop(principal, as_id(letter, letter_not_found()))
