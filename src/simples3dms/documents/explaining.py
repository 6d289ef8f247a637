"""Why the bytes of a document are where they are: what the placement wants of them, what is there, what is owed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from simples3dms.documents.values import Explanation, StoreReason
from simples3dms.storage.blobs.values import ReadReason, Replica
from simples3dms.storage.placement.router import draw, layout_of, rule_of, wanted_stores, write_store_of
from simples3dms.storage.placement.values import Policy, Subject
from simples3dms.storage.transfers.values import Debt

_NO_LONGER = "retiring"


@dataclass(frozen=True, slots=True)
class Facts:
    """What the records say of one version's bytes."""

    number: int
    subject: Subject
    placement_version: int
    policy: Policy
    replicas: Sequence[Replica]
    debts: Sequence[Debt]
    names: Mapping[UUID, str]
    is_migrating: bool
    reading: Sequence[ReadReason]


def explain(facts: Facts) -> Explanation:
    """The reasons, store by store: those that the placement wants in its order, then all others that hold bytes."""
    policy, subject = facts.policy, facts.subject
    rule = rule_of(policy, subject)
    wanted = wanted_stores(policy, subject)
    others = dict.fromkeys((*(one.store_id for one in facts.replicas), *(one.store_id for one in facts.debts)))
    store_ids = [*wanted, *(store_id for store_id in others if store_id not in wanted)]
    return Explanation(
        version_number=facts.number,
        content_type=subject.content_type,
        size_bytes=subject.size_bytes or 0,
        age_days=int(subject.age_seconds // 86_400),
        placement_version=facts.placement_version,
        rule=None if rule is None else policy.rules.index(rule) + 1,
        is_migrating=facts.is_migrating,
        read_preference=facts.policy.read_preference,
        stores=[_reason(facts, store_id, is_wanted=store_id in wanted) for store_id in store_ids],
    )


def _reason(facts: Facts, store_id: UUID, *, is_wanted: bool) -> StoreReason:
    layout = layout_of(facts.policy, facts.subject)
    weights = dict(layout.write_weights)
    role = None
    if store_id == write_store_of(facts.policy, facts.subject):
        role = "write"
    elif store_id in layout.copy_store_ids:
        role = "copy"
    elif is_wanted:
        role = "drawn copy"
    there = [one for one in facts.replicas if one.store_id == store_id]
    # The one that counts most: a live one before one that is being written, doubted or removed.
    replica = min(there, key=lambda one: _ORDER.index(one.state), default=None)
    place = next((n for n, one in enumerate(facts.reading, 1) if one.store_id == store_id), None)
    debt = next((one for one in facts.debts if one.store_id == store_id), None)
    return StoreReason(
        store=facts.names.get(store_id, str(store_id)),
        role=role,
        verdict=_verdict(role, replica, debt),
        weight=weights.get(store_id),
        draw=round(draw(store_id, weights[store_id], facts.subject.blob_id), 4) if store_id in weights else None,
        state=replica.state if replica else None,
        evidence=replica.evidence if replica else None,
        evidence_at=replica.evidence_at if replica else None,
        debt=debt.state if debt else None,
        debt_reason=(debt.waived_reason or debt.error_message) if debt else None,
        read_place=place,
        read_reason=None if place is None else facts.reading[place - 1].reason,
    )


_ORDER = ("live", "suspect", "missing", "writing", _NO_LONGER)


def _verdict(role: str | None, replica: Replica | None, debt: Debt | None) -> str:
    is_live = replica is not None and replica.state == "live"
    if role is None:
        return "going" if replica is not None and replica.state == _NO_LONGER else "extra" if replica else "owed"
    if is_live:
        return "there"
    return "owed" if debt is not None or (replica is not None and replica.state == "writing") else "lacking"
