"""How well a copy is proven: by grades, the weaker of which need a store that computes what it reports."""

from __future__ import annotations

import base64
import hashlib
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from tests.support import Place, assert_clean, quiet, working

from simples3dms.bootstrap import Services
from simples3dms.context import HOST
from simples3dms.kit.ids import new_id
from simples3dms.providers.base import Body
from simples3dms.providers.kinds import memory
from simples3dms.providers.vouching import COPIED, REPORTED
from simples3dms.sandbox.b2 import B2Sandbox
from simples3dms.sandbox.s3servers import RcloneServe
from simples3dms.sandbox.seaweedfs import SeaweedServer
from simples3dms.storage.blobs import repository as blobs_repository
from simples3dms.storage.blobs.proofs import READ_BACK, Proof, parse
from simples3dms.storage.blobs.values import Blob
from simples3dms.storage.migrations import repository
from simples3dms.storage.migrations.evidence import verify_report
from simples3dms.storage.migrations.leaving import repository as leaving
from simples3dms.storage.migrations.values import Schedule
from simples3dms.storage.placement import repository as placement_repository
from simples3dms.storage.placement.values import Grant
from simples3dms.storage.transfers import repository as transfers_repository
from simples3dms.storage.transfers.proving import Demand
from simples3dms.storage.transfers.values import Outcome, Result

pytestmark = pytest.mark.anyio
BY_CHECKSUM = Proof(0)
LARGE = 6 * 2**20


def bytes_of(number: int, size: int = 3000) -> bytes:
    return random.Random(number).randbytes(size)


@pytest.fixture(scope="module")
def b2(tmp_path_factory: pytest.TempPathFactory) -> Iterator[B2Sandbox]:
    with B2Sandbox(tmp_path_factory.mktemp("b2"), buckets=("documents",)) as server:
        yield server


@pytest.fixture(scope="module")
def weed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SeaweedServer]:
    with SeaweedServer(tmp_path_factory.mktemp("weed")) as server:
        yield server


@pytest.fixture(scope="module")
def rclone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RcloneServe]:
    """It repeats the checksum that it was told, whatever the bytes."""
    with RcloneServe(tmp_path_factory.mktemp("rclone")) as server:
        yield server


async def place_with(
    services: Services, kind: str = "memory", settings: dict[str, Any] | None = None, credential: Any = None
) -> Place:
    """A tenant that writes to `a`, in memory, and may use `b`."""
    mark = new_id().hex[-8:]
    tenant = await services.tenants.create_tenant(HOST, f"t-{mark}", "A tenant")
    given = {
        f"a-{mark}": ("memory", {"name": f"a-{mark}"}, {}),
        f"b-{mark}": (kind, {"prefix": f"{mark}/", **(settings or {"name": f"b-{mark}"})}, credential or {}),
    }
    ids = []
    for name, store in given.items():
        ids.append((await services.stores.add_store(HOST, name, *store)).id)
        await services.stores.grant_store(HOST, tenant.id, name)
    a, b = given
    await services.placements.set_placement(HOST, tenant.id, write=a)
    return Place(services, tenant.id, a, b, *ids)


async def b2_place(services: Services, b2: B2Sandbox) -> Place:
    credential = {"application_key_id": b2.application_key_id, "application_key": b2.application_key}
    return await place_with(services, "b2", {"bucket": "documents", "realm": b2.url}, credential)


async def s3_place(services: Services, server: SeaweedServer | RcloneServe) -> Place:
    settings = {"bucket": "docs", "endpoint": server.endpoint, "checksum": "sha256"}
    credential = {"access_key_id": server.access_key, "secret_access_key": server.secret_key}
    return await place_with(services, "s3", settings, credential)


async def planned(place: Place, proof: Proof, schedule: Schedule = Schedule()) -> UUID:
    m = place.services.migrations
    migration = await m.plan_migration(HOST, place.tenant_id, target=place.b, proof=proof, schedule=schedule)
    assert migration.proof == str(proof)
    return migration.id


