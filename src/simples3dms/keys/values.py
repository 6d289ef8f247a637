"""Which columns hold sealed values, and what is recorded about the keys that they name."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal
from uuid import UUID


@dataclass(frozen=True, slots=True)
class SealedColumn:
    """A column of sealed values. `owner`, `row_id` and `version` are SQL that gives the parts of its SealContext.

    The table needs an index that begins with the key id and goes on with `key`, its primary key; and, so that no row
    can come to name a key that is being retired, `REFERENCES sealing_keys (key_id)` or `hold_key` at each insert.
    """

    table: str
    key: tuple[str, ...]
    owner: str
    row_id: str
    version: str
    column: str = "sealed"
    wrapped_key: str = "wrapped_key"
    key_id: str = "key_id"


_OWNER_OF_STORE: Final = (
    "coalesce((SELECT s.owner_tenant_id::text FROM stores s WHERE s.id = credentials.store_id), 'platform')"
)
#: Every sealed column of the product: start, rewrap and retire walk this list. A new one is one line.
SEALED_COLUMNS: Final[tuple[SealedColumn, ...]] = (
    SealedColumn("credentials", ("store_id", "version"), _OWNER_OF_STORE, "store_id::text", "version"),
    SealedColumn("rotation_schedules", ("store_id",), "'platform'", "store_id::text", "manager_version"),
    SealedColumn("totp_factors", ("user_id",), "'platform'", "user_id::text", "version"),
    SealedColumn("identity_providers", ("id",), "'platform'", "id::text", "1"),
    SealedColumn("audit_signing_keys", ("key_id",), "'platform'", "key_id", "1", key_id="seal_key_id"),
)


@dataclass(frozen=True, slots=True)
class SealingKey:
    """A key that the database knows: it seals what is new, or did once and has not been retired."""

    key_id: str
    fingerprint: bytes | None
    """None for a key of before fingerprints were kept."""
    is_primary: bool
    created_at: datetime


@dataclass(frozen=True, slots=True)
class SealedRow:
    """One sealed value with its context's parts and `key`, its place in the table, as text."""

    key: list[str]
    owner: str
    row_id: str
    version: int
    key_id: str
    wrapped_key: bytes
    sealed: bytes


@dataclass(frozen=True, slots=True)
class Rewrap:
    """The work of bringing every sealed row under one key."""

    id: UUID
    key_id: str
    state: Literal["running", "done", "needs_attention"]
    total_count: int
    done_count: int
    broken_count: int
    error_code: str | None
    created_at: datetime
    finished_at: datetime | None
    fence: int
    attempt: int


@dataclass(frozen=True, slots=True)
class KeyStatus:
    """One key, as an operator sees it; `sealed_count` is counted up to a limit."""

    id: str
    place: str
    is_primary: bool
    in_keyring: bool
    in_use: bool
    sealed_count: int


@dataclass(frozen=True, slots=True)
class Broken:
    """A sealed row that does not open, by its table and key, and why."""

    table: str
    row: str
    code: str
