"""Letters that could not be sent."""

from __future__ import annotations

from datetime import datetime
from typing import Literal
from uuid import UUID

from pydantic import Field

from simples3dms.schemas.base import Response


class Letter(Response):
    """Never what it says, nor its link: that is made when it is sent."""

    id: UUID
    kind: Literal["invitation", "reset", "notice"]
    email: str | None
    state: Literal["pending", "needs_attention"] = Field(
        description="`needs_attention`: it is not tried any more by itself."
    )
    attempt: int
    last_error: str | None
    created_at: datetime
