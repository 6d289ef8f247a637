"""What can be wrong with a request about a drain."""

from __future__ import annotations

from simples3dms.errors import Conflict, Invalid, NotFound


def not_found() -> NotFound:
    return NotFound("This store has never been drained.", code="drain_not_found")


def active() -> Conflict:
    return Conflict("This store is being drained already.", code="drain_active")


def target_drained(name: str) -> Conflict:
    return Conflict(f"The store {name!r} is being drained itself; choose another target.", code="drain_target_drained")


def invalid(field: str, message: str) -> Invalid:
    return Invalid(message, code="drain_invalid", fields=[{"field": field, "message": message}])


def wrong_state(action: str, state: str) -> Conflict:
    return Conflict(f"A drain that is {state.replace('_', ' ')} can't {action}.", code="drain_wrong_state", state=state)
