"""Placement of one tenant: show it, set it."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from typing import Final
from uuid import UUID

from simples3dms.audit.service import record
from simples3dms.context import Principal
from simples3dms.db.session import Database, UnitOfWork
from simples3dms.errors import Conflict, Invalid, NotFound
from simples3dms.storage.placement import repository
from simples3dms.storage.placement.residency import refuse_new
from simples3dms.storage.placement.turns import wants_more
from simples3dms.storage.placement.values import (
    COUNTED,
    Grant,
    Outside,
    Placement,
    PlacementRow,
    Policy,
    PolicyWords,
    ReadPreference,
    Residency,
    RuleWords,
    SpreadWords,
)
from simples3dms.storage.placement.words import in_words, to_policy
from simples3dms.storage.rollout.service import Rollouts
from simples3dms.storage.stores.errors import jurisdiction_unknown
from simples3dms.storage.stores.jurisdictions import is_inside, is_jurisdiction
from simples3dms.storage.stores.residency import allowed_jurisdictions, held_jurisdictions, lock_jurisdictions
from simples3dms.tenants.repository import set_allowed_jurisdictions
from simples3dms.tenants.service import require_operator

_COUNT_PAGE: Final = 10_000


class Placements:
    """The placement policies of all tenants."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._rollouts = Rollouts(database)

    async def get_placement(self, tenant_id: UUID) -> Placement:
        """The policy in force. Raises NotFound (`placement_not_set`) for a tenant that has none yet."""
        async with self._database.tenant(tenant_id) as uow:
            row = await repository.find(uow)
            if row is None:
                raise not_set()
            return in_words(row, await repository.list_grants(uow))

    async def set_placement(
        self,
        principal: Principal,
        tenant_id: UUID,
        *,
        write: str,
        copies: Sequence[str] = (),
        read: Sequence[str] = (),
        shares: Mapping[str, int] | None = None,
        spread: SpreadWords | None = None,
        min_acks: int = 1,
        rules: Sequence[RuleWords] = (),
        read_preference: ReadPreference = ReadPreference.LISTED,
        hedge: bool = False,
        expected_version: int | None = None,
    ) -> Placement:
        """Put a policy in force for what is written from now on; a migration moves what is there already.

        Copies that it wants besides of what is there come to be owed, in the background, and those it wants no more
        stay until a migration leaves their store.

        `shares`: weights by which new blobs are shared out among stores, `write` being one of them; which blob goes
        where never changes while they grow. `spread`: further copies in stores that are drawn for each blob. `rules`:
        other places for blobs that match; the first that does holds. `read_preference`: which of several copies is
        read first, `read` deciding among equals. `hedge`: whether a second store is asked when the first is late.
        Refused while a migration is under way: it owns the policy then. Raises Invalid (`placement_invalid`, with the
        fields that are wrong), and Conflict
        (`placement_changed`) when `expected_version` is given and another version is in force. A store that the policy
        in force does not name is new: Conflict (`kind_not_enabled`, `residency_violated`) where it may not be used;
        what is in use may stay.
        """
        words = PolicyWords(
            write,
            tuple(copies),
            dict(shares or {}),
            spread,
            min_acks,
            tuple(read),
            tuple(rules),
            read_preference,
            hedge,
        )
        closed = await self._rollouts.closed_kinds(tenant_id)
        async with self._database.tenant(tenant_id) as uow:
            row = await repository.lock(uow)
            current = row.version if row else 0
            if expected_version is not None and expected_version != current:
                raise Conflict(
                    f"The placement is at version {current}, not {expected_version}; look at it again.",
                    code="placement_changed",
                )
            if await repository.is_migrating(uow):
                raise Conflict(
                    "A migration is under way and owns the placement; finish it or roll it back first.",
                    code="migration_active",
                )
            grants = await repository.hold_grants(uow)
            held = row.policy.wanted_store_ids if row else ()
            allowed = await held_jurisdictions(uow, tenant_id)
            policy = to_policy(grants, words, closed=closed, allowed=allowed, held=held)
            new = [one for one in grants if one.store_id in policy.wanted_store_ids and one.store_id not in held]
            await refuse_new(uow, new, closed)
            if not await repository.save(uow, policy, version=current + 1, reason="set"):
                raise Conflict("The placement was set by somebody else just now; look at it.", code="placement_changed")
            if row is not None and wants_more(row.policy, policy):
                await repository.want_survey(uow)
            await record(
                uow,
                principal,
                "placement.set",
                target_type="placement",
                target_id=str(current + 1),
                tenant_id=tenant_id,
                details=_details(words),
            )
            saved = await repository.find(uow)
            assert saved is not None
            return in_words(saved, grants)

    async def get_residency(self, tenant_id: UUID) -> Residency:
        """Where the tenant's documents may lie, and what lies outside of that."""
        async with self._database.tenant(tenant_id) as uow:
            allowed = await allowed_jurisdictions(uow, tenant_id)
        return Residency(None if allowed is None else sorted(allowed), await self._outside(tenant_id, allowed))

    async def plan_residency(self, principal: Principal, tenant_id: UUID, allowed: Sequence[str] | None) -> Residency:
        """What would lie outside, with another list. Changes nothing. For operators. Raises as `set_residency`."""
        require_operator(principal)
        codes = _codes(allowed)
        return Residency(codes, await self._outside(tenant_id, codes))

    async def set_residency(self, principal: Principal, tenant_id: UUID, allowed: Sequence[str] | None) -> Residency:
        """Say where the tenant's documents may lie; None: anywhere. For operators.

        What lies outside then is listed, and marked wherever it is shown; it stays readable and in use, until somebody
        moves it. Raises Invalid (`jurisdiction_unknown`).
        """
        require_operator(principal)
        codes = _codes(allowed)
        async with self._database.platform(acting_for=tenant_id) as uow:
            before = await lock_jurisdictions(uow, tenant_id)
            await set_allowed_jurisdictions(uow, tenant_id, codes)
            outside = _outside_of(codes, await repository.list_grants(uow))
            await record(
                uow,
                principal,
                "residency.set",
                target_type="tenant",
                target_id=str(tenant_id),
                tenant_id=tenant_id,
                details={
                    "before": None if before is None else sorted(before),
                    "allowed": codes,
                    "outside": [grant.name for grant in outside],
                },
            )
        return await self.get_residency(tenant_id)

    async def _outside(self, tenant_id: UUID, allowed: Collection[str] | None) -> list[Outside]:
        async with self._database.tenant(tenant_id) as uow:
            grants = _outside_of(allowed, await repository.list_grants(uow))
            row = await repository.find(uow)
        used = row.policy.wanted_store_ids if row else ()
        return [
            Outside(grant.name, grant.jurisdiction, grant.store_id in used, await self._count(tenant_id, grant))
            for grant in grants
        ]

    async def _count(self, tenant_id: UUID, grant: Grant) -> int:
        """Page by page, each in a unit of work of its own."""
        count, after = 0, UUID(int=0)
        while count < COUNTED:
            async with self._database.tenant(tenant_id) as uow:
                found, last = await repository.count_replicas(uow, grant.store_id, after=after, limit=_COUNT_PAGE)
            count += found
            if last is None:
                break
            after = last
        return count


