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
    keyring: SecretStr | None = Field(
        default=None, description="The key ring itself (the file's JSON), instead of a file. It is never written to."
    )
    kms_access_key_id: str | None = Field(default=None, description="Access key for key-encrypting keys in AWS KMS.")
    kms_secret_access_key: SecretStr | None = Field(default=None, description="Its secret.")
    kms_session_token: SecretStr | None = Field(default=None, description="Its session token, if it is temporary.")
    transit_token: SecretStr | None = Field(
        default=None, description="Token for key-encrypting keys in the transit engine of Vault or OpenBao."
    )
    transit_token_file: Path | None = Field(
        default=None, description="A file with that token instead, read at each use: an agent may renew it."
    )
    key_service_ca_file: Path | None = Field(
        default=None, description="Certificates (PEM) of the authority of KMS or transit. Empty: the machine's own."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(default="info", description="Least level logged.")
    log_format: Literal["text", "json"] = Field(default="text", description="How log lines are written.")
    failpoints: str = Field(default="", description="Tests only: where to kill, stop or fail the process.")

    trusted_proxies: str = Field(
        default="",
        description="Addresses and networks of reverse proxies whose `X-Forwarded-For` and `X-Forwarded-Proto` count, "
        "by commas. Empty: nobody's do.",
    )
    most_requests: int = Field(
        default=1000, ge=1, le=100_000, description="Requests that one process serves at a time; more are told to wait."
    )
    body_idle_seconds: Seconds = Field(
        default=30, description="Longest wait for more of a request's body, beside what 1 KiB/s would take."
    )

    worker_concurrency: int = Field(default=4, ge=1, le=64, description="Jobs that one worker process runs at a time.")
    worker_grace_seconds: float = Field(
        default=20,
        ge=0,
        le=3600,
        description="How long a worker that is told to stop lets its jobs go on; the rest is left to others at once.",
    )
    copy_concurrency: int = Field(
        default=64,
        ge=1,
        le=256,
        description="Objects that one process copies at a time, at most: of those above 256 KiB a quarter as many, and "
        "never more than the stores bear.",
    )
    most_slowdown: float = Field(
        default=1.25,
        ge=0,
        le=100,
        description="How many times as long as without it people may wait for what they read while documents are "
        "copied and scrubbed: beyond that, this work is throttled. 0: it never is.",
    )
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
    deletion_wait_days: float = Field(
        default=7,
        ge=0,
        le=365,
        description="Days before whoever asked for a tenant's deletion may confirm it; another person may at once.",
    )
    regions: str = Field(
        default="", description="Words that a tenant's region may be, by commas, such as `eu-central,us-east`."
    )
    server_region: str = Field(
        default="",
        max_length=64,
        description="The region that this server is in, such as `eu-central-1`: for placements that read the nearest "
        "store. Empty: not known.",
    )
    server_country: str = Field(
        default="", pattern=r"^([A-Z]{2})?$", description="Its country, such as `DE`. Empty: the region's, if known."
    )
    currency: str = Field(
        default="USD",
        pattern=r"^[A-Z]{3}$",
        description="The currency of the prices that operators set, by its ISO code. Price lists that come with the "
        "program are in US dollars, and are not mixed with prices in another currency.",
    )
    chunk_blobs: int = Field(default=500, ge=1, le=10_000, description="Blobs in one chunk of a migration.")
    largest_upload_bytes: int = Field(
        default=100 * 2**30,
        ge=1,
        le=5 * 10**13,
        description="Largest document. Parts of very large ones are held in memory: size / 10,000, up to four each.",
    )
    probe_hours: float = Field(
        default=24, gt=0, le=8760, description="Hours after which a store in use is probed again."
    )
    scrub_light_days: float = Field(
        default=7,
        ge=0,
        le=3650,
        description="Days after which it is asked again of every replica whether it is there, and how large. "
        "0: only by hand.",
    )
    scrub_deep_days: float = Field(
        default=0,
        ge=0,
        le=3650,
        description="Days after which every replica is read back and compared again, at the store's price. "
        "0: only by hand.",
    )
    scrub_bytes_per_second: float = Field(
        default=20_000_000, ge=0, le=1e12, description="Bytes that one scrub reads a second, at most. 0: no limit."
    )
    replication_late_seconds: float = Field(
        default=3600,
        ge=0,
        le=31_536_000,
        description="Age of the oldest copy that is owed to a store above which the store is late. 0: none ever is.",
    )
    audit_seal_seconds: Seconds = Field(
        default=1, description="How often a worker numbers and chains what has been recorded in the audit."
    )
    audit_checkpoint_hours: float = Field(
        default=1, gt=0, le=8760, description="Hours after which an audit that has grown gets a signed checkpoint."
    )
    audit_least_retention_days: int = Field(
        default=365, ge=1, le=36_500, description="Days for which every tenant's audit is kept, whatever it chose."
    )

    sign_in_account_attempts: int = Field(
        default=10, ge=1, le=10_000, description="Wrong passwords for one account before its next attempt has to wait."
    )
    sign_in_account_seconds: float = Field(
        default=30, ge=0.001, le=86_400, description="Seconds after which one more attempt is let through."
    )
    sign_in_network_attempts: int = Field(
        default=50, ge=1, le=100_000, description="The same for one network: an IPv4 address, or an IPv6 /64."
    )
    sign_in_network_seconds: float = Field(default=3, ge=0.001, le=86_400, description="And its seconds.")
    sign_in_global_attempts: int = Field(
        default=1000, ge=1, le=1_000_000, description="The same for everybody who comes from where they never did."
    )
    sign_in_global_seconds: float = Field(default=0.05, ge=0.00001, le=86_400, description="And its seconds.")
    session_idle_seconds: Seconds = Field(
        default=7200, description="A browser's session ends after this long without a request."
    )
    session_lifetime_seconds: float = Field(
        default=86_400, gt=0, le=31_536_000, description="And after this long in any case."
    )
    public_url: str | None = Field(
        default=None,
        pattern=r"^https?://[A-Za-z0-9.:\[\]-]+(/[A-Za-z0-9._~/-]*)?$",
        description="Where people reach this installation, such as `https://documents.example.org`: for links and to "
        "tell its own pages from others. Empty: links can't be made.",
    )
    credential_grace_seconds: float = Field(
        default=86_400,
        ge=0,
        le=90 * 86_400,
        description="How long a store's old credential is kept after a rotation: the way back.",
    )
    credential_settle_seconds: float = Field(
        default=60,
        ge=0,
        le=3600,
        description="By when every process has turned to another credential; the least grace.",
    )

    smtp_host: str | None = Field(
        default=None, description="The server that sends mail. Empty: none is sent, and links are handed over."
    )
    smtp_port: int = Field(default=587, ge=1, le=65_535, description="Its port.")
    smtp_tls: Literal["starttls", "tls", "none"] = Field(
        default="starttls", description="TLS after STARTTLS, from the beginning, or not at all."
    )
    smtp_username: str | None = Field(default=None, description="Whom to sign in as there.")
    smtp_password: SecretStr | None = Field(default=None, description="And the password.")
    smtp_from: str = Field(default="SimpleS3DMS <noreply@localhost>", description="Whom letters are from.")
    smtp_ca_file: Path | None = Field(
        default=None, description="Certificates (PEM) of authorities that the mail server may use instead."
    )

    egress_guard: Literal["off", "all"] = Field(
        default="off",
        description="Whose connections pass the egress guard, which refuses private addresses. `off`: only those of "
        "stores that tenants bring; `all`: every store's.",
    )
    egress_allow: str = Field(
        default="",
        description="What the guard lets through beside public addresses: networks, hosts and `*.hosts`, each with or "
        "without a port, by commas, such as `10.1.0.0/16:9000,minio.internal:9000`.",
    )
    egress_ports: str = Field(default="80,443", description="The ports that the guard lets through, by commas.")

    storage_kind: Literal["s3", "b2", "local"] | None = Field(
        default=None, description="Kind of the store that `serve` makes sure of at its start. Empty: none."
    )
    storage_name: str = Field(default="default", description="That store's name.")
    storage_endpoint: str | None = Field(
        default=None, description="Its endpoint (s3), or its realm (b2). Empty: the vendor's own."
    )
    storage_region: str | None = Field(default=None, description="Its region (s3).")
    storage_bucket: str | None = Field(default=None, description="Its bucket; for `local`, the directory.")
    storage_prefix: str | None = Field(default=None, description="A folder of the bucket that it keeps to.")
    storage_key_id: str | None = Field(default=None, description="Its access key id, or application key id.")
    storage_key: SecretStr | None = Field(
        default=None, description="Its secret access key, or application key. It is sealed, and replaced if it changes."
    )
    storage_ca_file: Path | None = Field(
        default=None, description="Certificates (PEM) of authorities that stores may use beside the machine's own."
    )
    storage_connect_timeout_seconds: Seconds = Field(default=10, description="Longest wait for a store's connection.")
    storage_read_timeout_seconds: Seconds = Field(
        default=60, description="Longest wait for a store's answer, and for further bytes of a body."
    )
    storage_retry_attempts: int = Field(
        default=4, ge=1, le=20, description="Attempts at one request to a store before the error is passed on."
    )
    storage_retry_base_seconds: float = Field(
        default=0.2, ge=0.001, le=60, description="First pause between such attempts; doubles, with jitter."
    )
    storage_retry_longest_seconds: float = Field(
        default=20, ge=0.001, le=3600, description="Longest such pause; a store that asks for more is not asked again."
    )
    storage_breaker_failures: int = Field(
        default=10, ge=1, le=1000, description="Faults in a row after which a store is left alone for a while."
    )
    storage_breaker_cool_seconds: float = Field(
        default=2, ge=0.05, le=600, description="For how long the first time; doubles up to a minute."
    )
    storage_most_concurrent: int = Field(
        default=128, ge=1, le=1024, description="Calls of one process that wait for one store at a time, at most."
    )
    storage_requests_per_second: float | None = Field(
        default=None, ge=0.1, le=1_000_000, description="Requests of one process to one store. Empty: no limit."
    )
    storage_bytes_per_second: float | None = Field(
        default=None, ge=1024, le=1e12, description="Bytes of one process to and from one store. Empty: no limit."
    )

    @property
    def keyring_path(self) -> Path:
        return self.keyring_file or self.data_dir / "keyring.json"
