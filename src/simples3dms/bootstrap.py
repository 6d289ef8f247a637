"""The composition root: settings become a database, a key ring, providers and services. Nothing happens at import."""

from __future__ import annotations

import asyncio
import os
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import certifi
from pydantic import SecretStr

from simples3dms.audit.service import Audit
from simples3dms.context import HOST
from simples3dms.crypto.keyring import Keyring, load_keyring, load_or_create_keyring
from simples3dms.crypto.places import ServiceAccess
from simples3dms.db.embedded import EmbeddedPostgres
from simples3dms.db.listening import Listener
from simples3dms.db.provision import Provisioned, provision
from simples3dms.db.session import Database
from simples3dms.documents.service import Documents
from simples3dms.documents.uploads import Uploads
from simples3dms.egress import EgressGuard, EgressPolicy
from simples3dms.errors import Invalid, Unavailable
from simples3dms.identity.service import Identity
from simples3dms.jobqueue.app import JobQueue
from simples3dms.keys.service import CHANNEL, Keys
from simples3dms.kit import failpoints
from simples3dms.kit.secret import Secret
from simples3dms.providers.registry import BuildOptions
from simples3dms.providers.stack import StackSettings
from simples3dms.settings import Settings
from simples3dms.storage.blobs.service import Blobs
from simples3dms.storage.credentials.service import Credentials
from simples3dms.storage.migrations.engine import MigrationEngine
from simples3dms.storage.migrations.service import Migrations
from simples3dms.storage.placement.service import Placements
from simples3dms.storage.rotations.service import Rotations
from simples3dms.storage.stores.access import StoreAccess
from simples3dms.storage.stores.service import Stores
from simples3dms.storage.transfers.engine import CopyEngine
from simples3dms.storage.transfers.service import Transfers
from simples3dms.storage.upkeep.service import Upkeep
from simples3dms.tenants.service import Tenants


