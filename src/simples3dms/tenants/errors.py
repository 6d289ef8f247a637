"""What is wrong with a tenant's settings."""

from __future__ import annotations

from collections.abc import Sequence

from simples3dms.errors import Conflict, Invalid


def settings_invalid(problems: Sequence[tuple[str, str]]) -> Invalid:
    """A problem for each field, so that a form can show it where it belongs."""
    return Invalid(
        " ".join(message for _, message in problems),
        code="tenant_settings_invalid",
        fields=[{"field": field, "message": message} for field, message in problems],
    )


def being_deleted() -> Conflict:
    return Conflict("The tenant is being deleted: nothing brings it back.", code="tenant_being_deleted")


def settings_changed(version: int) -> Conflict:
    return Conflict(
        "The tenant's settings were changed meanwhile: look at them again.",
        code="tenant_settings_changed",
        version=version,
    )
