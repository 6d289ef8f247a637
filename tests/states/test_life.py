"""The promises under any order of acts, steps, faults, crashes and hours."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test
from tests.states.alphabets import NARROW, Alphabet, life_of
from tests.states.life import DEPTHS, Depth, TenantLife

from simples3dms.kit.failpoints import FAIL_POINTS

#: The protocols that are played, and the steps of theirs that need large objects or time.
REACHED = ("upload.", "copy.", "cutover.", "purge.")
NOT_REACHED = {"copy.part_sent"}
IS_PLANTED = "SIMPLES3DMS_PLANTED" in os.environ


def play(depth: Depth, alphabet: Alphabet, *, examples: int, steps: int, is_new: bool = False) -> None:
    """`is_new`: with other draws each time. Else with the same ones, so that what fails is what was changed."""
    TenantLife.depth = depth
    # A planted fault is to be found, and not made small.
    phases = [Phase.generate] if IS_PLANTED else [Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink]
    run_state_machine_as_test(
        life_of(alphabet),
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            phases=phases,
            derandomize=not is_new,
            report_multiple_bugs=False,
        ),
    )


@pytest.mark.usefixtures("machine")
@pytest.mark.parametrize("depth", DEPTHS)
def test_any_order_of_acts_and_steps_keeps_the_promises(depth: Depth) -> None:
    play(depth, Alphabet(), examples=200 if IS_PLANTED else 5, steps=25)


@pytest.mark.usefixtures("machine")
@pytest.mark.parametrize("fault", NARROW)
def test_few_words_find_a_fault_only_if_there_is_one(fault: str) -> None:
    """What tests/mutants finds planted faults with finds nothing without them."""
    play(*NARROW[fault], examples=60 if IS_PLANTED else 2, steps=10)


@pytest.mark.long
@pytest.mark.usefixtures("machine")
@pytest.mark.parametrize("fault", NARROW)
def test_few_words_find_nothing_in_many_examples(fault: str) -> None:
    play(*NARROW[fault], examples=60, steps=10, is_new=True)


@pytest.mark.long
@pytest.mark.usefixtures("machine")
@pytest.mark.parametrize("depth", DEPTHS)
def test_many_orders_of_acts_and_steps_keep_the_promises(depth: Depth) -> None:
    play(depth, Alphabet(), examples=100, steps=50, is_new=True)
    missed = {point for point in FAIL_POINTS if point.startswith(REACHED)} - set(TenantLife.reach)
    assert missed <= NOT_REACHED, f"never passed: {sorted(missed)}"
