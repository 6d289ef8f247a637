"""What people are told of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from uuid import UUID

#: What each state means to who is told; no other is told.
WORDS: Final = {
    "ready": "Everything is proven at the target. It waits for somebody to cut it over.",
    "soaking": "It was cut over: reads and writes have turned to the target. There is still a way back.",
    "finalizing": "It is being finalized: the source is emptied, and there is no way back.",
    "done": "It is done: nothing of it is left at the source but what was waived or is locked there.",
    "paused": "It was paused.",
    "failed": "It has stopped, and waits for somebody to mend the cause and resume it.",
    "rolling_back": "It was rolled back: reads and writes have turned back to the source, and the target is emptied.",
    "rolled_back": "It is rolled back: everything is as it was before.",
}


@dataclass(frozen=True, slots=True)
class DueNotice:
    """A notice of which nobody has been written to yet. `is_wanted`: the tenant has not turned letters off."""

    tenant_id: UUID
    id: UUID
    is_wanted: bool


@dataclass(frozen=True, slots=True)
class NoticeLetter:
    """What a letter about a notice says, and to whom; of an error, what it is now, if the migration still waits."""

    email: str
    tenant_slug: str
    tenant_name: str
    migration_id: UUID
    source: str
    target: str
    state: str
    error_message: str | None
