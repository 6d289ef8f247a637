"""What a migration makes of a policy: pure functions. Rules are part of it, so everything is done to each layout."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from uuid import UUID

from simples3dms.storage.placement.values import Layout, Policy


def with_copies_at(policy: Policy, store_id: UUID) -> Policy:
    """The policy with a copy of every blob at the store, whichever rule it follows."""
    return _each(policy, lambda layout: _with_copy(layout, store_id))


def turned(policy: Policy, source: UUID, target: UUID) -> Policy:
    """The policy with the target wherever it named the source."""
    read = policy.read_store_ids
    if read:
        rest = [store_id for store_id in read if store_id not in (source, target)]
        read = (target, *rest, *((source,) if source in read else ()))
    return replace(_each(policy, lambda layout: _turned(layout, source, target)), read_store_ids=read)


def soaking(policy: Policy, source: UUID, target: UUID) -> Policy:
    """The policy after a cut-over: turned, and with a copy at the source of what would have been there."""

    def change(layout: Layout) -> Layout:
        after = _turned(layout, source, target)
        return _with_copy(after, source) if source in layout.store_ids else after

    return replace(_each(policy, change), read_store_ids=turned(policy, source, target).read_store_ids)


def without_copies_at(policy: Policy, store_id: UUID) -> Policy:
    """The policy with no copies at the store any more."""
    return _each(
        policy,
        lambda layout: replace(layout, copy_store_ids=tuple(s for s in layout.copy_store_ids if s != store_id)),
    )


def _each(policy: Policy, change: Callable[[Layout], Layout]) -> Policy:
    rules = tuple(replace(rule, layout=change(rule.layout)) for rule in policy.rules)
    return replace(policy.with_layout(change(policy.layout)), rules=rules)


def _with_copy(layout: Layout, store_id: UUID) -> Layout:
    if store_id in layout.copy_store_ids or layout.write_store_ids == (store_id,):
        return layout
    # One of several that are shared out among has some blobs only: the others are owed a copy there.
    return replace(layout, copy_store_ids=(*layout.copy_store_ids, store_id))


def _turned(layout: Layout, source: UUID, target: UUID) -> Layout:
    if source not in layout.store_ids:
        return layout
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
