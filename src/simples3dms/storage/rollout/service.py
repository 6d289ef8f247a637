"""Rollouts: for whom each kind of store is there, and the rules for stores that tenants bring. Set by operators."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from uuid import UUID

from simples3dms.audit.service import record
from simples3dms.context import Principal
from simples3dms.db.session import Database, UnitOfWork
from simples3dms.egress import Destination
from simples3dms.providers.registry import get_kind, list_kinds
from simples3dms.providers.stack import TUNABLE
from simples3dms.storage.rollout import errors, repository
from simples3dms.storage.rollout.values import Attach, Change, OwnStoreRule, Preview, Reach, Rollout
from simples3dms.tenants.service import require_operator

#: In a rule's `hosts`: anywhere, by https on its general port. The egress guard stands all the same.
ANYWHERE = "*"


class Rollouts:
    """The rollouts of all kinds. A change is for what begins after it: what is in use goes on working."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def list_rollouts(self) -> list[Rollout]:
        """Of every kind that there is, also where nobody has set one."""
        async with self._database.platform() as uow:
            held = {rollout.kind: rollout for rollout in await repository.list_all(uow)}
        return [held.get(kind) or _unset(kind) for kind in sorted({*list_kinds(), *held})]

    async def get_rollout(self, kind: str) -> Rollout:
        """Raises Invalid (`store_kind_unknown`)."""
        _known(kind)
        async with self._database.platform() as uow:
            return await repository.find(uow, kind) or _unset(kind)

    async def find(self, uow: UnitOfWork, kind: str) -> Rollout | None:
        """In the platform's unit of work; None where nobody has set one."""
        return await repository.find(uow, kind)

    async def preview_rollout(self, principal: Principal, kind: str, change: Change) -> Preview:
        """What the change would do, without doing it. For operators. Raises Invalid (`rollout_invalid`)."""
        require_operator(principal)
        async with self._database.platform() as uow:
            return await repository.preview(uow, kind, await _checked(uow, kind, change))

    async def set_rollout(
        self, principal: Principal, kind: str, change: Change, *, expected_version: int | None = None
    ) -> Rollout:
        """For operators. Raises Invalid (`rollout_invalid`), Conflict (`rollout_changed`) where another version than
        the expected one is in force."""
        require_operator(principal)
        async with self._database.platform() as uow:
            await repository.lock(uow)
            change = await _checked(uow, kind, change)
            held = await repository.find(uow, kind) or _unset(kind)
            if expected_version is not None and expected_version != held.version:
                raise errors.changed(kind, held.version)
            preview = await repository.preview(uow, kind, change)
            await repository.save(uow, kind, change, version=held.version + 1)
            await record(
                uow,
                principal,
                "rollout.set",
                target_type="kind",
                target_id=kind,
                details={**_said(change), "before": _said(held), "gained": preview.gained, "lost": preview.lost},
            )
            saved = await repository.find(uow, kind)
        assert saved is not None
        return saved

    async def closed_kinds(self, tenant_id: UUID) -> frozenset[str]:
        """The kinds that a tenant may not begin to use. A unit of work of its own, since others are named there."""
        async with self._database.platform() as uow:
            return frozenset(await repository.list_closed(uow, tenant_id))

    async def list_rules(self) -> list[OwnStoreRule]:
        async with self._database.platform() as uow:
            return await repository.list_rules(uow)

    async def list_rules_for(self, tenant_id: UUID) -> list[OwnStoreRule]:
        """The rules by which a tenant may bring stores now."""
        async with self._database.platform() as uow:
            closed = await repository.list_closed(uow, tenant_id)
            open_kinds = {one.kind for one in await repository.list_all(uow) if one.attach == Attach.TENANTS}
            rules = await repository.list_rules(uow)
        return [rule for rule in rules if rule.kind in open_kinds - set(closed) and rule.most_per_tenant > 0]

    async def set_rule(self, principal: Principal, rule: OwnStoreRule) -> OwnStoreRule:
        """For operators. What was brought before stays. Raises Invalid (`own_store_rule_invalid`)."""
        require_operator(principal)
        clean = _checked_rule(rule)
        async with self._database.platform() as uow:
            await repository.save_rule(uow, clean)
            details = {
                "hosts": clean.hosts,
                "regions": clean.regions,
                "most_per_tenant": clean.most_per_tenant,
                "bounds": dict(clean.bounds),
            }
            await record(uow, principal, "own_store_rule.set", target_type="kind", target_id=rule.kind, details=details)
            saved = await repository.find_rule(uow, rule.kind)
        assert saved is not None
        return saved

    async def remove_rule(self, principal: Principal, kind: str) -> None:
        """Let tenants bring no more of a kind. For operators. Raises NotFound (`own_store_rule_not_found`)."""
        require_operator(principal)
        async with self._database.platform() as uow:
            if not await repository.delete_rule(uow, kind):
                raise errors.rule_not_found(kind)
            await record(uow, principal, "own_store_rule.removed", target_type="kind", target_id=kind)

    async def rule_for(self, tenant_id: UUID, kind: str) -> OwnStoreRule:
        """The rule by which a tenant may bring a store of a kind. Raises Invalid (`own_store_refused`)."""
        for rule in await self.list_rules_for(tenant_id):
            if rule.kind == kind:
                return rule
        raise errors.not_allowed(kind)


def refuse_off(rollout: Rollout | None, kind: str) -> None:
    """Raise Conflict (`kind_not_enabled`) where a kind is there for nobody."""
    if rollout is not None and rollout.reach == Reach.OFF:
        raise errors.kind_not_enabled(kind)


