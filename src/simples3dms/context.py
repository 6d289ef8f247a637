"""Who acts: the one value that doors hand down to services, so that audit and authorisation agree."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

#: Owner of audit events that belong to no tenant.
PLATFORM = UUID(int=0)


@dataclass(frozen=True, slots=True)
class Principal:
    """A user (through a token), a worker or the host's operator. `id` is None for the two that have no row."""

    id: UUID | None
    name: str
    is_operator: bool = False
    is_auditor: bool = False


#: Work that the system does by itself, on behalf of a row that somebody was allowed to make.
WORKER = Principal(id=None, name="worker")
#: Whoever runs a host command: they hold the machine, so no token is asked for.
HOST = Principal(id=None, name="host", is_operator=True)
