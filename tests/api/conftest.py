"""The shipped application on a real server, in this process: `door` is where it is and how to sign in."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import uvicorn

from simples3dms.api.app import create_app
from simples3dms.bootstrap import build_services
from simples3dms.client import Client
from simples3dms.jobs.worker import run_worker
from simples3dms.kit.secret import Secret
from simples3dms.settings import Settings


@dataclass(frozen=True)
class Door:
    """A running server with a tenant `acme` that writes to a local store `disk-a` and may use `disk-b`."""

    url: str
    host: str
    port: int
    token: Secret
    roots: dict[str, Path]

    def connect(self, token: Secret | str | None = None) -> Client:
        return Client(self.url, token=token or self.token, tries=1)


class _Running(threading.Thread):
    """Server and worker in a loop of their own."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(daemon=True)
        self._settings = settings
        self.started = threading.Event()
        self.password: Secret | None = None
        self.listener = socket.socket()
        self.listener.bind(("127.0.0.1", 0))
        self.listener.listen(100)  # Who asks before the server is up waits for it.
        self.server: uvicorn.Server | None = None

    def run(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        services = await asyncio.to_thread(build_services, self._settings)
        await services.open()
        made = await services.identity.ensure_first_operator()
        assert made is not None
        self.password = made.password
        self.server = uvicorn.Server(uvicorn.Config(create_app(services), log_level="error", lifespan="off"))
        stop = asyncio.Event()
        worker = asyncio.create_task(run_worker(services, stop=stop))
        self.started.set()
        await self.server.serve(sockets=[self.listener])
        stop.set()
        await worker
        await services.close()


@pytest.fixture
def door(settings: Settings, tmp_path: Path) -> Iterator[Door]:
    thread = _Running(settings)
    thread.start()
    assert thread.started.wait(30)
    host, port = thread.listener.getsockname()
    url = f"http://{host}:{port}"
    assert thread.password is not None
    with Client(url) as client:
        token = Secret(client.log_in("admin@localhost", thread.password).token)
    roots = {name: tmp_path / name for name in ("disk-a", "disk-b")}
    with Client(url, token=token) as client:
        client.create_tenant("acme", "Acme")
        for name, root in roots.items():
            root.mkdir()
            client.add_store(name, kind="local", settings={"path": str(root)}, credential={})
            client.grant_store("acme", name)
        client.set_placement("acme", write="disk-a")
    yield Door(url, host, port, token, roots)
    assert thread.server is not None
    thread.server.should_exit = True
    thread.join(60)
