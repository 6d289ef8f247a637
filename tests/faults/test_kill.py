"""kill -9 at every fail-point of upload, copy, cut-over, purge, lock and seal: after a restart, every promise holds.

The fail-points are enumerated: one that is added is killed at without a change here.
"""

from __future__ import annotations

import signal
from uuid import UUID

import pytest
from tests.faults.installation import Installation, eventually

from simples3dms.audit.verifier import verify
from simples3dms.client import ServerUnreachable
from simples3dms.kit.failpoints import FAIL_POINTS
from simples3dms.sandbox.listing import list_b2, list_s3
from simples3dms.schemas.drains import StartDrain

pytestmark = pytest.mark.timeout(600)


def points(*protocols: str) -> list[str]:
    return [name for name in FAIL_POINTS if name.partition(".")[0] in protocols]


def test_every_fail_point_is_killed_at_here() -> None:
    covered = (
        set(points("upload"))
        | set(points("copy", "cutover", "finalize", "drain"))
        | set(points("purge", "seal", "tenant_delete"))
    )
    covered |= set(points("lock", "scrub", "reconcile")) | set(
        points("rewrap", "rotate")
    )  # the last two: test_kill_keys.py
    covered |= set(points("cache"))  # test_kill_caches.py
    covered |= set(points("rollback", "evacuate"))  # test_kill_turns.py
    assert covered == set(FAIL_POINTS)


def slug(name: str) -> str:
    return name.replace(".", "-").replace("_", "-")


@pytest.mark.parametrize("point", points("upload"))
def test_f01_f02_f03_the_api_is_killed_during_an_upload(installation: Installation, point: str) -> None:
    tenant = slug(point)
    installation.add_tenant(tenant)
    bodies = installation.fill(tenant, 2)
    path = installation.directory / "killed.bin"
    path.write_bytes(b"killed in the middle" * 1000)
    survivor_url = installation.url
    victim = installation.serve("--no-worker", failpoints=f"{point}=kill")
    with installation.connect(tries=1) as client, pytest.raises(ServerUnreachable):
        client.upload_document(tenant, path, idempotency_key=point)
    assert victim.wait(120) == -signal.SIGKILL
    worker = installation.start("worker")
    try:
        installation.url = survivor_url
        with installation.connect(tries=20) as client:
            # The same request again, to another server: one effect, whatever the first one had reached.
            document = client.upload_document(tenant, path, idempotency_key=point)
            again = client.upload_document(tenant, path, idempotency_key=point)
        assert again.id == document.id
        bodies[document.id] = path.read_bytes()
        installation.assert_clean()
        installation.assert_readable(tenant, bodies)
    finally:
        installation.end(worker)


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


@pytest.mark.parametrize("point", points("purge"))
def test_f12_the_worker_is_killed_during_a_purge(installation: Installation, point: str) -> None:
    tenant = slug(point)
    installation.add_tenant(tenant)
    bodies = installation.fill(tenant, 4)
    gone: list[UUID] = list(bodies)[:2]
    with installation.connect() as client:
        for document_id in gone:
            client.delete_document(tenant, document_id)
            del bodies[document_id]
    # Trash of no age at all is purged by the watchdog, in the worker.
    victim = installation.start("worker", failpoints=f"{point}=kill", trash_days="0")
    assert victim.wait(120) == -signal.SIGKILL
    worker = installation.start("worker", trash_days="0")
    try:
        installation.assert_clean()
        installation.assert_readable(tenant, bodies)
        with installation.connect() as client:
            assert list(client.iter_documents(tenant, trash=True)) == []
    finally:
        installation.end(worker)


@pytest.mark.parametrize("point", points("lock"))
def test_the_worker_is_killed_while_it_locks_at_a_store(installation: Installation, point: str) -> None:
    tenant = slug(point)
    installation.add_tenant(tenant)
    bodies = installation.fill(tenant, 2)
    document, _ = bodies
    victim = installation.start("worker", failpoints=f"{point}=kill")
    with installation.connect() as client:
        hold = client.place_hold(tenant, document, name="one", reason="asked for")

        def lock() -> tuple[str, bool]:
            (replica,) = client.list_replicas(tenant, document)
            return replica.lock, replica.lock_set_hold

        assert victim.wait(90) == -signal.SIGKILL
        assert lock() == ("waiting", False)
        worker = installation.start("worker")
        try:
            eventually(lambda: lock() == ("set", True))
            client.release_hold(tenant, document, hold.id, reason="settled")
            eventually(lambda: lock() == ("none", False))
            installation.assert_clean()
            installation.assert_readable(tenant, bodies)
        finally:
            installation.end(worker)


@pytest.mark.parametrize("point", points("scrub"))
def test_f34_the_worker_is_killed_during_a_scrub(installation: Installation, point: str) -> None:
    """Nothing is counted twice, nothing is passed over, and what was found is mended."""
    tenant = slug(point)
    installation.add_tenant(tenant)
    with installation.connect() as client:
        client.set_placement(tenant, write="b2-main", copies=["s3-eu"])
    bodies = installation.fill(tenant, 4)
    worker = installation.start("worker")
    prefix = f"t/{_tenant_id(installation, tenant)}/"
    eventually(lambda: len(_copies(installation, prefix)) == len(bodies))
    installation.assert_clean()
    installation.end(worker)
    gone = _copies(installation, prefix)[0]
    installation.s3.client().delete_object(Bucket="fault-documents", Key=gone)
    victim = installation.start("worker", failpoints=f"{point}=kill")
    with installation.connect() as client:
        begun = client.start_scrub(tenant, store="s3-eu", level="deep")
        assert victim.wait(90) == -signal.SIGKILL
        worker = installation.start("worker")
        try:
            eventually(lambda: client.get_scrub(tenant, begun.id).state == "done")
            found = client.get_scrub(tenant, begun.id)
            assert (found.checked_count, found.missing_count, found.lost_count) == (len(bodies), 1, 0)
            eventually(lambda: list(client.iter_doubtful_replicas(tenant)) == [])
            installation.assert_clean()
            installation.assert_readable(tenant, bodies)
        finally:
            installation.end(worker)


