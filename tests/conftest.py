"""Fixtures that every test may use: a real PostgreSQL with the real revisions and the unprivileged role."""

from __future__ import annotations

import asyncio
import secrets
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo
from pydantic import SecretStr

from simples3dms.bootstrap import Services, build_services
from simples3dms.db.embedded import EmbeddedPostgres
from simples3dms.db.provision import Provisioned, provision
from simples3dms.db.roles import LOGIN_ROLE, OWNER_ROLE
from simples3dms.db.session import Database
from simples3dms.revisions.upgrade import upgrade
from simples3dms.settings import Settings

_TEMPLATE = "template_simples3dms"


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


def _name_of(urls: Provisioned) -> str:
    return str(psycopg.conninfo.conninfo_to_dict(urls.app_url)["dbname"])


@dataclass(frozen=True)
class Cluster:
    """The test session's PostgreSQL: fresh databases on demand, each with the schema."""

    server: EmbeddedPostgres
    template: Provisioned

    def create_database(self, template: Provisioned | None = None) -> Provisioned:
        """A database with the schema and nothing in it, or a copy of one that nobody uses."""
        name, source = f"t_{secrets.token_hex(8)}", _TEMPLATE if template is None else _name_of(template)
        statement = sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY FILE_COPY OWNER {}").format(
            sql.Identifier(name), sql.Identifier(source), sql.Identifier(OWNER_ROLE)
        )
        with psycopg.connect(self.server.superuser_dsn("postgres"), autocommit=True) as connection:
            connection.execute(statement)
        if template is not None:
            # To be a copy is what the guard of restores is about; a test's own database is none.
            with psycopg.connect(self.server.superuser_dsn(name), autocommit=True) as connection:
                connection.execute("DELETE FROM restore_guard")
        return Provisioned(
            make_conninfo(self.template.owner_url, dbname=name), make_conninfo(self.template.app_url, dbname=name)
        )

    def superuser_dsn(self, urls: Provisioned) -> str:
        """For what no role of the program may do, such as turning clocks back."""
        return self.server.superuser_dsn(_name_of(urls))

    def drop_database(self, urls: Provisioned) -> None:
        statement = sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(_name_of(urls)))
        with psycopg.connect(self.server.superuser_dsn("postgres"), autocommit=True) as connection:
            connection.execute(statement)


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """One server for the whole session. Its fsync is off: the tests that cut power use servers of their own."""
    # Not below pytest's own directory, which is 0700: as root the server's user could not reach its files there.
    directory = Path(tempfile.mkdtemp(prefix="simples3dms-tests-"))
    directory.chmod(0o755)
    with EmbeddedPostgres(directory, fsync=False, extra_conf={"max_connections": "120"}) as server:
        template = provision(server.superuser_dsn, directory / "credentials.json", database=_TEMPLATE)
        upgrade(template.owner_url, login_role=LOGIN_ROLE)
        yield Cluster(server, template)
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def urls(cluster: Cluster) -> Iterator[Provisioned]:
    """A fresh database of this test's own."""
    urls = cluster.create_database()
    yield urls
    cluster.drop_database(urls)


@pytest.fixture
async def database(urls: Provisioned) -> AsyncIterator[Database]:
    database = Database(urls.app_url, pool_max=8)
    await database.open()
    yield database
    await database.close()


@pytest.fixture
def settings(urls: Provisioned, tmp_path: Path) -> Settings:
    return settings_for(urls, tmp_path / "var")


def settings_for(urls: Provisioned, data_dir: Path) -> Settings:
    """Settings with short times, so that leases run out and the watchdog looks within a test."""
    return Settings(
        env="test",
        data_dir=data_dir,
        database_url=SecretStr(urls.app_url),
        database_owner_url=SecretStr(urls.owner_url),
        database_pool=8,
        lease_seconds=3,
        watchdog_seconds=0.5,
        retry_base_seconds=0.2,
        chunk_blobs=20,
        credential_grace_seconds=1,
        credential_settle_seconds=0.5,
        storage_retry_attempts=2,
        storage_connect_timeout_seconds=3,
        storage_read_timeout_seconds=10,
    )


@pytest.fixture
async def services(settings: Settings) -> AsyncIterator[Services]:
    """The shipped services, put together by the shipped code."""
    services = await asyncio.to_thread(build_services, settings)
    await services.open()
    yield services
    await services.close()


@pytest.fixture
def eventually() -> Callable[..., object]:
    """Wait for a condition, with a deadline: `await eventually(lambda: ...)`."""

    async def wait(condition: Callable[[], object], *, seconds: float = 90) -> object:
        async with asyncio.timeout(seconds):
            while True:
                result = condition()
                if asyncio.iscoroutine(result):
                    result = await result
                if result:
                    return result
                await asyncio.sleep(0.05)

    return wait
