"""What a transfer works on, and how it ended."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from simples3dms.storage.blobs.values import Blob, Replica


@dataclass(frozen=True, slots=True)
class Deficit:
    """A blob without a proven live replica at the target: where it can be read, and what is at the target already."""

    blob: Blob
    sources: list[Replica]
    at_target: Replica | None


class Outcome(StrEnum):
    """How the transfer of one blob ended."""

    COPIED = "copied"
    PROVEN = "proven"  # it was at the target already, and has now been read back
    BUSY = "busy"  # another worker is writing it
    GONE = "gone"  # the blob died meanwhile, or needs nothing
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Result:
    """The outcome for one blob; `store_fault` says that a store, not this object, is what failed; `at_source` that this
    was not the target."""

    blob_id: UUID
    size_bytes: int
    outcome: Outcome
    error_kind: str | None = None
    error_message: str | None = None
    retryable: bool = False
    store_fault: bool = False
    at_source: bool = False


@dataclass(frozen=True, slots=True)
class DueTransfer:
    """Where a due transfer is, for the watchdog."""

    tenant_id: UUID
    id: UUID


@dataclass(frozen=True, slots=True)
class TransferRow:
    """A pending or failed transfer, claimed."""

    id: UUID
    blob_id: UUID
    target_store_id: UUID
    migration_id: UUID | None
    fence: int
    attempt: int


@dataclass(frozen=True, slots=True)
class TransferFailure:
    """A transfer that was tried as often as is sensible, for a person to look at; `state` is `failed` or `waived`."""

    id: UUID
    blob_id: UUID
    document_id: UUID | None
    document_name: str | None
    error_kind: str | None
    error_message: str | None
    attempt: int
    state: str
    waived_reason: str | None
    waived_at: datetime | None


@dataclass(frozen=True, slots=True)
class Debt:
    """A copy that a blob is owed, or was: `pending`, `failed` or `waived`."""

    store_id: UUID
    state: str
    error_message: str | None
    waived_reason: str | None


@dataclass(frozen=True, slots=True)
class Repaired:
    """How many doubtful replicas a request has seen to, and after which the next one goes on (None: there are none)."""

    count: int
    next_after: UUID | None


@dataclass(frozen=True, slots=True)
class GrantedStore:
    """A store of the tenant by its name, and why it is not trusted, if it is not."""

    id: UUID
    untrusted_reason: str | None


@dataclass(frozen=True, slots=True)
class Backlog:
    """How many transfers towards a store wait, have failed, and have been waived."""

    pending: int
    failed: int
    waived: int
