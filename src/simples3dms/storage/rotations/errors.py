"""What stands in the way of a rotation."""

from __future__ import annotations

from simples3dms.errors import Conflict, Invalid, NotFound


def not_found() -> NotFound:
    return NotFound("This store's credential has not been rotated yet.", code="rotation_not_found")


def no_api(kind: str) -> Invalid:
    return Invalid(
        f"The provider of this store (kind {kind}) has no API for its keys, or the store's settings name none: "
        "give the new credential by hand.",
        code="key_management_missing",
    )


def too_late() -> Conflict:
    return Conflict("The old credential is no longer there to go back to; rotate once more.", code="rotation_too_late")


def not_switched() -> Conflict:
    return Conflict("Only a rotation that has switched can be finished; see its state.", code="rotation_not_switched")


def grace_too_short(least: float) -> Invalid:
    return Invalid(
        f"The old credential is kept for at least {least:g} seconds, until every process has turned to the new one.",
        code="rotation_grace_too_short",
    )
