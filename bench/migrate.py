"""`migrate`: a tenant's objects from one SeaweedFS to another, against `rclone copy` of the same objects.

Both move the same bytes between the same two servers, in turn, round by round. Ours includes the records, the
read-back of every object and the proof (from `start` to `ready`, two worker processes); rclone's is one process with
32 transfers and 32 checkers and no read-back. What a round wrote is removed, untimed, before the next.
"""

from __future__ import annotations

import asyncio
import os
import resource
import secrets
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import psutil

from simples3dms.bootstrap import Services, build_services
from simples3dms.context import HOST
from simples3dms.documents.values import UploadRequest
from simples3dms.kit.secret import Secret
from simples3dms.revisions.schema import ensure_schema
from simples3dms.sandbox.processes import ServerProcess
from simples3dms.sandbox.seaweedfs import SeaweedServer
from simples3dms.settings import Settings

SMALL = (3000, 16 * 1024)
LARGE = (4, 256 * 1024 * 1024)
WORKERS = 2
LONGEST_ROUND_SECONDS = 900


@dataclass
class Measured:
    """One contender's rounds for one size."""

    seconds: list[float] = field(default_factory=list)
    cpu_seconds: list[float] = field(default_factory=list)

    def summary(self, count: int, size: int) -> dict[str, float]:
        wall = statistics.median(self.seconds)
        return {
            "seconds": round(wall, 3),
            "objects_per_second": round(count / wall, 1),
            "mb_per_second": round(count * size / wall / 1e6, 1),
            "cpu_seconds": round(statistics.median(self.cpu_seconds), 2),
        }


def run(*, rounds: int) -> dict[str, Any]:
    return asyncio.run(_run(rounds))


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


async def _run(rounds: int) -> dict[str, Any]:
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="simples3dms-bench-")))
        directory.chmod(0o755)
        source = stack.enter_context(SeaweedServer(directory / "source"))
        target = stack.enter_context(SeaweedServer(directory / "target", buckets=("docs", "rclone")))
        os.environ.update({"SIMPLES3DMS_DATA_DIR": str(directory / "var"), "SIMPLES3DMS_LOG_LEVEL": "warning"})
        services = await asyncio.to_thread(build_services, Settings())
        await asyncio.to_thread(ensure_schema, services)
        await services.open()
        try:
            for name, server in (("source", source), ("target", target)):
                await services.stores.add_store(
                    HOST,
                    name,
                    "s3",
                    {"endpoint": server.endpoint, "region": server.region, "bucket": "docs"},
                    {"access_key_id": server.access_key, "secret_access_key": Secret(server.secret_key)},
                )
            tenants = {
                "small": await _seed(services, "small", *SMALL),
                "large": await _seed(services, "large", *LARGE),
            }
            workers = [stack.enter_context(_worker(directory / f"worker-{n}.log")) for n in range(WORKERS)]
            results = {(who, size): Measured() for who in ("ours", "rclone") for size in ("small", "large")}
            for number in range(rounds):
                for size, tenant_id in tenants.items():
                    _say(f"round {number + 1}: {size}")
                    contenders: list[tuple[str, Callable[[], Awaitable[tuple[float, float]]]]] = [
                        ("rclone", partial(asyncio.to_thread, _rclone, directory, source, target, tenant_id)),
                        ("ours", partial(_ours, services, workers, tenant_id)),
                    ]
                    # The one that goes first changes from round to round.
                    for who, contend in contenders[:: 1 if number % 2 == 0 else -1]:
                        seconds, cpu = await contend()
                        results[who, size].seconds.append(seconds)
                        results[who, size].cpu_seconds.append(cpu)
                        _say(f"  {who}: {seconds:.2f} s, {cpu:.2f} CPU s")
        finally:
            await services.close()
    return _compare(results, rounds)


def _compare(results: dict[tuple[str, str], Measured], rounds: int) -> dict[str, Any]:
    summary: dict[str, Any] = {"rounds": rounds}
    for size, (count, size_bytes) in (("small", SMALL), ("large", LARGE)):
        ours = results["ours", size]
        rclone = results["rclone", size]
        ratios = [theirs / mine for theirs, mine in zip(rclone.seconds, ours.seconds, strict=True)]
        summary[f"{size}_vs_rclone"] = round(statistics.median(ratios), 3)
        summary[size] = {
            "count": count,
            "size_bytes": size_bytes,
            "ours": ours.summary(count, size_bytes),
            "rclone": rclone.summary(count, size_bytes),
        }
    return summary