async def refuse_closed(uow: UnitOfWork, tenant_id: UUID, kind: str) -> None:
    """Raise Conflict (`kind_not_enabled`) unless the kind is there for the tenant. In the platform's unit of work."""
    if kind in await repository.list_closed(uow, tenant_id):
        raise errors.kind_not_enabled(kind)


def refuse_unruly(rule: OwnStoreRule, settings: Mapping[str, Any], destinations: list[Destination]) -> None:
    """Raise Invalid where a store of these settings is not within the rule. No look-up: only what is written."""
    if not destinations:
        # It makes no connection that the guard could see: a place on our own machine.
        raise errors.not_allowed(rule.kind)
    if ANYWHERE in rule.hosts:
        inside = all((one.scheme, one.port) == ("https", 443) for one in destinations)
    else:
        entries = [_entry(text) for text in rule.hosts]
        inside = all(any(_is_at(one, entry) for entry in entries) for one in destinations)
    if not inside:
        raise errors.elsewhere(rule.hosts)
    if rule.regions and settings.get("region") not in rule.regions:
        raise errors.other_region(rule.regions)


def refuse_out_of_bounds(rule: OwnStoreRule, tuning: Mapping[str, Any]) -> None:
    """Raise Invalid (`store_settings_invalid`, with fields) for what a tenant may not tune, or not so far."""
    wrong = []
    for name, value in tuning.items():
        bounds = rule.bounds.get(name)
        if bounds is None:
            wrong.append({"field": name, "message": "is the operator's to tune"})
        elif isinstance(value, bool) or not isinstance(value, int | float) or not bounds[0] <= value <= bounds[1]:
            wrong.append({"field": name, "message": f"must be a number from {bounds[0]:g} to {bounds[1]:g}"})
    if wrong:
        raise errors.out_of_bounds(wrong)


def _is_at(one: Destination, entry: Destination) -> bool:
    """Whether a destination is where an entry says. A host stands for the hosts of its buckets, too."""
    if (one.scheme, one.port) != (entry.scheme, entry.port):
        return False
    return one.host.endswith(entry.host[1:]) if entry.is_wildcard else one.host.removeprefix("*.") == entry.host


def _entry(text: str) -> Destination:
    return Destination.of(text if "://" in text else f"https://{text}")


def _unset(kind: str) -> Rollout:
    return Rollout(kind, 0, Reach.EVERYONE, 0.0, [], Attach.OPERATORS)


def _said(rollout: Rollout | Change) -> dict[str, Any]:
    return {
        "reach": str(rollout.reach),
        "percent": rollout.percent,
        "tenant_ids": [str(tenant_id) for tenant_id in rollout.tenant_ids],
        "attach": str(rollout.attach),
    }


def _known(kind: str) -> None:
    if kind not in list_kinds():
        get_kind(kind)  # raises, and names those that there are


async def _checked(uow: UnitOfWork, kind: str, change: Change) -> Change:
    """The change with each chosen tenant once. Raises Invalid (`rollout_invalid`, `store_kind_unknown`)."""
    _known(kind)
    if not 0 <= change.percent <= 100:
        raise errors.invalid("percent", "must be from 0 to 100")
    if change.percent and change.reach != Reach.PERCENT:
        raise errors.invalid("percent", "goes with the reach `percent` only")
    chosen = list(dict.fromkeys(change.tenant_ids))
    if len(chosen) > 1000:
        raise errors.invalid("tenants", "at most 1,000 can be chosen by name: use a percentage")
    if chosen and change.reach not in (Reach.CHOSEN, Reach.PERCENT):
        raise errors.invalid("tenants", "go with the reaches `chosen` and `percent` only")
    if await repository.list_missing_tenants(uow, chosen):
        raise errors.invalid("tenants", "there is no such tenant among them")
    return replace(change, tenant_ids=chosen)


def _checked_rule(rule: OwnStoreRule) -> OwnStoreRule:
    kind = get_kind(rule.kind)
    if kind.destinations is None:
        raise errors.rule_invalid("kind", "its stores don't pass the egress guard, which brought stores have to")
    for text in rule.hosts:
        if text != ANYWHERE:
            try:
                _entry(text)
            except ValueError:
                raise errors.rule_invalid("hosts", f"{text!r} is no host, `*.host`, or http(s)://host:port") from None
    if rule.regions and "region" not in kind.settings_model.model_fields:
        raise errors.rule_invalid("regions", f"stores of the kind {rule.kind!r} don't say their region")
    if not 0 <= rule.most_per_tenant <= 100:
        raise errors.rule_invalid("most_per_tenant", "must be from 0 to 100")
    for name, bounds in rule.bounds.items():
        known = TUNABLE.get(name)
        if known is None or len(bounds) != 2 or not known[0] <= bounds[0] <= bounds[1] <= known[1]:
            span = f": from {known[0]:g} to {known[1]:g}" if known else ""
            raise errors.rule_invalid("bounds", f"{name} needs a least and a greatest value that it can take{span}")
    hosts, regions = (list(dict.fromkeys(given)) for given in (rule.hosts, rule.regions))
    if len(hosts) > 100 or len(regions) > 100:
        raise errors.rule_invalid("hosts", "at most 100 hosts and 100 regions can be listed")
    return replace(rule, hosts=hosts, regions=regions, bounds={name: list(b) for name, b in rule.bounds.items()})
