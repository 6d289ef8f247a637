"""A real installation for tests that kill it: server and worker processes on one data directory, two real stores."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

from tests.programs import Program, run, start

from simples3dms.bootstrap import build_services
from simples3dms.client import Client
from simples3dms.kit.secret import Secret
from simples3dms.sandbox.b2 import B2Sandbox
from simples3dms.sandbox.seaweedfs import SeaweedServer
from simples3dms.schemas.migrations import Migration
from simples3dms.settings import Settings

BUCKET = "fault-documents"
_ENVIRONMENT = {
    "SIMPLES3DMS_ENV": "test",
    "SIMPLES3DMS_LEASE_SECONDS": "3",
    "SIMPLES3DMS_WATCHDOG_SECONDS": "0.5",
    "SIMPLES3DMS_RETRY_BASE_SECONDS": "0.2",
    "SIMPLES3DMS_CHUNK_BLOBS": "6",
    "SIMPLES3DMS_DELETION_WAIT_DAYS": "0",
    "SIMPLES3DMS_LOG_LEVEL": "warning",
}


def eventually(condition: Callable[[], Any], *, seconds: float = 120) -> Any:
    """Wait for a condition, with a deadline."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = condition()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError(f"still not so after {seconds} s")


@dataclass
class Installation:
    """One data directory with its processes."""

    directory: Path
    b2: B2Sandbox
    s3: SeaweedServer
    url: str = ""
    token: Secret | None = None
    processes: list[Program] = field(default_factory=list)

    def environment(self, **settings: str) -> dict[str, str]:
        """Of our commands; settings are given without their prefix."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith("SIMPLES3DMS_")}
        environment |= _ENVIRONMENT | {"SIMPLES3DMS_DATA_DIR": str(self.directory / "var")}
        return environment | {f"SIMPLES3DMS_{name.upper()}": value for name, value in settings.items()}

    def start(self, *command: str, first: Callable[[], None] | None = None, **settings: str) -> Program:
        """Start one of our commands, in a process that `first` changes."""
        log = self.directory / "processes.log"
        process = start(command, self.environment(**settings), output=log, first=first)
        self.processes.append(process)
        return process

    def run(self, *command: str, **settings: str) -> subprocess.CompletedProcess[str]:
        """One of our commands, to its end."""
        return run(command, self.environment(**settings), seconds=180)

    def serve(self, *flags: str, first: Callable[[], None] | None = None, **settings: str) -> Program:
        """Start the API (on a port of its own each time) and wait until it can serve."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        account = self.directory / "first.json"
        process = self.start(
            "serve", "--port", str(port), "--first-administrator-file", str(account), *flags, first=first, **settings
        )

        def ready() -> bool:
            assert process.poll() is None, (self.directory / "processes.log").read_text()[-3000:]
            with Client(self.url, tries=1) as client:
                return client.is_ready()

        eventually(ready)
        if self.token is None:
            first_of_all = json.loads(account.read_text())
            with Client(self.url) as client:
                made = client.log_in(first_of_all["email"], Secret(first_of_all["password"]))
            self.token = Secret(made.token)
        return process

    def connect(self, *, tries: int = 5) -> Client:
        return Client(self.url, token=self.token, tries=tries)

    def end(self, process: Program) -> None:
        process.terminate()
        process.wait(120)

    def fsck(self) -> dict[str, Any]:
        """`simples3dms fsck --read-data`, as an operator runs it."""
        done = self.run("fsck", "--read-data", "--json")
        report: dict[str, Any] = json.loads(done.stdout)
        assert (done.returncode == 0) == report["clean"]
        return report

    def assert_clean(self) -> None:
        """Nothing is pending any more, and every promise holds over every byte.

        By what `simples3dms fsck --read-data` asks, in this process: it is asked again and again.
        """

        asyncio.run(self._assert_clean(is_idle=True))

    def assert_sound(self) -> None:
        """Every promise holds over every byte at this very moment, whatever is still to be done."""
        asyncio.run(self._assert_clean(is_idle=False))

    async def _assert_clean(self, *, is_idle: bool) -> None:
        # Fresh ones: these hear of no change of credentials.
        services = build_services(Settings(data_dir=self.directory / "var", env="test"))
        try:
            await services.open()
            async with asyncio.timeout(120):
                while is_idle and any(
                    count for name, count in (await services.upkeep.fsck()).counts.items() if "pending" in name
                ):
                    await asyncio.sleep(0.05)
            assert (await services.upkeep.fsck(read_data=True)).findings == []
            assert await services.keys.list_broken() == []
        finally:
            await services.close()

    def add_stores(self) -> None:
        with self.connect() as client:
            client.add_store(
                "b2-main",
                kind="b2",
                settings={"bucket": BUCKET, "realm": self.b2.url, "object_lock": "governance"},
                credential={
                    "application_key_id": self.b2.application_key_id,
                    "application_key": self.b2.application_key,
                },
            )
            client.add_store(
                "s3-eu",
                kind="s3",
                settings={"bucket": BUCKET, "endpoint": self.s3.endpoint, "region": self.s3.region},
                credential={"access_key_id": self.s3.access_key, "secret_access_key": self.s3.secret_key},
            )

    def add_tenant(self, slug: str) -> None:
        with self.connect() as client:
            client.create_tenant(slug, slug)
            for store in ("b2-main", "s3-eu"):
                client.grant_store(slug, store)
            client.set_placement(slug, write="b2-main")

    def fill(self, tenant: str, count: int = 8, *, with_large: bool = False) -> dict[UUID, bytes]:
        """Upload small files, and if asked one over the part size."""
        bodies: dict[UUID, bytes] = {}
        path = self.directory / "body.bin"
        with self.connect() as client:
            for number in range(count):
                body = os.urandom(9_000_000 if with_large and number == 0 else 3000 + number)
                path.write_bytes(body)
                bodies[client.upload_document(tenant, path).id] = body
        return bodies

    def assert_readable(self, tenant: str, bodies: dict[UUID, bytes]) -> None:
        with self.connect() as client:
            assert {document.id for document in client.iter_documents(tenant)} == set(bodies)
            for document_id, body in bodies.items():
                with client.open_content(tenant, document_id) as chunks:
                    assert b"".join(chunks) == body

    def until(self, tenant: str, migration_id: UUID, *states: str, seconds: float = 180) -> Migration:
        with self.connect() as client:

            def reached() -> Migration | None:
                migration = client.get_migration(tenant, migration_id)
                return migration if migration.state in states else None

            found: Migration = eventually(reached, seconds=seconds)
            return found


@contextmanager
def installed(directory: Path) -> Iterator[Installation]:
    """Stores and directory; everything that was started is ended, by its pid."""
    directory.chmod(0o755)
    with (
        B2Sandbox(directory / "b2", buckets=(), locked=(BUCKET,)) as b2,
        SeaweedServer(directory / "s3", buckets=(BUCKET,), iam=True) as s3,
    ):
        installation = Installation(directory, b2, s3)
        try:
            yield installation
            assert installation.fsck()["clean"]
        finally:
            for process in installation.processes:
                if process.poll() is None:
                    process.terminate()
            for process in installation.processes:
                try:
                    process.wait(30)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait(30)
