"""The composition root: settings become a database, a key ring, providers and services. Nothing happens at import."""

from __future__ import annotations

import asyncio
import os
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import certifi
import psycopg
from psycopg.conninfo import conninfo_to_dict
from pydantic import SecretStr

from simples3dms.audit.refusals import Refusals
from simples3dms.audit.service import Audit
from simples3dms.compliance.deletions.engine import DeletionEngine
from simples3dms.compliance.deletions.service import Deletions
from simples3dms.compliance.persons.service import Persons
from simples3dms.context import HOST
from simples3dms.crypto.examples import is_example
from simples3dms.crypto.keyring import Keyring, load_keyring, load_or_create_keyring
from simples3dms.crypto.passkeys import RelyingParty
from simples3dms.crypto.places import ServiceAccess
from simples3dms.db.embedded import EmbeddedPostgres
from simples3dms.db.listening import Listener
from simples3dms.db.provision import Provisioned, provision
from simples3dms.db.session import Database
from simples3dms.documents.holds.service import Holds
from simples3dms.documents.service import Documents
from simples3dms.documents.takeouts.service import Takeouts
from simples3dms.documents.uploads import Uploads
from simples3dms.egress import EgressGuard, EgressPolicy
from simples3dms.errors import Invalid, Unavailable
from simples3dms.identity.enrolment.service import Factors
from simples3dms.identity.factors.service import FactorChecks
from simples3dms.identity.federation.engine import Issuers
from simples3dms.identity.federation.service import Federation
from simples3dms.identity.invitations.service import Invitations
from simples3dms.identity.letters.service import Letters
from simples3dms.identity.limits.service import Limits
from simples3dms.identity.limits.values import Rate, Rates
from simples3dms.identity.resets.service import Resets
from simples3dms.identity.service import Identity
from simples3dms.identity.services.service import ServicePrincipals
from simples3dms.identity.sessions.service import Sessions
from simples3dms.jobqueue.app import JobQueue
from simples3dms.keys.service import CHANNEL, Keys
from simples3dms.kit import failpoints
from simples3dms.kit.secret import Secret
from simples3dms.mail import Mailer, SmtpMailer, SmtpSettings
from simples3dms.providers.registry import BuildOptions
from simples3dms.providers.stack import StackSettings
from simples3dms.settings import Settings
from simples3dms.storage.blobs.service import Blobs
from simples3dms.storage.checkpoints.service import Checkpoints
from simples3dms.storage.credentials.service import Credentials
from simples3dms.storage.migrations.engine import MigrationEngine
from simples3dms.storage.migrations.service import Migrations
from simples3dms.storage.placement.service import Placements
from simples3dms.storage.rollout.service import Rollouts
from simples3dms.storage.rotations.service import Rotations
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
    sessions: Sessions
    service_principals: ServicePrincipals
    factors: Factors
    federation: Federation
    letters: Letters
    invitations: Invitations
    resets: Resets
    tenants: Tenants
    audit: Audit
    keys: Keys
    credentials: Credentials
    rollouts: Rollouts
    stores: Stores
    placements: Placements
    blobs: Blobs
    transfers: Transfers
    migration_engine: MigrationEngine
    migrations: Migrations
    documents: Documents
    holds: Holds
    takeouts: Takeouts
    uploads: Uploads
    rotations: Rotations
    deletion_engine: DeletionEngine
    deletions: Deletions
    persons: Persons
    upkeep: Upkeep
    checkpoints: Checkpoints
    refusals: Refusals
    worker_concurrency: int
    watchdog_seconds: float
    trash_days: float
    probe_hours: float
    seal_seconds: float
    checkpoint_hours: float
    public_url: str | None = None
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
            await self.refusals.close()
            await self.database.close()
            self._opened = False
        await asyncio.to_thread(self.server.stop)