async def _seed(services: Services, slug: str, count: int, size: int) -> UUID:
    _say(f"seeding {count} x {size} bytes")
    tenant = await services.tenants.create_tenant(HOST, slug, slug)
    for store in ("source", "target"):
        await services.stores.grant_store(HOST, tenant.id, store)
    await services.placements.set_placement(HOST, tenant.id, write="source", copies=[], read=[])
    slots = asyncio.Semaphore(8)

    async def body() -> AsyncIterator[bytes]:
        left = size
        while left:
            block = secrets.token_bytes(min(left, 1024 * 1024))
            left -= len(block)
            yield block

    async def one(number: int) -> None:
        async with slots:
            request = UploadRequest(f"{slug}-{number}", "application/octet-stream", size_bytes=size)
            await services.uploads.upload(HOST, tenant.id, request, body())

    await asyncio.gather(*(one(number) for number in range(count)))
    return tenant.id


@contextmanager
def _worker(log: Path) -> Iterator[psutil.Process]:
    """One `simples3dms worker` process, which ends with this one whatever this one ends of."""
    started = ServerProcess([sys.executable, "-m", "simples3dms", "worker"], log)
    process = psutil.Process(started.pid)
    try:
        yield process
    finally:
        process.terminate()
        started.wait_until(lambda: False, seconds=30)
        started.kill()


def _cpu(processes: list[psutil.Process]) -> float:
    return sum((times.user + times.system for times in (process.cpu_times() for process in processes)), 0.0)


async def _ours(services: Services, workers: list[psutil.Process], tenant_id: UUID) -> tuple[float, float]:
    """From `start` to `ready`; then, untimed, rolled back, which removes what was copied."""
    planned = await services.migrations.plan_migration(HOST, tenant_id, target="target")
    before, began = _cpu(workers), time.monotonic()
    await services.migrations.start_migration(HOST, tenant_id, planned.id)
    await _reach(services, tenant_id, planned.id, "ready")
    seconds, cpu = time.monotonic() - began, _cpu(workers) - before
    await services.migrations.roll_back(HOST, tenant_id, planned.id)
    await _reach(services, tenant_id, planned.id, "rolled_back")
    return seconds, cpu


async def _reach(services: Services, tenant_id: UUID, migration_id: UUID, state: str) -> None:
    async with asyncio.timeout(LONGEST_ROUND_SECONDS):
        while True:
            migration = await services.migrations.get_migration(tenant_id, migration_id)
            if migration.state == state:
                return
            if migration.state == "failed" or migration.failed_count:
                raise RuntimeError(f"the migration failed: {migration.error_message}")
            await asyncio.sleep(0.05)


def _rclone(directory: Path, source: SeaweedServer, target: SeaweedServer, tenant_id: UUID) -> tuple[float, float]:
    config = directory / "rclone.conf"
    config.write_text(_remote("a", source) + _remote("b", target))
    config.chmod(0o600)
    flags = ["--config", str(config), "--transfers", "32", "--checkers", "32", "--server-side-across-configs=false"]
    place = f"t/{tenant_id}/"
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.monotonic()
    # Server-side copy does not arise between two servers; it is off all the same, and so is rclone's own listing ahead.
    subprocess.run([_binary(), "copy", f"a:docs/{place}", f"b:rclone/{place}", *flags, "--no-traverse"], check=True)
    seconds = time.monotonic() - began
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = (after.ru_utime + after.ru_stime) - (before.ru_utime + before.ru_stime)
    listed = subprocess.run(
        [_binary(), "lsf", "-R", "--files-only", f"b:rclone/{place}", *flags],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.splitlines()
    if len(listed) not in (SMALL[0], LARGE[0]):
        raise RuntimeError(f"rclone copied {len(listed)} objects")
    subprocess.run([_binary(), "delete", f"b:rclone/{place}", *flags], check=True)
    return seconds, cpu


def _binary() -> str:
    return str(Path(sys.executable).with_name("rclone"))


def _remote(name: str, server: SeaweedServer) -> str:
    return (
        f"[{name}]\ntype = s3\nprovider = SeaweedFS\nendpoint = {server.endpoint}\nregion = {server.region}\n"
        f"access_key_id = {server.access_key}\nsecret_access_key = {server.secret_key}\nforce_path_style = true\n\n"
    )
