"""kill -9 at every fail-point of copies, cut-overs, ends and drains."""

from __future__ import annotations

import signal

import pytest
from tests.faults.installation import Installation, eventually
from tests.faults.killing import id_of, points, slug

from simples3dms.schemas.drains import StartDrain

pytestmark = pytest.mark.timeout(600)


@pytest.mark.parametrize("point", points("copy", "cutover"))
def test_f06_f07_f09_f10_the_worker_is_killed_during_a_migration(installation: Installation, point: str) -> None:
    tenant = slug(point)
    installation.add_tenant(tenant)
    bodies = installation.fill(tenant, with_large=point.startswith("copy."))
    victim = installation.start("worker", failpoints=f"{point}=kill")
    with installation.connect() as client:
        planned = client.plan_migration(tenant, target="s3-eu", automatic_cutover=True)
        client.start_migration(tenant, planned.id)
    assert victim.wait(120) == -signal.SIGKILL
    installation.assert_readable(tenant, bodies)
    worker = installation.start("worker")
    try:
        installation.until(tenant, planned.id, "soaking")
        with installation.connect() as client:
            assert client.get_placement(tenant).write == "s3-eu"
            client.finalize_migration(tenant, planned.id)
        installation.until(tenant, planned.id, "done")
        installation.assert_clean()
        installation.assert_readable(tenant, bodies)
    finally:
        installation.end(worker)


@pytest.mark.parametrize("point", points("finalize"))
def test_f10_the_worker_is_killed_when_the_roll_back_window_is_over(installation: Installation, point: str) -> None:
    tenant = slug(point)
    installation.add_tenant(tenant)
    bodies = installation.fill(tenant, 4)
    victim = installation.start("worker", failpoints=f"{point}=kill")
    with installation.connect() as client:
        planned = client.plan_migration(tenant, target="s3-eu", automatic_cutover=True, finalize_after_seconds=1)
        client.start_migration(tenant, planned.id)
    assert victim.wait(120) == -signal.SIGKILL
    installation.assert_readable(tenant, bodies)
    worker = installation.start("worker")
    try:
        installation.until(tenant, planned.id, "done")
        with installation.connect() as client:
            acts = [event.action for event in client.iter_audit_events(tenant)]
        assert acts.count("migration.finalizing") == 1
        installation.assert_clean()
        installation.assert_readable(tenant, bodies)
    finally:
        installation.end(worker)


@pytest.mark.parametrize("point", points("drain"))
def test_f10_the_worker_is_killed_during_a_drain(installation: Installation, point: str) -> None:
    """One migration a tenant, whatever the worker had reached; and all are moved."""
    names = [f"{slug(point)}-{number}" for number in range(2)]
    stores = [f"{slug(point)}-{side}" for side in ("from", "to")]
    with installation.connect() as client:
        for store in stores:
            (installation.directory / store).mkdir()
            client.add_store(store, kind="local", settings={"path": str(installation.directory / store)}, credential={})
    bodies = {}
    for name in names:
        installation.add_tenant(name)
        with installation.connect() as client:
            client.grant_store(name, stores[0])
            client.set_placement(name, write=stores[0])
        bodies[name] = installation.fill(name, 2)
    victim = installation.start("worker", failpoints=f"{point}=kill")
    with installation.connect() as client:
        client.start_drain(stores[0], StartDrain(target=stores[1], finalize_after_seconds=0))
    assert victim.wait(120) == -signal.SIGKILL
    worker = installation.start("worker")
    try:
        with installation.connect() as client:
            eventually(lambda: client.get_drain(stores[0]).state == "done")
            assert client.get_drain(stores[0]).progress.moved == 2
            assert [len(list(client.iter_migrations(name))) for name in names] == [1, 1]
        installation.assert_clean()
        for name in names:
            installation.assert_readable(name, bodies[name])
    finally:
        installation.end(worker)


def test_f06_two_workers_share_a_migration_and_one_is_killed(installation: Installation) -> None:
    tenant = "shared"
    installation.add_tenant(tenant)
    bodies = installation.fill(tenant, 60)
    # Each copy that it confirms takes a moment: both are in the middle when one is killed.
    first = installation.start("worker", failpoints="copy.after_put=sleep:0.15")
    second = installation.start("worker", failpoints="copy.after_put=sleep:0.15")
    with installation.connect() as client:
        planned = client.plan_migration(tenant, target="s3-eu")
        client.start_migration(tenant, planned.id)

        def under_way() -> bool:
            migration = client.get_migration(tenant, planned.id)
            assert migration.state == "copying"
            return migration.copied_count > 5

        while not under_way():
            pass
    first.kill()
    assert first.wait(30) == -signal.SIGKILL
    installation.until(tenant, planned.id, "ready")
    try:
        with installation.connect() as client:
            client.cut_over_migration(tenant, planned.id)
            client.finalize_migration(tenant, planned.id)
        done = installation.until(tenant, planned.id, "done")
        assert done.failed_count == 0
        installation.assert_clean()
        installation.assert_readable(tenant, bodies)
        listed = installation.s3.client().list_objects_v2(Bucket="fault-documents", Prefix="t/")
        mine = [item for item in listed["Contents"] if f"/{id_of(installation, tenant)}/" in "/" + item["Key"]]
        assert len(mine) == len(bodies)
    finally:
        installation.end(second)
