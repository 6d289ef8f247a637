"""What the benchmarks of migrations share: an installation between two SeaweedFS servers, and its rivals."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import psutil

from bench.delay import delayed
from simples3dms.bootstrap import Services, build_services
from simples3dms.context import HOST
from simples3dms.documents.values import UploadRequest
from simples3dms.kit.secret import Secret
from simples3dms.revisions.schema import ensure_schema
from simples3dms.sandbox.ports import LOOPBACK
from simples3dms.sandbox.processes import ServerProcess
from simples3dms.sandbox.seaweedfs import SeaweedServer
from simples3dms.settings import Settings

LONGEST_ROUND_SECONDS = 900
_SEEDING = 8
_BLOCK_BYTES = 1024 * 1024


@dataclass(frozen=True)
class Spent:
    """One move: how long it took, and the CPU time of those who moved (not the servers' nor the database's)."""

    seconds: float
    cpu_seconds: float


@dataclass(frozen=True)
class Line:
    """The two servers as they are reached: near, or over a line with latency."""

    name: str
    source_url: str
    target_url: str


@dataclass
class Ground:
    """An installation with a source and a target for each line, and whoever else moves between the same two servers."""

    directory: Path
    services: Services
    source: SeaweedServer
    target: SeaweedServer

    async def add_stores(self, line: Line) -> None:
        for name, server, url in (("source", self.source, line.source_url), ("target", self.target, line.target_url)):
            await self.services.stores.add_store(
                HOST,
                f"{line.name}-{name}",
                "s3",
                {"endpoint": url, "region": server.region, "bucket": "docs"},
                {"access_key_id": server.access_key, "secret_access_key": Secret(server.secret_key)},
            )

    async def seed(self, slug: str, line: Line, count: int, size: int) -> UUID:
        """A tenant with documents at the line's source, uploaded like anybody's."""
        say(f"seeding {count:,} x {size:,} bytes")
        tenant = await self.services.tenants.create_tenant(HOST, slug, slug)
        for store in ("source", "target"):
            await self.services.stores.grant_store(HOST, tenant.id, f"{line.name}-{store}")
        await self.services.placements.set_placement(HOST, tenant.id, write=f"{line.name}-source", copies=[], read=[])
        slots = asyncio.Semaphore(_SEEDING)

        async def body() -> AsyncIterator[bytes]:
            left = size
            while left:
                block = secrets.token_bytes(min(left, _BLOCK_BYTES))
                left -= len(block)
                yield block

        async def one(number: int) -> None:
            async with slots:
                request = UploadRequest(f"{slug}-{number}", "application/octet-stream", size_bytes=size)
                await self.services.uploads.upload(HOST, tenant.id, request, body())

        await asyncio.gather(*(one(number) for number in range(count)))
        return tenant.id

    async def ours(self, tenant_id: UUID, line: Line, workers: list[psutil.Process]) -> Spent:
        """From `start` to `ready`: copied, read back, recorded and proven. Then, untimed, rolled back and removed."""
        migrations = self.services.migrations
        planned = await migrations.plan_migration(HOST, tenant_id, target=f"{line.name}-target")
        before, began = _cpu(workers), time.monotonic()
        await migrations.start_migration(HOST, tenant_id, planned.id)
        await self.reach(tenant_id, planned.id, "ready")
        spent = Spent(time.monotonic() - began, _cpu(workers) - before)
        await migrations.roll_back(HOST, tenant_id, planned.id)
        await self.reach(tenant_id, planned.id, "rolled_back")
        await asyncio.to_thread(self.target.reclaim)
        return spent

    async def reach(self, tenant_id: UUID, migration_id: UUID, state: str) -> None:
        async with asyncio.timeout(LONGEST_ROUND_SECONDS):
            while True:
                migration = await self.services.migrations.get_migration(tenant_id, migration_id)
                if migration.state == state:
                    return
                if migration.state == "failed" or migration.failed_count:
                    raise RuntimeError(f"the migration failed: {migration.error_message}")
                await asyncio.sleep(0.02)

    def rclone(self, tenant_id: UUID, line: Line, count: int, *, transfers: int) -> Spent:
        """`rclone copy`, which compares what the servers say of their objects and reads nothing back."""
        config = self.directory / "rclone.conf"
        config.write_text(_remote("a", self.source, line.source_url) + _remote("b", self.target, line.target_url))
        config.chmod(0o600)
        flags = ["--config", str(config), "--transfers", str(transfers), "--checkers", str(max(8, transfers))]
        place = f"t/{tenant_id}/"
        # Nothing lies at the target yet: without its look at what is there, rclone is faster.
        command = [_rclone(), "copy", f"a:docs/{place}", f"b:rclone/{place}", *flags, "--no-traverse"]
        spent = _timed(lambda: subprocess.run(command, check=True))
        self._clear("rclone", place, count)
        return spent

    def bare(self, tenant_id: UUID, line: Line, count: int, *, concurrency: int, whole_bytes: int) -> Spent:
        """A loop over bare obstore, which gets, hashes and puts: what is left when everything else is taken away."""
        place = f"t/{tenant_id}/"
        order = {
            "source": _obstore(self.source, line.source_url, "docs"),
            "target": _obstore(self.target, line.target_url, "bare"),
            "prefix": place,
            "concurrency": concurrency,
            "whole_bytes": whole_bytes,
        }
        answer: dict[str, float] = {}

        def move() -> None:
            done = subprocess.run(
                [sys.executable, "-m", "bench.bare"],
                input=json.dumps(order),
                check=True,
                stdout=subprocess.PIPE,
                text=True,
            )
            answer.update(json.loads(done.stdout))

        spent = _timed(move)
        self._clear("bare", place, count)
        # What Python takes to start is not the loop's.
        return Spent(answer["seconds"], spent.cpu_seconds)

    def _clear(self, bucket: str, place: str, count: int) -> None:
        """Remove what a rival wrote, and see that it was everything."""
        client, found = self.target.client(), 0
        while keys := client.list_objects_v2(Bucket=bucket, Prefix=place, MaxKeys=1000).get("Contents", []):
            found += len(keys)
            client.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": one["Key"]} for one in keys]})
        if found != count:
            raise RuntimeError(f"{bucket} has {found} objects of {count}")
        self.target.reclaim()


@asynccontextmanager
async def ground(settings: Mapping[str, str] | None = None) -> AsyncIterator[Ground]:
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="simples3dms-bench-")))
        directory.chmod(0o755)
        source = stack.enter_context(SeaweedServer(directory / "source"))
        target = stack.enter_context(SeaweedServer(directory / "target", buckets=("docs", "rclone", "bare")))
        os.environ.update({"SIMPLES3DMS_DATA_DIR": str(directory / "var"), "SIMPLES3DMS_LOG_LEVEL": "warning"})
        os.environ.update(settings or {})
        services = await asyncio.to_thread(build_services, Settings())
        await asyncio.to_thread(ensure_schema, services)
        await services.open()
        try:
            yield Ground(directory, services, source, target)
        finally:
            await services.close()


@contextmanager
def lines(source: SeaweedServer, target: SeaweedServer, seconds: float) -> Iterator[tuple[Line, Line]]:
    """The near line and the far one, with this latency before each server."""
    with delayed(source.port, seconds) as to_source, delayed(target.port, seconds) as to_target:
        far = Line("far", f"http://{LOOPBACK}:{to_source}", f"http://{LOOPBACK}:{to_target}")
        yield Line("near", source.endpoint, target.endpoint), far


@contextmanager
def workers(
    directory: Path, count: int, environment: Mapping[str, str] | None = None
) -> Iterator[list[psutil.Process]]:
    """So many `simples3dms worker` processes, which end with this one whatever this one ends of."""
    started = [
        ServerProcess(
            [sys.executable, "-m", "simples3dms", "worker"], directory / f"worker-{number}.log", environment=environment
        )
        for number in range(count)
    ]
    processes = [psutil.Process(one.pid) for one in started]
    try:
        yield processes
    finally:
        for process in processes:
            process.terminate()
        for one in started:
            one.wait_until(lambda: False, seconds=30)
            one.kill()


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _cpu(processes: list[psutil.Process]) -> float:
    return sum((times.user + times.system for times in (process.cpu_times() for process in processes)), 0.0)


def _timed(work: Callable[[], object]) -> Spent:
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    work()
    seconds, after = time.monotonic() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    return Spent(seconds, (after.ru_utime + after.ru_stime) - (before.ru_utime + before.ru_stime))


def _rclone() -> str:
    return str(Path(sys.executable).with_name("rclone"))


def _remote(name: str, server: SeaweedServer, url: str) -> str:
    return (
        f"[{name}]\ntype = s3\nprovider = SeaweedFS\nendpoint = {url}\nregion = {server.region}\n"
        f"access_key_id = {server.access_key}\nsecret_access_key = {server.secret_key}\nforce_path_style = true\n\n"
    )


def _obstore(server: SeaweedServer, url: str, bucket: str) -> dict[str, Any]:
    return {
        "bucket": bucket,
        "endpoint": url,
        "region": server.region,
        "access_key_id": server.access_key,
        "secret_access_key": server.secret_key,
    }
