"""How long a move would take, by what lately was measured and by what its stores may be asked for. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from simples3dms.storage.prices.service import read_calls, write_calls
from simples3dms.storage.prices.values import Load

#: Into about so many stretches of work what was measured is cut: their fastest and slowest bound the estimate.
_STRETCHES: Final = 8
_LEAST_SECONDS: Final = 0.001


@dataclass(frozen=True, slots=True)
class Run:
    """One chunk's work, by the database's clock (Unix time): other workers may have been at others meanwhile."""

    begun: float
    ended: float
    count: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Stretch:
    """So much was copied in so many seconds, by all workers together."""

    seconds: float
    count: float
    size_bytes: float


@dataclass(frozen=True, slots=True)
class Limits:
    """What a store may be asked for a second, of all processes together; None: no bound."""

    requests: float | None = None
    size_bytes: float | None = None


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds, at least and at most (None: not known), and what they are told from.

    `basis`: `between_stores` or `to_store` (what was copied lately), `canary`, or `none`.
    """

    least_seconds: float | None
    most_seconds: float | None
    basis: str

    def document(self) -> dict[str, Any]:
        return {"least_seconds": self.least_seconds, "most_seconds": self.most_seconds, "basis": self.basis}


def stretches(runs: Sequence[Run]) -> list[Stretch]:
    """Runs as stretches of work one after another: time in which nobody was at it counts for none.

    A run's work is taken for even over its time.
    """
    ends = sorted(run.ended for run in runs)
    found: list[Stretch] = []
    before = min((run.begun for run in runs), default=0.0)
    for until in [*ends[:: max(1, len(ends) // _STRETCHES)], *ends[-1:]]:
        seconds = _busy(runs, before, until)
        if seconds >= _LEAST_SECONDS:
            shares = [(_busy([run], before, until) / (run.ended - run.begun), run) for run in runs]
            count = sum(share * run.count for share, run in shares)
            found.append(Stretch(seconds, count, sum(share * run.size_bytes for share, run in shares)))
            before = until
    return found


def _busy(runs: Sequence[Run], since: float, until: float) -> float:
    """Seconds between two moments in which anybody was at work."""
    busy, reached = 0.0, since
    for run in sorted(runs, key=lambda run: run.begun):
        begun, ended = max(run.begun, reached), min(run.ended, until)
        if ended > begun:
            busy += ended - begun
            reached = ended
    return busy


def pace_of(load: Load, measured: Sequence[Stretch], *, basis: str, floor: float) -> Pace:
    """Of so much work, at the pace of these stretches, and in no less than `floor` seconds."""
    if load == Load(0, 0):
        return Pace(0.0, 0.0, basis)
    both = [
        seconds
        for one in measured
        for seconds in (_scaled(one, one.count, load.count), _scaled(one, one.size_bytes, load.size_bytes))
        if seconds is not None
    ]
    if not both:
        return Pace(floor or None, None, "none")
    return Pace(max(min(both), floor), max(max(both), floor), basis)


def _scaled(stretch: Stretch, done: float, wanted: int) -> float | None:
    """How long so much takes, if `done` took that stretch; None where it tells nothing."""
    return stretch.seconds * wanted / done if done and wanted else None


def floor_seconds(load: Load, *, source: Limits, target: Limits, part_bytes: int | None) -> float:
    """How long it takes at least with what may be asked of the stores: all is written once and read twice."""
    writes, back = write_calls(load, part_bytes)[0], read_calls(load, None)[0]
    return max(
        _at(read_calls(load, part_bytes)[0], source.requests),
        _at(load.size_bytes, source.size_bytes),
        _at(writes + back, target.requests),
        _at(2 * load.size_bytes, target.size_bytes),
    )


def _at(amount: int, per_second: float | None) -> float:
    return 0.0 if per_second is None else amount / per_second


def limits_of(tuned: Mapping[str, Any]) -> Limits:
    return Limits(tuned.get("requests_per_second"), tuned.get("bytes_per_second"))


def pace_by_canary(load: Load, canary: Mapping[str, Any], *, workers: int, floor: float) -> Pace:
    """Where nothing else was measured: from as many copies at a time as one process makes, to one at a time."""
    steps = [canary[name] for name in ("write_seconds", "read_seconds")]
    rates = [canary[name] for name in ("write_bytes_per_second", "read_bytes_per_second")]
    if None in (*steps, *rates):
        return pace_of(load, [], basis="none", floor=floor)
    alone = load.count * sum(steps) + sum(load.size_bytes / rate for rate in rates)
    return Pace(max(alone / workers, floor), max(alone, floor), "canary")
