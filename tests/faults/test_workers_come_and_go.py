"""Workers are told to stop (F61), run beside those of another version (F60), or have a wrong clock (F40).

The work goes on all the same.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import partial
from typing import Any

import httpx
import psycopg
import pytest
from tests.faults.installation import Installation, eventually
from tests.others import NEW_TASKS, older_worker, wrong_clock

from simples3dms.audit.verifier import verify
from simples3dms.bootstrap import build_services
from simples3dms.client import ApiProblem
from simples3dms.db.roles import PLATFORM_ROLE, QUEUE_ROLE
from simples3dms.kit.secret import Secret
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


def _waiting(records: psycopg.Connection[Any]) -> list[tuple[str, int]]:
    """The jobs of the newer version that are in the queue: status, and how often they were put off."""
    with records.transaction():
        records.execute(f"SET LOCAL ROLE {QUEUE_ROLE}")
        return records.execute(
            "SELECT status, attempts FROM procrastinate_jobs WHERE task_name = ANY(%s)", [list(NEW_TASKS)]
        ).fetchall()


def test_f60_a_job_that_an_older_worker_does_not_know_waits_for_one_that_does(
    installation: Installation, records: psycopg.Connection[Any]
) -> None:
    tenant = "mixed"
    installation.add_tenant(tenant)
    bodies = installation.fill(tenant, 3)
    older = installation.start("worker", first=older_worker, **PATIENT)
    with installation.connect() as client:
        planned = client.plan_migration(tenant, target="s3-eu")
        client.start_migration(tenant, planned.id)
    # Taken by the older one again and again, and still there.
    eventually(lambda: any(attempts >= 2 for _, attempts in _waiting(records)), seconds=60)
    newer = installation.start("worker", **PATIENT)
    try:
        assert installation.until(tenant, planned.id, "ready").failed_count == 0
        eventually(lambda: _waiting(records) == [], seconds=60)
        installation.assert_clean()
        installation.assert_readable(tenant, bodies)
    finally:
        installation.end(older)
        installation.end(newer)


@pytest.mark.parametrize("ahead", [(3600, -900), pytest.param((900, -3600), marks=pytest.mark.long)])
def test_f40_workers_whose_clocks_are_wrong_share_a_migration(
    installation: Installation, records: psycopg.Connection[Any], ahead: tuple[int, int]
) -> None:
    """The database's clock decides: no lease ends before its time, no delay lasts longer, no event is of tomorrow."""
    tenant = f"clocks{ahead[0]}"
    stores = [f"{tenant}-from", f"{tenant}-to"]
    installation.add_tenant(tenant)
    ((begun_at,),) = records.execute("SELECT now()").fetchall()
    with installation.connect() as client:
        for store in stores:
            (installation.directory / store).mkdir()
            client.add_store(store, kind="local", settings={"path": str(installation.directory / store)}, credential={})
            client.grant_store(tenant, store)
        client.set_placement(tenant, write=stores[0])
        bodies = installation.fill(tenant, 24)
        workers = [
            installation.start(
                "worker", first=partial(wrong_clock, seconds), failpoints="copy.after_put=sleep:2", lease_seconds="600"
            )
            for seconds in ahead
        ]
        planned = client.plan_migration(tenant, target=stores[1], automatic_cutover=True, finalize_after_seconds=1)
        client.start_migration(tenant, planned.id)
        try:
            installation.until(tenant, planned.id, "done", seconds=60)
            installation.assert_clean()
        finally:
            for worker in workers:
                installation.end(worker)
        installation.assert_readable(tenant, bodies)
        claims = records.execute(
            "SELECT fence FROM migration_chunks WHERE migration_id = %s AND phase = 'copy'", [planned.id]
        ).fetchall()
        assert len(claims) >= 4
        assert set(claims) == {(1,)}, "each chunk was one worker's"
        ((ended_at,),) = records.execute("SELECT now()").fetchall()
        events = [event for event in client.iter_audit_events(tenant) if event.target_id == str(planned.id)]
        assert all(begun_at <= event.at <= ended_at for event in events)
        numbers = [event.seq for event in client.iter_audit_events(tenant, oldest_first=True)]
        assert sorted(number or 0 for number in numbers) == list(range(1, len(numbers) + 1))
        keys = {key.key_id: bytes.fromhex(key.public_key) for key in client.list_audit_keys()}
        assert verify(client.iter_audit_export(tenant), keys=keys).breach is None


@pytest.mark.parametrize("ahead", [3600, -3600])
def test_f40_a_server_whose_clock_is_wrong_knows_when_a_token_ends(
    installation: Installation, records: psycopg.Connection[Any], ahead: int
) -> None:
    before, right_token = installation.url, installation.token
    server = installation.serve("--no-worker", first=partial(wrong_clock, ahead))
    try:
        told = parsedate_to_datetime(httpx.get(f"{installation.url}/healthz", trust_env=False).headers["Date"])
        assert abs((told - datetime.now(UTC)).total_seconds() - ahead) < 120, "its clock is wrong"
        with installation.connect() as client:
            made = client.create_token(f"clock{ahead}", expires_in_days=1)
        ((seconds,),) = records.execute(
            "SELECT extract(epoch FROM expires_at - now()) FROM api_tokens WHERE name = %s", [f"clock{ahead}"]
        ).fetchall()
        assert 86_400 - 300 < seconds <= 86_400
        installation.token = Secret(made.token)
        for minutes, is_valid in ((10, True), (-1, False)):
            records.execute(
                "UPDATE api_tokens SET expires_at = now() + make_interval(mins => %s) WHERE name = %s",
                [minutes, f"clock{ahead}"],
            )
            with installation.connect() as client:
                if is_valid:
                    assert client.list_tokens()
                else:
                    with pytest.raises(ApiProblem) as caught:
                        client.list_tokens()
                    assert caught.value.status == 401
    finally:
        installation.token = right_token
        installation.end(server)
        installation.url = before


def test_f60_this_version_works_on_the_schema_of_a_later_one(
    installation: Installation, records: psycopg.Connection[Any]
) -> None:
    """Which has more columns everywhere, one more table, and a revision that nobody here has heard of."""
    services = build_services(Settings(data_dir=installation.directory / "var", env="test"))
    with psycopg.connect(services.urls.owner_url, autocommit=True) as owner:
        tables = owner.execute(
            """SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
               WHERE n.nspname = 'public' AND c.relkind IN ('r', 'p') AND NOT c.relispartition
                 AND c.relname NOT LIKE 'procrastinate%' AND c.relname <> 'alembic_version'"""
        ).fetchall()
        assert len(tables) > 30
        for (name,) in tables:
            owner.execute(f"ALTER TABLE \"{name}\" ADD COLUMN later text NOT NULL DEFAULT 'x'")
        owner.execute("CREATE TABLE later (id uuid PRIMARY KEY)")
        owner.execute("UPDATE alembic_version SET version_num = '9999'")
    asyncio.run(services.close())
    before = installation.url
    server, worker = installation.serve("--no-worker"), installation.start("worker")
    try:
        installation.add_tenant("later")
        bodies = installation.fill("later", 3, with_large=True)
        with installation.connect() as client:
            planned = client.plan_migration("later", target="s3-eu", automatic_cutover=True, finalize_after_seconds=0)
            client.start_migration("later", planned.id)
            installation.until("later", planned.id, "done")
            gone = next(iter(bodies))
            client.delete_document("later", gone)
            client.purge_document("later", gone)
            del bodies[gone]
        installation.assert_readable("later", bodies)
        installation.assert_clean()
    finally:
        installation.end(worker)
        installation.end(server)
        installation.url = before
