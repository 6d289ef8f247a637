"""A credential as recorded: sealed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class CredentialRow:
    """One version. `fingerprint` tells two apart without telling what they are."""

    version: int
    key_id: str
    wrapped_key: bytes
    sealed: bytes
    fingerprint: str | None = None
    state: str = "current"
    """`staged` (sealed, not in use yet), `current`, or `old` (kept for a grace after a switch)."""
    provider_key_id: str | None = None
    """What the provider calls the key; of those that we made there."""
    expires_at: datetime | None = None
