"""The hours of the week in which a migration's workers may move bytes, by the clock on the wall of some place.

Pure: the time is always given. A window is open while the wall clock of its zone shows a time in it. So an hour that
the clock skips in spring is skipped here, and one that it shows twice in autumn is open twice.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from simples3dms.storage.migrations.values import MigrationRow, State

DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
#: More than a week, for a window that the clock skips once.
_AHEAD_DAYS: Final = 15
#: What waits for a window. A way back does not.
_IN_WINDOWS: Final = frozenset({State.COPYING, State.FINALIZING})
_TIME: Final = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])")


@dataclass(frozen=True, slots=True)
class Window:
    """Open on these days (0: Monday) from `opens` to `closes`, in minutes after midnight; if it closes no later than
    it opens, on the day after. It belongs to the day on which it opens."""

    days: frozenset[int]
    opens: int
    closes: int
    zone: ZoneInfo


class WindowInvalid(ValueError):
    """This is no window."""


def parse(given: Mapping[str, Any]) -> Window:
    """A window as it is asked for and kept. Raises WindowInvalid."""
    names = list(given["days"])
    if not names or not set(names) <= set(DAYS):
        raise WindowInvalid(f"days are some of {', '.join(DAYS)}")
    try:
        zone = ZoneInfo(given["zone"])
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise WindowInvalid("the zone is none of the IANA time zones, such as Europe/Vienna") from None
    return Window(frozenset(map(DAYS.index, names)), _minutes(given["opens"]), _minutes(given["closes"]), zone)


def _minutes(text: str) -> int:
    found = _TIME.fullmatch(text)
    if found is None:
        raise WindowInvalid("a time of the day is spelled 22:00")
    return int(found[1]) * 60 + int(found[2])


def is_open(windows: Sequence[Window], at: datetime) -> bool:
    """Whether work may go on at `at` (with a zone); without windows always."""
    return not windows or any(_shows(window, at) for window in windows)


def _shows(window: Window, at: datetime) -> bool:
    wall = at.astimezone(window.zone)
    day, minute = wall.weekday(), wall.hour * 60 + wall.minute
    if window.opens < window.closes:
        return day in window.days and window.opens <= minute < window.closes
    return (day in window.days and minute >= window.opens) or ((day - 1) % 7 in window.days and minute < window.closes)


def rests(row: MigrationRow) -> bool:
    """Whether its workers rest, by the clock of the database, from which the row was read."""
    return row.state in _IN_WINDOWS and not is_open([parse(one) for one in row.windows], row.read_at)


def next_opening(windows: Sequence[Window], at: datetime) -> datetime | None:
    """When the first of them opens after `at`, in UTC; None if one is open now, or if there are none."""
    if is_open(windows, at):
        return None
    moments = (moment for window in windows for moment in _moments(window, at))
    return min((moment for moment in moments if moment > at and is_open(windows, moment)), default=None)


def _moments(window: Window, at: datetime) -> Iterator[datetime]:
    """When it might open: its times by the wall, and whenever the clock on the wall is put forward or back."""
    start = at.astimezone(window.zone)
    for ahead in range(-1, _AHEAD_DAYS):
        day = (start + timedelta(days=ahead)).replace(hour=0, minute=0, second=0, microsecond=0)
        wall = day + timedelta(minutes=window.opens)
        for fold in (0, 1):
            yield wall.replace(fold=fold).astimezone(UTC)
    yield from _changes(window.zone, at)


def _changes(zone: ZoneInfo, at: datetime) -> Iterator[datetime]:
    """The moments at which the zone's offset changes: by the hour, then to the second."""
    low = at.astimezone(UTC).replace(microsecond=0)
    for _ in range(_AHEAD_DAYS * 24):
        high = low + timedelta(hours=1)
        if _offset(zone, low) != _offset(zone, high):
            yield _between(zone, low, high)
        low = high


def _between(zone: ZoneInfo, low: datetime, high: datetime) -> datetime:
    before = _offset(zone, low)
    while high - low > timedelta(seconds=1):
        middle = low + timedelta(seconds=int((high - low).total_seconds()) // 2)
        if _offset(zone, middle) == before:
            low = middle
        else:
            high = middle
    return high


def _offset(zone: ZoneInfo, at: datetime) -> timedelta | None:
    return at.astimezone(zone).utcoffset()
