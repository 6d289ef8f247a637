"""`workers`: what more worker processes bring: 20 ms before both stores, at most 8 copies at once in each process.

The same tenant is moved by one process and by four, in turn, from `start` to `ready`. `speedup_4` is how many times as
fast four are: with a perfect division of the work, 4.
"""

from __future__ import annotations

import asyncio
import statistics
from typing import Any

import psycopg

from bench.migrate import LATENCY_SECONDS
from bench.moving import Ground, ground, lines, say, workers
from simples3dms.db.roles import QUEUE_ROLE

COUNT = 2000
SIZE_BYTES = 16 * 1024
AT_ONCE = 8
_START_SECONDS = 60
_WORKERS = "SELECT count(*) FROM procrastinate_workers"


def run(*, rounds: int) -> dict[str, Any]:
    return asyncio.run(_run(rounds))


async def _run(rounds: int) -> dict[str, Any]:
    seconds: dict[int, list[float]] = {1: [], 4: []}
    async with ground({"SIMPLES3DMS_COPY_CONCURRENCY": str(AT_ONCE)}) as place:
        with lines(place.source, place.target, LATENCY_SECONDS) as (_, far):
            await place.add_stores(far)
            tenant_id = await place.seed("workers", far, COUNT, SIZE_BYTES)
            for number in range(rounds):
                for count in (1, 4) if number % 2 == 0 else (4, 1):
                    with workers(place.directory, count) as processes:
                        await _ready(place, count)
                        spent = await place.ours(tenant_id, far, processes)
                    seconds[count].append(spent.seconds)
                    say(f"round {number + 1}: {count} worker(s): {spent.seconds:.2f} s, {spent.cpu_seconds:.2f} CPU s")
    one, four = (statistics.median(seconds[count]) for count in (1, 4))
    return {
        "rounds": rounds,
        "speedup_4": round(one / four, 3),
        "count": COUNT,
        "objects_per_second": {"1": round(COUNT / one, 1), "4": round(COUNT / four, 1)},
    }


async def _ready(place: Ground, count: int) -> None:
    """Wait until so many workers wait for jobs: how long Python takes to start is not what is measured."""
    connection = await psycopg.AsyncConnection.connect(
        place.services.urls.app_url, autocommit=True, options=f"-c role={QUEUE_ROLE}"
    )
    async with asyncio.timeout(_START_SECONDS), connection:
        # Those of the turn before have taken their leave.
        while (await (await connection.execute(_WORKERS)).fetchone()) != (count,):
            await asyncio.sleep(0.1)
