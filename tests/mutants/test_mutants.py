"""Nine faults, each planted into a test run: the state machine finds it, and its own test."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.mutants.planted import MUTANTS

ROOT = Path(__file__).parents[2]
_TESTS_FAILED = 1
_MACHINE = "tests/states/test_life.py::test_any_order_of_acts_and_steps_keeps_the_promises"


def found_by(name: str, test: str) -> None:
    """Run the test with the fault planted: it must fail."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "tests.mutants.planted", "--mutant", name, test]
    environment = {**os.environ, "SIMPLES3DMS_PLANTED": name}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, env=environment)
    assert (done.returncode, "1 failed" in done.stdout) == (_TESTS_FAILED, True), done.stdout[-3000:] + done.stderr
    assert f"FAILED {test}" in done.stdout


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", MUTANTS)
def test_a_planted_fault_is_found_by_chance(name: str) -> None:
    found_by(name, f"{_MACHINE}[{MUTANTS[name].depth}]")


@pytest.mark.timeout(120)
@pytest.mark.parametrize("name", MUTANTS)
def test_a_planted_fault_is_found_by_the_test_that_is_there_for_it(name: str) -> None:
    found_by(name, MUTANTS[name].killer)


def test_there_are_nine() -> None:
    assert len(MUTANTS) == 9
