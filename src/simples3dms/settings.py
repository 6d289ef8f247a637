"""Settings from the environment (`SIMPLES3DMS_*`); read at the edges only, never at import."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

Seconds = Annotated[float, Field(gt=0, le=86_400)]


class Settings(BaseSettings):
    """Everything that can be configured for the whole installation. Each field is an environment variable."""

    model_config = SettingsConfigDict(env_prefix="SIMPLES3DMS_", extra="ignore")

    env: Literal["production", "test"] = Field(
        default="production", description="`test` permits fail-points; anything else refuses them."
    )
    data_dir: Path = Field(
        default=Path("var"),
        description="Where this installation keeps its own files: the embedded database, the key ring, logs.",
    )
    database_url: SecretStr | None = Field(
        default=None,
        description="A PostgreSQL 15+ of your own, as the application's login role. Empty: the embedded server.",
    )
    database_owner_url: SecretStr | None = Field(
        default=None,
        description="The same database as its owner; used by `simples3dms db upgrade` only.",
    )
    embedded_dir: Path | None = Field(
        default=None,
        description="As root: where the embedded server's files go if its user can't reach the data directory.",
    )
    database_pool: int = Field(default=16, ge=2, le=200, description="Most database connections of one process.")
    keyring_file: Path | None = Field(
        default=None, description="The key ring's file. Empty: `keyring.json` in the data directory."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(default="info", description="Least level logged.")
    log_format: Literal["text", "json"] = Field(default="text", description="How log lines are written.")
    failpoints: str = Field(default="", description="Tests only: where to kill, stop or fail the process.")

    worker_concurrency: int = Field(default=4, ge=1, le=64, description="Jobs that one worker process runs at a time.")
    copy_concurrency: int = Field(default=16, ge=1, le=256, description="Objects that one job copies at a time.")
    lease_seconds: Seconds = Field(
        default=60, description="How long a claim on a piece of work holds without a sign of life of its worker."
    )
    watchdog_seconds: Seconds = Field(
        default=30, description="How often a worker looks for work whose job was lost and for leases that ran out."
    )
    transfer_attempts: int = Field(
        default=5, ge=1, le=100, description="Attempts at one copy before it is listed as failed."
    )
    retry_base_seconds: Seconds = Field(
        default=2, description="Wait before the second attempt at a copy or chunk; doubles with each further one."
    )
    trash_days: float = Field(
        default=30, ge=0, le=36_500, description="Days after which deleted documents are removed for good."
    )
    chunk_blobs: int = Field(default=500, ge=1, le=10_000, description="Blobs in one chunk of a migration.")
    connect_timeout_seconds: Seconds = Field(default=10, description="Longest wait for a store's connection.")
    read_timeout_seconds: Seconds = Field(default=60, description="Longest wait for further bytes of a store.")
    retry_attempts: int = Field(
        default=4, ge=1, le=20, description="Attempts at one request to a store before the error is passed on."
    )

    @property
    def keyring_path(self) -> Path:
        return self.keyring_file or self.data_dir / "keyring.json"
