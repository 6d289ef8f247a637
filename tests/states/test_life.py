"""The promises under any order of acts, steps, faults, crashes and hours."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test
from tests.states.life import DEPTHS, Depth, TenantLife

from simples3dms.kit.failpoints import FAIL_POINTS

#: The protocols that are played, and the steps of theirs that need large objects or time.
REACHED = ("upload.", "copy.", "cutover.", "purge.")
NOT_REACHED = {"copy.part_sent"}


def play(machine: type[TenantLife], *, examples: int, steps: int) -> None:
    # A planted fault is to be found, not made small: tests/mutants asks for that.
    is_planted = "SIMPLES3DMS_PLANTED" in os.environ
    phases = [Phase.generate] if is_planted else [Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink]
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=40 * examples if is_planted else examples,
            stateful_step_count=steps,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            phases=phases,
            derandomize=is_planted,
            report_multiple_bugs=False,
        ),
    )


@pytest.mark.parametrize("depth", DEPTHS)
def test_any_order_of_acts_and_steps_keeps_the_promises(machine: type[TenantLife], depth: Depth) -> None:
    machine.depth = depth
    play(machine, examples=5, steps=25)


@pytest.mark.long
@pytest.mark.parametrize("depth", DEPTHS)
def test_many_orders_of_acts_and_steps_keep_the_promises(machine: type[TenantLife], depth: Depth) -> None:
    machine.depth = depth
    play(machine, examples=100, steps=50)
    missed = {point for point in FAIL_POINTS if point.startswith(REACHED)} - set(machine.reach)
    assert missed <= NOT_REACHED, f"never passed: {sorted(missed)}"
