"""What the guard refuses."""

from __future__ import annotations

from simples3dms.errors import Conflict, Invalid, Unavailable
from simples3dms.kit.texts import LONGEST_REASON


def unconfirmed() -> Unavailable:
    return Unavailable(
        "The database was restored: nothing is removed from stores until an operator has confirmed it "
        "(`simples3dms upkeep confirm-restore`).",
        code="restore_unconfirmed",
    )


def not_held() -> Conflict:
    return Conflict("Removals are not held back: there is nothing to confirm.", code="restore_not_held")


def reason_invalid() -> Invalid:
    message = f"A reason has 1 to {LONGEST_REASON} printable characters."
    return Invalid(message, code="reason_invalid", fields=[{"field": "reason", "message": message}])
