"""kill -9 at every fail-point of rotation and of rewrap: one of two credentials works at each instant, every row opens
under exactly the key that it names, and no key is left at a provider that nobody knows of."""

from __future__ import annotations

import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.faults.installation import Installation, installed
from tests.faults.key_stores import TIMES, KeyStore, add_key_stores, list_keys, run_keys
from tests.faults.killing import points

from simples3dms.client import ServerUnreachable

pytestmark = pytest.mark.timeout(300)

#: Passed by whoever is asked to begin; by a worker, when the grace is over; by a worker, when it is taken back.
BEGIN = {
    *("rotate.claimed", "rotate.intended", "rotate.made", "rotate.in_stage_txn", "rotate.staged", "rotate.probed"),
    *("rotate.in_switch_txn", "rotate.switched"),
}
UNDO = {"rotate.undoing", "rotate.new_gone"}
END = set(points("rotate")) - BEGIN - UNDO
RETIRE = {"rewrap.in_retire_txn", "rewrap.retired"}


def on_each_provider(names: set[str]) -> pytest.MarkDecorator:
    """Every point on B2 and on IAM, in turns: the one in each run, the other with the long proofs."""
    kinds, cases = ("b2", "s3"), []
    for number, point in enumerate(sorted(names, key=points("rotate").index)):
        cases.append(pytest.param(point, kinds[number % 2]))
        cases.append(pytest.param(point, kinds[(number + 1) % 2], marks=pytest.mark.long))
    return pytest.mark.parametrize(("point", "kind"), cases)


@pytest.fixture(scope="module")
def installation() -> Iterator[Installation]:
    directory = Path(tempfile.mkdtemp(prefix="simples3dms-keys-"))
    with installed(directory) as found:
        found.serve("--no-worker", **TIMES)
        yield found
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(scope="module")
def stores(installation: Installation) -> dict[str, KeyStore]:
    found = add_key_stores(installation)
    for store in found.values():
        installation.fill(store.name, 3)
    return found


def _assert_whole(store: KeyStore, before: set[str], *, replaced: bool) -> None:
    """The provider has as many keys as before, and the store's documents are all there."""
    after = store.provider.key_ids()
    assert len(after) == len(before)
    assert (after != before) == replaced
    assert store.works()
    store.installation.assert_clean()


@on_each_provider(BEGIN)
def test_f13_the_api_is_killed_while_it_rotates(
    installation: Installation, stores: dict[str, KeyStore], point: str, kind: str
) -> None:
    store = stores[kind]
    before = store.provider.key_ids()
    survivor_url = installation.url
    victim = installation.serve("--no-worker", failpoints=f"{point}=kill", **TIMES)
    with installation.connect(tries=1) as client, pytest.raises(ServerUnreachable):
        client.start_rotation(store.name, deletes_old=True)
    assert victim.wait(30) == -signal.SIGKILL
    installation.url = survivor_url
    worker = installation.start("worker", **TIMES)
    try:
        store.until("done")
        _assert_whole(store, before, replaced=True)
    finally:
        installation.end(worker)


@on_each_provider(END)
def test_f13_the_worker_is_killed_while_the_old_key_is_retired(
    installation: Installation, stores: dict[str, KeyStore], point: str, kind: str
) -> None:
    store = stores[kind]
    before = store.provider.key_ids()
    with installation.connect() as client:
        assert client.start_rotation(store.name, deletes_old=True).state == "switched"
    victim = installation.start("worker", failpoints=f"{point}=kill", **TIMES)
    assert victim.wait(60) == -signal.SIGKILL
    worker = installation.start("worker", **TIMES)
    try:
        store.until("done")
        _assert_whole(store, before, replaced=True)
    finally:
        installation.end(worker)


@on_each_provider(UNDO)
def test_f13_the_worker_is_killed_while_the_new_key_is_taken_back(
    installation: Installation, stores: dict[str, KeyStore], point: str, kind: str
) -> None:
    store = stores[kind]
    before = store.provider.key_ids()
    with installation.connect() as client:
        assert client.start_rotation(store.name, grace_seconds=3600).state == "switched"
        assert client.roll_back_rotation(store.name).state == "undoing"
    victim = installation.start("worker", failpoints=f"{point}=kill", **TIMES)
    assert victim.wait(60) == -signal.SIGKILL
    worker = installation.start("worker", **TIMES)
    try:
        store.until("rolled_back")
        _assert_whole(store, before, replaced=False)
    finally:
        installation.end(worker)


@pytest.mark.parametrize("point", [point for point in points("rewrap") if point not in RETIRE])
def test_f13_the_change_of_keys_is_killed(installation: Installation, stores: dict[str, KeyStore], point: str) -> None:
    killed = run_keys(installation, "rotate", failpoints=f"{point}=kill")
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    for store in stores.values():
        assert store.works()
    worker = installation.start("worker", **TIMES)
    try:
        for store in stores.values():
            store.installation.assert_clean()
        if point in ("rewrap.key_known", "rewrap.in_start_txn"):
            # Nothing had begun: begin anew. The key that was added meanwhile is unused.
            assert run_keys(installation, "rotate").returncode == 0
        _until_one_key_is_in_use(installation)
    finally:
        installation.end(worker)
    for store in stores.values():
        assert store.works()


def _until_one_key_is_in_use(installation: Installation) -> None:
    for _ in range(60):
        used = [key for key in list_keys(installation) if key["in_use"]]
        if len(used) == 1:
            assert used[0]["is_primary"]
            assert used[0]["sealed_count"] == 4, "two credentials, and two that manage keys"
            return
    raise AssertionError("rows still name other keys")


@pytest.mark.parametrize("point", sorted(RETIRE))
def test_f13_the_retirement_of_a_key_is_killed(
    installation: Installation, stores: dict[str, KeyStore], point: str
) -> None:
    (old,) = [key["id"] for key in list_keys(installation) if key["is_primary"]]
    assert run_keys(installation, "rotate").returncode == 0
    killed = run_keys(installation, "retire", old, failpoints=f"{point}=kill")
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    again = run_keys(installation, "retire", old)
    assert again.returncode == 0, again.stderr
    assert old not in {key["id"] for key in list_keys(installation)}
    for store in stores.values():
        assert store.works()
    installation.assert_clean()
