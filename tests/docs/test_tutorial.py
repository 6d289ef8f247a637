"""The tutorial's commands, run as they stand there, one after the other."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.faults.installation import Installation, installed

TUTORIAL = Path(__file__).parents[2] / "docs" / "tutorial" / "first-move.md"


@pytest.fixture
def installation() -> Iterator[Installation]:
    directory = Path(tempfile.mkdtemp(prefix="simples3dms-docs-"))
    with installed(directory) as found:
        yield found
    shutil.rmtree(directory, ignore_errors=True)


@pytest.mark.timeout(300)
def test_the_tutorial_works_as_it_is_written(installation: Installation) -> None:
    home = installation.directory
    server = installation.serve()
    account = json.loads((home / "first.json").read_text())
    script = "\n".join(re.findall(r"```sh\n(.*?)```", TUTORIAL.read_text(), flags=re.DOTALL))
    for line in ("make run\n", "source .venv/bin/activate\n"):
        assert line in script  # done above, or by the environment below
        script = script.replace(line, "")
    login = "simples3dms login http://127.0.0.1:8080"
    assert login in script
    script = script.replace(login, f"echo '{account['password']}' | simples3dms login {installation.url}")
    script = script.replace("/tmp/store-", f"{home}/store-")
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "XDG_CONFIG_HOME": str(home / "config"),
        "SIMPLES3DMS_DATA_DIR": str(home / "var"),
    }
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=TUTORIAL.parents[2],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert "Clean:" in done.stderr
    assert not [path for path in (home / "store-a").rglob("[!.]*") if path.is_file()]
    assert len([path for path in (home / "store-b").rglob("[!.]*") if path.is_file()]) == 2
    installation.end(server)
