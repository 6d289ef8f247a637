"""Nine faults, each planted into a test run: the state machine finds it, and its own test."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.mutants.planted import MUTANTS
from tests.states.alphabets import NARROW

ROOT = Path(__file__).parents[2]
_TESTS_FAILED = 1
_MACHINE = "tests/states/test_life.py::test_few_words_find_a_fault_only_if_there_is_one"
_WHOLE_MACHINE = "tests/states/test_life.py::test_any_order_of_acts_and_steps_keeps_the_promises"


def found_by(name: str, *tests: str) -> None:
    """Run the tests with the fault planted: each must fail."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "tests.mutants.planted", "--mutant", name, *tests]
    environment = {**os.environ, "SIMPLES3DMS_PLANTED": name}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, env=environment)
    said = done.stdout[-5000:] + done.stderr
    assert done.returncode == _TESTS_FAILED, said
    assert [test for test in tests if f"FAILED {test}" not in done.stdout] == [], said


@pytest.mark.timeout(280)
@pytest.mark.parametrize("name", MUTANTS)
def test_a_planted_fault_is_found_by_the_machine_and_by_its_own_test(name: str) -> None:
    """The machine draws from the few words that lead there, the same ones each time."""
    found_by(name, f"{_MACHINE}[{name}]", MUTANTS[name].killer)


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", MUTANTS)
def test_a_planted_fault_is_found_by_chance(name: str) -> None:
    """The machine draws from all of its words."""
    found_by(name, f"{_WHOLE_MACHINE}[{NARROW[name][0]}]")


def test_there_are_nine() -> None:
    assert len(MUTANTS) == 9
    assert NARROW.keys() == MUTANTS.keys()