@pytest.mark.parametrize("point", points("reconcile"))
def test_f34_the_worker_is_killed_during_a_reconcile(installation: Installation, point: str) -> None:
    """Of a store that lacks one object and has one too many; the latter is removed, as it was asked for."""
    tenant = slug(point)
    installation.add_tenant(tenant)
    with installation.connect() as client:
        client.set_placement(tenant, write="b2-main", copies=["s3-eu"])
    bodies = installation.fill(tenant, 4)
    worker = installation.start("worker")
    prefix = f"t/{_tenant_id(installation, tenant)}/"
    eventually(lambda: len(_copies(installation, prefix)) == len(bodies))
    installation.assert_clean()
    installation.end(worker)
    s3 = installation.s3.client()
    s3.delete_object(Bucket="fault-documents", Key=_copies(installation, prefix)[0])
    s3.put_object(Bucket="fault-documents", Key=f"{prefix}7f/nobody-s", Body=b"nobody's")
    victim = installation.start("worker", failpoints=f"{point}=kill")
    is_of_removal = point.endswith(("after_delete", "in_removal_txn"))
    with installation.connect() as client:
        begun = client.start_reconcile(tenant, store="s3-eu", older_than_days=0)

        def state() -> str:
            return client.get_reconcile(tenant, begun.id).state

        if not is_of_removal:
            assert victim.wait(90) == -signal.SIGKILL
            worker = installation.start("worker")
        eventually(lambda: state() == "done")
        found = client.get_reconcile(tenant, begun.id)
        assert (found.unexplained_count, found.missing_count, found.compared_count) == (1, 1, len(bodies))
        client.remove_unexplained(tenant, begun.id, count=1)
        if is_of_removal:
            assert victim.wait(90) == -signal.SIGKILL
            worker = installation.start("worker")
        try:
            eventually(lambda: state() == "removed")
            assert client.get_reconcile(tenant, begun.id).removed_count == 1
            eventually(lambda: list(client.iter_doubtful_replicas(tenant)) == [])
            installation.assert_clean()
            installation.assert_readable(tenant, bodies)
        finally:
            installation.end(worker)


def _copies(installation: Installation, prefix: str) -> list[str]:
    return [key for key in list_s3(installation.s3, "fault-documents", prefix) if "/audit/" not in key]


@pytest.mark.parametrize("point", points("seal"))
def test_i11_the_worker_is_killed_while_it_seals(installation: Installation, point: str) -> None:
    """The chain goes on where it was: no number twice, none left out."""
    tenant = slug(point)
    installation.add_tenant(tenant)
    installation.fill(tenant, 3)
    victim = installation.start("worker", failpoints=f"{point}=kill")
    assert victim.wait(90) == -signal.SIGKILL
    worker = installation.start("worker")
    try:
        with installation.connect() as client:
            client.create_audit_checkpoint(tenant)
            eventually(lambda: all(event.seq for event in client.iter_audit_events(tenant)))
            numbers = [event.seq for event in client.iter_audit_events(tenant, oldest_first=True)]
            keys = {key.key_id: bytes.fromhex(key.public_key) for key in client.list_audit_keys()}
            verdict = verify(client.iter_audit_export(tenant), keys=keys)
        assert sorted(number or 0 for number in numbers) == list(range(1, len(numbers) + 1))
        assert (verdict.breach, verdict.event_count) == (None, len(numbers))
        installation.assert_clean()
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
        mine = [item for item in listed["Contents"] if f"/{_tenant_id(installation, tenant)}/" in "/" + item["Key"]]
        assert len(mine) == len(bodies)
    finally:
        installation.end(second)


def _tenant_id(installation: Installation, tenant: str) -> str:
    with installation.connect() as client:
        return str(client.get_tenant(tenant).id)


@pytest.mark.parametrize("point", points("tenant_delete"))
def test_the_worker_is_killed_during_a_tenant_s_deletion(installation: Installation, point: str) -> None:
    tenant, other = slug(point), f"{slug(point)}-other"
    installation.add_tenant(tenant)
    installation.add_tenant(other)
    installation.fill(tenant, 3)
    bodies = installation.fill(other, 2)
    tenant_id = _tenant_id(installation, tenant)
    with installation.connect() as client:
        deletion = client.request_deletion(tenant, short_name=tenant, reason="a test")
        client.confirm_deletion(tenant, short_name=tenant)
    victim = installation.start("worker", failpoints=f"{point}=kill")
    assert victim.wait(90) == -signal.SIGKILL
    worker = installation.start("worker")
    try:
        with installation.connect() as client:

            def done() -> bool:
                return {one.id: one.state for one in client.iter_deletions()}[deletion.id] == "done"

            eventually(done, seconds=90)
            certificate = client.get_deletion_certificate(deletion.id).certificate
            assert (certificate["documents"], certificate["versions"]) == (3, 3)
            assert tenant not in {one.slug for one in client.iter_tenants()}
        installation.assert_clean()
        installation.assert_readable(other, bodies)
        assert list_b2(installation.b2, "fault-documents", f"t/{tenant_id}/") == []
        assert list_s3(installation.s3, "fault-documents", f"t/{tenant_id}/") == []
    finally:
        installation.end(worker)