async def moved(place: Place, proof: Proof, *until: str, schedule: Schedule = Schedule()) -> UUID:
    migration_id = await planned(place, proof, schedule)
    await place.services.migrations.start_migration(HOST, place.tenant_id, migration_id)
    async with working(place.services):
        await place.until(migration_id, *(until or ("ready",)))
    return migration_id


async def evidence(place: Place) -> dict[UUID, str]:
    """What is kept as evidence of the live copies at `b`, by blob."""
    async with place.services.database.tenant(place.tenant_id) as uow:
        cursor = await uow.connection.execute(
            "SELECT blob_id, evidence FROM replicas WHERE tenant_id = %s AND store_id = %s AND state = 'live'",
            [place.tenant_id, place.b_id],
        )
        return dict(await cursor.fetchall())


async def test_grades_are_spelled_and_a_sample_has_the_same_members_for_ever() -> None:
    for text in ("read-back", "provider-checksum", "sample=1", "sample=99"):
        assert str(parse(text)) == text
    for text in ("", "sample", "sample=0", "sample=100", "sample=010", "etag", "read-back\n"):
        with pytest.raises(ValueError, match="proof"):
            parse(text)
    ids = [UUID(int=number) for number in range(4000)]
    ten, fifty = ({one for one in ids if Proof(percent).reads_back(one)} for percent in (10, 50))
    assert ten < fifty
    assert 300 < len(ten) < 500
    # Written down: another answer would have a report that was made before not add up.
    assert sorted(one.int for one in ten)[:5] == [16, 33, 34, 37, 64]
    assert all(READ_BACK.reads_back(one) and not BY_CHECKSUM.reads_back(one) for one in ids)


async def test_b2_vouches_for_what_was_sent_in_one_request_and_the_rest_is_read_back(
    services: Services, b2: B2Sandbox
) -> None:
    place = await b2_place(services, b2)
    assert await services.stores.list_vouched(place.b_id) == {REPORTED}
    for number in range(4):
        await place.upload(bytes_of(number))
    document = (await place.upload(bytes_of(9, LARGE))).document
    schedule = Schedule(automatic_cutover=True, finalize_after_seconds=0)
    migration_id = await moved(place, BY_CHECKSUM, "done", schedule=schedule)
    assert sorted((await evidence(place)).values()) == ["provider-checksum"] * 4 + ["read-back"]
    assert (await place.migration(migration_id)).plan.read_back_percent == 0
    assert await place.listing(place.a_id) == [], "the source is emptied on the evidence that was asked for"
    assert await place.read(document.id) == bytes_of(9, LARGE)
    lines = [line async for line in await services.reports.open_report(place.tenant_id, migration_id)]
    verdict = verify_report(lines, keys={key.key_id: key.public_key for key in await services.audit.list_keys()})
    assert (verdict.breach, verdict.proof) == (None, "provider-checksum")
    assert (verdict.items, verdict.proven, verdict.read_back, verdict.unproven) == (5, 5, 1, 0)
    await assert_clean(services)


async def test_of_a_sample_the_members_are_read_back_and_a_report_knows_them(services: Services, b2: B2Sandbox) -> None:
    place, proof = await b2_place(services, b2), Proof(40)
    for number in range(30):
        await place.upload(bytes_of(number))
    migration_id = await moved(place, proof)
    kept = await evidence(place)
    wanted = {one: "read-back" if proof.reads_back(one) else "provider-checksum" for one in kept}
    assert len(kept) == 30
    assert kept == wanted
    assert set(kept.values()) == {"read-back", "provider-checksum"}
    # What a member of the sample lacks shows in the report, too.
    member = next(one for one in kept if proof.reads_back(one))
    async with services.database.tenant(place.tenant_id) as uow:
        await uow.execute(
            "UPDATE replicas SET evidence = 'provider-checksum' WHERE blob_id = %s AND store_id = %s",
            [member, place.b_id],
        )
    lines = [line async for line in await services.reports.open_report(place.tenant_id, migration_id)]
    assert (verdict := verify_report(lines)).breach is None
    assert (verdict.proven, verdict.unproven) == (29, 1)


