"""How soon each store answers reads of this process: measured as it reads, kept in bounded memory."""

from __future__ import annotations

import math
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final
from uuid import UUID

_MOST_STORES: Final = 1000
#: What a new measurement counts, of 1.
_WEIGHT: Final = 0.2
#: A read that fails counts as one that took this long at least: a store that refuses at once is not a fast one.
FAILED_SECONDS: Final = 10.0
#: A store that was not asked for so many choices and so long is asked again: it may have recovered.
EXPLORE_CHOICES: Final = 32
EXPLORE_SECONDS: Final = 30.0


#: How many of a store's newest times tell when it is late, and how many there must be at least.
_RECENT: Final = 100
LEAST_SAMPLES: Final = 20
#: Nothing is late sooner than that, and everything after that.
LATE_FLOOR_SECONDS: Final = 0.02
LATE_CAP_SECONDS: Final = 2.0


@dataclass(slots=True)
class _Measured:
    seconds: float
    measured_at: float
    choice: int
    recent: deque[float]
    is_old: bool = False
    """Due to be measured again: what it was says nothing of what it is."""


class Latencies:
    """Times to the first byte, as an exponentially weighted mean of each store."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._stores: OrderedDict[UUID, _Measured] = OrderedDict()
        self._choices = 0

    def note(self, store_id: UUID, seconds: float) -> None:
        """A read at the store gave its first byte after so long."""
        known = self._stores.get(store_id)
        mean = seconds if known is None or known.is_old else known.seconds + _WEIGHT * (seconds - known.seconds)
        recent: deque[float] = deque(maxlen=_RECENT) if known is None else known.recent
        recent.append(seconds)
        self._stores[store_id] = _Measured(mean, self._clock(), self._choices, recent)
        self._stores.move_to_end(store_id)
        if len(self._stores) > _MOST_STORES:
            self._stores.popitem(last=False)

    def note_failure(self, store_id: UUID, seconds: float) -> None:
        """A read failed for the store's own fault."""
        self.note(store_id, max(seconds, FAILED_SECONDS))

    def get_all(self, store_ids: Iterable[UUID]) -> dict[UUID, float | None]:
        """The means of the stores in seconds; None: not measured."""
        known = {store_id: self._stores.get(store_id) for store_id in store_ids}
        return {store_id: None if one is None else one.seconds for store_id, one in known.items()}

    def late_after(self, store_id: UUID) -> float | None:
        """After how many seconds without its first byte the store takes longer than in 95 of 100 reads.

        None: too little is known of it.
        """
        known = self._stores.get(store_id)
        if known is None or len(known.recent) < LEAST_SAMPLES:
            return None
        slow = sorted(known.recent)[math.ceil(0.95 * len(known.recent)) - 1]
        return min(max(slow, LATE_FLOOR_SECONDS), LATE_CAP_SECONDS)

    def choose(self, store_ids: Iterable[UUID]) -> dict[UUID, float | None]:
        """The means to choose one of these stores by; None for what is to be measured (again).

        At most one of them is due again at a choice, and then not at the next ones, whatever comes of it.
        """
        self._choices += 1
        wanted = list(store_ids)
        known = [self._stores[store_id] for store_id in wanted if store_id in self._stores]
        due = min((one for one in known if self._is_due(one)), key=lambda one: one.measured_at, default=None)
        if due is not None:
            due.measured_at, due.choice, due.is_old = self._clock(), self._choices, True
        means = self.get_all(wanted)
        return {id_: None if due is not None and self._stores.get(id_) is due else mean for id_, mean in means.items()}

    def _is_due(self, one: _Measured) -> bool:
        return self._choices - one.choice >= EXPLORE_CHOICES and self._clock() - one.measured_at >= EXPLORE_SECONDS


class Timing:
    """One reading at a store: only its first byte is timed, or that there was none."""

    def __init__(self, latencies: Latencies, store_id: UUID) -> None:
        self._latencies = latencies
        self._store_id = store_id
        self._began_at = time.monotonic()
        self._done = False

    def answered(self) -> None:
        """It gave bytes. All but the first time it is of no account."""
        if not self._done:
            self._done = True
            self._latencies.note(self._store_id, time.monotonic() - self._began_at)

    def failed(self) -> None:
        """It failed for the store's own fault, be it in the middle."""
        self._done = True
        self._latencies.note_failure(self._store_id, time.monotonic() - self._began_at)
