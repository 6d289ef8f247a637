"""What is held or retained through the API is kept by the stores themselves, against whoever holds their keys."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from b2sdk.v3 import B2Api, InMemoryAccountInfo
from b2sdk.v3.exception import AccessDenied
from botocore.exceptions import ClientError
from tests.api.conftest import Door

from simples3dms.client import ApiProblem, Client
from simples3dms.sandbox.b2 import B2Sandbox
from simples3dms.sandbox.seaweedfs import SeaweedServer
from simples3dms.schemas.documents import Replica

BUCKET = "locked-documents"
LATER = (datetime.now(UTC) + timedelta(days=30)).replace(microsecond=0)


@dataclass(frozen=True)
class Version:
    """An object version at the store, and its removal with the store's own key, with every right to bypass."""

    id: str
    remove: Callable[[], None]


@dataclass(frozen=True)
class Lockable:
    """A server whose bucket has object lock, as its owner sees it: past the product."""

    kind: str
    settings: dict[str, Any]
    credential: dict[str, str]
    list_versions: Callable[[], list[Version]]
    retention: Callable[[str], tuple[str, datetime]]

    def add(self, client: Client, use: str = "compliance") -> None:
        """As the store `locked` of the tenant, which writes there from now on."""
        client.add_store(
            "locked", kind=self.kind, settings={**self.settings, "object_lock": use}, credential=self.credential
        )
        client.grant_store("acme", "locked")
        client.set_placement("acme", write="locked")


@pytest.fixture(scope="module")
def weed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SeaweedServer]:
    with SeaweedServer(tmp_path_factory.mktemp("weed"), locked=(BUCKET,)) as server:
        yield server


@pytest.fixture(scope="module")
def b2(tmp_path_factory: pytest.TempPathFactory) -> Iterator[B2Sandbox]:
    with B2Sandbox(tmp_path_factory.mktemp("b2"), locked=(BUCKET,)) as server:
        yield server


def of_s3(server: SeaweedServer, prefix: str) -> Lockable:
    s3 = server.client()

    def list_versions() -> list[Version]:
        found = s3.list_object_versions(Bucket=BUCKET, Prefix=f"{prefix}/t/").get("Versions", [])
        return [_of_s3(s3, one["Key"], one["VersionId"]) for one in found]

    def retention(version_id: str) -> tuple[str, datetime]:
        key = next(
            one["Key"] for one in s3.list_object_versions(Bucket=BUCKET)["Versions"] if one["VersionId"] == version_id
        )
        told = s3.get_object_retention(Bucket=BUCKET, Key=key, VersionId=version_id)["Retention"]
        return told["Mode"].lower(), told["RetainUntilDate"]

    settings = {"endpoint": server.endpoint, "bucket": BUCKET, "prefix": prefix, "service": "seaweedfs"}
    credential = {"access_key_id": server.access_key, "secret_access_key": server.secret_key}
    return Lockable("s3", settings, credential, list_versions, retention)


def _of_s3(s3: Any, key: str, version_id: str) -> Version:
    return Version(
        version_id,
        lambda: s3.delete_object(Bucket=BUCKET, Key=key, VersionId=version_id, BypassGovernanceRetention=True),
    )


def of_b2(server: B2Sandbox, prefix: str) -> Lockable:
    api = B2Api(InMemoryAccountInfo())
    api.authorize_account(server.application_key_id, server.application_key, realm=server.url)
    bucket = api.get_bucket_by_name(BUCKET)

    def list_versions() -> list[Version]:
        found = [version for version, _ in bucket.ls(f"{prefix}/t", latest_only=False, recursive=True)]
        return [Version(one.id_, lambda one=one: one.delete(bypass_governance=True)) for one in found]  # type: ignore[misc]

    def retention(version_id: str) -> tuple[str, datetime]:
        told = bucket.get_file_info_by_id(version_id).file_retention
        return told.mode.value, datetime.fromtimestamp(told.retain_until / 1000, UTC)

    settings = {"realm": server.url, "bucket": BUCKET, "prefix": prefix}
    credential = {"application_key_id": server.application_key_id, "application_key": server.application_key}
    return Lockable("b2", settings, credential, list_versions, retention)


@pytest.fixture(params=["s3", "b2"])
def lockable(request: pytest.FixtureRequest, tmp_path: Path) -> Lockable:
    prefix = tmp_path.name.replace("[", "-").replace("]", "").replace("_", "-")
    if request.param == "s3":
        return of_s3(request.getfixturevalue("weed"), prefix)
    return of_b2(request.getfixturevalue("b2"), prefix)


