"""Isolation: what the catalogue promises (S-06), and what each table does without the right context (S-07)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import psycopg
import pytest
from psycopg import sql
from tests.db import catalogue

from simples3dms.db.provision import Provisioned
from simples3dms.db.roles import LOGIN_ROLE, TENANT_ROLE
from simples3dms.db.session import Database
from simples3dms.kit.ids import new_id

HARMLESS = "CREATE TABLE more (tenant_id uuid NOT NULL, id uuid NOT NULL, PRIMARY KEY (tenant_id, id));"
GUARD = (
    HARMLESS
    + """ALTER TABLE more ENABLE ROW LEVEL SECURITY; ALTER TABLE more FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_rows ON more TO simples3dms_tenant
  USING (tenant_id = NULLIF(current_setting('app.tenant_id', true), '')::uuid)
  WITH CHECK (tenant_id = NULLIF(current_setting('app.tenant_id', true), '')::uuid);"""
)
PLAIN_CAST = "current_setting('app.tenant_id', true)::uuid"
PLANTED = [
    (HARMLESS, "more: row-level security is not enabled"),
    (HARMLESS, "more: has no tenant policy"),
    ("CREATE TABLE more (id uuid PRIMARY KEY);", "more: row-level security is not enabled"),
    (GUARD + "ALTER TABLE more NO FORCE ROW LEVEL SECURITY", "more: row-level security is not forced"),
    (GUARD + "CREATE POLICY extra ON more USING (true)", "more.extra: is for everybody"),
    (GUARD + "CREATE POLICY extra ON more TO simples3dms_tenant USING (true)", "more.extra: is not the tenant policy"),
    (
        f"{HARMLESS} CREATE POLICY p ON more TO simples3dms_tenant USING (tenant_id = {PLAIN_CAST})",
        "more.p: is not the tenant policy",
    ),
    ("CREATE POLICY p ON credentials TO simples3dms_tenant USING (true)", "credentials.p: is not the tenant policy"),
    (GUARD + "CREATE UNIQUE INDEX ON more (id)", "more('id',): a unique index does not begin with the tenant"),
    (
        GUARD + "ALTER TABLE more DROP CONSTRAINT more_pkey",
        "more: has no primary key that begins with the tenant",
    ),
    (
        GUARD + "CREATE UNIQUE INDEX one ON documents (tenant_id, id); CREATE UNIQUE INDEX two ON more (id);"
        "ALTER TABLE documents ADD more_id uuid REFERENCES more (id)",
        "documents.documents_more_id_fkey: a reference to more does not begin with the tenant",
    ),
    (
        "CREATE TABLE more (id uuid PRIMARY KEY, t uuid, d uuid, FOREIGN KEY (t, d) REFERENCES documents)",
        "more.more_t_d_fkey: a table of nobody's refers to a tenant's",
    ),
    ("GRANT SELECT ON users TO simples3dms_tenant", "simples3dms_tenant has SELECT on users"),
    ("GRANT SELECT ON procrastinate_jobs TO simples3dms_tenant", "simples3dms_tenant has SELECT on procrastinate_jobs"),
    ("GRANT TRUNCATE ON documents TO simples3dms_platform", "simples3dms_platform has TRUNCATE on documents"),
    ("GRANT UPDATE ON audit_events TO simples3dms_platform", "simples3dms_platform has UPDATE on audit_events"),
    ("GRANT SELECT ON documents TO simples3dms_queue", "simples3dms_queue has SELECT on documents"),
    ("GRANT SELECT ON documents TO simples3dms_app", "simples3dms_app has SELECT on documents"),
    ("GRANT SELECT ON documents TO PUBLIC", "PUBLIC has a right on documents"),
    ("GRANT UPDATE (prefix) ON store_grants TO simples3dms_tenant", "has a right on store_grants.prefix"),
    ("GRANT SELECT ON SEQUENCE blob_seq TO simples3dms_tenant", "may look into the sequence blob_seq"),
    ("GRANT CREATE ON SCHEMA public TO simples3dms_tenant", "simples3dms_tenant: may create in the database"),
    ("GRANT CREATE ON SCHEMA public TO PUBLIC", "simples3dms_app: may create in the database"),
    ("ALTER TABLE documents OWNER TO simples3dms_platform", "simples3dms_platform: owns something"),
    ("CREATE VIEW more AS SELECT * FROM documents", "more: a view with its owner's rights"),
    ("CREATE MATERIALIZED VIEW more AS SELECT * FROM documents", "more: a view with its owner's rights"),
    (
        "CREATE FUNCTION more() RETURNS bigint LANGUAGE sql SECURITY DEFINER AS 'SELECT count(*) FROM documents'",
        "more(): runs with its owner's rights",
    ),
    ("CREATE SCHEMA more", "more: a schema that nobody looks after"),
]


@pytest.fixture
def owner(urls: Provisioned) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(urls.owner_url, autocommit=True) as connection:
        yield connection


def test_s06_the_catalogue_has_nothing_to_complain_of(owner: psycopg.Connection[Any]) -> None:
    assert catalogue.findings(owner) == []


@pytest.mark.parametrize(("statement", "expected"), PLANTED)
def test_s06_a_planted_hole_is_found(owner: psycopg.Connection[Any], statement: str, expected: str) -> None:
    with owner.transaction(force_rollback=True):
        if "OWNER TO" in statement:
            owner.execute("GRANT simples3dms_platform TO CURRENT_USER; GRANT CREATE ON SCHEMA public TO PUBLIC")
        owner.execute(statement)  # type: ignore[arg-type]
        found = catalogue.findings(owner)
    assert any(expected in finding for finding in found), found


ONE, TWO = UUID(int=1), UUID(int=2)
#: A row of each tenant's table, in the order in which they can be made; `t` is the tenant, `i` an id.
ROWS = {
    "members": "INSERT INTO members VALUES (%(t)s, %(user)s, 'viewer')",
    "store_grants": "INSERT INTO store_grants VALUES (%(t)s, %(store)s, 't/' || %(t)s || '/')",
    "placements": "INSERT INTO placements (tenant_id, version, write_store_id) VALUES (%(t)s, 1, %(store)s)",
    "placement_versions": "INSERT INTO placement_versions VALUES (%(t)s, 1, '{}', 'set')",
    "blobs": "INSERT INTO blobs (tenant_id, id, seq, digest, size_bytes) VALUES (%(t)s, %(i)s, 1, sha256(''), 0)",
    "replicas": """INSERT INTO replicas (tenant_id, id, blob_id, store_id, key, state, evidence)
                   VALUES (%(t)s, %(i)s, %(i)s, %(store)s, 'key', 'live', 'written')""",
    "cache_entries": """INSERT INTO cache_entries (tenant_id, id, blob_id, store_id, key, size_bytes, state)
                        VALUES (%(t)s, %(i)s, %(i)s, %(store)s, 'key', 1, 'live')""",
    "object_locks": "INSERT INTO object_locks (tenant_id, replica_id, store_id) VALUES (%(t)s, %(i)s, %(store)s)",
    "lock_surveys": "INSERT INTO lock_surveys (tenant_id) VALUES (%(t)s)",
    "part_uploads": "INSERT INTO part_uploads VALUES (%(t)s, %(i)s, 'upload', 5)",
    "sent_parts": "INSERT INTO sent_parts VALUES (%(t)s, %(i)s, 1, 5, 'tag', sha256(''))",
    "placement_surveys": "INSERT INTO placement_surveys (tenant_id) VALUES (%(t)s)",
    "transfers": """INSERT INTO transfers (tenant_id, id, blob_id, target_store_id, state)
                    VALUES (%(t)s, %(i)s, %(i)s, %(store)s, 'pending')""",
    "migrations": """INSERT INTO migrations (tenant_id, id, source_store_id, target_store_id, state, plan)
                     VALUES (%(t)s, %(i)s, %(store)s, %(store2)s, 'planned', '{}')""",
    "migration_chunks": """INSERT INTO migration_chunks (tenant_id, migration_id, phase, low_seq, high_seq, state,
                             blob_count, size_bytes) VALUES (%(t)s, %(i)s, 'copy', 1, 2, 'pending', 1, 0)""",
    "notices": "INSERT INTO notices (tenant_id, id, migration_id, state) VALUES (%(t)s, %(i)s, %(i)s, 'done')",
    "drain_tenants": """INSERT INTO drain_tenants (tenant_id, drain_id, step, state)
                        VALUES (%(t)s, %(i)s, 0, 'waiting')""",
    "notice_letters": "INSERT INTO notice_letters VALUES (%(t)s, %(i)s, %(i)s, %(user)s)",
    "documents": "INSERT INTO documents (tenant_id, id, name, version_number) VALUES (%(t)s, %(i)s, 'name', 1)",
    "versions": """INSERT INTO versions (tenant_id, document_id, number, blob_id, content_type)
                   VALUES (%(t)s, %(i)s, 1, %(i)s, 'text/plain')""",
    "uploads": """INSERT INTO uploads (tenant_id, id, principal_id, fingerprint, name, content_type, replica_id, state,
                    lease_until) VALUES (%(t)s, %(i)s, %(user)s, '', 'name', 'text/plain', %(i)s, 'open', now())""",
    "invitations": """INSERT INTO invitations (tenant_id, id, email, role, expires_at)
                      VALUES (%(t)s, %(i)s, 'a@b', 'viewer', now())""",
    "audit_events": """INSERT INTO audit_events (tenant_id, id, principal_name, action, target_type, target_id, outcome)
                       VALUES (%(t)s, %(i)s, 'host', 'thing.done', 'thing', '1', 'done')""",
    "audit_heads": "INSERT INTO audit_heads (tenant_id) VALUES (%(t)s)",
    "audit_checkpoints": """INSERT INTO audit_checkpoints
                            VALUES (%(t)s, 1, sha256(''), now(), 'k', decode(repeat('00', 64), 'hex'))""",
    "audit_cuts": """INSERT INTO audit_cuts
                     VALUES (%(t)s, 1, sha256(''), now(), 1, 'k', decode(repeat('00', 64), 'hex'))""",
    "audit_copies": """INSERT INTO audit_copies (tenant_id, seq, store_id, key, state)
                       VALUES (%(t)s, 1, %(store)s, 'key', 'writing')""",
    "holds": """INSERT INTO holds (tenant_id, id, document_id, name, reason, placed_by)
                VALUES (%(t)s, %(i)s, %(i)s, 'case', 'because', 'host')""",
    "tenant_settings": "INSERT INTO tenant_settings (tenant_id, version) VALUES (%(t)s, 1)",
    "scrubs": """INSERT INTO scrubs (tenant_id, id, store_id, level, state, is_scheduled, seed)
                 VALUES (%(t)s, %(i)s, %(store)s, 'deep', 'running', false, 1)""",
    "reconciles": """INSERT INTO reconciles (tenant_id, id, store_id, state, older_than_days)
                     VALUES (%(t)s, %(i)s, %(store)s, 'running', 1)""",
    "reconcile_findings": """INSERT INTO reconcile_findings (tenant_id, reconcile_id, kind, key, version_id, size_bytes)
                             VALUES (%(t)s, %(i)s, 'object', 'key', '', 1)""",
    "takeouts": "INSERT INTO takeouts (tenant_id, id, upto_seq, created_by) VALUES (%(t)s, %(i)s, 1, 'host')",
    "tenant_deletions": """INSERT INTO tenant_deletions (tenant_id, id, state, reason, requested_by_name, waits_until)
                           VALUES (%(t)s, %(i)s, 'requested', 'over', 'host', now())""",
    "usage_shards": "INSERT INTO usage_shards VALUES (%(t)s, 0, 1, 1)",
    "catalogue_counts": """INSERT INTO catalogue_counts (tenant_id, store_id, blob_count, size_bytes)
                           VALUES (%(t)s, %(store)s, 1, 1)""",
    "catalogue_deltas": "INSERT INTO catalogue_deltas (tenant_id, blob_count, size_bytes) VALUES (%(t)s, 1, 1)",
    "transfer_counts": """INSERT INTO transfer_counts (tenant_id, store_id, state, transfer_count, size_bytes)
                          VALUES (%(t)s, %(store)s, 'pending', 1, 1)""",
    "transfer_deltas": """INSERT INTO transfer_deltas (tenant_id, store_id, state, transfer_count, size_bytes)
                          VALUES (%(t)s, %(store)s, 'pending', 1, 1)""",
}
#: Rows that the platform's role can't make.
SEALERS = {"audit_heads", "audit_checkpoints", "audit_cuts"}
TENANTS = {"audit_copies"}


@pytest.fixture
async def filled(database: Database) -> Database:
    """A row of each of two tenants in every tenant's table."""
    user, store, store2 = new_id(), new_id(), new_id()
    async with database.platform() as uow:
        await uow.execute("INSERT INTO users (id, email, password_hash) VALUES (%s, 'a@b', 'x')", [user])
        for name, store_id in (("s1", store), ("s2", store2)):
            await uow.execute(
                "INSERT INTO stores (id, name, kind, settings) VALUES (%s, %s, 'x', '{}')", [store_id, name]
            )
        for tenant_id, slug in ((ONE, "one"), (TWO, "two")):
            await uow.execute("INSERT INTO tenants (id, slug, name) VALUES (%s, %s, 'x')", [tenant_id, slug])
            ids = {"t": tenant_id, "i": tenant_id, "user": user, "store": store, "store2": store2}
            await uow.execute("INSERT INTO store_grants VALUES (%(t)s, %(store2)s, 't/' || %(t)s || '/')", ids)
            for table, statement in ROWS.items():
                if table not in SEALERS | TENANTS:
                    await uow.execute(statement, ids)  # type: ignore[arg-type]
    for tenant_id in (ONE, TWO):
        ids = {"t": tenant_id, "store": store}
        for tables, context in ((SEALERS, database.sealer(tenant_id)), (TENANTS, database.tenant(tenant_id))):
            async with context as uow:
                for table in (name for name in ROWS if name in tables):
                    await uow.execute(ROWS[table], ids)  # type: ignore[arg-type]
    return database