async def test_the_gates_take_what_the_migration_asks_for_and_anything_stronger(services: Services) -> None:
    place = await place_with(services)
    for number in range(12):
        await place.upload(bytes_of(number))
    row_id = await moved(place, READ_BACK)
    async with services.database.tenant(place.tenant_id) as uow:
        row = await repository.find(uow, row_id)
    assert row is not None
    blob_ids = list(await evidence(place))
    for kept in ("written", "provider-checksum", "read-back"):
        for proof in (READ_BACK, Proof(50), BY_CHECKSUM):
            lacking = {one for one in blob_ids if not proof.accepts(kept, one)}
            async with services.database.tenant(place.tenant_id) as uow:
                await uow.execute("UPDATE replicas SET evidence = %s WHERE store_id = %s", [kept, place.b_id])
                page = await repository.prove_page(
                    uow, replace(row, proof=str(proof)), after_seq=0, upto_seq=None, limit=100
                )
                assert len(page.unproven) == len(lacking), (kept, str(proof))
                owed = await transfers_repository.list_deficits(uow, blob_ids, target_store_id=place.b_id, proof=proof)
                assert {one.blob.id for one in owed} == lacking
                stores = {"leaving_store_id": place.a_id, "staying_store_id": place.b_id}
                left = await leaving.list_to_evacuate(uow, blob_ids, **stores, proof=proof)
                assert {one for one, alone in left if alone} == lacking
                count = await blobs_repository.retire_at(uow, blob_ids, store_id=place.a_id, proof=proof)
                assert count == len(blob_ids) - len(lacking)
                await uow.execute("UPDATE replicas SET state = 'live' WHERE state = 'retiring'")


async def test_copies_that_are_there_with_less_are_read_back_before_a_migration_counts_on_them(
    services: Services, b2: B2Sandbox
) -> None:
    place = await b2_place(services, b2)
    for number in range(3):
        await place.upload(bytes_of(number))
    await services.placements.set_placement(HOST, place.tenant_id, write=place.a, copies=[place.b])
    async with working(services):
        await quiet(place)
    async with services.database.tenant(place.tenant_id) as uow:
        await uow.execute("UPDATE replicas SET evidence = 'provider-checksum' WHERE store_id = %s", [place.b_id])
    await moved(place, READ_BACK)
    assert set((await evidence(place)).values()) == {"read-back"}


@dataclass
class Copying:
    """A document at `a` that is owed a copy at `b`."""

    place: Place
    grant: Grant
    blob_id: UUID
    body: bytes

    async def copy(self, proof: Proof) -> Result:
        engine = self.place.services.transfers._engine
        (result,) = await engine.copy(self.place.tenant_id, [self.blob_id], self.grant, proof)
        return result


async def copying(place: Place) -> Copying:
    services, body = place.services, bytes_of(1)
    await place.upload(body)
    await services.placements.set_placement(HOST, place.tenant_id, write=place.a, copies=[place.b])
    async with services.database.tenant(place.tenant_id) as uow:
        (grant,) = [one for one in await placement_repository.list_grants(uow) if one.name == place.b]
        blob_id = await uow.scalar("SELECT id FROM blobs WHERE tenant_id = %s", [place.tenant_id])
    return Copying(place, grant, blob_id, body)


def meddling(provider: Any, meddle: Callable[[str], None], monkeypatch: pytest.MonkeyPatch) -> None:
    """Have this done to each object of the store right after it was written."""
    put = provider.put

    async def put_and_meddle(key: str, body: Body, **known: Any) -> Any:
        made = await put(key, body, **known)
        meddle(key)
        return made

    monkeypatch.setattr(provider, "put", put_and_meddle)


def overwriting(server: SeaweedServer | RcloneServe, prefix: str, **told: str) -> Callable[[str], None]:
    """Other bytes of the same length, at the same key, with a checksum that is told beside them, or without."""
    client = boto3.session.Session().client(
        "s3",
        endpoint_url=server.endpoint,
        region_name="us-east-1",
        aws_access_key_id=server.access_key,
        aws_secret_access_key=server.secret_key,
        config=Config(s3={"addressing_style": "path"}, request_checksum_calculation="when_required"),
    )
    return lambda key: client.put_object(Bucket="docs", Key=f"{prefix}{key}", Body=bytes_of(2), **told)


