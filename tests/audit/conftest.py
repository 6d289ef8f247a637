"""An audit over a fresh database, a tenant in it, and the hand of somebody who owns the machine."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import UUID

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict
from tests.conftest import Cluster

from simples3dms.audit.service import Audit, record
from simples3dms.context import Principal
from simples3dms.crypto.keyring import Keyring
from simples3dms.db.provision import Provisioned
from simples3dms.db.session import Database
from simples3dms.kit.ids import new_id

ANNA = Principal(new_id(), "anna@example.org")


@pytest.fixture
def audit(database: Database) -> Audit:
    return Audit(database, Keyring({"k-1": b"k" * 32}, "k-1"), least_retention_days=30)


@pytest.fixture
def tenant_id() -> UUID:
    return new_id()


@pytest.fixture
def intruder(cluster: Cluster, urls: Provisioned) -> Iterator[psycopg.Connection[Any]]:
    """The database's superuser, with triggers off: nothing that runs in the database holds them."""
    name = str(conninfo_to_dict(urls.app_url)["dbname"])
    with psycopg.connect(cluster.server.superuser_dsn(name), autocommit=True) as connection:
        connection.execute("SET session_replication_role = replica")
        yield connection


async def act(database: Database, tenant_id: UUID, *targets: object, **more: Any) -> None:
    """An event for each target, each in a unit of work of its own."""
    given = {"target_type": "document", "tenant_id": tenant_id, **more}
    for target in targets:
        async with database.tenant(tenant_id) as uow:
            await record(uow, ANNA, "document.uploaded", target_id=str(target), **given)


async def exported(audit: Audit, tenant_id: UUID | None, **given: Any) -> list[bytes]:
    return [line async for line in (await audit.open_export(tenant_id, **given)).lines()]
