"""What erasing a person, or reporting on one, refuses."""

from __future__ import annotations

from simples3dms.errors import Conflict, Invalid, NotFound


def user_not_found() -> NotFound:
    return NotFound("There is no such user.", code="user_not_found")


def not_found() -> NotFound:
    return NotFound("There is no such erasure.", code="erasure_not_found")


def oneself() -> Conflict:
    return Conflict("Nobody erases their own account: ask another operator.", code="erasure_of_oneself")


def reason_invalid() -> Invalid:
    return Invalid("A reason has 1 to 500 printable characters.", code="erasure_reason_invalid")
