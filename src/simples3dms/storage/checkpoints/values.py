"""A copy that is to be made."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID


@dataclass(frozen=True, slots=True)
class Copy:
    """A checkpoint's place in one store; it counts for whoever holds the fence."""

    seq: int
    store_id: UUID
    key: str
    fence: int
