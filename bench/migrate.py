"""`migrate`: a tenant's objects from one SeaweedFS to another, against `rclone copy` and a loop over bare obstore.

Everybody moves the same bytes between the same two servers, in turn, round by round, each rival at the concurrency
that served it best in a trial before. Ours includes the records, the read-back of every object and the proof (from
`start` to `ready`, two worker processes). What a turn wrote is removed, untimed, before the next.

Parts: `small` (many little objects), `large` (few great ones), `far` (little ones, with latency before each server).
"""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from uuid import UUID

import psutil

from bench.moving import Ground, Line, Spent, ground, lines, say, workers

LATENCY_SECONDS = 0.02
WORKERS = 2
_WHOLE_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True)
class Size:
    """What is moved, and at which concurrencies the rivals try themselves."""

    count: int
    size_bytes: int
    transfers: tuple[int, ...]
    concurrencies: tuple[int, ...]
    is_far: bool = False


SIZES = {
    "small": Size(5000, 16 * 1024, (4, 16, 32, 64), (16, 32, 64)),
    "large": Size(4, 512 * 1024 * 1024, (4, 16, 32, 64), (2, 4)),
    "far": Size(3000, 16 * 1024, (4, 16, 32, 64), (64, 128), is_far=True),
}


@dataclass
class Measured:
    """One contender's turns at one size."""

    at: int | None
    spent: list[Spent] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        return statistics.median(one.seconds for one in self.spent)

    @property
    def cpu_seconds(self) -> float:
        return statistics.median(one.cpu_seconds for one in self.spent)

    def summary(self, size: Size) -> dict[str, float | None]:
        moved = size.count * size.size_bytes
        return {
            "concurrency": self.at,
            "seconds": round(self.seconds, 3),
            "objects_per_second": round(size.count / self.seconds, 1),
            "mib_per_second": round(moved / self.seconds / 2**20, 1),
            "cpu_seconds_per_1000": round(self.cpu_seconds / size.count * 1000, 3),
            "cpu_seconds_per_gib": round(self.cpu_seconds / moved * 2**30, 3),
        }


def run(*, rounds: int, parts: Sequence[str] = ()) -> dict[str, Any]:
    return asyncio.run(_run(rounds, parts or tuple(SIZES)))


async def _run(rounds: int, parts: Sequence[str]) -> dict[str, Any]:
    summary: dict[str, Any] = {"rounds": rounds}
    async with ground() as place:
        with lines(place.source, place.target, LATENCY_SECONDS) as (near, far):
            for line in (near, far):
                await place.add_stores(line)
            with workers(place.directory, WORKERS) as ours:
                for part in parts:
                    size = SIZES[part]
                    summary |= await _contend(part, size, place, far if size.is_far else near, ours, rounds)
    return summary


async def _contend(
    part: str, size: Size, place: Ground, line: Line, ours: list[psutil.Process], rounds: int
) -> dict[str, Any]:
    tenant_id = await place.seed(part, line, size.count, size.size_bytes)
    rclone, bare = _rivals(place, tenant_id, line, size)
    results = {
        "rclone": Measured(await _best(f"{part}: rclone", rclone, size.transfers)),
        "bare": Measured(await _best(f"{part}: bare", bare, size.concurrencies)),
        "ours": Measured(None),
    }
    turns: list[tuple[str, Callable[[], Awaitable[Spent]]]] = [
        ("rclone", partial(rclone, results["rclone"].at or 1)),
        ("ours", partial(place.ours, tenant_id, line, ours)),
        ("bare", partial(bare, results["bare"].at or 1)),
    ]
    for number in range(rounds):
        # The one that goes first changes from round to round.
        for who, turn in turns[number % 3 :] + turns[: number % 3]:
            spent = await turn()
            results[who].spent.append(spent)
            say(f"{part}, round {number + 1}: {who}: {spent.seconds:.2f} s, {spent.cpu_seconds:.2f} CPU s")
    return {
        f"{part}_vs_rclone": _ratio(results["rclone"], results["ours"]),
        f"{part}_vs_bare": _ratio(results["bare"], results["ours"]),
        f"cpu_{part}_vs_rclone": round(results["ours"].cpu_seconds / results["rclone"].cpu_seconds, 3),
        part: {who: measured.summary(size) for who, measured in results.items()},
    }


Rival = Callable[[int], Awaitable[Spent]]


def _rivals(place: Ground, tenant_id: UUID, line: Line, size: Size) -> tuple[Rival, Rival]:
    async def rclone(transfers: int) -> Spent:
        return await asyncio.to_thread(place.rclone, tenant_id, line, size.count, transfers=transfers)

    async def bare(concurrency: int) -> Spent:
        return await asyncio.to_thread(
            place.bare, tenant_id, line, size.count, concurrency=concurrency, whole_bytes=_WHOLE_BYTES
        )

    return rclone, bare


async def _best(name: str, rival: Rival, levels: Sequence[int]) -> int:
    tried: dict[int, float] = {}
    for level in levels:
        tried[level] = (await rival(level)).seconds
        say(f"{name} at {level}: {tried[level]:.2f} s")
    return min(tried, key=lambda level: tried[level])


def _ratio(theirs: Measured, ours: Measured) -> float:
    """How many times as fast as theirs ours is, round by round: the median."""
    pairs = zip(theirs.spent, ours.spent, strict=True)
    return round(statistics.median(them.seconds / us.seconds for them, us in pairs), 3)
