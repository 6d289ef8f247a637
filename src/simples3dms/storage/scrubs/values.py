"""A scrub, the order in which it goes through the replicas, and when what it finds is too much to be mended alone."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal
from uuid import UUID

Level = Literal["light", "deep"]

#: Replicas to a part, about, and the most parts: they are visited in another order each time.
_PER_PART: Final = 64
_MOST_PARTS: Final = 1024
#: As far as replicas are counted before a scrub is cut into parts.
COUNTED: Final = _PER_PART * _MOST_PARTS
#: More than this share of what was looked at, and at least a handful: whatever did that may be doing it still, or what
#: looks bad may be good, so a person decides before anything is copied over (Ceph has such a cap, too).
_MOST_BAD_PERCENT: Final = 1
_HANDFUL: Final = 5


@dataclass(frozen=True, slots=True)
class Scrub:
    """A scrub of one tenant's replicas in one store. `light`: there, and of the right size; `deep`: read and compared.

    `lost_count`: blobs of which no good replica was left. The counts are of what this scrub found, not of what is so.
    """

    id: UUID
    store_id: UUID
    store: str
    level: Level
    state: str
    is_scheduled: bool
    seed: int
    low_id: UUID | None
    high_id: UUID | None
    part_count: int
    done_parts: int
    after_id: UUID | None
    created_at: datetime
    finished_at: datetime | None
    checked_count: int
    checked_bytes: int
    suspect_count: int
    missing_count: int
    lost_count: int
    forgiven_checked: int
    forgiven_bad: int
    error_code: str | None
    error_message: str | None
    fence: int
    attempt: int

    @property
    def progress(self) -> float:
        """The share that is done, from 0 to 1, by parts of the range of ids."""
        if self.state == "done":
            return 1.0
        return self.done_parts / self.part_count if self.part_count else 0.0


@dataclass(frozen=True, slots=True)
class Copy:
    """A replica as the records have it, whatever its state; of a blob that is known where it is live."""

    id: UUID
    blob_id: UUID | None
    state: str
    key: str
    version_id: str | None
    digest: bytes | None
    size_bytes: int | None


@dataclass(frozen=True, slots=True)
class Found:
    """What a look at a live replica showed: `state` is what it becomes, None where it is good."""

    copy: Copy
    state: Literal["suspect", "missing"] | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """The end of a page: how many parts are done with it, and after which id the part under way goes on."""

    done_parts: int
    after_id: UUID | None


@dataclass(frozen=True, slots=True)
class DueScrub:
    tenant_id: UUID
    id: UUID


@dataclass(frozen=True, slots=True)
class DuePlace:
    """A tenant's place in a store that has not been scrubbed for long."""

    tenant_id: UUID
    store_id: UUID


@dataclass(frozen=True, slots=True)
class DoubtfulCopy:
    """A replica that was found wrong (`suspect`) or gone (`missing`). `is_lost`: the blob has no good one anywhere."""

    id: UUID
    blob_id: UUID
    document_id: UUID | None
    document_name: str | None
    store: str
    state: str
    error: str | None
    since: datetime
    is_lost: bool


def plan_parts(replica_count: int) -> int:
    """Into how many parts a store with so many replicas is cut."""
    return max(1, min(_MOST_PARTS, replica_count // _PER_PART))


def order_of_parts(seed: int, part_count: int) -> list[int]:
    """The parts in this scrub's own order: what is damaged together, in time, is not met all at once."""
    return sorted(range(part_count), key=lambda part: _place(seed, part.to_bytes(4, "big")))


def shuffled(seed: int, copies: Sequence[Copy]) -> list[Copy]:
    return sorted(copies, key=lambda copy: _place(seed, copy.id.bytes))


def bounds_of(part: int, part_count: int, low: UUID, high: UUID) -> tuple[UUID, UUID]:
    """The ids that a part begins and ends with, both of them in it; one without ids ends before it begins."""
    span = high.int - low.int + 1
    begin = low.int + span * part // part_count
    end = low.int + span * (part + 1) // part_count - 1
    return UUID(int=begin), UUID(int=max(0, end))


def is_too_much(checked_count: int, bad_count: int) -> bool:
    """Whether so many bad replicas among those looked at are more than may be mended without a person."""
    return bad_count >= _HANDFUL and bad_count * 100 > checked_count * _MOST_BAD_PERCENT


def _place(seed: int, item: bytes) -> bytes:
    return hashlib.blake2b(item, key=seed.to_bytes(8, "big"), digest_size=8).digest()
