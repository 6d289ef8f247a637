"""One installation for all tests of a module: starting servers is what takes the time."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.faults.installation import Installation, installed


@pytest.fixture(scope="module")
def installation() -> Iterator[Installation]:
    directory = Path(tempfile.mkdtemp(prefix="simples3dms-faults-"))
    with installed(directory) as found:
        found.serve("--no-worker")
        found.add_stores()
        yield found
    shutil.rmtree(directory, ignore_errors=True)
