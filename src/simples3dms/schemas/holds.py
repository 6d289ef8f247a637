"""Legal holds and retention."""

from __future__ import annotations

from datetime import datetime
from typing import Literal
from uuid import UUID

from pydantic import AwareDatetime, Field

from simples3dms.schemas.base import Request, Response

Mode = Literal["governance", "compliance"]


class PlaceHold(Request):
    name: str = Field(min_length=1, max_length=100, description="The matter, such as `case-2026-17`.")
    reason: str = Field(min_length=1, max_length=500)


class ReleaseHold(Request):
    reason: str = Field(min_length=1, max_length=500)


class Hold(Response):
    """In force until it is released."""

    id: UUID
    document_id: UUID
    name: str
    reason: str
    placed_at: datetime
    placed_by: str
    released_at: datetime | None
    released_by: str | None
    release_reason: str | None


class SetRetention(Request):
    """Never shorter, and never weaker, than what is in force."""

    until: AwareDatetime
    mode: Mode = Field(
        description="Who may end it early: an owner with a reason (`governance`), nobody (`compliance`)."
    )


class LiftRetention(Request):
    until: AwareDatetime | None = Field(default=None, description="An earlier end; null: none at all.")
    reason: str = Field(min_length=1, max_length=500)


class Retention(Response):
    """What keeps a document now; `hold_count` are the holds in force."""

    document_id: UUID
    retain_until: datetime | None
    mode: Mode | None
    is_retained: bool
    hold_count: int
