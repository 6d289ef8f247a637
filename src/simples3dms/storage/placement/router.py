"""The router: pure functions from a policy to a store or an order of stores."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Final, Protocol, TypeVar
from uuid import UUID

from simples3dms.storage.placement.values import (
    Layout,
    Match,
    Policy,
    ReadPreference,
    Rule,
    Spread,
    Standing,
    Subject,
)

_DAY_SECONDS: Final = 86_400
_READABLE: Final = ("live", "suspect", "missing")


class Copy(Protocol):
    """A copy in a store. Any `state` but `live`, `suspect` and `missing` is not to be read."""

    @property
    def store_id(self) -> UUID: ...

    @property
    def state(self) -> str: ...


C = TypeVar("C", bound=Copy)


def order_for_reading(
    policy: Policy | None,
    copies: Iterable[C],
    standings: Mapping[UUID, Standing],
    *,
    blob: Subject | None = None,
) -> list[C]:
    """The copies in the order to try: live ones, then those at a resting store, then those that are doubted.

    What a store said once may have been wrong, and all bytes are compared. Within that the policy's preference decides,
    and among equals its listed order: those to read first, then where the blob belongs (its write target first), then
    the write targets, then the copies, then others. Without rules all blobs belong in the same places.
    """
    listed: dict[UUID, int] = {}
    if policy is not None:
        belongs = wanted_stores(policy, blob) if blob is not None else ()
        for store_id in (*policy.read_store_ids, *belongs, *policy.wanted_store_ids):
            listed.setdefault(store_id, len(listed))
    preference = policy.read_preference if policy else ReadPreference.LISTED

    def rank(copy: C) -> tuple[bool, bool, float, int]:
        standing = standings.get(copy.store_id)
        return (
            copy.state != "live",
            standing is not None and standing.is_resting,
            _cost(preference, standing),
            listed.get(copy.store_id, len(listed)),
        )

    return sorted((copy for copy in copies if copy.state in _READABLE), key=rank)


def _cost(preference: ReadPreference, standing: Standing | None) -> float:
    """What the preference counts. What is not known costs most, but a time: that is found out by asking."""
    if preference is ReadPreference.LISTED:
        return 0.0
    if standing is None:
        return math.inf
    if preference is ReadPreference.NEAREST:
        return standing.distance
    if preference is ReadPreference.CHEAPEST:
        return math.inf if standing.price is None else float(standing.price)
    return standing.seconds or 0.0


def rule_of(policy: Policy, blob: Subject) -> Rule | None:
    """The first rule that the blob matches; None: it follows the policy's own layout."""
    return next((rule for rule in policy.rules if matches(rule.match, blob)), None)


def matches(match: Match, blob: Subject) -> bool:
    """Whether the blob meets every condition. One about its size is not met while the size is not known."""
    if match.content_types:
        content_type = blob.content_type.partition(";")[0].strip().lower()
        if not any(fnmatchcase(content_type, pattern) for pattern in match.content_types):
            return False
    return _is_within(match.min_bytes, blob.size_bytes, match.max_bytes) and _is_within(
        match.min_age_days, math.floor(blob.age_seconds / _DAY_SECONDS), match.max_age_days
    )


def _is_within(least: int | None, value: int | None, most: int | None) -> bool:
    if value is None:
        return least is None and most is None
    return (least is None or value >= least) and (most is None or value <= most)


def layout_of(policy: Policy, blob: Subject) -> Layout:
    """Where the blob belongs, before anything is drawn."""
    rule = rule_of(policy, blob)
    return policy.layout if rule is None else rule.layout


def needs_size(policy: Policy, blob: Subject) -> bool:
    """Whether the blob's size, which is not known, may have uploads wait for more stores than it seems now."""
    unsized = [
        rule.layout
        for rule in policy.rules
        if matches(replace(rule.match, min_bytes=None, max_bytes=None), replace(blob, size_bytes=None))
    ]
    return blob.size_bytes is None and any(one.min_acks > layout_of(policy, blob).min_acks for one in unsized)


def stores_for_writing(policy: Policy, blob: Subject) -> list[UUID]:
    """The stores to write a new blob to, best first: as many as it must be in at once, then those that can stand in.

    Where it belongs comes first; after that, the stores that its layout shares new blobs out among.
    """
    layout = layout_of(policy, blob)
    shared = sorted(layout.write_weights, key=lambda share: (draw(share[0], share[1], blob.blob_id), share[0]))
    return list(dict.fromkeys((*wanted_stores(policy, blob), *(store_id for store_id, _ in reversed(shared)))))


def write_store_of(policy: Policy, blob: Subject) -> UUID:
    """The store that a blob is written to: always the same one, and each store has its share of all blobs.

    Weighted rendezvous hashing: every store draws a number for the blob, which its weight makes greater, and the
    greatest wins. So a weight that is raised only draws blobs to its store, and one that is lowered only lets go.
    """
    return _written(layout_of(policy, blob), blob.blob_id)


def _written(layout: Layout, blob_id: UUID) -> UUID:
    if not layout.write_weights:
        return layout.write_store_id
    return max(layout.write_weights, key=lambda share: (draw(share[0], share[1], blob_id), share[0]))[0]


def draw(store_id: UUID, weight: int, blob_id: UUID) -> float:
    """The number that a store draws for a blob."""
    digest = hashlib.sha256(store_id.bytes + blob_id.bytes).digest()
    # 53 bits, as a float has, and never 0 or 1.
    uniform = ((int.from_bytes(digest[:8]) >> 11) + 0.5) / 2**53
    return weight / -math.log(uniform)


def wanted_stores(policy: Policy, blob: Subject) -> list[UUID]:
    """The stores that the policy wants a replica of the blob in: where it is written first, then the copies."""
    layout = layout_of(policy, blob)
    named = list(dict.fromkeys((_written(layout, blob.blob_id), *layout.copy_store_ids)))
    return [*named, *(_spread(layout.spread, blob.blob_id, named) if layout.spread else ())]


def _spread(spread: Spread, blob_id: UUID, named: Sequence[UUID]) -> list[UUID]:
    """The further copies: the stores that draw the greatest numbers, each of a group that none before it is of."""
    groups = dict(spread.groups)
    taken = {groups.get(store_id) for store_id in named}
    chosen: list[UUID] = []
    for store_id in sorted(spread.store_ids, key=lambda one: (draw(one, 1, blob_id), one), reverse=True):
        if len(chosen) < spread.copy_count and store_id not in named and groups[store_id] not in taken:
            chosen.append(store_id)
            taken.add(groups[store_id])
    return chosen


def missing_stores(policy: Policy, blob: Subject, present: Iterable[UUID]) -> list[UUID]:
    """The stores that the policy wants a replica of the blob in and that hold none, in the policy's order."""
    have = set(present)
    return [store_id for store_id in wanted_stores(policy, blob) if store_id not in have]


def owed_stores(policy: Policy, blob: Subject, present: Iterable[UUID]) -> list[UUID]:
    """Where a blob that is there already is owed a copy: the copies that are wanted of it and are missing.

    The write target is for what is written from now on, so it is owed nothing of what lies elsewhere: that is a
    migration's to move. But a rule that waits for an age means blobs that were written elsewhere.
    """
    have = set(present)
    missing = missing_stores(policy, blob, have)
    rule = rule_of(policy, blob)
    is_aged = rule is not None and bool(rule.match.min_age_days)
    written = write_store_of(policy, blob)
    return [store_id for store_id in missing if store_id != written or is_aged or not have]
