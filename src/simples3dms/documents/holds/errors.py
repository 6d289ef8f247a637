"""What holds and retention refuse, with the codes that callers may rely on."""

from __future__ import annotations

from datetime import datetime

from simples3dms.errors import Conflict, Invalid, NotFound


class Kept(Conflict):
    """Something keeps the document: what was asked is refused whoever asks, and recorded as refused."""


def held() -> Kept:
    return Kept(
        "This document is under a legal hold and stays as it is until the hold is released; new versions are welcome.",
        code="document_held",
    )


def retained(until: datetime, mode: str) -> Kept:
    return Kept(
        f"This document is retained until {until.isoformat(timespec='seconds')}; it can be removed after that.",
        code="document_retained",
        retain_until=until.isoformat(),
        mode=mode,
    )


def never_shortened(until: datetime) -> Kept:
    return Kept(
        f"This document is retained for compliance until {until.isoformat(timespec='seconds')}: "
        "that can be lengthened, and shortened by nobody.",
        code="retention_locked",
        retain_until=until.isoformat(),
    )


def not_lengthened(until: datetime) -> Conflict:
    return Conflict(
        f"The document is retained until {until.isoformat(timespec='seconds')} already: this only lengthens. "
        "An owner may lift a retention of the mode governance.",
        code="retention_not_lengthened",
        retain_until=until.isoformat(),
    )


def not_later() -> Invalid:
    return Invalid("A retention ends in the future, and before the year 10000.", code="retention_invalid")


def not_shorter() -> Invalid:
    return Invalid("Lifting a retention shortens it: give an earlier time, or none.", code="retention_invalid")


def text_invalid(field: str, longest: int) -> Invalid:
    message = f"A {field} has 1 to {longest} printable characters."
    return Invalid(message, code="hold_invalid", fields=[{"field": field, "message": message}])


def exists(name: str) -> Conflict:
    return Conflict(f"The document is under a hold of the name {name!r} already.", code="hold_exists")


def not_found() -> NotFound:
    return NotFound("There is no such hold on this document.", code="hold_not_found")


def released() -> Conflict:
    return Conflict("This hold was released before.", code="hold_released")
