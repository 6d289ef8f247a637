"""The installation of a soak: workers and servers that come back after a kill, and three stores that can be hurt."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.faults.history import History
from tests.faults.installation import BUCKET, eventually
from tests.programs import Program, run, start

from simples3dms.client import Client
from simples3dms.db.provision import Provisioned
from simples3dms.kit.secret import Secret
from simples3dms.sandbox.b2 import B2Sandbox
from simples3dms.sandbox.faultproxy import FaultProxy
from simples3dms.sandbox.httpfaults import HttpFaultProxy
from simples3dms.sandbox.ports import free_port_block
from simples3dms.sandbox.seaweedfs import SeaweedServer

LEASE_SECONDS = 5.0
WORKERS, SERVERS = 3, 2
_START_SECONDS = 180
_ENVIRONMENT = {
    "SIMPLES3DMS_ENV": "test",
    "SIMPLES3DMS_LEASE_SECONDS": str(LEASE_SECONDS),
    "SIMPLES3DMS_WATCHDOG_SECONDS": "1",
    "SIMPLES3DMS_RETRY_BASE_SECONDS": "0.3",
    "SIMPLES3DMS_CHUNK_BLOBS": "40",
    "SIMPLES3DMS_DATABASE_POOL": "8",
    "SIMPLES3DMS_LOG_LEVEL": "warning",
    "SIMPLES3DMS_STORAGE_CONNECT_TIMEOUT_SECONDS": "3",
    "SIMPLES3DMS_STORAGE_READ_TIMEOUT_SECONDS": "15",
    "SIMPLES3DMS_STORAGE_RETRY_ATTEMPTS": "3",
    "SIMPLES3DMS_STORAGE_BREAKER_COOL_SECONDS": "0.5",
}


@dataclass
class Tenant:
    """A tenant and its placement; `target`: where it is migrated to, and whether for good."""

    name: str
    write: str
    copies: tuple[str, ...]
    min_acks: int = 1
    hedge: bool = False
    target: str | None = None
    for_good: bool = False


TENANTS = (
    Tenant("ada", write="s3", copies=("disk",)),
    Tenant("bea", write="b2", copies=("s3",), min_acks=2),
    Tenant("cid", write="disk", copies=("b2",), hedge=True),
    Tenant("dan", write="b2", copies=("disk",), target="s3"),
    Tenant("eve", write="s3", copies=("b2",), target="disk", for_good=True),
)


@dataclass
class Process:
    """One of our programs; it may be another one from moment to moment."""

    name: str
    command: tuple[str, ...]
    program: Program | None = None
    url: str = ""

    def signal(self, number: int) -> None:
        assert self.program is not None
        os.kill(self.program.pid, number)


@dataclass
class Soak:
    """What the parts of a soak share."""

    directory: Path
    urls: Provisioned
    history: History
    s3: SeaweedServer
    b2: B2Sandbox
    line: FaultProxy
    web: HttpFaultProxy
    token: Secret | None = None
    workers: list[Process] = field(default_factory=list)
    servers: list[Process] = field(default_factory=list)
    _local: threading.local = field(default_factory=threading.local)

    @property
    def disk(self) -> Path:
        return self.directory / "disk"

    @property
    def log(self) -> Path:
        return self.directory / "processes.log"

    @property
    def data_dir(self) -> Path:
        return self.directory / "var"

    def environment(self) -> dict[str, str]:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("SIMPLES3DMS_")}
        database = {
            "SIMPLES3DMS_DATA_DIR": str(self.data_dir),
            "SIMPLES3DMS_DATABASE_URL": self.urls.app_url,
            "SIMPLES3DMS_DATABASE_OWNER_URL": self.urls.owner_url,
        }
        return inherited | _ENVIRONMENT | database

    def start(self, process: Process) -> None:
        """Start it (again); a server is waited for."""
        command = process.command
        if process in self.servers:
            port = free_port_block(1)
            process.url = f"http://127.0.0.1:{port}"
            command = (*command, "--port", str(port))
        process.program = start(command, self.environment(), output=self.log)
        if process in self.servers:
            eventually(lambda: self._is_ready(process), seconds=_START_SECONDS)

    def _is_ready(self, process: Process) -> bool:
        assert process.program is not None
        assert process.program.poll() is None, self.log.read_text()[-3000:]
        with Client(process.url, tries=1, timeout_seconds=10) as client:
            return client.is_ready()

    def kill(self, process: Process) -> None:
        assert process.program is not None
        process.program.kill()
        assert process.program.wait(60) == -signal.SIGKILL

    def client(self, server: Process) -> Client:
        """This thread's client of the server as it is now: each request is sent once."""
        clients: dict[str, Client] = self._local.__dict__.setdefault("clients", {})
        known = clients.get(server.name)
        if known is None or known.base_url != server.url:
            if known is not None:
                known.close()
            clients[server.name] = known = Client(server.url, token=self.token, tries=1, timeout_seconds=60)
        return known

    def run(self, *command: str) -> tuple[int, Any]:
        """One of our commands that prints JSON: its exit status, and what it said."""
        done = run(command, self.environment(), seconds=900)
        assert done.stdout, done.stderr[-3000:]
        return done.returncode, json.loads(done.stdout)

    def all_running(self) -> None:
        """Fail if a process has ended by itself."""
        for process in (*self.workers, *self.servers):
            assert process.program is not None
            status = process.program.poll()
            assert status in (None, -signal.SIGKILL), (
                f"{process.name} ended with {status}: {self.log.read_text()[-3000:]}"
            )

    def prepare(self) -> None:
        """Start everything; stores, tenants and placements as above."""
        self.servers = [Process(f"api:{n}", ("serve", "--no-worker")) for n in range(SERVERS)]
        self.workers = [Process(f"worker:{n}", ("worker",)) for n in range(WORKERS)]
        first = self.directory / "first.json"
        self.servers[0].command += ("--first-administrator-file", str(first))
        for process in (*self.servers, *self.workers):
            self.start(process)
        account = json.loads(first.read_text())
        with Client(self.servers[0].url) as client:
            self.token = Secret(client.log_in(account["email"], Secret(account["password"])).token)
        with Client(self.servers[0].url, token=self.token) as client:
            self._add_stores(client)
            for tenant in TENANTS:
                client.create_tenant(tenant.name, tenant.name)
                for store in ("s3", "b2", "disk"):
                    client.grant_store(tenant.name, store)
                client.set_placement(
                    tenant.name,
                    write=tenant.write,
                    copies=tenant.copies,
                    min_acks=tenant.min_acks,
                    hedge=tenant.hedge,
                )

    def _add_stores(self, client: Client) -> None:
        self.disk.mkdir()
        client.add_store("disk", kind="local", settings={"path": str(self.disk)}, credential={})
        client.add_store(
            "s3",
            kind="s3",
            settings={"bucket": BUCKET, "endpoint": self.line.url, "region": self.s3.region},
            credential={"access_key_id": self.s3.access_key, "secret_access_key": self.s3.secret_key},
        )
        client.add_store(
            "b2",
            kind="b2",
            settings={"bucket": BUCKET, "realm": self.b2.url},
            credential={
                "application_key_id": self.b2.application_key_id,
                "application_key": self.b2.application_key,
            },
        )

    def end(self) -> None:
        """End all processes, by their pid."""
        programs = [process.program for process in (*self.workers, *self.servers) if process.program is not None]
        for program in programs:
            if program.poll() is None:
                os.kill(program.pid, signal.SIGCONT)
                program.terminate()
        deadline = time.monotonic() + 60
        for program in programs:
            try:
                program.wait(max(1.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                program.kill()


@contextmanager
def soaked(directory: Path, urls: Provisioned) -> Iterator[Soak]:
    """A soak's stores and directory; everything that was started is ended."""
    with ExitStack() as stack:
        history = History(directory / "history.jsonl")
        stack.callback(history.close)
        s3 = stack.enter_context(SeaweedServer(directory / "s3", buckets=(BUCKET,)))
        b2 = stack.enter_context(B2Sandbox(directory / "b2", buckets=(BUCKET,)))
        web = stack.enter_context(HttpFaultProxy(s3.port))
        line = stack.enter_context(FaultProxy(web.port))
        soak = Soak(directory, urls, history, s3, b2, line, web)
        stack.callback(soak.end)
        soak.prepare()
        yield soak