class DatabaseServer:
    """The database that this process uses: one of the operator's own, or the embedded server, attached or started."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._embedded: EmbeddedPostgres | None = None

    @property
    def is_embedded(self) -> bool:
        return self._settings.database_url is None

    def start(self) -> Provisioned:
        """Make the database reachable (the embedded one is started, or attached to) and say how. Blocks."""
        settings = self._settings
        if settings.database_url is not None:
            url = settings.database_url.get_secret_value()
            owner = settings.database_owner_url
            return Provisioned(owner.get_secret_value() if owner else url, url)
        settings.data_dir.mkdir(parents=True, exist_ok=True)
        self._embedded = EmbeddedPostgres(settings.data_dir, embedded_dir=settings.embedded_dir)
        self._embedded.start()
        return provision(self._embedded.superuser_dsn, settings.data_dir / "database-credentials.json")

    def stop(self) -> None:
        """Let go of the embedded server; it stops when the last process has. Blocks."""
        if self._embedded is not None:
            self._embedded.stop()
            self._embedded = None


@dataclass(slots=True)
class Services:
    """Everything that a door needs. `open` before use, `close` once."""

    server: DatabaseServer
    urls: Provisioned
    database: Database
    queue: JobQueue
    identity: Identity
    tenants: Tenants
    audit: Audit
    keys: Keys
    credentials: Credentials
    stores: Stores
    store_access: StoreAccess
    placements: Placements
    blobs: Blobs
    transfers: Transfers
    migration_engine: MigrationEngine
    migrations: Migrations
    documents: Documents
    uploads: Uploads
    rotations: Rotations
    upkeep: Upkeep
    worker_concurrency: int
    watchdog_seconds: float
    trash_days: float
    probe_hours: float
    listener: Listener = field(init=False, repr=False)
    _opened: bool = field(default=False, repr=False)

    def __post_init__(self) -> None:
        self.listener = Listener(self.urls.app_url, CHANNEL, self._look_again)

    async def _look_again(self) -> None:
        """Something that processes hold in memory was changed: a credential, a key."""
        self.stores.expire()
        await self.keys.refresh()

    async def open(self) -> None:
        """Open the connection pool. The schema must be there for anything else to work."""
        if not self._opened:
            await self.database.open()
            self._opened = True

    async def close(self) -> None:
        """Close stores, connections and the hold on the embedded server, in that order."""
        await self.listener.stop()
        await self.stores.close()
        if self._opened:
            await self.database.close()
            self._opened = False
        await asyncio.to_thread(self.server.stop)


def build_services(settings: Settings) -> Services:
    """Put everything together. Starts the embedded database where it is used (blocking: call it before the loop)."""
    failpoints.arm(settings.failpoints, environment=settings.env)
    _refuse_host_identity()
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    server = DatabaseServer(settings)
    urls = server.start()
    database = Database(urls.app_url, pool_max=settings.database_pool)
    queue = JobQueue(urls.app_url)
    keyring = open_keyring(settings)
    credentials = Credentials(database, keyring)
    stores = Stores(
        database,
        credentials,
        stack_settings=_stack_settings(settings),
        options=_build_options(settings),
        guard=_guard(settings),
    )
    access = StoreAccess(database, credentials, stores)
    blobs = Blobs(
        database,
        stores,
        queue,
        lease_seconds=settings.lease_seconds,
        retry_base_seconds=settings.retry_base_seconds,
    )
    copies = CopyEngine(database, blobs, concurrency=settings.copy_concurrency)
    transfers = Transfers(
        database,
        queue,
        copies,
        lease_seconds=settings.lease_seconds,
        attempts=settings.transfer_attempts,
        retry_base_seconds=settings.retry_base_seconds,
    )
    engine = MigrationEngine(database, queue, blobs, transfers, copies, chunk_blobs=settings.chunk_blobs)
    return Services(
        server=server,
        urls=urls,
        database=database,
        queue=queue,
        identity=Identity(database),
        tenants=Tenants(database),
        audit=Audit(database),
        keys=Keys(
            database,
            keyring,
            queue,
            file=settings.keyring_path if settings.keyring is None else None,
            lease_seconds=settings.lease_seconds,
        ),
        credentials=credentials,
        stores=stores,
        store_access=access,
        placements=Placements(database),
        blobs=blobs,
        transfers=transfers,
        migration_engine=engine,
        migrations=Migrations(database, stores, transfers, engine),
        documents=Documents(database, blobs),
        uploads=Uploads(database, blobs, transfers, largest_bytes=settings.largest_upload_bytes),
        rotations=Rotations(
            database,
            queue,
            credentials,
            access,
            lease_seconds=settings.lease_seconds,
            grace_seconds=settings.credential_grace_seconds,
            settle_seconds=settings.credential_settle_seconds,
        ),
        upkeep=Upkeep(database, stores),
        worker_concurrency=settings.worker_concurrency,
        watchdog_seconds=settings.watchdog_seconds,
        trash_days=settings.trash_days,
        probe_hours=settings.probe_hours,
    )


def open_keyring(settings: Settings) -> Keyring:
    """The key ring of this installation, with what it takes to reach the keys that services keep. Blocks."""
    access = service_access(settings)
    if settings.keyring is not None:
        return load_keyring(settings.keyring.get_secret_value(), access)
    return load_or_create_keyring(settings.keyring_path, access)


def service_access(settings: Settings) -> ServiceAccess:
    def secret(value: SecretStr | None) -> Secret | None:
        return None if value is None else Secret(value.get_secret_value())

    return ServiceAccess(
        kms_access_key_id=settings.kms_access_key_id,
        kms_secret_access_key=secret(settings.kms_secret_access_key),
        kms_session_token=secret(settings.kms_session_token),
        transit_token=secret(settings.transit_token),
        transit_token_file=settings.transit_token_file,
        ca_file=settings.key_service_ca_file,
    )


def _stack_settings(settings: Settings) -> StackSettings:
    return StackSettings(
        connect_timeout_seconds=settings.storage_connect_timeout_seconds,
        read_timeout_seconds=settings.storage_read_timeout_seconds,
        retry_attempts=settings.storage_retry_attempts,
        retry_base_seconds=settings.storage_retry_base_seconds,
        retry_longest_seconds=settings.storage_retry_longest_seconds,
        breaker_failures=settings.storage_breaker_failures,
        breaker_cool_seconds=settings.storage_breaker_cool_seconds,
        most_concurrent=settings.storage_most_concurrent,
        requests_per_second=settings.storage_requests_per_second,
        bytes_per_second=settings.storage_bytes_per_second,
    )


def _build_options(settings: Settings) -> BuildOptions:
    """Trust the operator's own authorities beside the machine's: one file for all, as obstore takes no list."""
    if settings.storage_ca_file is None:
        return BuildOptions()
    try:
        own = settings.storage_ca_file.read_text()
        ssl.create_default_context(cadata=own)
    except (OSError, ValueError, ssl.SSLError):
        raise Invalid(
            f"SIMPLES3DMS_STORAGE_CA_FILE: {settings.storage_ca_file} holds no readable certificates in PEM.",
            code="settings_invalid",
        ) from None
    machine = ssl.get_default_verify_paths().cafile or certifi.where()
    bundle = settings.data_dir / "authorities.pem"
    beside = bundle.with_suffix(f".{os.getpid()}")
    beside.write_text(f"{Path(machine).read_text()}\n{own}")
    beside.replace(bundle)
    os.environ["SSL_CERT_FILE"] = str(bundle)
    return BuildOptions(ca_file=str(bundle))


def _guard(settings: Settings) -> EgressGuard | None:
    try:
        policy = EgressPolicy.parse(allow=settings.egress_allow, ports=settings.egress_ports)
    except ValueError as error:
        raise Invalid(f"SIMPLES3DMS_EGRESS_ALLOW or _PORTS: {error}.", code="settings_invalid") from None
    return EgressGuard(policy) if settings.egress_guard == "all" else None


def _refuse_host_identity() -> None:
    """A store signs with its own credential only: what the host's environment offers to SDKs is taken out of reach."""
    for name in [name for name in os.environ if name.startswith(("AWS_", "B2_APPLICATION_KEY"))]:
        del os.environ[name]
    os.environ["AWS_EC2_METADATA_DISABLED"] = "true"


