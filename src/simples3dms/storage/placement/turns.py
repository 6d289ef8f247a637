"""What a migration makes of a policy: pure functions. Rules are part of it, so everything is done to each layout."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

from simples3dms.storage.placement.selections import Selection, both
from simples3dms.storage.placement.values import Layout, Match, Policy, Rule, match_document


@dataclass(frozen=True, slots=True)
class Move:
    """What a migration moves: from where to where, and of which blobs (None: of all that belong at the source).

    What a rule keeps elsewhere is no part of it. Of a part, the policy gets rules of its own, each before the layout
    that the rest of its blobs goes on to follow.
    """

    source: UUID
    target: UUID
    only: Match | None = None


def started(policy: Policy, move: Move) -> Policy:
    """The policy with a copy at the target of what is to be moved there. Raises Unclear."""
    return _changed(policy, move, lambda layout: _with_copy(layout, move.target))


def moved(policy: Policy, move: Move) -> Policy:
    """The policy with the target wherever it named the source. Raises Unclear."""
    return _read_turned(_changed(policy, move, lambda layout: _turned(layout, move.source, move.target)), move)


def soaking(policy: Policy, move: Move) -> Policy:
    """The policy after a cut-over: moved, and with a copy at the source of what would have been there."""

    def change(layout: Layout) -> Layout:
        return _with_copy(_turned(layout, move.source, move.target), move.source)

    return _read_turned(_changed(policy, move, change), move)


def scope(policy: Policy, move: Move) -> dict[str, Any]:
    """Which layouts the move is about, as it is written down at its start: whether each names `source` and `target`."""

    def named(layout: Layout) -> dict[str, bool]:
        return {"source": move.source in layout.store_ids, "target": move.target in layout.store_ids}

    rules = [{"match": match_document(rule.match), **named(rule.layout)} for rule in policy.rules]
    return {**only_scope(move.only), "rules": rules, "own": named(policy.layout)}


def only_scope(only: Match | None) -> dict[str, Any]:
    """The same before the start: all that is known is what was asked for."""
    return {} if only is None else {"only": match_document(only)}


def selected(policy: Policy, move: Move) -> Selection:
    """What the move is about, now: what belongs at the source, and what lies there alone."""
    rules = tuple((rule.match, move.source in rule.layout.store_ids) for rule in policy.rules)
    return Selection(move.only, rules, move.source in policy.layout.store_ids, lone_store_id=move.source)


def is_written(policy: Policy, store_id: UUID) -> bool:
    """Whether any layout writes to the store."""
    return any(store_id in layout.write_store_ids for layout in policy.layouts)


def _read_turned(policy: Policy, move: Move) -> Policy:
    """What is read first holds for all blobs: a part of them changes nothing there."""
    read, source, target = policy.read_store_ids, move.source, move.target
    if not read or move.only is not None:
        return policy
    rest = [store_id for store_id in read if store_id not in (source, target)]
    return replace(policy, read_store_ids=(target, *rest, *((source,) if source in read else ())))


def _changed(policy: Policy, move: Move, change: Callable[[Layout], Layout]) -> Policy:
    """The policy with another layout for what is moved of each layout that names the source."""
    rules: list[Rule] = []
    for rule in policy.rules:
        if move.source not in rule.layout.store_ids:
            rules.append(rule)
        elif move.only is None or both(rule.match, move.only) == rule.match:
            rules.append(replace(rule, layout=change(rule.layout)))
        else:
            _add(rules, both(rule.match, move.only), change(rule.layout))
            rules.append(rule)
    if move.source in policy.layout.store_ids:
        if move.only is None:
            policy = policy.with_layout(change(policy.layout))
        else:
            _add(rules, move.only, change(policy.layout))
    return replace(policy, rules=tuple(rules))


def _add(rules: list[Rule], match: Match | None, layout: Layout) -> None:
    """Behind the same condition a rule would never be asked."""
    if match is not None and all(rule.match != match for rule in rules):
        rules.append(Rule(match, layout))


def _with_copy(layout: Layout, store_id: UUID) -> Layout:
    if store_id in layout.copy_store_ids or layout.write_store_ids == (store_id,):
        return layout
    # One of several that are shared out among has some blobs only: the others are owed a copy there.
    return replace(layout, copy_store_ids=(*layout.copy_store_ids, store_id))


def _turned(layout: Layout, source: UUID, target: UUID) -> Layout:
    weights: dict[UUID, int] = {}
    for store_id, weight in layout.write_weights:
        there = target if store_id == source else store_id
        weights[there] = weights.get(there, 0) + weight
    write = target if layout.write_store_id == source else layout.write_store_id
    copies = dict.fromkeys(target if store_id == source else store_id for store_id in layout.copy_store_ids)
    return replace(
        layout,
        write_store_id=write,
        copy_store_ids=tuple(store_id for store_id in copies if store_id != write and store_id not in weights),
        write_weights=tuple(weights.items()) if len(weights) > 1 else (),
    )


def lacks_stores(policy: Policy) -> bool:
    """Whether uploads would have to wait for more stores than hold their bytes."""
    return any(layout.min_acks > 1 + len(layout.copy_store_ids) for layout in policy.layouts)


def is_drawn(policy: Policy) -> bool:
    """Whether further copies are drawn for each blob: a migration could not say which stores they are in."""
    return any(layout.spread for layout in policy.layouts)


def wants_more(before: Policy, after: Policy) -> bool:
    """Whether blobs that are there already may be owed copies after this change, or come to be as they age."""
    return waits_for_age(after) or (
        any(layout.copy_store_ids or layout.spread for layout in after.layouts)
        and _all_copies(before) != _all_copies(after)
    )


def waits_for_age(policy: Policy) -> bool:
    """Whether blobs come to belong elsewhere by growing older."""
    return any(rule.match.min_age_days or rule.match.max_age_days is not None for rule in policy.rules)


def _all_copies(policy: Policy) -> object:
    rules = [(rule.match, rule.layout.copy_store_ids, rule.layout.spread) for rule in policy.rules]
    return rules, policy.copy_store_ids, policy.spread
