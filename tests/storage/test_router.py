"""The router's promises, for any policy: it answers from the policy and the blob, and always the same."""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from simples3dms.storage.placement.router import (
    layout_of,
    matches,
    missing_stores,
    rule_of,
    wanted_stores,
    write_store_of,
)
from simples3dms.storage.placement.selections import Unclear, both
from simples3dms.storage.placement.turns import Move, moved, soaking, started
from simples3dms.storage.placement.values import (
    Across,
    Layout,
    Match,
    Policy,
    Rule,
    Spread,
    Subject,
    from_document,
    to_document,
)

STORES = [UUID(int=n) for n in range(1, 9)]
TYPES = ("image/png", "image/jpeg", "text/plain; charset=utf-8", "application/pdf", "")
PATTERNS = ("image/*", "*/*", "*/png", "text/plain", "application/*", "video/mp4")


@st.composite
def subjects(draw: st.DrawFn) -> Subject:
    return Subject(
        draw(st.uuids()),
        draw(st.sampled_from(TYPES)),
        draw(st.none() | st.integers(0, 100)),
        draw(st.floats(0, 40 * 86_400)),
    )


@st.composite
def match_values(draw: st.DrawFn) -> Match:
    least, most = sorted((draw(st.integers(0, 100)), draw(st.integers(0, 100))))
    young, old = sorted((draw(st.integers(0, 40)), draw(st.integers(0, 40))))
    return Match(
        tuple(draw(st.lists(st.sampled_from(PATTERNS), max_size=2, unique=True))),
        draw(st.sampled_from((None, least))),
        draw(st.sampled_from((None, most))),
        draw(st.sampled_from((None, young))),
        draw(st.sampled_from((None, old))),
    )


@st.composite
def layouts(draw: st.DrawFn) -> Layout:
    stores = draw(st.permutations(STORES))
    shared = stores[: draw(st.integers(1, 3))]
    copies = stores[3 : 3 + draw(st.integers(0, 2))]
    spread = None
    if draw(st.booleans()):
        groups = tuple((store, draw(st.sampled_from("pqrst"))) for store in STORES)
        spread = Spread(draw(st.integers(1, 3)), Across.PROVIDERS, tuple(stores[5:]), groups)
    weights = tuple((store, draw(st.integers(1, 50))) for store in shared) if len(shared) > 1 else ()
    return Layout(stores[0], tuple(copies), weights, spread, draw(st.integers(1, 2)))


@st.composite
def policies(draw: st.DrawFn) -> Policy:
    rules = draw(st.lists(st.builds(Rule, match_values(), layouts()), max_size=4))
    read = tuple(draw(st.lists(st.sampled_from(STORES), max_size=3, unique=True)))
    return Policy(STORES[0], read_store_ids=read, rules=tuple(rules)).with_layout(draw(layouts()))


@given(policies(), subjects())
def test_the_first_rule_that_matches_holds(policy: Policy, blob: Subject) -> None:
    matching = [rule for rule in policy.rules if matches(rule.match, blob)]
    assert rule_of(policy, blob) == (matching[0] if matching else None)
    assert layout_of(policy, blob) == (matching[0].layout if matching else policy.layout)
    # What comes after it, and a rule that does not match before it, change nothing.
    never = Rule(Match(("video/nothing",)), Layout(STORES[7]))
    assert wanted_stores(replace(policy, rules=(never, *policy.rules)), blob) == wanted_stores(policy, blob)


@given(policies(), subjects())
def test_nothing_is_wanted_but_where_the_policy_says(policy: Policy, blob: Subject) -> None:
    wanted = wanted_stores(policy, blob)
    layout = layout_of(policy, blob)
    assert wanted[0] == write_store_of(policy, blob)
    assert len(set(wanted)) == len(wanted)
    assert set(wanted) <= set(layout.store_ids) <= set(policy.wanted_store_ids)
    assert wanted == wanted_stores(policy, blob)
    drawn = set(wanted) - {wanted[0], *layout.copy_store_ids}
    assert drawn <= set(layout.spread.store_ids if layout.spread else ())


@given(policies(), subjects(), st.sets(st.sampled_from(STORES)))
def test_nothing_is_missing_once_the_debts_are_paid(policy: Policy, blob: Subject, present: set[UUID]) -> None:
    owed = missing_stores(policy, blob, present)
    assert not set(owed) & present
    assert missing_stores(policy, blob, present | set(owed)) == []


@given(policies(), subjects())
def test_no_two_copies_share_a_group(policy: Policy, blob: Subject) -> None:
    layout = layout_of(policy, blob)
    assume(layout.spread is not None)
    assert layout.spread is not None
    groups = dict(layout.spread.groups)
    wanted = wanted_stores(policy, blob)
    named = [store for store in wanted if store == wanted[0] or store in layout.copy_store_ids]
    drawn = [store for store in wanted if store not in named]
    assert len(drawn) <= layout.spread.copy_count
    assert len({groups[store] for store in drawn}) == len(drawn)
    assert not {groups[store] for store in drawn} & {groups[store] for store in named}
    free = {groups[store] for store in layout.spread.store_ids} - {groups[store] for store in named}
    assert len(drawn) == min(layout.spread.copy_count, len(free)), "as many as there can be"


