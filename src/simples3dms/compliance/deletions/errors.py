"""What deleting a tenant refuses."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from simples3dms.errors import Conflict, Invalid, NotFound


def short_name_differs() -> Invalid:
    return Invalid(
        "Type the tenant's short name to say that it is this one; nothing was done.", code="short_name_differs"
    )


def reason_invalid() -> Invalid:
    return Invalid("A reason has 1 to 500 printable characters.", code="deletion_reason_invalid")


def kept(document_id: UUID) -> Conflict:
    return Conflict(
        "The tenant has documents that are held or retained; release them, or wait. Nothing was done.",
        code="tenant_kept",
        document_id=str(document_id),
    )


def exists(state: str) -> Conflict:
    return Conflict(f"The tenant's deletion was asked for already: it is {state}.", code="deletion_exists", state=state)


def not_found() -> NotFound:
    return NotFound("There is no such deletion.", code="deletion_not_found")


def wrong_state(state: str) -> Conflict:
    return Conflict(f"The deletion is {state}: that is past this step.", code="deletion_wrong_state", state=state)


def waits(until: datetime) -> Conflict:
    return Conflict(
        f"Whoever asked for it may confirm it from {until.isoformat(timespec='seconds')} on; another owner or operator "
        "may at once.",
        code="deletion_waits",
        waits_until=until.isoformat(),
    )


def no_certificate() -> Conflict:
    return Conflict("The deletion is not done yet: there is no certificate.", code="deletion_not_done")
