"""`reads`: how long people wait for what they read while their tenant is being moved, against without.

A real server process and two workers, between two SeaweedFS. Documents are read over HTTP at a steady rate, from before
the move until some time into it; the move goes on beneath, with the throttle as it is by default and, for comparison,
without one. Ratios are of the 95th percentiles of one round; what is told is the rounds' medians.
"""

from __future__ import annotations

import asyncio
import os
import random
import socket
import statistics
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import httpx

from bench.moving import Ground, Line, ground, say, workers
from simples3dms.context import HOST
from simples3dms.crypto.tokens import hash_token, new_token
from simples3dms.kit.ids import new_id
from simples3dms.sandbox.processes import ServerProcess

COUNT = 20_000
SIZE_BYTES = 16 * 1024
PER_SECOND = 40
WORKERS = 2
_START_SECONDS = 120
#: What is measured on each side, after what is let pass before.
_SECONDS, _SETTLING_SECONDS = 14.0, 4.0
_WAYS = {"throttled": {}, "unthrottled": {"SIMPLES3DMS_MOST_SLOWDOWN": "0"}}


@dataclass
class Readers:
    """People who read at a steady rate, whatever the answers take."""

    url: str
    token: str
    documents: list[UUID]
    seconds: list[float] = field(default_factory=list)

    async def run(self, *, seconds: float) -> None:
        """Read for so long, and keep how long each read took. Raises for an answer that is none."""
        draw = random.Random(len(self.seconds))
        headers = {"Authorization": f"Bearer {self.token}"}
        async with httpx.AsyncClient(base_url=self.url, headers=headers, trust_env=False, timeout=60) as http:
            running: list[asyncio.Task[None]] = []
            begun = time.monotonic()
            for number in range(int(seconds * PER_SECOND)):
                await asyncio.sleep(max(0.0, begun + number / PER_SECOND - time.monotonic()))
                running.append(asyncio.create_task(self._read(http, draw.choice(self.documents))))
            await asyncio.gather(*running)

    async def _read(self, http: httpx.AsyncClient, document: UUID) -> None:
        begun = time.monotonic()
        answer = await http.get(f"/api/v1/tenants/reads/documents/{document}/content")
        if answer.status_code != 200 or len(answer.content) != SIZE_BYTES:
            raise RuntimeError(f"{answer.status_code} {answer.text[:200]}")
        self.seconds.append(time.monotonic() - begun)

    async def p95(self) -> float:
        await self.run(seconds=_SETTLING_SECONDS)
        self.seconds.clear()
        await self.run(seconds=_SECONDS)
        return statistics.quantiles(self.seconds, n=100)[94]


def run(*, rounds: int) -> dict[str, Any]:
    return asyncio.run(_run(rounds))


async def _run(rounds: int) -> dict[str, Any]:
    ratios: dict[str, list[float]] = {way: [] for way in _WAYS}
    rates: dict[str, list[float]] = {way: [] for way in _WAYS}
    alone: list[float] = []
    async with ground() as place:
        near = Line("near", place.source.endpoint, place.target.endpoint)
        await place.add_stores(near)
        tenant_id = await place.seed("reads", near, COUNT, SIZE_BYTES)
        async with _served(place, tenant_id) as readers:
            for number in range(rounds):
                for way in _WAYS if number % 2 == 0 else reversed(_WAYS):
                    without = await readers.p95()
                    with workers(place.directory, WORKERS, os.environ | _WAYS[way]):
                        during, rate = await _beside(place, tenant_id, near, readers)
                    alone.append(without)
                    ratios[way].append(during / without)
                    rates[way].append(rate)
                    say(
                        f"round {number + 1}, {way}: p95 {without * 1000:.1f} ms alone, {during * 1000:.1f} ms beside "
                        f"{rate:.0f} copies/s"
                    )
    return {
        "rounds": rounds,
        "reads_p95_ratio": round(statistics.median(ratios["throttled"]), 3),
        "reads_p95_ratio_unthrottled": round(statistics.median(ratios["unthrottled"]), 3),
        "copies_per_second": {way: round(statistics.median(found), 1) for way, found in rates.items()},
        "reads_per_second": PER_SECOND,
        "p95_alone_ms": round(statistics.median(alone) * 1000, 2),
    }


async def _beside(place: Ground, tenant_id: UUID, line: Line, readers: Readers) -> tuple[float, float]:
    """The 95th percentile beside a move that is under way all the time, and how many objects a second it copied."""
    migrations = place.services.migrations
    planned = await migrations.plan_migration(HOST, tenant_id, target=f"{line.name}-target")
    await migrations.start_migration(HOST, tenant_id, planned.id)
    async with asyncio.timeout(_START_SECONDS):
        while (await migrations.get_migration(tenant_id, planned.id)).copied_count == 0:
            await asyncio.sleep(0.05)
    begun = time.monotonic()
    found = await readers.p95()
    seconds = time.monotonic() - begun
    after = await migrations.get_migration(tenant_id, planned.id)
    if after.state != "copying":
        raise RuntimeError(f"the move was {after.state} before the reads were over: give it more documents")
    await migrations.roll_back(HOST, tenant_id, planned.id)
    await place.reach(tenant_id, planned.id, "rolled_back")
    return found, after.copied_count / seconds


@asynccontextmanager
async def _served(place: Ground, tenant_id: UUID) -> AsyncIterator[Readers]:
    """A server without a worker, and somebody who may read there."""
    token, user_id = new_token(), new_id()
    async with place.services.database.platform() as uow:
        await uow.execute(
            "INSERT INTO users (id, email, password_hash) VALUES (%s, 'r@example.org', 'none')", [user_id]
        )
        await uow.execute(
            "INSERT INTO members (tenant_id, user_id, role) VALUES (%s, %s, 'viewer')", [tenant_id, user_id]
        )
        await uow.execute(
            "INSERT INTO api_tokens (id, user_id, name, token_hash) VALUES (%s, %s, 'bench', %s)",
            [new_id(), user_id, hash_token(token)],
        )
    documents = [one.id for one in await place.services.documents.list_documents(tenant_id, limit=1000)]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "simples3dms", "serve", "--no-worker", "--port", str(port)]
    server, url = ServerProcess(command, place.directory / "server.log"), f"http://127.0.0.1:{port}"
    try:
        async with asyncio.timeout(_START_SECONDS), httpx.AsyncClient(trust_env=False) as http:
            while True:
                try:
                    if (await http.get(f"{url}/readyz")).is_success:
                        break
                except httpx.TransportError:
                    await asyncio.sleep(0.2)
        yield Readers(url, token.reveal(), documents)
    finally:
        server.kill()
