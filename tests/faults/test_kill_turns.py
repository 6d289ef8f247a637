"""kill -9 while a migration turns back, gives its way back up, and empties the store that is left.

The decision is all or nothing, and no copy goes that the placement in force still needs.
"""

from __future__ import annotations

import signal
from contextlib import suppress
from uuid import UUID

import pytest
from tests.faults.installation import BUCKET, Installation
from tests.faults.killing import points

from simples3dms.client import ApiProblem, ServerUnreachable
from simples3dms.kit.failpoints import FAIL_POINTS
from simples3dms.sandbox.listing import list_s3

pytestmark = pytest.mark.timeout(600)
#: Dead workers' claims are over soon.
_LEASE = {"lease_seconds": "1"}
#: Where the API is killed (None: it is not), and the workers that follow one another.
TURNS = {
    "roll_back": [
        ("rollback.in_txn", ["evacuate.copied", "evacuate.in_retire_txn", "evacuate.in_end_txn"]),
        ("rollback.committed", ["evacuate.retired", "evacuate.ended"]),
    ],
    "finalize": [
        (None, ["evacuate.retired", "evacuate.ended"]),
        ("finalize.in_txn", ["evacuate.copied", "evacuate.in_retire_txn", "evacuate.in_end_txn"]),
    ],
}
#: One of each direction with every change, the others with the long tests.
_CASES = [
    pytest.param(step, at, deaths, marks=[pytest.mark.long] if number else [], id=f"{step}-{at or 'not'}")
    for step, cases in TURNS.items()
    for number, (at, deaths) in enumerate(cases)
]


def test_every_step_is_killed_at_in_both_directions() -> None:
    for cases in TURNS.values():
        assert {point for _, deaths in cases for point in deaths} == set(points("evacuate"))
    assert (
        {at for cases in TURNS.values() for at, _ in cases if at}
        == {*points("rollback"), "finalize.in_txn"}
        <= set(FAIL_POINTS)
    )


def _soaking(installation: Installation, tenant: str) -> tuple[UUID, dict[UUID, bytes]]:
    """A migration from B2 to S3 in its roll-back window, with one document of before gone and a new one not copied back
    yet; no worker is left."""
    installation.add_tenant(tenant)
    bodies = installation.fill(tenant, 4)
    worker = installation.start("worker", **_LEASE)
    with installation.connect() as client:
        planned = client.plan_migration(tenant, target="s3-eu", automatic_cutover=True)
        client.start_migration(tenant, planned.id)
        installation.until(tenant, planned.id, "soaking")
        installation.end(worker)
        gone = next(iter(bodies))
        client.delete_document(tenant, gone)
        client.purge_document(tenant, gone)
        del bodies[gone]
    return planned.id, bodies | installation.fill(tenant, 1)


def _decide(installation: Installation, tenant: str, migration_id: UUID, step: str, at: str | None) -> None:
    """Ask for the step, of a server that is killed there if `at` says so; then of the other, if nothing came of it."""
    survivor, act = installation.url, f"{step}_migration"
    if at is None:
        with installation.connect() as client:
            getattr(client, act)(tenant, migration_id)
        return
    with installation.connect() as client:
        before = client.get_placement(tenant)
    victim = installation.serve("--no-worker", failpoints=f"{at}=kill")
    with installation.connect(tries=1) as client, pytest.raises(ServerUnreachable):
        getattr(client, act)(tenant, migration_id)
    assert victim.wait(120) == -signal.SIGKILL
    installation.url = survivor
    with installation.connect() as client:
        state, after = client.get_migration(tenant, migration_id).state, client.get_placement(tenant)
        if at.endswith("in_txn"):
            assert (state, after) == ("soaking", before)
            getattr(client, act)(tenant, migration_id)
        else:
            assert (state, after.write, after.version) == ("rolling_back", "b2-main", before.version + 1)
            with pytest.raises(ApiProblem) as refused:
                getattr(client, act)(tenant, migration_id)
            assert refused.value.code == "migration_wrong_state"


@pytest.mark.parametrize(("step", "at", "deaths"), _CASES)
def test_f11_turning_back_and_emptying_a_store_is_killed_at_every_step(
    installation: Installation, step: str, at: str | None, deaths: list[str]
) -> None:
    tenant = f"turn-{step.replace('_', '-')}-{len(deaths)}"
    migration_id, bodies = _soaking(installation, tenant)
    _decide(installation, tenant, migration_id, step, at)
    installation.assert_readable(tenant, bodies)
    for point in deaths:
        victim = installation.start("worker", failpoints=f"{point}=kill", **_LEASE)
        assert victim.wait(120) == -signal.SIGKILL
        installation.assert_sound()
        installation.assert_readable(tenant, bodies)
    worker = installation.start("worker", **_LEASE)
    try:
        ended, write = ("rolled_back", "b2-main") if step == "roll_back" else ("done", "s3-eu")
        installation.until(tenant, migration_id, ended)
        installation.assert_clean()
        installation.assert_readable(tenant, bodies)
        with installation.connect() as client:
            acts = [event.action for event in client.iter_audit_events(tenant)]
            assert acts.count(f"migration.{'rolling_back' if step == 'roll_back' else 'finalizing'}") == 1
            assert acts.count(f"migration.{ended}") == 1
            assert client.get_placement(tenant).write == write
            for document_id in bodies:
                assert {one.store for one in client.list_replicas(tenant, document_id)} == {write}
    finally:
        installation.end(worker)


def test_f11_a_copy_that_is_needed_after_all_is_not_removed(installation: Installation) -> None:
    """It was retired because of another one, which is gone when the next worker looks."""
    tenant = "needed-after-all"
    migration_id, bodies = _soaking(installation, tenant)
    victim = installation.start("worker", failpoints="evacuate.retired=kill", **_LEASE)
    with installation.connect() as client:
        client.finalize_migration(tenant, migration_id)
        assert victim.wait(120) == -signal.SIGKILL
        (needed, body) = next(iter(bodies.items()))
        states = {one.store: one.state for one in client.list_replicas(tenant, needed)}
        assert states == {"b2-main": "retiring", "s3-eu": "live"}
        s3 = installation.s3.client()
        for key in list_s3(installation.s3, BUCKET, f"t/{client.get_tenant(tenant).id}/"):
            if s3.get_object(Bucket=BUCKET, Key=key)["Body"].read() == body:
                s3.delete_object(Bucket=BUCKET, Key=key)
        # A reader is who finds it.
        with suppress(ApiProblem), client.open_content(tenant, needed) as chunks:
            assert b"".join(chunks) == body
        assert "missing" in {one.state for one in client.list_replicas(tenant, needed)}
    worker = installation.start("worker", **_LEASE)
    try:
        installation.until(tenant, migration_id, "done")
        installation.assert_clean()
        installation.assert_readable(tenant, bodies)
    finally:
        installation.end(worker)