def test_every_tenants_table_is_tried_below(owner: psycopg.Connection[Any]) -> None:
    assert set(ROWS) == catalogue.tenant_tables(owner)


async def _counts(connection: psycopg.AsyncConnection[Any], tables: list[str]) -> dict[str, int]:
    counts = {}
    for table in tables:
        cursor = await connection.execute(sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(table)))
        counts[table] = (await cursor.fetchone() or (0,))[0]
    return counts


VISIBLE = [*ROWS, "tenants", "stores"]
NOTHING = dict.fromkeys(VISIBLE, 0)


@pytest.mark.anyio
async def test_s07_without_a_tenant_there_are_no_rows(filled: Database, urls: Provisioned) -> None:
    async with await psycopg.AsyncConnection.connect(urls.app_url, autocommit=True) as connection:
        await connection.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(TENANT_ROLE)))
        assert await _counts(connection, VISIBLE) == NOTHING, "never set"
        for context in ("", str(UUID(int=3)), str(UUID(int=0))):
            await connection.execute("SELECT set_config('app.tenant_id', %s, false)", [context])
            assert await _counts(connection, VISIBLE) == NOTHING, context
        await connection.execute("SELECT set_config('app.tenant_id', 'one', false)")
        for table in VISIBLE:
            with pytest.raises(psycopg.errors.InvalidTextRepresentation):
                await _counts(connection, [table])


