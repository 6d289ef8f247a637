"""`catalogue`: what a migration costs by the size of the catalogue alone: 10,000 blobs against a million.

The blobs are records only, each with a proven replica at both stores: everything but the copying is done (planning,
chunks, what is owed, proof), by one worker process whose memory is watched. `plan_ratio` and `look_ratio` say how many
times as long the plan and a look at the progress take with a hundred times as many blobs.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from typing import Any
from uuid import UUID

import psutil

from bench.moving import Ground, Line, ground, say, workers
from simples3dms.context import HOST

COUNTS = {"10k": 10_000, "1m": 1_000_000}
_PAGE = 100_000
_BLOB = "('{front}-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid"


def run(*, rounds: int) -> dict[str, Any]:
    return asyncio.run(_run(rounds))


async def _run(rounds: int) -> dict[str, Any]:
    summary: dict[str, Any] = {"rounds": rounds}
    async with ground() as place:
        near = Line("near", place.source.endpoint, place.target.endpoint)
        await place.add_stores(near)
        tenants = {name: await _seed(place, near, name, count) for name, count in COUNTS.items()}
        migrations = place.services.migrations
        plans: dict[str, list[float]] = {name: [] for name in tenants}
        looks: dict[str, list[float]] = {name: [] for name in tenants}
        for _ in range(rounds):
            for name, tenant_id in tenants.items():
                began = time.monotonic()
                planned = await migrations.plan_migration(HOST, tenant_id, target="near-target")
                plans[name].append(time.monotonic() - began)
                began = time.monotonic()
                await migrations.get_migration(tenant_id, planned.id)
                looks[name].append(time.monotonic() - began)
                await migrations.cancel_migration(HOST, tenant_id, planned.id)
        for name, tenant_id in tenants.items():
            with workers(place.directory, 1) as (worker,):
                seconds, rss_mib = await _move(place, tenant_id, worker)
            say(f"{name}: ready after {seconds:.1f} s, worker at most {rss_mib:.0f} MiB")
            summary[f"rss_mib_{name}"] = round(rss_mib, 1)
            summary[f"blobs_per_second_{name}"] = round(COUNTS[name] / seconds, 1)
    for what, measured in (("plan", plans), ("look", looks)):
        medians = {name: statistics.median(seconds) for name, seconds in measured.items()}
        summary[f"{what}_ratio"] = round(medians["1m"] / medians["10k"], 3)
        summary[f"{what}_seconds"] = {name: round(seconds, 4) for name, seconds in medians.items()}
    return summary


async def _seed(place: Ground, line: Line, slug: str, count: int) -> UUID:
    say(f"recording {count:,} blobs")
    services = place.services
    tenant = await services.tenants.create_tenant(HOST, f"t-{slug}", slug)
    for name in ("source", "target"):
        await services.stores.grant_store(HOST, tenant.id, f"{line.name}-{name}")
    await services.placements.set_placement(HOST, tenant.id, write=f"{line.name}-source", copies=[], read=[])
    for first in range(1, count + 1, _PAGE):
        last = min(first + _PAGE - 1, count)
        async with services.database.tenant(tenant.id) as uow:
            await uow.execute(
                f"""INSERT INTO blobs (tenant_id, id, digest, size_bytes)
                    SELECT %s, {_BLOB.format(front="0b10b000")}, sha256(int8send(n)), 16384
                    FROM generate_series(%s::bigint, %s) n""",
                [tenant.id, first, last],
            )
            for number, name in enumerate(("source", "target")):
                await uow.execute(
                    f"""INSERT INTO replicas (tenant_id, id, blob_id, store_id, key, state, evidence, evidence_at)
                        SELECT g.tenant_id, {_BLOB.format(front=f"0ca5e00{number}")},
                          {_BLOB.format(front="0b10b000")}, g.store_id, g.prefix || n, 'live', 'read-back', now()
                        FROM store_grants g JOIN stores s ON s.id = g.store_id AND s.name = %s,
                          generate_series(%s::bigint, %s) n
                        WHERE g.tenant_id = %s""",
                    [f"{line.name}-{name}", first, last, tenant.id],
                )
    return tenant.id


async def _move(place: Ground, tenant_id: UUID, worker: psutil.Process) -> tuple[float, float]:
    """From `start` to `ready`; the most memory that the worker took meanwhile."""
    migrations = place.services.migrations
    planned = await migrations.plan_migration(HOST, tenant_id, target="near-target")
    began, most = time.monotonic(), 0.0
    await migrations.start_migration(HOST, tenant_id, planned.id)
    while (await migrations.get_migration(tenant_id, planned.id)).state != "ready":
        most = max(most, worker.memory_info().rss / 2**20)
        await asyncio.sleep(0.1)
    return time.monotonic() - began, most
