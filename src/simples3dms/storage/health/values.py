"""Names of what can be wrong with an installation that works all the same."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

#: What each means to whoever runs the installation.
MEANINGS: Final = {
    "replication_late": "Copies that are owed to the store have waited for longer than the setting says.",
    "copies_failed": "Copies were tried as often as is sensible: they are missing until somebody sees to them.",
    "store_untrusted": "Nothing at the store is repaired by itself.",
    "reconcile_found": "The store has objects that no record explains, and that nobody has removed.",
    "removals_held": "Nothing is removed from any store, since the database was restored.",
}


@dataclass(frozen=True, slots=True)
class Degradation:
    """Something that is wrong: its name (stable), at which store if at one, since when, and one sentence."""

    code: str
    store_id: UUID | None
    store: str | None
    since: datetime | None
    message: str


@dataclass(frozen=True, slots=True)
class UntrustedStore:
    id: UUID
    name: str
    untrusted_at: datetime
    untrusted_reason: str
