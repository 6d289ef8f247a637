"""What there is to check: the modules of the tree, and the files that git tracks."""

from __future__ import annotations

import subprocess
from functools import cache
from pathlib import Path, PurePosixPath

from tests.house.rules import Module

ROOT = Path(__file__).parents[2]
CODE = ("src", "tests", "bench", "scripts")


@cache
def modules() -> tuple[Module, ...]:
    """Every Python module of ours."""
    paths = [path for area in CODE for path in (ROOT / area).rglob("*.py")] + list(ROOT.glob("*.py"))
    return tuple(Module(PurePosixPath(path.relative_to(ROOT)), path.read_text()) for path in sorted(paths))


@cache
def source() -> tuple[Module, ...]:
    """The modules of the package itself."""
    return tuple(module for module in modules() if module.area)


@cache
def tracked() -> tuple[Path, ...]:
    """The files that are committed or about to be."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return tuple(path for name in listed.split("\0") if name and (path := ROOT / name).is_file())