def _outside_of(allowed: Collection[str] | None, grants: Sequence[Grant]) -> list[Grant]:
    return [grant for grant in grants if not is_inside(grant.jurisdiction, allowed)]


def _codes(allowed: Sequence[str] | None) -> list[str] | None:
    if allowed is None:
        return None
    for code in allowed:
        if not is_jurisdiction(code):
            raise jurisdiction_unknown(code)
    if not allowed:
        raise Invalid(
            "Name at least one country or bloc; without a list, documents may lie anywhere.", code="residency_empty"
        )
    return sorted(set(allowed))


def _details(words: PolicyWords) -> dict[str, object]:
    """For the audit: the policy in words, without what it leaves to the rest."""
    always = {name: getattr(words, name) for name in ("write", "copies", "read", "shares")}
    details = {**always, **{name: value for name, value in asdict(words).items() if value and name not in always}}
    if words.min_acks == 1:
        del details["min_acks"]
    if words.read_preference is ReadPreference.LISTED:
        del details["read_preference"]
    return json.loads(json.dumps(details)) if details else {}


def not_set() -> NotFound:
    return NotFound(
        "This tenant has no placement yet: an administrator sets one with `simples3dms placement set --write STORE`.",
        code="placement_not_set",
    )


async def swap(uow: UnitOfWork, row: PlacementRow, policy: Policy, *, reason: str) -> int:
    """Replace the policy in a unit of work that holds the row's lock; the new version."""
    saved = await repository.save(uow, policy, version=row.version + 1, reason=reason)
    assert saved, "the caller holds the row's lock"
    return row.version + 1
