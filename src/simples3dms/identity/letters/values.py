"""A letter that is owed."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID


class LetterKind(StrEnum):
    INVITATION = "invitation"
    RESET = "reset"


@dataclass(frozen=True, slots=True)
class LetterRow:
    """A claimed letter: what it is about, and the fence under which it was claimed."""

    id: UUID
    kind: str
    subject_id: UUID
    fence: int
    attempt: int
