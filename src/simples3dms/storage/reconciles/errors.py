"""What can be wrong with a request about a reconcile."""

from __future__ import annotations

from simples3dms.errors import Conflict, Invalid, NotFound


def not_found() -> NotFound:
    return NotFound("There is no such reconcile in this tenant.", code="reconcile_not_found")


def not_granted(name: str) -> NotFound:
    return NotFound(f"The store {name!r} is not granted to this tenant.", code="store_not_granted")


def active(name: str) -> Conflict:
    return Conflict(
        f"The store {name!r} is being compared with the records of this tenant already: wait for its end.",
        code="reconcile_active",
    )


def wrong_state(state: str) -> Conflict:
    return Conflict(
        f"Only a reconcile that is done can be acted on, and this one is {state}.",
        code="reconcile_state_wrong",
        state=state,
    )


def count_wrong(count: int) -> Invalid:
    return Invalid(
        f"Type back how many things would be removed, as `reconcile show` says. It is not {count}.",
        code="reconcile_count_wrong",
    )
