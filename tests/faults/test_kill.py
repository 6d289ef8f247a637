"""kill -9 at every fail-point of upload, purge, lock, seal and deletion: after a restart, every promise holds.

The fail-points are enumerated, here and in the files beside this one: one that is added is killed at without a change
there.
"""

from __future__ import annotations

import signal
from uuid import UUID

import pytest
from tests.faults.installation import Installation, eventually
from tests.faults.killing import id_of, points, slug

from simples3dms.audit.verifier import verify
from simples3dms.client import ServerUnreachable
from simples3dms.kit.failpoints import FAIL_POINTS
from simples3dms.sandbox.listing import list_b2, list_s3

pytestmark = pytest.mark.timeout(600)


#: Where the rest is: in test_kill_moves.py, test_kill_looks.py, test_kill_keys.py, test_kill_caches.py and
#: test_kill_turns.py.
_ELSEWHERE = (
    *("copy", "cutover", "finalize", "drain"),
    *("scrub", "reconcile"),
    *("rewrap", "rotate", "cache", "rollback", "evacuate"),
)


def test_every_fail_point_is_killed_at() -> None:
    here = points("upload", "purge", "lock", "seal", "tenant_delete")
    assert sorted([*here, *points(*_ELSEWHERE)]) == sorted(FAIL_POINTS)


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


@pytest.mark.parametrize("point", points("tenant_delete"))
def test_the_worker_is_killed_during_a_tenant_s_deletion(installation: Installation, point: str) -> None:
    tenant, other = slug(point), f"{slug(point)}-other"
    installation.add_tenant(tenant)
    installation.add_tenant(other)
    installation.fill(tenant, 3)
    bodies = installation.fill(other, 2)
    tenant_id = id_of(installation, tenant)
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
