"""Rotations of stores' credentials: never a secret in an answer."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from pydantic import Field, SecretStr

from simples3dms.schemas.base import Request, Response


class StartRotation(Request):
    """With a credential: to that one. Without: to a key that is made at the provider."""

    credential: dict[str, SecretStr] | None = Field(default=None, description="Write-only; never returned.")
    deletes_old: bool | None = Field(
        default=None, description="Delete the old key at the provider too. By default, only one that was made there."
    )
    grace_seconds: float | None = Field(default=None, ge=0, le=90 * 86_400, description="How long the old one is kept.")
    expires_at: datetime | None = Field(default=None, description="When the given credential expires, if it does.")


class StartOwnRotation(Request):
    """Of a store that a tenant brought: to this credential. The old one is deleted at the provider by its owner."""

    credential: dict[str, SecretStr] = Field(description="Write-only; never returned.")
    grace_seconds: float | None = Field(default=None, ge=0, le=90 * 86_400, description="How long the old one is kept.")
    expires_at: datetime | None = Field(default=None, description="When the given credential expires, if it does.")


class SetRotationSchedule(Request):
    every_days: float | None = Field(gt=0, le=3650, description="Null: not by itself any more.")
    deletes_old: bool = Field(default=False, description="Delete also a key that was entered by hand.")
    manager: dict[str, SecretStr] | None = Field(
        default=None, description="A credential that may manage keys, if the store's own may not. Write-only."
    )


class SetPlace(Request):
    """Where a store is. The secret is asked for again: a saved one is never sent to a new place."""

    settings: dict[str, Any] = Field(description="All of them, as for adding a store.")
    credential: dict[str, SecretStr] = Field(description="The whole credential. Write-only; never returned.")


class Rotation(Response):
    id: UUID
    state: str = Field(
        description="making, staged, switched, retiring, undoing; done, rolled_back, failed, needs_attention."
    )
    from_version: int
    to_version: int
    is_made: bool
    deletes_old: bool
    created_at: datetime
    switched_at: datetime | None
    grace_until: datetime | None
    finished_at: datetime | None
    error_code: str | None
    error_message: str | None


class RotationSchedule(Response):
    every_seconds: float | None
    deletes_old: bool
    next_at: datetime | None
    manager_fingerprint: str | None


class CredentialVersion(Response):
    version: int
    state: str = Field(description="staged, current or old.")
    fingerprint: str | None = Field(description="Tells two credentials apart; nothing can be read from it.")
    expires_at: datetime | None
    sealed_under: str = Field(description="The id of the key-encrypting key.")


class StoreCredential(Response):
    versions: list[CredentialVersion]
    rotation: Rotation | None
    schedule: RotationSchedule | None
