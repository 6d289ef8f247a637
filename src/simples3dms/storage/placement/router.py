"""The router: pure functions from a policy to a store or an order of stores."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable
from typing import Protocol, TypeVar
from uuid import UUID

from simples3dms.storage.placement.values import Policy


class Located(Protocol):
    """Anything that lies in a store."""

    @property
    def store_id(self) -> UUID: ...


L = TypeVar("L", bound=Located)


def order_for_reading(policy: Policy | None, replicas: Iterable[L]) -> list[L]:
    """The replicas in the order to try: the listed read order, then the write targets, then the copies, then others."""
    if policy is None:
        return list(replicas)
    preference: dict[UUID, int] = {}
    for store_id in (*policy.read_store_ids, *policy.wanted_store_ids):
        preference.setdefault(store_id, len(preference))
    last = len(preference)
    return sorted(replicas, key=lambda replica: preference.get(replica.store_id, last))


def write_store_of(policy: Policy, blob_id: UUID) -> UUID:
    """The store that a blob is written to: always the same one, and each store has its share of all blobs.

    Weighted rendezvous hashing: every store draws a number for the blob, which its weight makes greater, and the
    greatest wins. So a weight that is raised only draws blobs to its store, and one that is lowered only lets go.
    """
    if not policy.write_weights:
        return policy.write_store_id
    return max(policy.write_weights, key=lambda share: (_draw(share[0], share[1], blob_id), share[0]))[0]


def _draw(store_id: UUID, weight: int, blob_id: UUID) -> float:
    digest = hashlib.sha256(store_id.bytes + blob_id.bytes).digest()
    # 53 bits, as a float has, and never 0 or 1.
    uniform = ((int.from_bytes(digest[:8]) >> 11) + 0.5) / 2**53
    return weight / -math.log(uniform)


def missing_stores(policy: Policy, blob_id: UUID, present: Iterable[UUID]) -> list[UUID]:
    """The stores that the policy wants a replica of the blob in and that hold none, in the policy's order."""
    have = set(present)
    wanted = dict.fromkeys((write_store_of(policy, blob_id), *policy.copy_store_ids))
    return [store_id for store_id in wanted if store_id not in have]
