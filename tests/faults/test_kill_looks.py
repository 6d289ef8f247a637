"""kill -9 at every fail-point of scrubs and reconciles: of what looks whether all is there, and mends it."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from uuid import UUID

import pytest
from tests.faults.installation import Installation, eventually
from tests.faults.killing import copies_of, id_of, points, slug

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(autouse=True)
def nobody_left(installation: Installation) -> Iterator[None]:
    """What a test that failed leaves running would hurt the next ones."""
    yield
    for process in installation.processes[1:]:
        if process.poll() is None:
            installation.end(process)


def copied(installation: Installation, tenant: str) -> tuple[dict[UUID, bytes], str]:
    """A new tenant whose documents lie at both stores, and its prefix there. No worker is left."""
    installation.add_tenant(tenant)
    with installation.connect() as client:
        client.set_placement(tenant, write="b2-main", copies=["s3-eu"])
    bodies = installation.fill(tenant, 4)
    worker = installation.start("worker")
    prefix = f"t/{id_of(installation, tenant)}/"
    eventually(lambda: len(copies_of(installation, prefix)) == len(bodies))
    installation.assert_clean()
    installation.end(worker)
    return bodies, prefix


@pytest.mark.parametrize("point", points("scrub"))
def test_f34_the_worker_is_killed_during_a_scrub(installation: Installation, point: str) -> None:
    """Nothing is counted twice, nothing is passed over, and what was found is mended."""
    tenant = slug(point)
    bodies, prefix = copied(installation, tenant)
    gone = copies_of(installation, prefix)[0]
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
    bodies, prefix = copied(installation, tenant)
    s3 = installation.s3.client()
    s3.delete_object(Bucket="fault-documents", Key=copies_of(installation, prefix)[0])
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
        assert (found.unexplained_count, found.missing_count) == (1, 1)
        # What is missing is mended as soon as it is known: the fresh copy may be listed as well.
        assert found.compared_count in (len(bodies), len(bodies) + 1)
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
