"""How long a claim surely still stands, by this process's own clock: asked right before anything is changed elsewhere.

The database's clock decides when a lease is over. A process that can't ask the database any more counts from before it
last did, so that it stops before the lease is over there, whatever the two clocks show.
"""

from __future__ import annotations

import time
from contextvars import ContextVar
from types import TracebackType
from typing import Final, Self

#: The last part of a lease, in which nothing new is begun: what is on its way has this long to arrive.
_SPARE: Final = 1 / 6
_current: ContextVar[Lease | None] = ContextVar("lease", default=None)


class LeaseLost(Exception):
    """Another has taken the work over, or may have: what was done of it must not count, and no more may be done."""


class Lease:
    """A claim for `seconds`, asked for at `asked_at` (of `time.monotonic`). Within another one, both must stand."""

    def __init__(self, seconds: float, *, asked_at: float | None = None) -> None:
        self._seconds = seconds
        self._outer = _current.get()
        self.renew(time.monotonic() if asked_at is None else asked_at)

    def renew(self, asked_at: float) -> None:
        """The database said, when it was asked at that time, that the claim stands."""
        self._until = asked_at + self._seconds * (1 - _SPARE)

    @property
    def left_seconds(self) -> float:
        """For how long something may still be begun under it; below 0: no more."""
        return self._until - time.monotonic()

    @property
    def is_over(self) -> bool:
        return self.left_seconds <= 0 or (self._outer is not None and self._outer.is_over)

    def __enter__(self) -> Self:
        """What this task does in the block, and what tasks that it starts there do, is done under this lease."""
        self._token = _current.set(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _current.reset(self._token)


def require_lease() -> None:
    """Raise LeaseLost if this work's claim may be over. Work that is under no lease goes on."""
    lease = _current.get()
    if lease is not None and lease.is_over:
        raise LeaseLost
