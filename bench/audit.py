"""`audit`: what a chain of hashes costs uploads, sealed in their transaction or a moment later, against no chain.

Units of work like an upload's last one (blob, document, version, audit event) of one tenant, at 1, 16 and 64 at a time,
on an embedded server with fsync on. `in_transaction`: the tenant's head is locked last, the event hashed and numbered,
and the lock held until the commit. `sealer`: the shipped code, its sealer at work in the same process once a second.
Every ratio is a median of rounds, theirs / none in seconds: 1 costs nothing, 2 means half the uploads.
"""

from __future__ import annotations

import asyncio
import hashlib
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import UUID

from simples3dms.audit import chain, repository
from simples3dms.audit.engine import Sealer
from simples3dms.audit.service import record
from simples3dms.context import HOST
from simples3dms.db.embedded import EmbeddedPostgres
from simples3dms.db.provision import provision
from simples3dms.db.roles import LOGIN_ROLE, SEALER_ROLE
from simples3dms.db.session import Database, UnitOfWork
from simples3dms.kit.ids import new_id
from simples3dms.revisions.upgrade import upgrade

#: At a time -> units of a round.
COUNTS = {1: 300, 16: 2000, 64: 2000}
WAYS = ("none", "in_transaction", "sealer")
_DIGEST = hashlib.sha256(b"").digest()


def run(*, rounds: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="simples3dms-bench-") as name:
        directory = Path(name)
        directory.chmod(0o755)
        with EmbeddedPostgres(directory, extra_conf={"max_connections": "120"}) as server:
            urls = provision(server.superuser_dsn, directory / "credentials.json")
            upgrade(urls.owner_url, login_role=LOGIN_ROLE)
            return asyncio.run(_run(urls.app_url, rounds))


async def _run(url: str, rounds: int) -> dict[str, Any]:
    database = Database(url, pool_max=72, acquire_timeout_seconds=60)
    await database.open()
    seconds: dict[tuple[str, int], list[float]] = {(way, n): [] for way in WAYS for n in COUNTS}
    lags: list[float] = []
    try:
        for number in range(rounds):
            for at_a_time, count in COUNTS.items():
                # The one that goes first changes from round to round.
                for way in (*WAYS[number % 3 :], *WAYS[: number % 3]):
                    took, lag = await _contend(database, way, at_a_time, count)
                    seconds[way, at_a_time].append(took)
                    lags += [lag] if way == "sealer" else []
                    print(f"round {number + 1}: {way} c{at_a_time}: {took:.2f} s", file=sys.stderr, flush=True)
    finally:
        await database.close()
    summary: dict[str, Any] = {"rounds": rounds, "sealed_after_seconds": round(max(lags), 2)}
    for n, count in COUNTS.items():
        summary[f"none_c{n}_per_second"] = round(count / statistics.median(seconds["none", n]), 1)
        for way in WAYS[1:]:
            ratios = [a / b for a, b in zip(seconds[way, n], seconds["none", n], strict=True)]
            summary[f"{way}_c{n}"] = round(statistics.median(ratios), 3)
    return summary


async def _contend(database: Database, way: str, at_a_time: int, count: int) -> tuple[float, float]:
    """Seconds for the units; and, for the sealer, seconds after the last of them until all is sealed."""
    tenant_id = new_id()
    async with database.platform() as uow:
        slug = f"t-{tenant_id.hex[-12:]}"
        await uow.execute("INSERT INTO tenants (id, slug, name) VALUES (%s, %s, 'x')", [tenant_id, slug])
    sealer = Sealer(database)
    sealing = asyncio.create_task(_seal(sealer)) if way == "sealer" else None
    began = time.perf_counter()
    await _many(lambda: _unit(database, tenant_id, is_chained=way == "in_transaction"), at_a_time, count)
    ended = time.perf_counter()
    if sealing is not None:
        sealing.cancel()
        with suppress(asyncio.CancelledError):
            await sealing
        await sealer.seal(tenant_id, wait=True)
    return ended - began, time.perf_counter() - ended


async def _seal(sealer: Sealer) -> None:
    while True:
        await sealer.seal_all()
        await asyncio.sleep(1)


async def _unit(database: Database, tenant_id: UUID, *, is_chained: bool) -> None:
    blob, document = new_id(), new_id()
    async with database.tenant(tenant_id) as uow:
        await uow.execute(
            "INSERT INTO blobs (tenant_id, id, digest, size_bytes) VALUES (%s, %s, %s, 0)", [tenant_id, blob, _DIGEST]
        )
        await uow.execute(
            "INSERT INTO documents (tenant_id, id, name, version_number) VALUES (%s, %s, 'name', 1)",
            [tenant_id, document],
        )
        await uow.execute(
            "INSERT INTO versions (tenant_id, document_id, number, blob_id, content_type) VALUES (%s, %s, 1, %s, 'x')",
            [tenant_id, document, blob],
        )
        await record(
            uow,
            HOST,
            "document.uploaded",
            target_type="document",
            target_id=str(document),
            tenant_id=tenant_id,
            details={"size_bytes": 1},
        )
        if is_chained:
            await _chain(uow, document)


async def _chain(uow: UnitOfWork, document: UUID) -> None:
    """What sealing in the transaction would be: lock the head, hash, number, move the head."""
    assert uow.tenant_id is not None
    await uow.execute("SELECT set_config('role', %s, true)", [SEALER_ROLE])
    if await repository.find_head(uow) is None:
        await repository.ensure_head(uow)
    head = await repository.lock_head(uow, wait=True)
    assert head is not None
    # One's own event, and not those of others, which are sealed by their own units.
    (event,) = [one for one in await repository.list_unsealed(uow, limit=1000) if one.target_id == str(document)]
    seq = head.seq + 1
    found = chain.link(head.hash, seq, uow.tenant_id, chain.canonical(chain.event_document(event)))
    await repository.seal(uow, [event.id], [seq], [found])
    await repository.advance_head(uow, head, seq=seq, hash_=found)


async def _many(act: Callable[[], Awaitable[None]], at_a_time: int, count: int) -> None:
    left = iter(range(count))

    async def worker() -> None:
        for _ in left:
            await act()

    await asyncio.gather(*(worker() for _ in range(at_a_time)))
