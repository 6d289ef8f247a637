"""Revisions over rows that were there before them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
import sqlalchemy
from alembic import command
from tests.conftest import LOGIN_ROLE
from tests.db import catalogue

from simples3dms.audit.engine import Sealer
from simples3dms.audit.service import Audit
from simples3dms.db.provision import Provisioned
from simples3dms.db.session import Database
from simples3dms.kit.ids import new_id
from simples3dms.revisions import upgrade as revisions
from simples3dms.revisions.schema import NEWEST


@pytest.fixture
def owner(urls: Provisioned) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(urls.owner_url, autocommit=True) as connection:
        yield connection


def upgrade_to(url: str, revision: str) -> None:
    engine = sqlalchemy.create_engine("postgresql+psycopg://", creator=lambda: psycopg.connect(url))
    with engine.connect() as connection:
        config = revisions._config()
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
        connection.commit()
    engine.dispose()


def test_0003_members_keep_what_they_could_do(urls: Provisioned, owner: psycopg.Connection[Any]) -> None:
    owner.execute("DROP SCHEMA public CASCADE")
    owner.execute("CREATE SCHEMA public")
    upgrade_to(urls.owner_url, "0002")
    tenant = new_id()
    users = {role: new_id() for role in ("admin", "member")}
    # As the application, since the policies hold the owner, too.
    with owner.transaction():
        owner.execute("GRANT simples3dms_platform TO CURRENT_USER")
        owner.execute("SET LOCAL ROLE simples3dms_platform")
        owner.execute("INSERT INTO tenants (id, slug, name) VALUES (%s, 'acme', 'Acme')", [tenant])
        for role, user in users.items():
            owner.execute("INSERT INTO users (id, email, password_hash) VALUES (%s, %s, 'x')", [user, f"{role}@x"])
            owner.execute("INSERT INTO members (tenant_id, user_id, role) VALUES (%s, %s, %s)", [tenant, user, role])
    owner.execute("REVOKE simples3dms_platform FROM CURRENT_USER")
    assert revisions.upgrade(urls.owner_url, login_role=LOGIN_ROLE) == revisions.newest_revision()
    with psycopg.connect(urls.app_url) as application:
        application.execute("SET LOCAL ROLE simples3dms_platform")
        found = dict(application.execute("SELECT user_id, role FROM members").fetchall())
        is_auditor = application.execute("SELECT bool_or(is_auditor) FROM users").fetchall()
    assert found == {users["admin"]: "administrator", users["member"]: "editor"}
    assert is_auditor == [(False,)]
    assert catalogue.findings(owner) == []


@pytest.mark.anyio
async def test_0009_events_from_before_are_chained(urls: Provisioned, owner: psycopg.Connection[Any]) -> None:
    """By the sealer, batch by batch, oldest first; whoever reads meanwhile sees them all."""
    owner.execute("DROP SCHEMA public CASCADE")
    owner.execute("CREATE SCHEMA public")
    upgrade_to(urls.owner_url, "0004")
    tenant = new_id()
    with owner.transaction():
        owner.execute("GRANT simples3dms_platform TO CURRENT_USER")
        owner.execute("SET LOCAL ROLE simples3dms_platform")
        for number in range(7):
            owner.execute(
                """INSERT INTO audit_events (tenant_id, id, at, principal_name, action, target_type, target_id, outcome)
                   VALUES (%s, %s, now() - make_interval(days => %s), 'host', 'thing.done', 'thing', %s, 'done')""",
                [tenant, new_id(), number, str(number)],
            )
    owner.execute("REVOKE simples3dms_platform FROM CURRENT_USER")
    assert revisions.upgrade(urls.owner_url, login_role=LOGIN_ROLE) == revisions.newest_revision()
    database = Database(urls.app_url, pool_max=2)
    await database.open()
    try:
        assert len(await Audit(database).list_events(tenant)) == 7
        assert await Sealer(database, batch=3).seal_all() == 7
        events = await Audit(database).list_events(tenant, oldest_first=True)
        assert [(event.seq, event.target_id) for event in events] == [(n, str(7 - n)) for n in range(1, 8)]
        assert (await Audit(database).verify(tenant)).is_good
    finally:
        await database.close()


def test_0011_counts_what_is_there(urls: Provisioned, owner: psycopg.Connection[Any]) -> None:
    owner.execute("DROP SCHEMA public CASCADE")
    owner.execute("CREATE SCHEMA public")
    upgrade_to(urls.owner_url, "0004")
    tenant, documents, blobs = new_id(), [new_id() for _ in range(3)], [new_id() for _ in range(3)]
    with owner.transaction():
        owner.execute("GRANT simples3dms_platform TO CURRENT_USER")
        owner.execute("GRANT USAGE ON SEQUENCE blob_seq TO simples3dms_platform")
        owner.execute("SET LOCAL ROLE simples3dms_platform")
        owner.execute("INSERT INTO tenants (id, slug, name) VALUES (%s, 'acme', 'Acme')", [tenant])
        for document, blob in zip(documents, blobs, strict=True):
            owner.execute(
                "INSERT INTO blobs (tenant_id, id, digest, size_bytes) VALUES (%s, %s, sha256(''), 7)", [tenant, blob]
            )
            owner.execute(
                "INSERT INTO documents (tenant_id, id, name, version_number) VALUES (%s, %s, 'x', 1)",
                [tenant, document],
            )
        for number, (document, blob) in enumerate(zip([documents[0], *documents[:2]], blobs, strict=True), 1):
            owner.execute("INSERT INTO versions VALUES (%s, %s, %s, %s, 'x')", [tenant, document, number, blob])
        owner.execute("UPDATE documents SET deleted_at = now(), purged_at = now() WHERE id = %s", [documents[2]])
    owner.execute("REVOKE USAGE ON SEQUENCE blob_seq FROM simples3dms_platform")
    owner.execute("REVOKE simples3dms_platform FROM CURRENT_USER")
    assert revisions.upgrade(urls.owner_url, login_role=LOGIN_ROLE) == revisions.newest_revision()
    with psycopg.connect(urls.app_url) as application:
        application.execute("SET LOCAL ROLE simples3dms_platform")
        found = application.execute("SELECT document_count, size_bytes FROM usage_shards").fetchall()
    assert found == [(2, 21)]


def test_0013_stores_that_were_there_are_the_platforms(urls: Provisioned, owner: psycopg.Connection[Any]) -> None:
    owner.execute("DROP SCHEMA public CASCADE")
    owner.execute("CREATE SCHEMA public")
    upgrade_to(urls.owner_url, "0004")
    tenant, store = new_id(), new_id()
    with owner.transaction():
        owner.execute("GRANT simples3dms_platform TO CURRENT_USER")
        owner.execute("SET LOCAL ROLE simples3dms_platform")
        owner.execute("INSERT INTO tenants (id, slug, name) VALUES (%s, 'acme', 'Acme')", [tenant])
        owner.execute("INSERT INTO stores (id, name, kind, settings) VALUES (%s, 's', 's3', '{}')", [store])
        owner.execute("INSERT INTO store_grants (tenant_id, store_id, prefix) VALUES (%s, %s, 't/')", [tenant, store])
        owner.execute("INSERT INTO placements (tenant_id, version, write_store_id) VALUES (%s, 1, %s)", [tenant, store])
    owner.execute("REVOKE simples3dms_platform FROM CURRENT_USER")
    assert revisions.upgrade(urls.owner_url, login_role=LOGIN_ROLE) == revisions.newest_revision()
    with psycopg.connect(urls.app_url) as application:
        application.execute("SET LOCAL ROLE simples3dms_platform")
        found = application.execute(
            """SELECT s.owner_tenant_id, s.jurisdiction, g.revoked_at, p.write_weights, t.allowed_jurisdictions
               FROM stores s JOIN store_grants g ON g.store_id = s.id JOIN placements p USING (tenant_id)
               JOIN tenants t ON t.id = p.tenant_id"""
        ).fetchall()
        assert found == [(None, None, None, {}, None)]
        with pytest.raises(psycopg.errors.UniqueViolation):
            application.execute(
                "INSERT INTO stores (id, name, kind, settings) VALUES (%s, 's', 's3', '{}')", [new_id()]
            )
    assert catalogue.findings(owner) == []


def test_0032_counts_what_is_there(urls: Provisioned, owner: psycopg.Connection[Any]) -> None:
    """Also what an earlier revision should have counted, and could not see."""
    owner.execute("DROP SCHEMA public CASCADE")
    owner.execute("CREATE SCHEMA public")
    upgrade_to(urls.owner_url, "0024")
    tenant, blobs, (one, two) = new_id(), [new_id() for _ in range(3)], (new_id(), new_id())
    with owner.transaction():
        owner.execute("GRANT simples3dms_platform TO CURRENT_USER")
        owner.execute("GRANT USAGE ON SEQUENCE blob_seq TO simples3dms_platform")
        owner.execute("SET LOCAL ROLE simples3dms_platform")
        owner.execute("INSERT INTO tenants (id, slug, name) VALUES (%s, 'acme', 'Acme')", [tenant])
        for store in (one, two):
            owner.execute("INSERT INTO stores (id, name, kind, settings) VALUES (%s, %s, 's3', '{}')", [store, store])
            owner.execute(
                "INSERT INTO store_grants (tenant_id, store_id, prefix) VALUES (%s, %s, 't/')", [tenant, store]
            )
        for number, blob in enumerate(blobs):
            owner.execute(
                "INSERT INTO blobs (tenant_id, id, digest, size_bytes) VALUES (%s, %s, sha256(''), %s)",
                [tenant, blob, 10**number],
            )
            owner.execute(
                """INSERT INTO replicas (tenant_id, id, blob_id, store_id, key, state, evidence)
                   VALUES (%s, %s, %s, %s, %s, 'live', 'read-back')""",
                [tenant, blob, blob, one, str(number)],
            )
            owner.execute(
                "INSERT INTO transfers (tenant_id, id, blob_id, target_store_id, state) VALUES (%s, %s, %s, %s, %s)",
                [tenant, blob, blob, two, "failed" if number == 2 else "pending"],
            )
    owner.execute("REVOKE USAGE ON SEQUENCE blob_seq FROM simples3dms_platform")
    owner.execute("REVOKE simples3dms_platform FROM CURRENT_USER")
    assert revisions.upgrade(urls.owner_url, login_role=LOGIN_ROLE) == revisions.newest_revision()
    with psycopg.connect(urls.app_url) as application:
        application.execute("SET LOCAL ROLE simples3dms_platform")
        owed = application.execute("SELECT store_id, state, transfer_count, size_bytes FROM transfer_counts").fetchall()
        held = application.execute("SELECT store_id, blob_count, size_bytes FROM catalogue_deltas").fetchall()
    assert sorted(owed) == [(two, "failed", 1, 100), (two, "pending", 2, 11)]
    assert set(held) == {(None, 3, 111), (one, 3, 111)}
    assert catalogue.findings(owner) == []


def test_the_newest_revision_is_the_one_that_is_asked_for_at_the_start() -> None:
    assert revisions.newest_revision() == NEWEST