#: What the environment calls the fields of each kind's forms.
_FROM_ENVIRONMENT: Final[dict[str, dict[str, str]]] = {
    "s3": {
        "endpoint": "endpoint",
        "region": "region",
        "bucket": "bucket",
        "prefix": "prefix",
        "key_id": "access_key_id",
        "key": "secret_access_key",
    },
    "b2": {
        "endpoint": "realm",
        "bucket": "bucket",
        "prefix": "prefix",
        "key_id": "application_key_id",
        "key": "application_key",
    },
    "local": {"bucket": "path", "prefix": "prefix"},
}


async def ensure_default_store(services: Services, settings: Settings) -> str | None:
    """Make sure of the store that the environment describes; what was done (`added`, `credential replaced`), if
    anything was. Raises Invalid (`settings_invalid`), and what `Stores.ensure_store` does."""
    if settings.storage_kind is None:
        return None
    given = {
        "endpoint": settings.storage_endpoint,
        "region": settings.storage_region,
        "bucket": settings.storage_bucket,
        "prefix": settings.storage_prefix,
        "key_id": settings.storage_key_id,
        "key": None if settings.storage_key is None else settings.storage_key.get_secret_value(),
    }
    names = _FROM_ENVIRONMENT[settings.storage_kind]
    foreign = [name for name, value in given.items() if value and name not in names]
    if foreign:
        variables = ", ".join(f"SIMPLES3DMS_STORAGE_{name.upper()}" for name in foreign)
        raise Invalid(f"A store of the kind {settings.storage_kind} takes no {variables}.", code="settings_invalid")
    fields = {names[name]: value for name, value in given.items() if value}
    secret = {name: fields.pop(name) for name in (names.get("key_id"), names.get("key")) if name in fields}
    return await services.stores.ensure_store(HOST, settings.storage_name, settings.storage_kind, fields, secret)


async def check_ready(services: Services) -> None:
    """Raise `Unavailable` unless the database answers."""
    try:
        async with asyncio.timeout(2):
            await services.database.ping()
    except TimeoutError as error:
        raise Unavailable("The database does not answer in time.", code="database_unavailable") from error
