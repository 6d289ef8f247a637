"""What takeouts refuse."""

from __future__ import annotations

from simples3dms.errors import Invalid, NotFound


def not_found() -> NotFound:
    return NotFound("There is no such takeout in this tenant.", code="takeout_not_found")


def cursor_invalid() -> Invalid:
    return Invalid("`after` is DOCUMENT:VERSION, as the last line that you have says.", code="takeout_cursor_invalid")
