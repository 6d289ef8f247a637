"""F61: a worker gets SIGTERM during a long copy: it ends it within its grace, or leaves it to others at once."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from tests.faults.installation import Installation, eventually

from simples3dms.bootstrap import build_services
from simples3dms.db.roles import PLATFORM_ROLE
from simples3dms.settings import Settings

pytestmark = pytest.mark.timeout(300)
#: Nobody may come to the work by waiting: not for a lease, and not for the watchdog.
PATIENT = {"lease_seconds": "600", "watchdog_seconds": "600"}


@pytest.fixture(scope="module")
def records(installation: Installation) -> Iterator[psycopg.Connection[Any]]:
    services = build_services(Settings(data_dir=installation.directory / "var", env="test"))
    with psycopg.connect(services.urls.app_url, autocommit=True) as connection:
        connection.execute(f"SET ROLE {PLATFORM_ROLE}")
        yield connection
    asyncio.run(services.close())


def _copies(installation: Installation, records: psycopg.Connection[Any], tenant: str) -> list[tuple[Any, ...]]:
    """The replicas of the tenant's large blob in the second store: id, state, fence, parts that are recorded."""
    with installation.connect() as client:
        tenant_id = client.get_tenant(tenant).id
    return records.execute(
        """SELECT r.id, r.state, r.fence, (SELECT count(*) FROM sent_parts p WHERE p.tenant_id = r.tenant_id
             AND p.replica_id = r.id) FROM replicas r JOIN stores s ON s.id = r.store_id
             JOIN blobs b ON b.tenant_id = r.tenant_id AND b.id = r.blob_id
           WHERE r.tenant_id = %s AND s.name = 's3-eu' AND b.size_bytes > 5000000""",
        [tenant_id],
    ).fetchall()


@pytest.mark.parametrize("way", ["copies", "migration"])
def test_f61_another_worker_goes_on_at_once_where_the_one_that_was_stopped_had_come_to(
    installation: Installation, records: psycopg.Connection[Any], way: str
) -> None:
    tenant = f"stopped-{way}"
    installation.add_tenant(tenant)
    bodies = installation.fill(tenant, 2, with_large=True)
    stopped = installation.start("worker", failpoints="copy.part_sent=sleep:600", worker_grace_seconds="1", **PATIENT)
    with installation.connect() as client:
        if way == "copies":
            client.set_placement(tenant, write="b2-main", copies=["s3-eu"])
        else:
            client.start_migration(tenant, client.plan_migration(tenant, target="s3-eu").id)
    eventually(lambda: any(parts for *_, parts in _copies(installation, records, tenant)))
    ((replica_id, state, fence, _),) = _copies(installation, records, tenant)
    assert state == "writing"
    stopped.terminate()
    assert stopped.wait(30) == 0
    worker = installation.start("worker", **PATIENT)
    try:
        eventually(lambda: [row[1] for row in _copies(installation, records, tenant)] == ["live"], seconds=60)
        assert [row[:3] for row in _copies(installation, records, tenant)] == [(replica_id, "live", fence + 1)]
        installation.assert_clean()
        installation.assert_readable(tenant, bodies)
    finally:
        installation.end(worker)


def test_f61_what_ends_within_the_grace_is_ended(installation: Installation, records: psycopg.Connection[Any]) -> None:
    tenant = "ended"
    installation.add_tenant(tenant)
    bodies = installation.fill(tenant, 1, with_large=True)
    worker = installation.start("worker", failpoints="copy.part_sent=sleep:2@1", **PATIENT)
    with installation.connect() as client:
        client.set_placement(tenant, write="b2-main", copies=["s3-eu"])
    eventually(lambda: any(parts for *_, parts in _copies(installation, records, tenant)))
    worker.terminate()
    assert worker.wait(30) == 0
    ((_, state, fence, _),) = _copies(installation, records, tenant)
    assert (state, fence) == ("live", 1)
    installation.assert_readable(tenant, bodies)
