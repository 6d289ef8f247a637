"""A credential as recorded: sealed."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CredentialRow:
    version: int
    key_id: str
    wrapped_key: bytes
    sealed: bytes