@given(st.uuids(), st.integers(1, 3), st.lists(st.sampled_from("pqrst"), min_size=8, max_size=8))
def test_a_store_that_is_added_only_draws_copies_to_itself(blob_id: UUID, count: int, names: list[str]) -> None:
    groups = tuple(zip(STORES, names, strict=True))
    before, after = (
        set(wanted_stores(Policy(STORES[0], spread=Spread(count, Across.PROVIDERS, free, groups)), Subject(blob_id)))
        for free in (tuple(STORES[1:7]), tuple(STORES[1:8]))
    )
    assert after <= before | {STORES[7]}


@given(policies(), subjects(), st.integers(0, 2), st.integers(1, 1000))
def test_a_weight_that_grows_only_draws(policy: Policy, blob: Subject, index: int, more: int) -> None:
    layout = layout_of(policy, blob)
    assume(index < len(layout.write_weights))
    raised = layout.write_weights[index][0]
    weights = tuple((store, weight + more * (store == raised)) for store, weight in layout.write_weights)
    grown = Policy(layout.write_store_id, write_weights=weights)
    assert write_store_of(grown, blob) in (write_store_of(policy, blob), raised)


@given(policies())
def test_what_is_written_down_reads_as_it_was(policy: Policy) -> None:
    assert from_document(to_document(policy)) == policy


@given(policies(), subjects(), st.permutations(STORES), st.none() | match_values())
def test_a_migration_turns_what_it_is_about_and_nothing_else(
    policy: Policy, blob: Subject, stores: list[UUID], only: Match | None
) -> None:
    move = Move(stores[0], stores[1], only)
    plain = replace(
        policy, spread=None, rules=tuple(replace(r, layout=replace(r.layout, spread=None)) for r in policy.rules)
    )
    try:
        begun, soak, after = started(plain, move), soaking(plain, move), moved(plain, move)
    except Unclear:
        assume(False)
    is_in = move.source in layout_of(plain, blob).store_ids and (only is None or matches(only, blob))
    if not is_in:
        for turned in (begun, soak, after):
            assert layout_of(turned, blob) == layout_of(plain, blob), "what it is not about stays where it is"
        return
    assert set(wanted_stores(plain, blob)) | {move.target} == set(wanted_stores(begun, blob)), "a copy of each, besides"
    assert write_store_of(begun, blob) == write_store_of(plain, blob)
    assert move.source not in layout_of(after, blob).store_ids
    if only is None:
        assert move.source not in after.wanted_store_ids
    assert write_store_of(soak, blob) == write_store_of(after, blob)
    assert move.source in wanted_stores(soak, blob), "the way back is kept"
    assert {*wanted_stores(soak, blob)} - {move.source} == {*wanted_stores(after, blob)}
    assert after.read_store_ids == soak.read_store_ids


@given(match_values(), match_values(), subjects())
def test_what_two_conditions_have_in_common(one: Match, other: Match, blob: Subject) -> None:
    try:
        common = both(one, other)
    except Unclear:
        assume(False)
    meets_both = matches(one, blob) and matches(other, blob)
    assert (common is not None and matches(common, blob)) == meets_both


def test_ranges_in_common_are_the_narrower_ones() -> None:
    one, other = Match((), 1, 8, 3, None), Match(("a/b",), 2, 9, 1, 7)
    assert both(one, other) == both(other, one) == Match(("a/b",), 2, 8, 3, 7)
    for low, high in ((Match(max_bytes=1), Match(min_bytes=2)), (Match(min_age_days=2), Match(max_age_days=1))):
        assert both(low, high) is None
        assert both(low, low) == low


def test_patterns_that_only_overlap_are_said_to() -> None:
    for one, other in (("image/*", "*/png"), ("a*/x", "*b/x"), ("*/a*", "x/*b")):
        with pytest.raises(Unclear):
            both(Match((one,)), Match((other,)))
    for one, other in (("image/*", "video/*"), ("*/png", "*/gif"), ("image/png", "video/*")):
        assert both(Match((one,)), Match((other,))) is None
    assert both(Match(("image/*", "text/plain")), Match(("image/png", "text/*"))) == Match(("image/png", "text/plain"))


def test_what_a_rule_asks() -> None:
    blob = Subject(UUID(int=9), "Image/PNG; q=1", 10, 3 * 86_400 + 5)
    for match, verdict in (
        (Match(("image/*",)), True),
        (Match(("image/jpeg", "image/png")), True),
        (Match(("image/jpeg",)), False),
        (Match(min_bytes=10, max_bytes=10), True),
        (Match(min_bytes=11), False),
        (Match(max_bytes=9), False),
        (Match(min_age_days=3, max_age_days=3), True),
        (Match(min_age_days=4), False),
        (Match(("image/*",), min_bytes=11), False),
    ):
        assert matches(match, blob) is verdict, match
    assert not matches(Match(max_bytes=10), replace(blob, size_bytes=None)), "not known yet"
    assert matches(Match(("image/*",)), replace(blob, size_bytes=None))
