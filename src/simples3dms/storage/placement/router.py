"""The router: pure functions from a policy to a store or an order of stores."""

from __future__ import annotations

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
    """The replicas in the order to try: the listed read order, then the write target, then the copies, then others."""
    if policy is None:
        return list(replicas)
    preference: dict[UUID, int] = {}
    for store_id in (*policy.read_store_ids, policy.write_store_id, *policy.copy_store_ids):
        preference.setdefault(store_id, len(preference))
    last = len(preference)
    return sorted(replicas, key=lambda replica: preference.get(replica.store_id, last))


def missing_stores(policy: Policy, present: Iterable[UUID]) -> list[UUID]:
    """The stores that the policy wants a replica in and that hold none, in the policy's order."""
    have = set(present)
    return [store_id for store_id in dict.fromkeys(policy.wanted_store_ids) if store_id not in have]
