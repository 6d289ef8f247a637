"""A store on a disk that is really full: a clear problem, nothing recorded, nothing left, and on it goes with room."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest
from tests.api.conftest import Door
from tests.api.test_bad_input import refused

from simples3dms.client import Client
from simples3dms.schemas.migrations import Migration

#: Enough for the probe, which writes a few megabytes.
_DISK_BYTES = 4_000_000


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of about four megabytes, which only root can mount."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root (try `unshare --user --map-root-user --mount make test`)")
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={_DISK_BYTES}", "tmpfs", str(disk)], check=True)
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


def test_a_full_disk_takes_nothing_and_loses_nothing(door: Door, small_disk: Path, tmp_path: Path) -> None:
    small, large = tmp_path / "small", tmp_path / "large"
    small.write_bytes(os.urandom(600_000))
    large.write_bytes(os.urandom(_DISK_BYTES))
    with door.connect() as client:
        client.add_store("small-disk", kind="local", settings={"path": str(small_disk)}, credential={})
        client.grant_store("acme", "small-disk")
        client.set_placement("acme", write="small-disk")
        kept = client.upload_document("acme", small)
        problem = refused("store_full", 507, lambda: client.upload_document("acme", large))
        assert "nothing was stored" in (problem.problem.detail or "")
        assert [document.id for document in client.iter_documents("acme")] == [kept.id]
        # What the failed write had used is free again, so that a smaller document fits.
        second = client.upload_document("acme", small)
        assert sum(path.stat().st_size for path in small_disk.rglob("[!.]*") if path.is_file()) == 1_200_000
        for document in (kept, second):
            with client.open_content("acme", document.id) as chunks:
                assert b"".join(chunks) == small.read_bytes()


def test_a_migration_to_a_full_disk_stops_with_its_cause_and_goes_on(
    door: Door, small_disk: Path, tmp_path: Path
) -> None:
    file = tmp_path / "file"
    file.write_bytes(os.urandom(500_000))
    ballast = small_disk / "ballast"
    with door.connect() as client:
        documents = [client.upload_document("acme", file) for _ in range(3)]
        client.add_store("small-disk", kind="local", settings={"path": str(small_disk), "prefix": "s"}, credential={})
        client.grant_store("acme", "small-disk")
        ballast.write_bytes(bytes(3_200_000))
        planned = client.plan_migration("acme", target="small-disk")
        client.start_migration("acme", planned.id)
        stopped = reach(client, planned.id, "failed")
        assert (stopped.error_code, stopped.proven) == ("store_full", False)
        ballast.unlink()
        client.resume_migration("acme", planned.id)
        reach(client, planned.id, "ready")
        client.cut_over_migration("acme", planned.id)
        client.finalize_migration("acme", planned.id)
        reach(client, planned.id, "done")
        for document in documents:
            with client.open_content("acme", document.id) as chunks:
                assert b"".join(chunks) == file.read_bytes()


def reach(client: Client, migration_id: UUID, state: str) -> Migration:
    deadline = time.monotonic() + 40
    while (migration := client.get_migration("acme", migration_id)).state != state:
        assert time.monotonic() < deadline, migration
        time.sleep(0.05)
    return migration