def refused_by_the_store(version: Version) -> None:
    with pytest.raises((ClientError, AccessDenied)) as caught:
        version.remove()
    assert "AccessDenied" in str(caught.value) or isinstance(caught.value, AccessDenied)


def until(client: Client, document_id: UUID, holds: Callable[[list[Replica]], bool]) -> list[Replica]:
    deadline = time.monotonic() + 60
    while not holds(found := client.list_replicas("acme", document_id)):
        assert time.monotonic() < deadline, found
    return found


def until_lock(client: Client, document_id: UUID, lock: str) -> list[Replica]:
    return until(client, document_id, lambda found: all(one.lock == lock for one in found))


@contextmanager
def _uploaded(door: Door, lockable: Lockable, tmp_path: Path, use: str = "compliance") -> Iterator[tuple[Client, UUID]]:
    file = tmp_path / "evidence.txt"
    file.write_bytes(b"evidence")
    with door.connect() as client:
        lockable.add(client, use)
        yield client, client.upload_document("acme", file).id


def test_what_is_held_is_kept_by_the_store_until_it_is_released(door: Door, lockable: Lockable, tmp_path: Path) -> None:
    with _uploaded(door, lockable, tmp_path) as (client, document):
        assert [one.lock for one in client.list_replicas("acme", document)] == ["none"]
        holds = [client.place_hold("acme", document, name=name, reason="asked for") for name in ("one", "two")]
        (replica,) = until_lock(client, document, "set")
        assert (replica.lock_wanted_hold, replica.lock_set_hold, replica.error) == (True, True, None)
        (version,) = lockable.list_versions()
        refused_by_the_store(version)
        # A new version of the document is held as well; of two holds, one is enough.
        (tmp_path / "evidence.txt").write_bytes(b"more of it")
        client.upload_document("acme", tmp_path / "evidence.txt", document_id=document)
        client.release_hold("acme", document, holds[0].id, reason="settled")
        assert len(until_lock(client, document, "set")) == 2
        for version in lockable.list_versions():
            refused_by_the_store(version)
        client.release_hold("acme", document, holds[1].id, reason="settled")
        until_lock(client, document, "none")
        client.delete_document("acme", document)
        client.purge_document("acme", document)
        deadline = time.monotonic() + 60
        while lockable.list_versions():
            assert time.monotonic() < deadline


def test_what_is_retained_is_kept_by_the_store_as_long(door: Door, lockable: Lockable, tmp_path: Path) -> None:
    with _uploaded(door, lockable, tmp_path) as (client, document):
        client.set_retention("acme", document, until=LATER, mode="governance")
        until_lock(client, document, "set")
        (version,) = lockable.list_versions()
        assert lockable.retention(version.id) == ("governance", LATER)
        # Shortened by an owner, it is shortened there; ended, it ends there in a moment.
        sooner = LATER - timedelta(days=9)
        client.lift_retention("acme", document, until=sooner, reason="a mistake")
        until_lock(client, document, "set")
        assert lockable.retention(version.id) == ("governance", sooner)
        client.lift_retention("acme", document, reason="a mistake")
        until_lock(client, document, "none")
        assert lockable.retention(version.id)[1] < datetime.now(UTC) + timedelta(minutes=2)
        # For compliance it is hardened, lengthened, and yields to nobody.
        client.set_retention("acme", document, until=LATER, mode="governance")
        client.set_retention("acme", document, until=LATER + timedelta(days=1), mode="compliance")
        until_lock(client, document, "set")
        assert lockable.retention(version.id) == ("compliance", LATER + timedelta(days=1))
        refused_by_the_store(version)


def test_a_store_is_locked_no_harder_than_its_settings_say(door: Door, lockable: Lockable, tmp_path: Path) -> None:
    with _uploaded(door, lockable, tmp_path, use="governance") as (client, document):
        client.set_settings("acme", retention_days=10, retention_mode="compliance")
        document = client.upload_document("acme", tmp_path / "evidence.txt").id
        (replica,) = until_lock(client, document, "set")
        assert (replica.lock_wanted_mode, replica.lock_set_mode) == ("governance", "governance")
        with pytest.raises(ApiProblem) as caught:
            client.lift_retention("acme", document, reason="a mistake")
        assert caught.value.code == "retention_locked"


