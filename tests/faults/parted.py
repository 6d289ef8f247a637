"""A tenant whose two stores are reached over lines that a test can cut: TCP outside, a journal of requests behind."""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from psycopg.conninfo import conninfo_to_dict, make_conninfo
from tests.programs import Program, start
from tests.support import Place

from simples3dms.bootstrap import Services
from simples3dms.context import HOST
from simples3dms.sandbox.faultproxy import FaultProxy, Flow
from simples3dms.sandbox.httpfaults import HttpFaultProxy
from simples3dms.sandbox.seaweedfs import SeaweedServer
from simples3dms.settings import Settings

Cut = Literal["hole", "refused", "answers"]
#: Of a store in these tests: soon given up, soon asked again, and so many calls at a time.
BUDGET = 6
TUNING = {
    "connect_timeout_seconds": 1,
    "read_timeout_seconds": 1,
    "retry_base_seconds": 0.05,
    "breaker_failures": 3,
    "breaker_cool_seconds": 0.2,
    "most_concurrent": BUDGET,
}


@dataclass(frozen=True)
class Line:
    """The way to a store: `tcp` can be cut, `http` behind it counts the requests that come through."""

    tcp: FaultProxy
    http: HttpFaultProxy

    def part(self, how: Cut = "hole") -> None:
        """Nothing arrives; nobody listens; or requests arrive, and their answers do not."""
        match how:
            case "hole":
                self.tcp.is_blackhole = True
            case "refused":
                self.tcp.refuse()
                self.tcp.kill_all()
            case "answers":
                self.tcp.down = Flow(is_held=True)

    def heal(self) -> None:
        """What was under way is lost; from here on all passes."""
        self.tcp.kill_all()
        self.tcp.accept()


@contextmanager
def line_to(port: int) -> Iterator[Line]:
    with HttpFaultProxy(port) as http, FaultProxy(http.port, seed=46) as tcp:
        yield Line(tcp, http)


@contextmanager
def line_to_database(url: str) -> Iterator[tuple[FaultProxy, str]]:
    """A way to the database of this URL that can be cut, and the URL that leads over it."""
    found = conninfo_to_dict(url)
    with FaultProxy(Path(str(found["host"])) / f".s.PGSQL.{found.get('port', 5432)}", seed=45) as proxy:
        yield proxy, make_conninfo(url, host="127.0.0.1", port=proxy.port)


@asynccontextmanager
async def worker(settings: Settings, url: str) -> AsyncIterator[tuple[Program, Path]]:
    """A worker process with its own way to the database, and what it says."""
    said = settings.data_dir / f"{secrets.token_hex(4)}.log"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SIMPLES3DMS_")}
    environment |= {
        "SIMPLES3DMS_ENV": "test",
        "SIMPLES3DMS_DATA_DIR": str(settings.data_dir),
        "SIMPLES3DMS_DATABASE_URL": url,
        "SIMPLES3DMS_LEASE_SECONDS": "3",
        "SIMPLES3DMS_WATCHDOG_SECONDS": "0.5",
        "SIMPLES3DMS_RETRY_BASE_SECONDS": "0.2",
        "SIMPLES3DMS_LOG_LEVEL": "warning",
    }
    program = start(("worker",), environment, output=said)
    try:
        yield program, said
    finally:
        program.kill()
        await asyncio.to_thread(program.wait, 30)


async def make_parted(services: Services, server: SeaweedServer, lines: tuple[Line, Line]) -> Place:
    """A tenant that writes to `a` and has copies at `b`, two buckets of one server."""
    credential = {"access_key_id": server.access_key, "secret_access_key": server.secret_key}
    tenant = await services.tenants.create_tenant(HOST, "acme", "Acme")
    ids = []
    for name, line in zip("ab", lines, strict=True):
        bucket = f"{name}-{secrets.token_hex(4)}"
        await asyncio.to_thread(server.create_bucket, bucket)
        settings = {"bucket": bucket, "endpoint": line.tcp.url, "region": server.region}
        ids.append((await services.stores.add_store(HOST, name, "s3", settings, credential)).id)
        await services.stores.set_tuning(HOST, name, TUNING)
        await services.stores.grant_store(HOST, tenant.id, name)
    await services.placements.set_placement(HOST, tenant.id, write="a", copies=["b"])
    return Place(services, tenant.id, "a", "b", *ids)
