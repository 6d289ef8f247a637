"""One installation for all tests of a module, or a store's server and the lines to it: starting them takes the time."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.faults.installation import Installation, installed
from tests.faults.parted import Line, line_to, line_to_database

from simples3dms.db.provision import Provisioned
from simples3dms.sandbox.faultproxy import FaultProxy
from simples3dms.sandbox.seaweedfs import SeaweedServer


@pytest.fixture(scope="module")
def installation() -> Iterator[Installation]:
    directory = Path(tempfile.mkdtemp(prefix="simples3dms-faults-"))
    with installed(directory) as found:
        found.serve("--no-worker")
        found.add_stores()
        yield found
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SeaweedServer]:
    with SeaweedServer(tmp_path_factory.mktemp("weed"), buckets=()) as server:
        yield server


@pytest.fixture
def lines(server: SeaweedServer) -> Iterator[tuple[Line, Line]]:
    with line_to(server.port) as a, line_to(server.port) as b:
        yield a, b


@pytest.fixture
def database_line(urls: Provisioned) -> Iterator[tuple[FaultProxy, str]]:
    with line_to_database(urls.app_url) as line:
        yield line
