"""Memory stays flat while 2 GiB go up, through a migration, and down."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from tests.faults.installation import Installation

_MIB = 1024 * 1024
_GROWTH_MIB = 64


@dataclass
class Peak:
    rss_mib: float = 0


@contextmanager
def watched(pid: int) -> Iterator[Peak]:
    """The highest resident size of the process while the block runs, sampled twenty times a second."""
    process, peak, stop = psutil.Process(pid), Peak(), threading.Event()

    def sample() -> None:
        while not stop.wait(0.05):
            peak.rss_mib = max(peak.rss_mib, process.memory_info().rss / _MIB)

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        yield peak
    finally:
        stop.set()
        thread.join()


def write_file(path: Path, size: int) -> str:
    digest, block = hashlib.sha256(), os.urandom(_MIB)
    with path.open("wb") as file:
        for number in range(size // _MIB):
            piece = number.to_bytes(8, "big") + block[8:]
            file.write(piece)
            digest.update(piece)
    return digest.hexdigest()


def move(installation: Installation, tenant: str) -> None:
    with installation.connect() as client:
        planned = client.plan_migration(tenant, target="s3-eu")
        client.start_migration(tenant, planned.id)
        installation.until(tenant, planned.id, "ready", seconds=900)
        client.cut_over_migration(tenant, planned.id)
        client.finalize_migration(tenant, planned.id)
        installation.until(tenant, planned.id, "done", seconds=300)


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_two_gibibytes_leave_the_server_flat(installation: Installation) -> None:
    server = installation.serve(lease_seconds="30")
    source, back = installation.directory / "large.bin", installation.directory / "back.bin"
    # Everything that is loaded or pooled at first use is there before the measuring begins.
    installation.add_tenant("warm")
    write_file(source, 40 * _MIB)
    with installation.connect() as client:
        warm = client.upload_document("warm", source)
        client.download_document("warm", warm.id, back)
    move(installation, "warm")
    before = psutil.Process(server.pid).memory_info().rss / _MIB
    installation.add_tenant("large")
    digest = write_file(source, 2048 * _MIB)
    with watched(server.pid) as peak, installation.connect() as client:
        document = client.upload_document("large", source)
        up = peak.rss_mib
        move(installation, "large")
        moved = peak.rss_mib
        assert client.download_document("large", document.id, back) == digest
    grown = [f"{name} +{rss - before:.0f} MiB" for name, rss in (("up", up), ("moved", moved), ("down", peak.rss_mib))]
    print(f"{before:.0f} MiB before; {', '.join(grown)}")
    assert peak.rss_mib - before < _GROWTH_MIB
