"""kill -9 at every fail-point of a cache's fill and cleaning: nothing is left in it that no record knows."""

from __future__ import annotations

import signal
from contextlib import suppress
from pathlib import Path

import pytest
from tests.faults.installation import Installation
from tests.faults.killing import slug

from simples3dms.client import ServerUnreachable
from simples3dms.kit.failpoints import FAIL_POINTS

pytestmark = pytest.mark.timeout(300)
POINTS = [name for name in FAIL_POINTS if name.startswith("cache.")]


@pytest.fixture(scope="module")
def directory(installation: Installation) -> Path:
    directory = installation.directory / "cache"
    directory.mkdir()
    with installation.connect() as client:
        client.add_store(
            "cache", kind="local", settings={"path": str(directory)}, credential={}, cache_max_bytes=50_000
        )
    return directory


@pytest.mark.parametrize("point", POINTS)
def test_the_api_is_killed_while_a_read_fills_a_cache(installation: Installation, directory: Path, point: str) -> None:
    tenant = slug(point)
    installation.add_tenant(tenant)
    with installation.connect() as client:
        client.grant_store(tenant, "cache")
    path = installation.directory / "body.bin"
    documents = {}
    for number in (1, 2):
        path.write_bytes(bytes([number]) * 30_000)
        with installation.connect() as client:
            documents[client.upload_document(tenant, path).id] = path.read_bytes()
    survivor_url = installation.url
    victim = installation.serve("--no-worker", failpoints=f"{point}=kill")
    # The second does not fit beside the first: room is made for it.
    with installation.connect(tries=1) as client, suppress(ServerUnreachable):
        for document in list(documents) * 50:
            with client.open_content(tenant, document) as chunks:
                assert b"".join(chunks) == documents[document]
    assert victim.wait(120) == -signal.SIGKILL
    installation.url = survivor_url
    worker = installation.start("worker")
    try:
        installation.assert_clean()
        installation.assert_readable(tenant, documents)
        with installation.connect() as client:
            for document in documents:
                client.delete_document(tenant, document)
                client.purge_document(tenant, document)
        installation.assert_clean()
        assert [one for one in directory.rglob("*") if one.is_file() and len(one.name) == 36] == []
    finally:
        installation.end(worker)
