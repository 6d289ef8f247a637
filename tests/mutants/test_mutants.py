"""Nine faults, each planted into a test run of its own: the test that is there for it fails."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from tests.mutants.planted import MUTANTS

ROOT = Path(__file__).parents[2]
_TESTS_FAILED = 1


@pytest.mark.timeout(120)
@pytest.mark.parametrize("name", MUTANTS)
def test_a_planted_fault_is_found(name: str) -> None:
    killer = MUTANTS[name].killer
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "tests.mutants.planted", "--mutant", name, killer]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, "1 failed" in done.stdout) == (_TESTS_FAILED, True), done.stdout[-3000:] + done.stderr
    assert f"FAILED {killer}" in done.stdout


def test_there_are_nine() -> None:
    assert len(MUTANTS) == 9
