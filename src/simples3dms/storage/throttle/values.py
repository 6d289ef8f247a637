"""How long people wait, and what that leaves to work in the background. Pure: times are passed in, in seconds."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from typing import Final

#: Every so often work in the background rests everywhere at once, so that it is seen how quick reads are without it.
CYCLE_SECONDS: Final = 20.0
REST_SECONDS: Final = 1.5
#: What was begun before the rest has ended by then.
_SETTLED_SECONDS: Final = 0.5
#: How far back reads count: those beside work, and those of rests.
_LATELY_SECONDS: Final = 5.0
_QUIET_SECONDS: Final = 600.0
_MOST_READS: Final = 2000
#: Fewer reads tell nothing of how long they take.
_FEW: Final = 5
#: Of the reads, so many are quicker than what is looked at.
_QUANTILE: Final = 0.9
#: Turns at a time to begin with, once somebody reads.
_FIRST_LIMIT: Final = 4.0
#: Below one at a time: one, and a pause after it. Work never stands still.
_LEAST_LIMIT: Final = 0.05
_MOST_LIMIT: Final = 256.0
_CUT: Final = 0.7
#: Grown is only well below what is allowed, so that it does not swing.
_CALM: Final = 0.85


@dataclass(frozen=True, slots=True)
class Look:
    """What a process saw of its readers: how many there were lately, how long nine of ten of them waited at most, and
    how long in rests. None: too few to say."""

    count: int
    seconds: float | None
    quiet_seconds: float | None

    @property
    def slowdown(self) -> float | None:
        """How many times as long as usual; None: not known."""
        if self.seconds is None or not self.quiet_seconds:
            return None
        return self.seconds / self.quiet_seconds


def rests_at(clock: float) -> bool:
    """Whether work in the background rests at this time of the database's clock (Unix time)."""
    return clock % CYCLE_SECONDS < REST_SECONDS


def rest_left(clock: float) -> float:
    """How long the rest goes on; 0: there is none now."""
    return max(0.0, REST_SECONDS - clock % CYCLE_SECONDS)


class Readings:
    """The reads of one process's people."""

    def __init__(self) -> None:
        self._busy: deque[tuple[float, float]] = deque(maxlen=_MOST_READS)
        self._quiet: deque[tuple[float, float]] = deque(maxlen=_MOST_READS)

    def note(self, seconds: float, *, begun: float) -> None:
        """A read that began then, by the database's clock, waited so long for its first bytes."""
        into = begun % CYCLE_SECONDS
        if into >= REST_SECONDS:
            self._busy.append((begun, seconds))
        elif into >= _SETTLED_SECONDS:
            self._quiet.append((begun, seconds))

    def look(self, clock: float) -> Look:
        busy = [seconds for begun, seconds in self._busy if begun > clock - _LATELY_SECONDS]
        quiet = [seconds for begun, seconds in self._quiet if begun > clock - _QUIET_SECONDS]
        return Look(len(busy), _quantile(busy), _quantile(quiet))


def _quantile(found: list[float]) -> float | None:
    if len(found) < _FEW:
        return None
    return sorted(found)[math.ceil(_QUANTILE * len(found)) - 1]


class Limit:
    """How many turns of work one process may take at a time: fewer as soon as people wait, more little by little."""

    def __init__(self, *, most_slowdown: float) -> None:
        self._most_slowdown = most_slowdown
        self._value: float | None = None

    @property
    def value(self) -> float:
        """Endless while nobody reads; below 1: one at a time, with a pause after it."""
        return math.inf if self._value is None else self._value

    def update(self, *, someone_reads: bool, slowdown: float | None) -> None:
        """What was found in the last second or so."""
        if not someone_reads:
            self._value = None
        elif self._value is None:
            self._value = _FIRST_LIMIT
        elif slowdown is None:
            return
        elif slowdown > self._most_slowdown:
            self._value = max(_LEAST_LIMIT, self._value * _CUT)
        elif slowdown < 1 + (self._most_slowdown - 1) * _CALM:
            self._value = min(_MOST_LIMIT, self._value + 1 if self._value >= 1 else self._value / _CUT)
