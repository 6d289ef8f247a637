"""The shipped application on a real server, in this process: `door` is where it is and how to sign in."""

from __future__ import annotations

import asyncio
import shutil
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import uvicorn
from tests.conftest import Cluster, settings_for

from simples3dms.api.app import create_app
from simples3dms.api.wire import server_config
from simples3dms.bootstrap import build_services
from simples3dms.client import Client
from simples3dms.db.provision import Provisioned
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
        # From here on a connection waits for the server, however busy the machine is, and is not refused.
        self.listener.listen(128)
        self.server: uvicorn.Server | None = None

    def run(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        services = await asyncio.to_thread(build_services, self._settings)
        await services.open()
        made = await services.identity.ensure_first_operator()
        self.password = None if made is None else made.password
        self.server = uvicorn.Server(server_config(create_app(services)))
        stop = asyncio.Event()
        worker = asyncio.create_task(run_worker(services, stop=stop))
        self.started.set()
        await self.server.serve(sockets=[self.listener])
        stop.set()
        await worker
        await services.close()

    @property
    def url(self) -> str:
        return "http://{}:{}".format(*self.listener.getsockname())


@contextmanager
def _running(settings: Settings) -> Iterator[_Running]:
    thread = _Running(settings)
    thread.start()
    assert thread.started.wait(60)
    yield thread
    assert thread.server is not None
    thread.server.should_exit = True
    thread.join(60)


@dataclass(frozen=True)
class Prepared:
    """An installation as it is after its first steps: what each test's own is copied from."""

    urls: Provisioned
    directory: Path
    token: Secret

    @property
    def keyring(self) -> Path:
        return self.directory / "var" / "keyring.json"

    @property
    def roots(self) -> dict[str, Path]:
        """Where its stores are. The databases name them, so all tests of a process use them, one after the other."""
        return {name: self.directory / name for name in ("disk-a", "disk-b")}

    def clear_roots(self) -> None:
        for root in self.roots.values():
            shutil.rmtree(root, ignore_errors=True)
            shutil.copytree(f"{root}.fresh", root)


@pytest.fixture(scope="session")
def prepared(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    """Its first steps are taken once, through the door; they are what takes most of the time."""
    urls, directory = cluster.create_database(), tmp_path_factory.mktemp("door")
    with _running(settings_for(urls, directory / "var")) as running:
        assert running.password is not None
        with Client(running.url) as client:
            made = Prepared(urls, directory, Secret(client.log_in("admin@localhost", running.password).token))
        with Client(running.url, token=made.token) as client:
            client.create_tenant("acme", "Acme")
            for name, root in made.roots.items():
                root.mkdir()
                client.add_store(name, kind="local", settings={"path": str(root)}, credential={})
                client.grant_store("acme", name)
                shutil.copytree(root, f"{root}.fresh")
            client.set_placement("acme", write="disk-a")
    return made


@pytest.fixture
def urls(request: pytest.FixtureRequest, cluster: Cluster) -> Iterator[Provisioned]:
    """A fresh database of this test's own; behind a door, one in which the first steps were taken."""
    template = None
    if "door" in request.fixturenames:
        prepared: Prepared = request.getfixturevalue("prepared")
        template = prepared.urls
    urls = cluster.create_database(template)
    yield urls
    cluster.drop_database(urls)


@pytest.fixture
def door(prepared: Prepared, settings: Settings) -> Iterator[Door]:
    prepared.clear_roots()
    settings.keyring_path.parent.mkdir(parents=True)
    shutil.copy(prepared.keyring, settings.keyring_path)
    with _running(settings) as running:
        host, port = running.listener.getsockname()
        yield Door(running.url, host, port, prepared.token, prepared.roots)