@pytest.mark.anyio
async def test_a_tenant_has_its_own_rows_and_no_others(filled: Database) -> None:
    for tenant_id in (ONE, TWO):
        async with filled.tenant(tenant_id) as uow:
            for table in ROWS:
                query = sql.SQL("SELECT DISTINCT tenant_id FROM {}").format(sql.Identifier(table))
                assert await uow.scalars(query) == [tenant_id], table
            assert await uow.scalars("SELECT id FROM tenants") == [tenant_id]


@pytest.mark.anyio
async def test_a_tenant_changes_no_row_of_another(filled: Database) -> None:
    for table in ROWS:
        for verb in ("UPDATE {} SET tenant_id = tenant_id WHERE tenant_id = %s", "DELETE FROM {} WHERE tenant_id = %s"):
            try:
                async with filled.tenant(ONE) as uow:
                    touched = await uow.execute(sql.SQL(verb).format(sql.Identifier(table)), [TWO])
            except psycopg.errors.InsufficientPrivilege:
                touched = 0
            assert touched == 0, (table, verb)


@pytest.mark.anyio
@pytest.mark.parametrize("table", ROWS)
async def test_a_tenant_makes_no_row_for_another(filled: Database, table: str) -> None:
    name = sql.Identifier(table)
    async with filled.platform() as uow:
        row = await uow.scalar(sql.SQL("SELECT to_jsonb(t) FROM {} t WHERE tenant_id = %s").format(name), [TWO])
    insert = sql.SQL("INSERT INTO {0} SELECT * FROM jsonb_populate_record(NULL::{0}, %s)").format(name)
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        async with filled.tenant(ONE) as uow:
            await uow.execute(insert, [json.dumps(row)])
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        async with filled.tenant(ONE) as uow:
            await uow.execute(sql.SQL("UPDATE {} SET tenant_id = %s").format(name), [TWO])


