"""Takeouts: what the API answers, and the lines of a manifest, which are also read back from anybody's disk."""

from __future__ import annotations

from datetime import datetime
from typing import Literal
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from simples3dms.schemas.base import Response

FORMAT: Literal["simples3dms-takeout"] = "simples3dms-takeout"


class Takeout(Response):
    """Everything that was uploaded before `created_at`, and is not in the trash or purged when it is read."""

    id: UUID
    created_at: datetime
    created_by: str


class _Line(BaseModel):
    """A line that may come from anywhere: nothing unknown in it, and nothing out of bounds."""

    model_config = ConfigDict(extra="forbid", from_attributes=True, hide_input_in_errors=True)


class Entry(_Line):
    """One version. Its bytes are at `files/DOCUMENT/VERSION`: no path is ever read from a manifest."""

    document: UUID
    version: int = Field(ge=1, le=2**31 - 1)
    name: str = Field(min_length=1, max_length=255, pattern=r"^[^\x00-\x1f\x7f]+$")
    content_type: str = Field(pattern=r"^[\x20-\x7e\xa1-\xff]{1,200}$")
    size_bytes: int = Field(ge=0, le=5 * 10**13)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    document_created_at: AwareDatetime
    created_at: AwareDatetime
    retain_until: AwareDatetime | None = None
    retention_mode: Literal["governance", "compliance"] | None = None


class End(_Line):
    """The last line: without it, the manifest was broken off."""

    end: Literal[True] = True


class Label(_Line):
    """What a directory holds: `takeout.json`."""

    format: Literal["simples3dms-takeout"] = FORMAT
    format_version: Literal[1] = 1
    takeout: UUID
    tenant: str = Field(max_length=100)
    created_at: AwareDatetime


class Moved(_Line):
    """A line of an import's own notes: which version became which."""

    document: UUID
    version: int
    became: UUID
