"""The example of the documentation is a provider like any other: found as a plug-in, and proven by the same suite."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
METADATA = "Metadata-Version: 2.1\nName: fsspec-store\nVersion: 1\n"
ENTRY_POINTS = "[simples3dms.providers]\nfsspec = fsspec_store:KIND\n"


@pytest.fixture
def plugged_in(tmp_path: Path) -> dict[str, str]:
    """The environment of a process in which the example is installed."""
    site = tmp_path / "site"
    info = site / "fsspec_store-1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(METADATA)
    (info / "entry_points.txt").write_text(ENTRY_POINTS)
    (site / "fsspec_store.py").write_text((ROOT / "docs/examples/fsspec_store.py").read_text())
    return {**os.environ, "PYTHONPATH": str(site)}


def _conformance(config: Path, environment: dict[str, str], *flags: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--pyargs"]
    command += ["simples3dms.providers.conformance", "--store-config", str(config), *flags]
    return subprocess.run(
        command, cwd=config.parent, env=environment, capture_output=True, text=True, timeout=120, check=False
    )


def test_the_example_proves_itself_with_the_documented_command(plugged_in: dict[str, str], tmp_path: Path) -> None:
    folder = tmp_path / "documents"
    folder.mkdir()
    config = tmp_path / "store.toml"
    config.write_text(f'kind = "fsspec"\n[settings]\nurl = "file://{folder}"\n[credential]\n')
    done = _conformance(config, plugged_in)
    assert done.returncode == 0, done.stdout[-3000:]
    assert "76 passed, 37 skipped" in done.stdout
    assert [path for path in folder.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("kind = ", "is not TOML"),
        ('kind = "floppy"\n', "There is no kind of store named 'floppy'"),
        ('kind = "local"\n[settings]\npath = "relative"\n', "path: must be an absolute path"),
        ('kind = "local"\n[settings]\npath = "/nowhere-at-all"\n', "the store's directory is not there"),
    ],
)
def test_a_wrong_config_is_explained_in_a_line(tmp_path: Path, text: str, said: str) -> None:
    config = tmp_path / "store.toml"
    config.write_text(text)
    done = _conformance(config, dict(os.environ))
    assert done.returncode == 4
    assert said in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr


def test_without_a_config_it_says_what_is_missing(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "--pyargs", "simples3dms.providers.conformance"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 4
    assert "--store-config FILE" in done.stdout + done.stderr