@pytest.mark.anyio
@pytest.mark.parametrize("blob_id", [TWO, UUID(int=9)])
async def test_s09_a_reference_tells_nothing_of_another_tenants_rows(filled: Database, blob_id: UUID) -> None:
    """References are checked past the policies: another tenant's row must look like none."""
    with pytest.raises(psycopg.errors.ForeignKeyViolation):
        async with filled.tenant(ONE) as uow:
            await uow.execute(
                """INSERT INTO versions (tenant_id, document_id, number, blob_id, content_type)
                   VALUES (%s, %s, 2, %s, 'x')""",
                [ONE, ONE, blob_id],
            )


@pytest.mark.anyio
async def test_the_login_role_by_itself_has_no_right(filled: Database, urls: Provisioned) -> None:
    async with await psycopg.AsyncConnection.connect(urls.app_url, autocommit=True) as connection:
        for table in (*VISIBLE, "users", "api_tokens", "credentials", "procrastinate_jobs"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                await _counts(connection, [table])


async def _fail(database: Database) -> None:
    async with database.tenant(ONE):
        raise RuntimeError


async def _break(database: Database) -> None:
    async with database.tenant(ONE) as uow:
        await uow.execute("SELECT 1 / 0")


async def _time_out(database: Database) -> None:
    async with database.tenant(ONE) as uow:
        await uow.execute("SET LOCAL statement_timeout = 20")
        await uow.execute("SELECT pg_sleep(5)")


async def _be_cancelled(database: Database) -> None:
    async with asyncio.timeout(0.1), database.tenant(ONE) as uow:
        await uow.execute("SELECT pg_sleep(5)")


async def _fail_in_the_queue(database: Database) -> None:
    async with database.tenant(ONE) as uow, uow.as_queue():
        raise RuntimeError


async def _end_well(database: Database) -> None:
    async with database.tenant(ONE) as uow, uow.as_queue():
        pass


@pytest.mark.anyio
@pytest.mark.parametrize("use", [_fail, _break, _time_out, _be_cancelled, _fail_in_the_queue, _end_well])
async def test_s07_a_pooled_connection_carries_nothing_over(urls: Provisioned, filled: Database, use: Any) -> None:
    database = Database(urls.app_url, pool_max=1)
    await database.open()
    try:
        try:
            await use(database)
        except Exception:
            assert use is not _end_well
        async with database._pool.connection() as connection:
            cursor = await connection.execute("SELECT current_user, current_setting('app.tenant_id', true)")
            assert await cursor.fetchone() in ((LOGIN_ROLE, ""), (LOGIN_ROLE, None))
            await connection.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(TENANT_ROLE)))
            assert await _counts(connection, VISIBLE) == NOTHING
            await connection.execute("RESET ROLE")
        async with database.tenant(TWO) as uow:
            assert await uow.scalars("SELECT tenant_id FROM documents") == [TWO]
    finally:
        await database.close()
