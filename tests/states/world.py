"""One tenant of a state machine: its stores in memory, its workers' steps, its clock, and what the records must say."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from dataclasses import dataclass, field
from uuid import UUID

import psycopg
from psycopg import sql
from tests.states.processes import BREAKER_CLOCK, Stage
from tests.support import Place

from simples3dms.bootstrap import Services
from simples3dms.context import HOST
from simples3dms.documents import repository as documents_repository
from simples3dms.providers.kinds import memory
from simples3dms.storage.blobs.values import Replica
from simples3dms.storage.migrations.chunks import repository as chunks
from simples3dms.storage.transfers import repository as transfers_repository

#: What `later` moves: leases, and times at which something is due.
_CLOCKS = """SELECT c.table_name, c.column_name FROM information_schema.columns c
  JOIN information_schema.columns t USING (table_schema, table_name)
  WHERE c.table_schema = 'public' AND t.column_name = 'tenant_id'
    AND c.column_name IN ('lease_until', 'due_at', 'held_until')"""
_PHASES = {"copying": "copy", "rolling_back": "evacuate", "finalizing": "evacuate"}
_EMPTYING = ("rolling_back", "finalizing", "paused", "failed")
#: One that keeps versions and takes streams in one piece, a plain one, and one that keeps versions of parts.
_KINDS = ({"versions": True, "parts": False}, {}, {"versions": True})
_COPIES = """SELECT s.name AS store, r.key, r.blob_id, r.state, r.evidence, b.digest FROM replicas r
  JOIN stores s ON s.id = r.store_id JOIN blobs b ON b.tenant_id = r.tenant_id AND b.id = r.blob_id
  WHERE b.dead_at IS NULL ORDER BY b.id, s.name"""


@dataclass(frozen=True)
class Copy:
    """A replica, as the records have it."""

    store: str
    key: str
    blob_id: UUID
    state: str
    evidence: str | None
    digest: bytes


@dataclass
class World:
    """A tenant that writes to store `a`, with `b` and `c` granted."""

    services: Services
    place: Place
    stores: tuple[str, str, str]
    superuser: str
    stage: Stage = field(default_factory=Stage)
    migration_id: UUID | None = None
    damaged: set[tuple[str, str]] = field(default_factory=set)
    """Where bytes were changed behind our back: store and key."""
    sent: set[bytes] = field(default_factory=set)
    """The digests of all bodies that somebody has sent."""
    clock_columns: tuple[tuple[str, str], ...] = ()

    @property
    def tenant_id(self) -> UUID:
        return self.place.tenant_id

    # --- workers' steps ---------------------------------------------------------------------------------------------

    async def advance(self) -> None:
        if self.migration_id is not None:
            await self.services.migrations.advance(self.tenant_id, self.migration_id)

    async def run_chunks(self, most: int, times: int = 1) -> int:
        if self.migration_id is None:
            return 0
        # Chunks of a phase that is over stay as they are: nobody may claim them any more.
        state = (await self.place.migration(self.migration_id)).state
        phase = _PHASES.get(state)
        if phase is None:
            return 0
        async with self.services.database.tenant(self.tenant_id) as uow:
            free = await chunks.list_free(uow, self.migration_id, phase, limit=most)  # type: ignore[arg-type]
        engine = self.services.migration_engine
        for chunk in free:
            work = [
                engine.run_chunk(self.tenant_id, self.migration_id, chunk.phase, chunk.low_seq)  # type: ignore[arg-type]
                for _ in range(times)
            ]
            await asyncio.gather(*work)
        return len(free)

    async def run_transfers(self, most: int, times: int = 1) -> int:
        async with self.services.database.platform() as uow:
            due = await transfers_repository.list_due(uow, limit=1000)
        mine = [row for row in due if row.tenant_id == self.tenant_id][:most]
        for row in mine:
            await asyncio.gather(*(self.services.transfers.run(row.tenant_id, row.id) for _ in range(times)))
        return len(mine)

    async def repair(self) -> int:
        doubtful = [one for one in await self.copies() if one.state in ("suspect", "missing")]
        ids = {name: store_id for store_id, name in (await self._store_names()).items()}
        for one in doubtful:
            await self.services.transfers.repair(self.tenant_id, one.blob_id, ids[one.store])
        return len(doubtful)

    async def sweep(self) -> None:
        await self.services.blobs.sweep(self.tenant_id)

    async def clean_up(self) -> None:
        """What the watchdog asks for when the time of uploads is over."""
        async with self.services.database.platform() as uow:
            await documents_repository.expire_uploads(uow, limit=1000)
        await self.sweep()

    async def survey(self) -> None:
        await self.services.transfers.survey(self.tenant_id)

    def later(self, seconds: int = 3600) -> None:
        """Time passes for this tenant alone, and for its leases and what waits until later: nothing else tells it."""
        BREAKER_CLOCK.ahead_seconds += seconds
        with psycopg.connect(self.superuser, autocommit=True) as connection:
            if not self.clock_columns:
                self.clock_columns = tuple(connection.execute(_CLOCKS).fetchall())
            for table, column in self.clock_columns:
                statement = sql.SQL("UPDATE {0} SET {1} = {1} - make_interval(secs => %s) WHERE tenant_id = %s")
                connection.execute(
                    statement.format(sql.Identifier(table), sql.Identifier(column)), [seconds, self.tenant_id]
                )

    async def drain(self) -> None:
        """Faults over, workers busy until nothing is left to do. What never ends is told as it stands."""
        for _ in range(60):
            if not await self._work_left():
                return
            self.later()
        raise AssertionError(f"work never ends: {await self._left()}")

    async def _work_left(self) -> bool:
        await self.survey()
        worked = await self.run_transfers(50) + await self.run_chunks(50) + await self.repair()
        await self.advance()
        if self.migration_id is not None:
            migration = await self.place.migration(self.migration_id)
            worked += migration.state in _PHASES and not migration.failed_count
        await self.clean_up()
        async with self.services.database.tenant(self.tenant_id) as uow:
            waiting = await uow.scalar("SELECT count(*) FROM replicas WHERE state IN ('writing', 'retiring')")
            owed = await uow.scalar("SELECT count(*) FROM transfers WHERE state = 'pending'")
        return bool(worked or waiting or owed)

    async def _left(self) -> list[tuple[object, ...]]:
        async with self.services.database.tenant(self.tenant_id) as uow:
            cursor = await uow.connection.execute(
                """SELECT 'replica', state, evidence, attempt::text, lease_until - now() FROM replicas
                     WHERE state <> 'live' UNION ALL
                   SELECT 'transfer', state, error_kind, attempt::text, due_at - now() FROM transfers UNION ALL
                   SELECT 'chunk', phase, state, attempt::text, due_at - now() FROM migration_chunks
                     WHERE state = 'pending' UNION ALL
                   SELECT 'migration', state, error_code, attempt::text, lease_until - now() FROM migrations"""
            )
            return await cursor.fetchall()

    async def is_emptying(self) -> bool:
        """Whether copies are being removed from a store that a migration leaves, or may be once it is resumed."""
        if self.migration_id is None:
            return False
        return (await self.place.migration(self.migration_id)).state in _EMPTYING

    async def is_blocked(self) -> bool:
        """Whether somebody waits for a lock that another holds."""
        async with self.services.database.platform() as uow:
            return bool(
                await uow.scalar(
                    """SELECT EXISTS (SELECT 1 FROM pg_locks WHERE NOT granted AND pid IN (
                         SELECT pid FROM pg_stat_activity WHERE datname = current_database()))"""
                )
            )

    # --- what is there ----------------------------------------------------------------------------------------------

    async def _store_names(self) -> dict[UUID, str]:
        async with self.services.database.platform() as uow:
            cursor = await uow.connection.execute(
                "SELECT id, name FROM stores WHERE name = ANY(%s)", [list(self.stores)]
            )
            return dict(await cursor.fetchall())

    async def copies(self) -> list[Copy]:
        async with self.services.database.tenant(self.tenant_id) as uow:
            return await uow.rows(Copy, _COPIES)

    def bytes_at(self, store: str, key: str) -> bytes | None:
        """What a store really holds at a key: the newest version, or None."""
        shelf = memory._shelves.get(store)
        kept = shelf.objects.get(key) if shelf else None
        return kept[-1].data if kept else None

    async def redundant(self) -> list[Copy]:
        """Live copies of blobs that have another one, proven and not damaged: one of these may turn bad."""
        by_blob: dict[UUID, list[Copy]] = {}
        for copy in await self.copies():
            by_blob.setdefault(copy.blob_id, []).append(copy)
        found: list[Copy] = []
        for copies in by_blob.values():
            good = [one for one in copies if one.state == "live" and one.evidence == "read-back"]
            if len(good) > 1 and not any((one.store, one.key) in self.damaged for one in copies):
                found.extend(good)
        return found

    async def justifying(self) -> list[Copy]:
        """The one live copy of each blob that another is being removed of, while the other's bytes are still there."""
        by_blob: dict[UUID, list[Copy]] = {}
        for copy in await self.copies():
            by_blob.setdefault(copy.blob_id, []).append(copy)
        found: list[Copy] = []
        for copies in by_blob.values():
            live = [one for one in copies if one.state == "live"]
            leaving = [one for one in copies if one.state == "retiring" and one.evidence == "read-back"]
            is_whole = any(self.bytes_at(one.store, one.key) is not None for one in leaving)
            if len(live) == 1 and is_whole and not any((one.store, one.key) in self.damaged for one in copies):
                found.extend(live)
        return found

    async def damaged_replicas(self) -> list[Replica]:
        """Live replicas of which we have damaged the bytes."""
        async with self.services.database.tenant(self.tenant_id) as uow:
            live = await uow.rows(
                Replica,
                """SELECT id, blob_id, store_id, key, version_id, state, evidence, evidence_at, created_at FROM replicas
                   WHERE state = 'live' ORDER BY id""",
            )
        keys = {key for _, key in self.damaged}
        return [one for one in live if one.key in keys]

    def damage(self, copy: Copy, how: str) -> None:
        """Bytes go bad at a store: one flips, the object goes, or another of its size takes its place."""
        shelf = memory._shelves[copy.store]
        kept = shelf.objects.get(copy.key)
        if not kept:
            return
        self.damaged.add((copy.store, copy.key))
        if how == "gone":
            del shelf.objects[copy.key]
            return
        shelf.objects[copy.key] = [memory._Stored(_worse(one.data, how), one.info) for one in kept]
        # What is made from it before anybody looks was not made up by the program.
        self.sent.update(_digest(one.data) for one in shelf.objects[copy.key])

    # --- promises ---------------------------------------------------------------------------------------------------

    async def check(self) -> int:
        """Whatever is live holds the blob's bytes, unless we damaged it; stores are given whole bodies only; and each
        version of the placement has its line in the history. The version in force."""
        async with self.services.database.tenant(self.tenant_id) as uow:
            copies = await uow.rows(Copy, _COPIES)
            version = await uow.scalar("SELECT version FROM placements")
            history = await uow.scalars("SELECT version FROM placement_versions ORDER BY version")
        for copy in copies:
            if copy.state != "live" or (copy.store, copy.key) in self.damaged:
                continue
            data = self.bytes_at(copy.store, copy.key)
            assert data is not None, f"a live replica at {copy.store} has no object"
            assert _digest(data) == copy.digest, f"a live replica at {copy.store} has other bytes"
        assert self.stage.taken <= self.sent, "a store was given as a whole object what nobody sent"
        assert history == list(range(1, version + 1))
        return int(version)

    async def count_documents(self) -> int:
        """As limits count them: with what uploads that are open have reserved."""
        async with self.services.database.tenant(self.tenant_id) as uow:
            return (await documents_repository.find_usage(uow)).documents

    async def count_events(self, action: str) -> int:
        async with self.services.database.tenant(self.tenant_id) as uow:
            return int(await uow.scalar("SELECT count(*) FROM audit_events WHERE action = %s", [action]))

    async def require_clean(self) -> None:
        """What `fsck --read-data` says of this tenant."""
        report = await self.services.upkeep.fsck(read_data=True, tenant_id=self.tenant_id)
        assert report.findings == []
        pending = {name: count for name, count in report.counts.items() if name.startswith("pending") and count}
        assert pending == {}


def _digest(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def _worse(data: bytes, how: str) -> bytes:
    if how == "shorter" or not data:
        return data[:-1] or b"?"
    return bytes([data[0] ^ 1]) + data[1:]


async def make_world(services: Services, superuser: str) -> World:
    """A fresh tenant with three stores, of which one keeps versions."""
    mark = secrets.token_hex(4)
    names = (f"a-{mark}", f"b-{mark}", f"c-{mark}")
    ids = [
        (await services.stores.add_store(HOST, name, "memory", {"name": name, **kind}, {})).id
        for name, kind in zip(names, _KINDS, strict=True)
    ]
    tenant = await services.tenants.create_tenant(HOST, f"t-{mark}", "A tenant")
    for name in names:
        await services.stores.grant_store(HOST, tenant.id, name)
    await services.placements.set_placement(HOST, tenant.id, write=names[0])
    return World(services, Place(services, tenant.id, names[0], names[1], ids[0], ids[1]), names, superuser)
