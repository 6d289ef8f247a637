"""`auth`: what knowing who asks, and what they may, costs a request: 100 tenants of 20 members, against an open route.

A real server process, a few requests at a time, in batches that take turns: `GET /api/v1/tenants/{tenant}`, which does
nothing but ask (whose token, which tenant, what role) and show the tenant, and an open route that shows one to anybody.
CPU seconds are the server process's own, a batch's divided by its requests; medians over all batches of all rounds.
"""

from __future__ import annotations

import asyncio
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import psutil

from simples3dms.bootstrap import DatabaseServer
from simples3dms.crypto.tokens import hash_token, new_token
from simples3dms.db.session import Database
from simples3dms.identity.values import Role
from simples3dms.kit.ids import new_id
from simples3dms.settings import Settings

TENANTS, MEMBERS = 100, 20
_BATCH, _AT_A_TIME = 400, 8
_BATCHES_PER_ROUND = 6
_START_SECONDS = 120


def run(*, rounds: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="simples3dms-bench-") as name:
        directory = Path(name)
        directory.chmod(0o755)
        with _served(directory) as (url, process):
            seats = asyncio.run(_fill(directory))
            return _contend(url, process, seats, rounds)


@contextmanager
def _served(directory: Path) -> Iterator[tuple[str, psutil.Process]]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "bench.auth_server", str(directory), str(port)]
    log = (directory / "server.log").open("wb")
    started = subprocess.Popen(command, env={"PATH": "/usr/bin:/bin"}, stdout=log, stderr=log)
    try:
        url = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + _START_SECONDS
        while True:
            try:
                if httpx.get(f"{url}/readyz", trust_env=False).is_success:
                    break
            except httpx.TransportError:
                if time.monotonic() > deadline or started.poll() is not None:
                    raise
            time.sleep(0.2)
        yield url, psutil.Process(started.pid)
    finally:
        started.terminate()
        started.wait(60)
        log.close()


async def _fill(directory: Path) -> list[tuple[str, str]]:
    """Tenants and members, each with a token; (tenant, token) of all of them."""
    server = DatabaseServer(Settings(data_dir=directory / "var"))
    urls = await asyncio.to_thread(server.start)
    database = Database(urls.app_url)
    await database.open()
    roles = cycle(Role)
    seats = []
    try:
        for number in range(TENANTS):
            tenant_id, slug = new_id(), f"tenant-{number}"
            async with database.platform() as uow:
                await uow.execute("INSERT INTO tenants (id, slug, name) VALUES (%s, %s, %s)", [tenant_id, slug, slug])
                for place in range(MEMBERS):
                    user_id: UUID = new_id()
                    token = new_token()
                    await uow.execute(
                        "INSERT INTO users (id, email, password_hash) VALUES (%s, %s, 'none')",
                        [user_id, f"m{place}@{slug}.example"],
                    )
                    await uow.execute(
                        "INSERT INTO members (tenant_id, user_id, role) VALUES (%s, %s, %s)",
                        [tenant_id, user_id, next(roles)],
                    )
                    await uow.execute(
                        "INSERT INTO api_tokens (id, user_id, name, token_hash) VALUES (%s, %s, 'bench', %s)",
                        [new_id(), user_id, hash_token(token)],
                    )
                    seats.append((slug, token.reveal()))
    finally:
        await database.close()
        await asyncio.to_thread(server.stop)
    return seats


def _contend(url: str, process: psutil.Process, seats: list[tuple[str, str]], rounds: int) -> dict[str, Any]:
    spent: dict[str, list[float]] = {"open": [], "checked": []}
    draw = random.Random(4)
    for _ in range(rounds * _BATCHES_PER_ROUND):
        for way, found in spent.items():
            asked = draw.choices(seats, k=_BATCH)
            begun = _cpu(process)
            asyncio.run(_ask_all(url, [_head(way, *seat) for seat in asked]))
            found.append((_cpu(process) - begun) / _BATCH * 1000)
    open_ms, checked_ms = (statistics.median(spent[way]) for way in ("open", "checked"))
    return {
        "tenants": TENANTS,
        "members": TENANTS * MEMBERS,
        "requests": rounds * _BATCHES_PER_ROUND * _BATCH,
        "open_cpu_ms": round(open_ms, 3),
        "checked_cpu_ms": round(checked_ms, 3),
        "added_cpu_ms": round(checked_ms - open_ms, 3),
        "checked_vs_open": round(checked_ms / open_ms, 2),
    }


def _head(way: str, slug: str, token: str) -> bytes:
    if way == "open":
        return f"GET /open/{slug} HTTP/1.1\r\nHost: bench\r\n\r\n".encode()
    return f"GET /api/v1/tenants/{slug} HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {token}\r\n\r\n".encode()


async def _ask_all(url: str, heads: list[bytes]) -> None:
    """Over a few connections that are kept. By hand: a client library takes longer than the server."""
    host, port = url.removeprefix("http://").split(":")

    async def ask(mine: list[bytes]) -> None:
        reader, writer = await asyncio.open_connection(host, int(port))
        for head in mine:
            writer.write(head)
            answer = (await reader.readuntil(b"\r\n\r\n")).lower()
            body = await reader.readexactly(int(answer.partition(b"content-length: ")[2].partition(b"\r\n")[0]))
            if not answer.startswith(b"http/1.1 200 "):
                raise RuntimeError(body.decode())
        writer.close()

    await asyncio.gather(*(ask(heads[number::_AT_A_TIME]) for number in range(_AT_A_TIME)))


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)