def sha256_header(body: bytes) -> dict[str, str]:
    return {"ChecksumSHA256": base64.b64encode(hashlib.sha256(body).digest()).decode()}


async def test_a_wrong_byte_at_a_store_that_vouches_for_nothing_is_found_whatever_is_asked_for(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = await place_with(services)
    copy = await copying(place)
    provider = await services.stores.provider(place.b_id)

    def flip(key: str) -> None:
        shelf = memory._shelves[place.b]
        (kept,) = [versions for path, versions in shelf.objects.items() if path.endswith(key)]
        kept[-1] = replace(kept[-1], data=bytes_of(2))

    with monkeypatch.context() as patch:
        meddling(provider, flip, patch)
        for proof in (READ_BACK, Proof(50), BY_CHECKSUM):
            found = await copy.copy(proof)
            assert (found.outcome, found.error_kind) == (Outcome.FAILED, "integrity")
            assert await evidence(place) == {}
    assert (await copy.copy(BY_CHECKSUM)).outcome is Outcome.COPIED
    assert await evidence(place) == {copy.blob_id: "read-back"}


async def test_a_checksum_that_is_only_repeated_is_not_taken_for_one(
    services: Services, rclone: RcloneServe, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store says of wrong bytes what it was told of them: that they are the right ones."""
    place = await s3_place(services, rclone)
    assert await services.stores.list_vouched(place.b_id) == frozenset()
    copy = await copying(place)
    provider = await services.stores.provider(place.b_id)
    lie = overwriting(rclone, provider.location.prefix, **sha256_header(copy.body))
    with monkeypatch.context() as patch:
        meddling(provider, lie, patch)
        found = await copy.copy(BY_CHECKSUM)
        assert (found.outcome, found.error_kind) == (Outcome.FAILED, "integrity")
    assert (await copy.copy(BY_CHECKSUM)).outcome is Outcome.COPIED
    assert await evidence(place) == {copy.blob_id: "read-back"}
    planned = await services.migrations.plan_migration(HOST, place.tenant_id, target=place.b, proof=BY_CHECKSUM)
    assert planned.plan.read_back_percent == 100, "the plan says what it will come to"


async def test_a_store_that_computes_what_it_reports_is_taken_at_its_word_and_no_further(
    services: Services, weed: SeaweedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = await s3_place(services, weed)
    # It carries the checksum of a source along, so of copies inside it nothing is taken.
    assert await services.stores.list_vouched(place.b_id) == {REPORTED}
    copy = await copying(place)
    provider = await services.stores.provider(place.b_id)
    with pytest.raises(ClientError, match="BadDigest"):
        overwriting(weed, "", **sha256_header(copy.body))("elsewhere")
    with monkeypatch.context() as patch:
        meddling(provider, overwriting(weed, provider.location.prefix), patch)
        found = await copy.copy(BY_CHECKSUM)
        assert (found.outcome, found.error_kind) == (Outcome.FAILED, "integrity"), "no checksum is no proof"
    assert (await copy.copy(BY_CHECKSUM)).outcome is Outcome.COPIED
    assert await evidence(place) == {copy.blob_id: "provider-checksum"}
    assert (await copy.copy(READ_BACK)).outcome is Outcome.PROVEN
    assert await evidence(place) == {copy.blob_id: "read-back"}


def test_of_copies_inside_a_store_nothing_is_taken_unless_it_computes_them_anew() -> None:
    blob = Blob(UUID(int=1), 1, bytes(32), 5)
    assert not Demand(BY_CHECKSUM, frozenset({REPORTED})).takes_word(blob, inside=True)
    assert not Demand(BY_CHECKSUM, frozenset({COPIED})).takes_word(blob, inside=True)
    assert Demand(BY_CHECKSUM, frozenset({REPORTED, COPIED})).takes_word(blob, inside=True)
    assert not Demand(READ_BACK, frozenset({REPORTED, COPIED})).takes_word(blob)
