"""All services, put together."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from simples3dms.audit.refusals import Refusals
from simples3dms.audit.service import Audit
from simples3dms.bootstrap.parts import build_options, guard_of, mailer, open_keyring, rates, stack_settings, words
from simples3dms.bootstrap.safety import refuse_examples, refuse_host_identity
from simples3dms.bootstrap.server import DatabaseServer
from simples3dms.compliance.deletions.engine import DeletionEngine
from simples3dms.compliance.deletions.service import Deletions
from simples3dms.compliance.persons.service import Persons
from simples3dms.crypto.passkeys import RelyingParty
from simples3dms.db.listening import Listener
from simples3dms.db.provision import Provisioned
from simples3dms.db.session import Database
from simples3dms.documents.holds.service import Holds
from simples3dms.documents.service import Documents
from simples3dms.documents.takeouts.service import Takeouts
from simples3dms.documents.uploads import Uploads
from simples3dms.errors import Unavailable
from simples3dms.identity.enrolment.service import Factors
from simples3dms.identity.factors.service import FactorChecks
from simples3dms.identity.federation.engine import Issuers
from simples3dms.identity.federation.service import Federation
from simples3dms.identity.invitations.service import Invitations
from simples3dms.identity.letters.service import Letters
from simples3dms.identity.limits.service import Limits
from simples3dms.identity.resets.service import Resets
from simples3dms.identity.service import Identity
from simples3dms.identity.services.service import ServicePrincipals
from simples3dms.identity.sessions.service import Sessions
from simples3dms.jobqueue.app import JobQueue
from simples3dms.keys.service import CHANNEL, Keys
from simples3dms.kit import failpoints
from simples3dms.settings import Settings
from simples3dms.storage.blobs.service import Blobs
from simples3dms.storage.caches.service import Caches
from simples3dms.storage.checkpoints.service import Checkpoints
from simples3dms.storage.counters.service import Counters
from simples3dms.storage.credentials.service import Credentials
from simples3dms.storage.drains.engine import DrainEngine
from simples3dms.storage.drains.service import Drains
from simples3dms.storage.health.service import Health
from simples3dms.storage.locks.service import Locks
from simples3dms.storage.migrations.canary import Canaries
from simples3dms.storage.migrations.engine import MigrationEngine
from simples3dms.storage.migrations.planning import Planner
from simples3dms.storage.migrations.reports import Reports
from simples3dms.storage.migrations.service import Migrations
from simples3dms.storage.notices.service import Notices
from simples3dms.storage.placement.preview import Previews
from simples3dms.storage.placement.service import Placements
from simples3dms.storage.reconciles.engine import ReconcileEngine
from simples3dms.storage.reconciles.service import Reconciles
from simples3dms.storage.replication.service import Replication
from simples3dms.storage.restores.service import RestoreGuard
from simples3dms.storage.rollout.service import Rollouts
from simples3dms.storage.rotations.service import Rotations
from simples3dms.storage.scrubs.engine import ScrubEngine
from simples3dms.storage.scrubs.service import Scrubs
from simples3dms.storage.stores.service import Stores
from simples3dms.storage.stores.traits import Whereabouts
from simples3dms.storage.throttle.service import Throttle
from simples3dms.storage.transfers.engine import CopyEngine
from simples3dms.storage.transfers.service import Transfers
from simples3dms.storage.upkeep.service import Upkeep
from simples3dms.tenants.service import Tenants


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
    previews: Previews
    locks: Locks
    restores: RestoreGuard
    blobs: Blobs
    throttle: Throttle
    counters: Counters
    transfers: Transfers
    migration_engine: MigrationEngine
    migrations: Migrations
    reports: Reports
    notices: Notices
    drains: Drains
    documents: Documents
    holds: Holds
    takeouts: Takeouts
    uploads: Uploads
    rotations: Rotations
    deletion_engine: DeletionEngine
    deletions: Deletions
    persons: Persons
    upkeep: Upkeep
    scrubs: Scrubs
    reconciles: Reconciles
    replication: Replication
    health: Health
    checkpoints: Checkpoints
    refusals: Refusals
    worker_concurrency: int
    worker_grace_seconds: float
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
        await self.blobs.hedges.settle()
        await self.blobs.caches.close()
        await self.stores.close()
        if self._opened:
            await self.throttle.stop()
            await self.refusals.close()
            await self.database.close()
            self._opened = False
        await asyncio.to_thread(self.server.stop)


def build_services(settings: Settings) -> Services:
    """Put everything together. Starts the embedded database where it is used (blocking: call it before the loop)."""
    failpoints.arm(settings.failpoints, environment=settings.env)
    refuse_examples(settings)
    refuse_host_identity()
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    server = DatabaseServer(settings)
    urls = server.start()
    database = Database(urls.app_url, pool_max=settings.database_pool)
    queue = JobQueue(urls.app_url)
    keyring = open_keyring(settings)
    audit = Audit(database, keyring, least_retention_days=settings.audit_least_retention_days)
    credentials = Credentials(database, keyring)
    guard = guard_of(settings)
    stores = Stores(
        database,
        credentials,
        stack_settings=stack_settings(settings),
        options=build_options(settings),
        guard=guard,
        guard_all=settings.egress_guard == "all",
    )
    locks = Locks(
        database,
        queue,
        stores,
        lease_seconds=settings.lease_seconds,
        retry_base_seconds=settings.retry_base_seconds,
    )
    restores = RestoreGuard(database, audit)
    blobs = Blobs(
        database,
        stores,
        queue,
        locks,
        restores,
        Caches(
            database,
            stores,
            lease_seconds=settings.lease_seconds,
            retry_base_seconds=settings.retry_base_seconds,
        ),
        lease_seconds=settings.lease_seconds,
        retry_base_seconds=settings.retry_base_seconds,
        here=Whereabouts(settings.server_region, settings.server_country),
    )
    throttle = Throttle(database, most_slowdown=settings.most_slowdown)
    copies = CopyEngine(database, blobs, throttle, stores=stores, concurrency=settings.copy_concurrency)
    transfers = Transfers(
        database,
        queue,
        copies,
        lease_seconds=settings.lease_seconds,
        attempts=settings.transfer_attempts,
        retry_base_seconds=settings.retry_base_seconds,
    )
    replication = Replication(database, stores, transfers, late_seconds=settings.replication_late_seconds)
    party = RelyingParty.of(settings.public_url) if settings.public_url is not None else None
    checks = FactorChecks(database, keyring, party)
    refusals = Refusals(database)
    identity = Identity(database, Limits(database, rates(settings)), checks, refusals)
    sessions = Sessions(
        database,
        identity.sign_in,
        idle_seconds=settings.session_idle_seconds,
        lifetime_seconds=settings.session_lifetime_seconds,
    )
    letters = Letters(database, queue, mailer(settings), retry_base_seconds=settings.retry_base_seconds)
    engine = MigrationEngine(database, queue, blobs, transfers, copies, chunk_blobs=settings.chunk_blobs)
    planner = Planner(
        database,
        stores,
        Canaries(database, blobs),
        currency=settings.currency,
        workers=settings.copy_concurrency,
    )
    migrations = Migrations(database, planner, transfers, engine)
    deletion_engine = DeletionEngine(database, queue, blobs, retry_base_seconds=settings.retry_base_seconds)
    tenants = Tenants(database, regions=words(settings.regions))
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
        previews=Previews(database, stores, currency=settings.currency),
        locks=locks,
        restores=restores,
        blobs=blobs,
        throttle=throttle,
        counters=Counters(database),
        transfers=transfers,
        migration_engine=engine,
        migrations=migrations,
        drains=Drains(
            database,
            stores,
            DrainEngine(database, queue, stores, migrations, lease_seconds=settings.lease_seconds),
        ),
        reports=Reports(database, audit),
        notices=Notices(database, letters, public_url=settings.public_url),
        documents=documents,
        holds=Holds(database, locks),
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
        upkeep=Upkeep(database, stores, audit, restores),
        scrubs=Scrubs(
            database,
            stores,
            ScrubEngine(
                database,
                queue,
                blobs,
                throttle,
                lease_seconds=settings.lease_seconds,
                retry_base_seconds=settings.retry_base_seconds,
                bytes_per_second=settings.scrub_bytes_per_second,
            ),
            light_days=settings.scrub_light_days,
            deep_days=settings.scrub_deep_days,
        ),
        reconciles=Reconciles(
            database,
            stores,
            ReconcileEngine(
                database,
                queue,
                stores,
                blobs,
                lease_seconds=settings.lease_seconds,
                retry_base_seconds=settings.retry_base_seconds,
            ),
        ),
        replication=replication,
        health=Health(database, replication, restores),
        refusals=refusals,
        checkpoints=Checkpoints(
            database,
            queue,
            stores,
            audit,
            restores,
            lease_seconds=settings.lease_seconds,
            retry_base_seconds=settings.retry_base_seconds,
        ),
        deletion_engine=deletion_engine,
        deletions=Deletions(database, deletion_engine, wait_days=settings.deletion_wait_days),
        persons=Persons(database, queue, tenants, documents),
        worker_concurrency=settings.worker_concurrency,
        worker_grace_seconds=settings.worker_grace_seconds,
        watchdog_seconds=settings.watchdog_seconds,
        trash_days=settings.trash_days,
        probe_hours=settings.probe_hours,
        public_url=settings.public_url,
        seal_seconds=settings.audit_seal_seconds,
        checkpoint_hours=settings.audit_checkpoint_hours,
    )


async def check_ready(services: Services) -> None:
    """Raise `Unavailable` unless the database answers."""
    try:
        async with asyncio.timeout(2):
            await services.database.ping()
    except TimeoutError as error:
        raise Unavailable("The database does not answer in time.", code="database_unavailable") from error
