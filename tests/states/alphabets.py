"""The state machine's rules, and the words that they draw from: all, or the few that find one fault soon."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from hypothesis import strategies
from hypothesis.stateful import rule
from tests.states.life import NEMESES, PERSONS, STEERS, STEPS, TOGETHER, Depth, TenantLife

#: Which of the things there are: drawn as a number, so that a draw never depends on ids made at run time.
PICKS = strategies.integers(0, 999)
SIZES = strategies.sampled_from([0, 1, 500, 20_000, 150_000])
VERDICTS = strategies.sampled_from(["go", "go", "go", "go", "go", "kill", "freeze"])
MOVES = strategies.lists(strategies.tuples(strategies.integers(0, 5), VERDICTS), max_size=40)
HALTS = strategies.tuples(strategies.integers(0, 11), strategies.sampled_from(["go", "kill", "freeze"]))


@dataclass(frozen=True)
class Alphabet:
    """What rules draw from; a rule with nothing to draw from is none. Narrow ones find a fault of one kind sooner."""

    persons: Sequence[str] = PERSONS
    steers: Sequence[str] = STEERS
    steps: Sequence[str] = STEPS
    together: Sequence[str] = TOGETHER
    nemeses: Sequence[str] = NEMESES


def life_of(alphabet: Alphabet) -> type[TenantLife]:
    """The state machine with these rules."""
    words = {
        name: strategies.sampled_from(getattr(alphabet, name)) for name in vars(alphabet) if getattr(alphabet, name)
    }
    rules: dict[str, Any] = {}
    if "persons" in words:
        rules["person"] = rule(what=words["persons"], size=SIZES, pick=PICKS, halt=HALTS)
    if "steers" in words:
        rules["administrator"] = rule(action=words["steers"], pick=PICKS, others=PICKS, halt=HALTS)
    if "steps" in words:
        rules["work"] = rule(what=words["steps"], times=strategies.integers(1, 2), halt=HALTS)
    if "together" in words:
        drawn = strategies.lists(strategies.tuples(words["together"], PICKS), min_size=2, max_size=3)
        rules["together"] = rule(drawn=drawn, same=strategies.booleans(), size=SIZES, moves=MOVES)
    if "nemeses" in words:
        rules["nemesis"] = rule(what=words["nemeses"], pick=PICKS, size=SIZES)
    return type("Life", (TenantLife,), {name: made(getattr(TenantLife, name)) for name, made in rules.items()})


#: For each fault of tests/mutants: where an example begins, and what may happen in it.
NARROW: Final[Mapping[str, tuple[Depth, Alphabet]]] = {
    "no_hash_check_on_copy": ("copies", Alphabet((), (), ("survey", "transfers"), (), ("damage",))),
    "purge_without_fence": ("finalizing", Alphabet(("upload",), (), ("sweep",), (), ("late removal",))),
    "cut_over_without_compare_and_set": ("ready", Alphabet((), (), (), ("steer",), ())),
    "quota_read_then_write": ("nothing", Alphabet(("upload",), (), (), (), ("crowd",))),
    "finish_without_fence": ("nothing", Alphabet((), (), (), (), ("late write",))),
    "audit_outside_the_transaction": ("nothing", Alphabet(("upload", "ask again"), (), (), (), ())),
    "retry_reuses_a_partial_stream": ("nothing", Alphabet((), (), (), (), ("fault",))),
    "policy_without_check": ("nothing", Alphabet(("upload",), (), (), (), ())),
    "redaction_off": ("nothing", Alphabet((), (), (), (), ("fault",))),
}
