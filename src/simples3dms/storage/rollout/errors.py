"""What the rollout of kinds refuses."""

from __future__ import annotations

from collections.abc import Sequence

from simples3dms.errors import Conflict, Invalid, NotFound


def kind_not_enabled(kind: str) -> Conflict:
    return Conflict(
        f"Stores of the kind {kind!r} are not enabled here yet: ask the operator. What is in use goes on working.",
        code="kind_not_enabled",
        kind=kind,
    )


def changed(kind: str, version: int) -> Conflict:
    return Conflict(
        f"The rollout of {kind!r} is at version {version} now: look at a new preview first.", code="rollout_changed"
    )


def invalid(field: str, message: str) -> Invalid:
    return Invalid("The rollout is not valid.", code="rollout_invalid", fields=[{"field": field, "message": message}])


def rule_invalid(field: str, message: str) -> Invalid:
    return Invalid(
        "The rule for stores that tenants bring is not valid.",
        code="own_store_rule_invalid",
        fields=[{"field": field, "message": message}],
    )


def rule_not_found(kind: str) -> NotFound:
    return NotFound(f"There is no rule for {kind!r}: tenants may bring none.", code="own_store_rule_not_found")


def not_allowed(kind: str) -> Invalid:
    """The same where the kind is not there for the tenant, where only operators attach it, and where no rule is."""
    return Invalid(
        f"Tenants may not bring stores of the kind {kind!r} here: ask the operator.", code="own_store_refused"
    )


def elsewhere(hosts: Sequence[str]) -> Invalid:
    named = ", ".join(hosts) or "nowhere"
    return Invalid(
        f"A store that a tenant brings must be at a host that the operator allows: {named}.",
        code="own_store_host_refused",
    )


def other_region(regions: Sequence[str]) -> Invalid:
    return Invalid(
        f"A store that a tenant brings must be in a region that the operator allows: {', '.join(regions)}.",
        code="own_store_region_refused",
    )


def too_many(most: int) -> Conflict:
    return Conflict(
        f"A tenant may bring at most {most} stores of this kind, disabled ones included: ask the operator.",
        code="own_store_limit",
    )


def out_of_bounds(fields: list[dict[str, str]]) -> Invalid:
    return Invalid("The store's settings are not valid.", code="store_settings_invalid", fields=fields)
