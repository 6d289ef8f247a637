"""What can be wrong with a request about a migration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from simples3dms.errors import Conflict, Invalid, NotFound
from simples3dms.kit.texts import LONGEST_REASON


def not_found() -> NotFound:
    return NotFound("There is no such migration in this tenant.", code="migration_not_found")


def failure_not_found() -> NotFound:
    return NotFound(
        "One of these is not, or no more, a failure of this migration; nothing was done. List them anew.",
        code="failure_not_found",
    )


def reason_invalid() -> Invalid:
    message = f"A reason has 1 to {LONGEST_REASON} printable characters."
    return Invalid(message, code="waiver_reason_invalid", fields=[{"field": "reason", "message": message}])


def wrong_state(action: str, state: str) -> Conflict:
    """The action does not fit the state; a second cut-over gets a code of its own."""
    if action == "cut over" and state in {"soaking", "finalizing", "done"}:
        return Conflict("This migration has been cut over already.", code="migration_already_cut_over", state=state)
    if action == "cut over" and state == "copying":
        return Conflict(
            "Not everything has a proven copy at the target yet; wait until the migration is ready.",
            code="migration_not_ready",
            state=state,
        )
    return Conflict(
        f"A migration that is {state.replace('_', ' ')} can't {action}.", code="migration_wrong_state", state=state
    )


def not_proven(detail: str, hindrances: Sequence[Mapping[str, object]] = ()) -> Conflict:
    """`hindrances`: the first of what has no proven copy, document by document."""
    return Conflict(
        f"Cut-over refused: {detail}. Nothing was changed; see `migration failures`, then try again.",
        code="migration_not_proven",
        hindrances=list(hindrances),
    )


def window_invalid(message: str) -> Invalid:
    return Invalid(
        f"A window can't be used: {message}.",
        code="migration_window_invalid",
        fields=[{"field": "windows", "message": message}],
    )


def finalize_after_invalid() -> Invalid:
    message = "The roll-back window lasts from 0 seconds to 366 days."
    return Invalid(
        message,
        code="migration_finalize_after_invalid",
        fields=[{"field": "finalize_after_seconds", "message": message}],
    )


def same_store(name: str) -> Invalid:
    return Invalid(f"The documents are in {name} already; choose another target.", code="migration_same_store")


def source_not_in_use() -> Invalid:
    return Invalid(
        "New documents are not written to the source; a migration starts from the write target, one of a part also "
        "from a rule's.",
        code="migration_source_not_in_use",
    )


def part_unclear(which: str) -> Invalid:
    message = (
        f"A rule of the placement and this part overlap ({which}) in a way that no pattern says; name whole types."
    )
    return Invalid(message, code="migration_part_unclear", fields=[{"field": "only", "message": message}])


def part_invalid(failure: Invalid) -> Invalid:
    """What is wrong with its conditions, field by field, as of a rule's."""
    return Invalid(failure.message, code="migration_part_invalid", **failure.extra)


def rules_full(most: int) -> Conflict:
    return Conflict(
        f"The placement would have more than {most} rules; set one with fewer first, then move.",
        code="placement_rules_full",
    )


def weighted() -> Conflict:
    return Conflict(
        "New documents are shared out among several stores; set a placement with one write target first, then move.",
        code="placement_shared_out",
    )


def drawn() -> Conflict:
    return Conflict(
        "Further copies are drawn for each document; set a placement without `spread` first, then move.",
        code="placement_spread",
    )


def lacks_stores() -> Conflict:
    return Conflict(
        "After this move, uploads would have to wait for more stores than hold their bytes; name another store for "
        "copies or lower `min_acks` first.",
        code="placement_min_acks",
    )


def active() -> Conflict:
    return Conflict(
        "This tenant has a migration that has not ended; finish it, roll it back or cancel it first.",
        code="migration_active",
    )


def blocked(blockers: tuple[str, ...]) -> Conflict:
    return Conflict("The migration can't start: " + "; ".join(blockers), code="migration_blocked", blockers=blockers)
