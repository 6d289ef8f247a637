"""What can be wrong with a request about scrubs and stores' trust."""

from __future__ import annotations

from simples3dms.errors import Conflict, Invalid, NotFound
from simples3dms.kit.texts import LONGEST_REASON


def not_found() -> NotFound:
    return NotFound("There is no such scrub in this tenant.", code="scrub_not_found")


def not_granted(name: str) -> NotFound:
    return NotFound(f"The store {name!r} is not granted to this tenant.", code="store_not_granted")


def active(name: str) -> Conflict:
    return Conflict(
        f"A scrub of this tenant in the store {name!r} is running or paused: let it end first.", code="scrub_active"
    )


def wrong_state(action: str, state: str) -> Conflict:
    return Conflict(f"A scrub that is {state} can't be {action}.", code="scrub_state_wrong", state=state)


def reason_invalid() -> Invalid:
    message = f"A reason has 1 to {LONGEST_REASON} printable characters."
    return Invalid(message, code="reason_invalid", fields=[{"field": "reason", "message": message}])


def trusted_already(name: str) -> Conflict:
    return Conflict(f"The store {name!r} is trusted.", code="store_trusted")
