"""Units of work: all of it or nothing, and a connection that broke or a statement that failed is never a success."""

from __future__ import annotations

from contextlib import suppress

import psycopg
import pytest
from tests.conftest import Cluster

from simples3dms.db.provision import Provisioned
from simples3dms.db.session import Database
from simples3dms.errors import Unavailable
from simples3dms.kit.ids import new_id

pytestmark = pytest.mark.anyio
INSERT = "INSERT INTO tenants (id, slug, name) VALUES (%s, %s, 'x')"


def terminate(cluster: Cluster, process_id: int) -> None:
    with psycopg.connect(cluster.server.superuser_dsn("postgres"), autocommit=True) as connection:
        connection.execute("SELECT pg_terminate_backend(%s, 10000)", [process_id])


async def slugs(database: Database) -> list[str]:
    async with database.platform() as uow:
        found: list[str] = await uow.scalars("SELECT slug FROM tenants ORDER BY slug")
        return found


async def test_a_block_that_ends_well_is_committed_and_one_that_does_not_is_not(database: Database) -> None:
    async with database.platform() as uow:
        await uow.execute(INSERT, [new_id(), "kept"])

    async def fail() -> None:
        async with database.platform() as uow:
            await uow.execute(INSERT, [new_id(), "dropped"])
            raise KeyError

    with pytest.raises(KeyError):
        await fail()
    assert await slugs(database) == ["kept"]


async def test_a_failed_statement_that_is_passed_over_is_no_success(database: Database) -> None:
    """PostgreSQL answers such a COMMIT by rolling back, without an error."""

    async def pass_over() -> None:
        async with database.platform() as uow:
            await uow.execute(INSERT, [new_id(), "dropped"])
            with suppress(psycopg.errors.DivisionByZero):
                await uow.execute("SELECT 1 / 0")

    with pytest.raises(RuntimeError, match="nothing is committed"):
        await pass_over()
    assert await slugs(database) == []


async def test_a_connection_that_breaks_unnoticed_is_no_success(database: Database, cluster: Cluster) -> None:
    async def pass_over() -> None:
        async with database.platform() as uow:
            await uow.execute(INSERT, [new_id(), "dropped"])
            terminate(cluster, await uow.scalar("SELECT pg_backend_pid()"))
            with suppress(psycopg.OperationalError):
                await uow.execute("SELECT 1")

    with pytest.raises(Unavailable):
        await pass_over()
    assert await slugs(database) == []


async def test_a_connection_that_the_server_closed_is_noticed_before_it_is_used(
    urls: Provisioned, cluster: Cluster
) -> None:
    database = Database(urls.app_url, pool_max=1)
    await database.open()
    try:
        async with database.platform() as uow:
            process_id = await uow.scalar("SELECT pg_backend_pid()")
        terminate(cluster, process_id)
        database.used_at.clear()  # as if a second had passed
        assert await slugs(database) == []
    finally:
        await database.close()


async def test_role_and_tenant_are_set_for_the_transaction_only(database: Database) -> None:
    tenant_id = new_id()
    async with database.tenant(tenant_id) as uow:
        assert await uow.scalar("SELECT current_user || ' ' || current_setting('app.tenant_id')") == (
            f"simples3dms_tenant {tenant_id}"
        )
    async with database.platform() as uow:
        assert await uow.scalar("SELECT current_user || ' ' || current_setting('app.tenant_id')") == (
            "simples3dms_platform "
        )
