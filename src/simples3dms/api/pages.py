"""Pages: cut a listing to its limit and say where the next page begins."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar
from uuid import UUID

from simples3dms.schemas.base import Page, Response

R = TypeVar("R", bound=Response)


def as_page(model: type[R], rows: Sequence[Any], limit: int) -> Page[R]:
    """`rows` holds up to `limit + 1` values with an `id`: the one too many only tells that there is more."""
    items = [model.model_validate(row) for row in rows[:limit]]
    last: UUID | None = rows[limit - 1].id if len(rows) > limit else None
    return Page(items=items, next_after=last)
