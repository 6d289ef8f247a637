"""What the audit refuses, with the codes that callers may rely on."""

from __future__ import annotations

from simples3dms.errors import Conflict, Invalid, NotFound, Unavailable


def empty() -> Conflict:
    return Conflict("Nothing has been recorded here yet that a checkpoint could vouch for.", code="audit_empty")


def cursor_unknown() -> Invalid:
    return Invalid("The event that the page before ended with is gone: begin anew.", code="cursor_unknown")


def action_invalid() -> Invalid:
    return Invalid("An action is `noun.verb`, or `noun.*` for all of a noun.", code="audit_action_invalid")


def span_invalid() -> Invalid:
    return Invalid("Times need their zone, such as `2026-01-31T00:00:00Z`.", code="audit_time_invalid")


def text_invalid(name: str) -> Invalid:
    return Invalid(f"{name} holds characters that no event can hold.", code="audit_search_invalid")


def start_invalid(first: int, last: int) -> Invalid:
    return Invalid(
        f"The trail holds the events {first} to {last}: export after a number from {first - 1} to {last}.",
        code="audit_start_invalid",
        first_seq=first,
        last_seq=last,
    )


def retention_too_short(least_days: int) -> Invalid:
    return Invalid(
        f"The operator of this installation has an audit kept for {least_days} days at least.",
        code="audit_retention_too_short",
        least_days=least_days,
    )


def checkpoint_not_found() -> NotFound:
    return NotFound("There is no checkpoint of this number.", code="checkpoint_not_found")


def export_interrupted() -> Unavailable:
    return Unavailable("The trail was cut while it was read: export it again.", code="audit_export_interrupted")
