"""A letter that is owed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID


class LetterKind(StrEnum):
    INVITATION = "invitation"
    RESET = "reset"
    NOTICE = "notice"


@dataclass(frozen=True, slots=True)
class LetterRow:
    """A claimed letter: what it is about, and the fence under which it was claimed."""

    id: UUID
    kind: str
    subject_id: UUID
    fence: int
    attempt: int


@dataclass(frozen=True, slots=True)
class Letter:
    """A letter that was tried and not sent, as an operator sees it; `state`: `pending`, or `needs_attention` where
    nobody tries any more."""

    id: UUID
    kind: str
    email: str | None
    state: str
    attempt: int
    last_error: str | None
    created_at: datetime