def build_services(settings: Settings) -> Services:
    """Put everything together. Starts the embedded database where it is used (blocking: call it before the loop)."""
    failpoints.arm(settings.failpoints, environment=settings.env)
    _refuse_examples(settings)
    _refuse_host_identity()
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    server = DatabaseServer(settings)
    urls = server.start()
    database = Database(urls.app_url, pool_max=settings.database_pool)
    queue = JobQueue(urls.app_url)
    keyring = open_keyring(settings)
    audit = Audit(database, keyring, least_retention_days=settings.audit_least_retention_days)
    credentials = Credentials(database, keyring)
    guard = _guard(settings)
    stores = Stores(
        database,
        credentials,
        stack_settings=_stack_settings(settings),
        options=_build_options(settings),
        guard=guard,
        guard_all=settings.egress_guard == "all",
    )
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
    party = RelyingParty.of(settings.public_url) if settings.public_url is not None else None
    checks = FactorChecks(database, keyring, party)
    identity = Identity(database, Limits(database, _rates(settings)), checks)
    sessions = Sessions(
        database,
        identity.sign_in,
        idle_seconds=settings.session_idle_seconds,
        lifetime_seconds=settings.session_lifetime_seconds,
    )
    letters = Letters(database, queue, _mailer(settings), retry_base_seconds=settings.retry_base_seconds)
    engine = MigrationEngine(database, queue, blobs, transfers, copies, chunk_blobs=settings.chunk_blobs)
    deletion_engine = DeletionEngine(database, queue, blobs, retry_base_seconds=settings.retry_base_seconds)
    tenants = Tenants(database, regions=_words(settings.regions))
    documents = Documents(database, blobs)
    return Services(
        server=server,
        urls=urls,
        database=database,
        queue=queue,
        identity=identity,
        sessions=sessions,
        service_principals=ServicePrincipals(database),
        factors=Factors(database, identity, checks, keyring, party=party),
        federation=Federation(
            database,
            keyring,
            Issuers(guard),
            identity.sign_in,
            sessions,
            identity.limits,
            public_url=settings.public_url,
        ),
        letters=letters,
        invitations=Invitations(database, identity, letters, public_url=settings.public_url),
        resets=Resets(database, identity, letters, public_url=settings.public_url),
        tenants=tenants,
        audit=audit,
        keys=Keys(
            database,
            keyring,
            queue,
            file=settings.keyring_path if settings.keyring is None else None,
            lease_seconds=settings.lease_seconds,
        ),
        credentials=credentials,
        rollouts=Rollouts(database),
        stores=stores,
        placements=Placements(database),
        blobs=blobs,
        transfers=transfers,
        migration_engine=engine,
        migrations=Migrations(database, stores, transfers, engine),
        documents=documents,
        holds=Holds(database),
        takeouts=Takeouts(database),
        uploads=Uploads(database, blobs, transfers, largest_bytes=settings.largest_upload_bytes),
        rotations=Rotations(
            database,
            queue,
            credentials,
            stores,
            lease_seconds=settings.lease_seconds,
            grace_seconds=settings.credential_grace_seconds,
            settle_seconds=settings.credential_settle_seconds,
        ),
        upkeep=Upkeep(database, stores, audit),
        refusals=Refusals(database),
        checkpoints=Checkpoints(
            database,
            queue,
            stores,
            audit,
            lease_seconds=settings.lease_seconds,
            retry_base_seconds=settings.retry_base_seconds,
        ),
        deletion_engine=deletion_engine,
        deletions=Deletions(database, deletion_engine, wait_days=settings.deletion_wait_days),
        persons=Persons(database, queue, tenants, documents),
        worker_concurrency=settings.worker_concurrency,
        watchdog_seconds=settings.watchdog_seconds,
        trash_days=settings.trash_days,
        probe_hours=settings.probe_hours,
        public_url=settings.public_url,
        seal_seconds=settings.audit_seal_seconds,
        checkpoint_hours=settings.audit_checkpoint_hours,
    )


def _rates(settings: Settings) -> Rates:
    return Rates(
        account=Rate(settings.sign_in_account_attempts, settings.sign_in_account_seconds),
        network=Rate(settings.sign_in_network_attempts, settings.sign_in_network_seconds),
        everybody=Rate(settings.sign_in_global_attempts, settings.sign_in_global_seconds),
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


def _words(text: str) -> frozenset[str]:
    return frozenset(word for part in text.split(",") if (word := part.strip()))


def _mailer(settings: Settings) -> Mailer | None:
    if settings.smtp_host is None:
        return None
    if settings.public_url is None:
        raise Invalid(
            "SIMPLES3DMS_SMTP_HOST needs SIMPLES3DMS_PUBLIC_URL: letters hold links.", code="settings_invalid"
        )
    return SmtpMailer(
        SmtpSettings(
            host=settings.smtp_host,
            port=settings.smtp_port,
            sender=settings.smtp_from,
            tls=settings.smtp_tls,
            username=settings.smtp_username,
            password=Secret(settings.smtp_password.get_secret_value()) if settings.smtp_password else None,
            ca_file=str(settings.smtp_ca_file) if settings.smtp_ca_file else None,
        )
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


def _guard(settings: Settings) -> EgressGuard:
    """What tenants bring always passes it, whatever the setting says of the platform's own stores."""
    try:
        policy = EgressPolicy.parse(allow=settings.egress_allow, ports=settings.egress_ports)
    except ValueError as error:
        raise Invalid(f"SIMPLES3DMS_EGRESS_ALLOW or _PORTS: {error}.", code="settings_invalid") from None
    return EgressGuard(policy)


def _refuse_examples(settings: Settings) -> None:
    """Raise Invalid (`secret_is_example`) for a secret that everybody knows; tests may use what they like."""
    if settings.env == "test":
        return
    for name in type(settings).model_fields:
        value = getattr(settings, name)
        secret = _secret_part(value.get_secret_value()) if isinstance(value, SecretStr) else None
        if secret is not None and is_example(secret):
            raise Invalid(
                f"SIMPLES3DMS_{name.upper()} holds a secret out of an example: anybody may know it. Make one up, "
                "such as with `openssl rand -base64 32`.",
                code="secret_is_example",
            )


def _secret_part(value: str) -> str | None:
    """The password of a database's address, if it has one; of anything else, all of it."""
    if "://" not in value and "=" not in value:
        return value
    try:
        return conninfo_to_dict(value).get("password")  # type: ignore[return-value]  # a number only for ports
    except psycopg.ProgrammingError:
        return value


def _refuse_host_identity() -> None:
    """A store signs with its own credential only: what the host's environment offers to SDKs is taken out of reach."""
    hosts_own = ("AWS_", "AZURE_", "GOOGLE_", "B2_APPLICATION_KEY")
    for name in [name for name in os.environ if name.startswith(hosts_own)]:
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