def test_copies_are_locked_where_stores_offer_it_and_a_move_leaves_what_is_locked(
    door: Door, lockable: Lockable, tmp_path: Path
) -> None:
    with _uploaded(door, lockable, tmp_path) as (client, document):
        hold = client.place_hold("acme", document, name="one", reason="asked for")
        client.set_placement("acme", write="disk-a", copies=["locked"])
        other = client.upload_document("acme", tmp_path / "evidence.txt").id
        client.place_hold("acme", other, name="two", reason="asked for")
        found = until(client, other, lambda all_: sorted(one.lock for one in all_) == ["not_used", "set"])
        assert {one.store: one.lock for one in found} == {"disk-a": "not_used", "locked": "set"}
        until_lock(client, document, "set")
        client.set_placement("acme", write="locked")
        planned = client.plan_migration("acme", target="disk-b", automatic_cutover=True)
        client.start_migration("acme", planned.id)
        finalized = False
        deadline = time.monotonic() + 90
        while (state := client.get_migration("acme", planned.id).state) != "done":
            assert time.monotonic() < deadline, state
            if state == "soaking" and not finalized:
                client.finalize_migration("acme", planned.id)
                finalized = True
        # It is done, and says what it left: the store keeps it for as long as the document is held.
        (event,) = [one for one in client.iter_audit_events("acme") if one.action == "migration.done"]
        assert event.details == {"left_locked": 2}
        by_store = {one.store: one for one in client.list_replicas("acme", document)}
        assert (by_store["disk-b"].state, by_store["locked"].state) == ("live", "retiring")
        assert (by_store["locked"].error, by_store["locked"].lock) == ("object_locked", "set")
        assert len(lockable.list_versions()) == 2
        client.release_hold("acme", document, hold.id, reason="settled")
        until(client, document, lambda all_: [one.store for one in all_] == ["disk-b"])
        assert len(lockable.list_versions()) == 1


def test_a_store_that_fails_is_told_and_locked_later(door: Door, b2: B2Sandbox, tmp_path: Path) -> None:
    with _uploaded(door, of_b2(b2, "failing"), tmp_path) as (client, document):
        b2.inject("b2_update_file_legal_hold", status=401, code="unauthorized", times=3)
        client.place_hold("acme", document, name="one", reason="asked for")
        (replica,) = until(client, document, lambda found: found[0].error is not None)
        assert (replica.lock, replica.lock_set_hold, replica.error) == ("waiting", False, "access_denied")
        # Meanwhile nobody waits for it.
        client.upload_document("acme", tmp_path / "evidence.txt", document_id=document)
        assert [one.error for one in until_lock(client, document, "set")] == [None, None]


def test_a_bucket_without_object_lock_is_not_taken_for_one(door: Door, weed: SeaweedServer, b2: B2Sandbox) -> None:
    weed.create_bucket("plain-documents")
    b2.create_bucket("plain-documents")
    with door.connect() as client:
        for lockable in (of_s3(weed, "plain"), of_b2(b2, "plain")):
            settings = {**lockable.settings, "bucket": "plain-documents", "object_lock": "governance"}
            with pytest.raises(ApiProblem) as caught:
                client.add_store("plain", kind=lockable.kind, settings=settings, credential=lockable.credential)
            assert caught.value.code == "store_probe_failed"
            rows = {one["name"]: one["verdict"] for one in caught.value.problem.extra["findings"]}
            assert rows["object lock"] == "red"


def test_what_was_held_before_a_store_locked_is_locked_then(door: Door, lockable: Lockable, tmp_path: Path) -> None:
    file = tmp_path / "evidence.txt"
    file.write_bytes(b"evidence")
    with door.connect() as client:
        client.add_store("locked", kind=lockable.kind, settings=lockable.settings, credential=lockable.credential)
        client.grant_store("acme", "locked")
        client.set_placement("acme", write="locked")
        document, other = (client.upload_document("acme", file).id for _ in range(2))
        hold = client.place_hold("acme", document, name="one", reason="asked for")
        assert [one.lock for one in client.list_replicas("acme", document)] == ["not_used"]
        locking = {**lockable.settings, "object_lock": "governance"}
        client.set_place("locked", settings=locking, credential=lockable.credential)
        until_lock(client, document, "set")
        assert [one.lock for one in client.list_replicas("acme", other)] == ["none"]
        # It can't be turned off while anything is kept by it: nobody would let that go again.
        with pytest.raises(ApiProblem) as caught:
            client.set_place("locked", settings=lockable.settings, credential=lockable.credential)
        assert caught.value.code == "store_locks_in_use"
        client.release_hold("acme", document, hold.id, reason="settled")
        until_lock(client, document, "none")
        client.set_place("locked", settings=lockable.settings, credential=lockable.credential)
        # And what is held there later is none of the store's business.
        client.place_hold("acme", document, name="two", reason="asked for")
        assert [one.lock for one in client.list_replicas("acme", document)] == ["not_used"]
