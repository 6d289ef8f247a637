"""Who acts: the one value that doors hand down to services, so that audit and authorisation agree."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

#: Owner of audit events that belong to no tenant.
PLATFORM = UUID(int=0)


@dataclass(frozen=True, slots=True)
class Principal:
    """A user (through a token or a browser's session), a service, a worker or the host's operator.

    `id` is None for those that have no row. `scopes` (names of permissions) and `tenant_id` bound what a token may do,
    None where they do not; a token that was never bounded and a session hold all that their user does.
    """

    id: UUID | None
    name: str
    is_operator: bool = False
    is_auditor: bool = False
    is_service: bool = False
    scopes: frozenset[str] | None = None
    tenant_id: UUID | None = None
    #: How they came in, for what is done to it; not who they are.
    session_id: UUID | None = field(default=None, compare=False)
    token_id: UUID | None = field(default=None, compare=False)
    expires_at: datetime | None = field(default=None, compare=False)


#: Work that the system does by itself, on behalf of a row that somebody was allowed to make.
WORKER = Principal(id=None, name="worker")
#: Whoever runs a host command: they hold the machine, so no token is asked for.
HOST = Principal(id=None, name="host", is_operator=True)
#: Whoever knocks and was not let in.
SOMEBODY = Principal(id=None, name="somebody")
