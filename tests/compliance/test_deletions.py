"""A tenant's deletion: who may, what stands in its way, and that nothing is left but tombstones and the audit."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from dataclasses import replace
from uuid import UUID

import psycopg
import pytest
from psycopg import sql
from tests.conftest import Cluster
from tests.support import Place, assert_clean, make_place, quiet, working

from simples3dms.bootstrap import Services
from simples3dms.compliance.deletions.values import Deletion
from simples3dms.context import HOST, Principal
from simples3dms.db.provision import Provisioned
from simples3dms.documents.values import UploadRequest
from simples3dms.errors import Conflict, Failure, Invalid, NotFound
from simples3dms.kit import failpoints
from simples3dms.kit.ids import new_id
from simples3dms.settings import Settings
from simples3dms.storage.stores import places
from simples3dms.tenants.values import Tenant

pytestmark = pytest.mark.anyio
ANNA, BERT = Principal(new_id(), "anna@example.org", is_operator=True), Principal(new_id(), "bert@example.org")
#: Where a deleted tenant's id may still stand.
TOMBSTONES = {"tenants", "tenant_deletions"} | {"audit_events", "audit_heads", "audit_checkpoints"}


@pytest.fixture
async def place(services: Services) -> Place:
    return await make_place(services)


async def tenant_of(place: Place) -> Tenant:
    return await place.services.tenants.get_tenant(str(place.tenant_id))


async def request(place: Place, principal: Principal = ANNA, **given: str) -> Deletion:
    tenant = await tenant_of(place)
    chosen = {"short_name": tenant.slug, "reason": "contract ended"} | given
    return await place.services.deletions.request_deletion(principal, tenant, **chosen)


async def confirm(place: Place, principal: Principal = BERT, short_name: str | None = None) -> Deletion:
    tenant = await tenant_of(place)
    return await place.services.deletions.confirm_deletion(principal, tenant, short_name=short_name or tenant.slug)


async def refused(failure: type[Failure], code: str, act: object) -> None:
    with pytest.raises(failure) as caught:
        await act  # type: ignore[misc]
    assert caught.value.problem_code == code


async def until(place: Place, deletion_id: UUID, state: str = "done", seconds: float = 40) -> Deletion:
    async with asyncio.timeout(seconds):
        while True:
            found = {one.id: one for one in await place.services.deletions.list_deletions()}[deletion_id]
            if found.state == state:
                return found
            await asyncio.sleep(0.05)


def scan(cluster: Cluster, urls: Provisioned, tenant_id: UUID) -> set[str]:
    """Every table in which the id stands, anywhere in a row, as a superuser sees them."""
    name = str(psycopg.conninfo.conninfo_to_dict(urls.app_url)["dbname"])
    found = set()
    with psycopg.connect(cluster.server.superuser_dsn(name)) as connection:
        tables = connection.execute(
            "SELECT relname FROM pg_class WHERE relkind IN ('r', 'p') AND relnamespace = 'public'::regnamespace"
        ).fetchall()
        for (table,) in tables:
            query = sql.SQL("SELECT 1 FROM {} t WHERE t::text LIKE %s LIMIT 1").format(sql.Identifier(table))
            if connection.execute(query, [f"%{tenant_id}%"]).fetchone():
                found.add(table)
    return found


async def fill(place: Place) -> list[UUID]:
    """A bit of everything that a tenant can have."""
    services, tenant_id = place.services, place.tenant_id
    ids = [(await place.upload(name.encode(), name=name)).document.id for name in ("one", "two", "three", "four")]
    await place.upload(b"one, again", document_id=ids[0])
    await services.documents.delete_document(HOST, tenant_id, ids[1])
    await services.documents.delete_document(HOST, tenant_id, ids[2])
    await services.documents.purge_document(HOST, tenant_id, ids[2])
    hold = await services.holds.place_hold(HOST, tenant_id, ids[3], name="case", reason="x")
    await services.holds.release_hold(HOST, tenant_id, ids[3], hold.id, reason="over")
    for store in (place.a, place.b):
        await services.stores.set_jurisdiction(HOST, store, "DE")
    await services.tenants.change_settings(HOST, tenant_id, {"allowed_jurisdictions": ["DE"], "most_documents": 99})
    await services.takeouts.create_takeout(HOST, tenant_id)
    # Copied into both of its stores, where nothing of it may stay.
    checkpoint = await services.audit.create_checkpoint(HOST, tenant_id)
    await services.checkpoints.plan(tenant_id, checkpoint.seq)
    await services.checkpoints.copy_due(tenant_id)
    user, _ = await services.identity.create_user(HOST, f"{tenant_id.hex}@example.org")
    await services.identity.set_member(HOST, tenant_id, user.email, "owner")
    return ids


async def test_s55_only_tombstones_and_the_audit_are_left(place: Place, cluster: Cluster, urls: Provisioned) -> None:
    services = place.services
    other = await make_place(services)
    ids = await fill(place)
    others = await fill(other)
    started = asyncio.Event()
    hang = asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        yield b"x" * 200_000
        started.set()
        await hang.wait()
        yield b"y"

    # In the middle of a migration, with an upload under way.
    async with working(services):
        planned = await services.migrations.plan_migration(HOST, place.tenant_id, target=place.b)
        await services.migrations.start_migration(HOST, place.tenant_id, planned.id)
        await place.until(planned.id, "ready")
        await services.migrations.cut_over(HOST, place.tenant_id, planned.id)
        upload = asyncio.create_task(
            services.uploads.upload(HOST, place.tenant_id, UploadRequest("late", "text/plain"), slow())
        )
        await started.wait()
        slug = (await tenant_of(place)).slug
        deletion = await request(place)
        await confirm(place)
        await refused(Conflict, "tenant_being_deleted", services.tenants.resume_tenant(HOST, slug))
        await asyncio.sleep(0.3)
        hang.set()
        with pytest.raises(Failure):
            await upload
        done = await until(place, deletion.id)
        async with asyncio.timeout(20):
            while scan(cluster, urls, place.tenant_id) - TOMBSTONES:
                await asyncio.sleep(0.1)
        await quiet(other)
    assert await place.listing(place.a_id) == []
    assert await place.listing(place.b_id) == []
    for name in (slug, str(place.tenant_id)):
        await refused(NotFound, "tenant_not_found", services.tenants.get_tenant(name))
    assert place.tenant_id not in {tenant.id for tenant in await services.tenants.list_tenants(limit=500)}
    # The short name is free again, and whoever takes it gets nothing of what was.
    again = await services.tenants.create_tenant(HOST, slug, "Another")
    assert await services.documents.list_documents(again.id) == []
    # The certificate: counts, and a digest that the manifest of a takeout would give.
    certificate = await services.deletions.get_certificate(deletion.id)
    assert done.certificate == certificate
    assert (certificate["documents"], certificate["versions"]) == (3, 4)
    digest = hashlib.sha256()
    rolled = digest.digest()
    bodies = {ids[0]: [b"one", b"one, again"], ids[1]: [b"two"], ids[3]: [b"four"]}
    for document_id in sorted(bodies):
        for number, body in enumerate(bodies[document_id], 1):
            line = f"{document_id}:{number}:{hashlib.sha256(body).hexdigest()}:{len(body)}\n"
            rolled = hashlib.sha256(rolled + line.encode()).digest()
    assert certificate["manifest_sha256"] == rolled.hex()
    assert (certificate["requested_by"], certificate["confirmed_by"]) == (ANNA.name, BERT.name)
    told = [event for event in await services.audit.list_events(None, limit=500) if event.action == "tenant.deleted"]
    assert [event.target_id for event in told] == [str(place.tenant_id)]
    assert {event.action for event in await services.audit.list_events(place.tenant_id, limit=500)} >= {
        "tenant.deletion_requested",
        "tenant.deletion_confirmed",
        "document.uploaded",
    }
    # Another tenant's identical content is as it was.
    assert await other.read(others[0], number=1) == b"one"
    await assert_clean(services)


async def test_it_is_confirmed_by_another_or_after_the_wait(place: Place, settings: Settings) -> None:
    deletions = place.services.deletions
    await refused(NotFound, "deletion_not_found", confirm(place))
    await refused(Invalid, "short_name_differs", request(place, short_name="another"))
    await refused(Invalid, "deletion_reason_invalid", request(place, reason=" "))
    first = await request(place)
    await refused(Conflict, "deletion_exists", request(place, BERT))
    await refused(Conflict, "deletion_waits", confirm(place, ANNA))
    await refused(Invalid, "short_name_differs", confirm(place, BERT, "another"))
    await deletions.cancel_deletion(BERT, place.tenant_id)
    await refused(NotFound, "deletion_not_found", confirm(place))
    assert (await tenant_of(place)).suspended_at is None
    second = await request(place)
    assert second.id != first.id
    async with place.services.database.platform() as uow:
        await uow.execute("UPDATE tenant_deletions SET waits_until = now() WHERE id = %s", [second.id])
    confirmed = await confirm(place, ANNA)
    assert (confirmed.state, confirmed.confirmed_by_name) == ("purging", ANNA.name)
    await refused(Conflict, "deletion_wrong_state", deletions.cancel_deletion(BERT, place.tenant_id))
    await refused(Conflict, "deletion_wrong_state", confirm(place))
    await refused(Conflict, "deletion_not_done", deletions.get_certificate(second.id))


async def test_s56_a_tenant_with_something_kept_is_not_deleted(place: Place) -> None:
    services = place.services
    document = (await place.upload(b"evidence")).document
    hold = await services.holds.place_hold(HOST, place.tenant_id, document.id, name="case", reason="x")
    await refused(Conflict, "tenant_kept", request(place))
    await services.holds.release_hold(HOST, place.tenant_id, document.id, hold.id, reason="over")
    deletion = await request(place)
    hold = await services.holds.place_hold(HOST, place.tenant_id, document.id, name="case", reason="x")
    await refused(Conflict, "tenant_kept", confirm(place))
    await services.holds.release_hold(HOST, place.tenant_id, document.id, hold.id, reason="over")
    await confirm(place)
    # One that is placed after it was confirmed stops it where it is.
    hold = await services.holds.place_hold(HOST, place.tenant_id, document.id, name="case", reason="x")
    async with working(services):
        async with asyncio.timeout(20):
            while (await services.deletions.get_deletion(place.tenant_id)).kept_document_id != document.id:
                await asyncio.sleep(0.05)
        assert len(await place.listing(place.a_id)) == 1
        await services.holds.release_hold(HOST, place.tenant_id, document.id, hold.id, reason="over")
        await until(place, deletion.id)
    assert await place.listing(place.a_id) == []
    refusals = [one for one in await services.audit.list_events(place.tenant_id) if one.outcome == "refused"]
    assert [one.details for one in refusals] == [{"code": "tenant_kept"}] * 2


async def test_what_a_frozen_writer_left_is_removed_and_what_is_not_ours_stays(place: Place) -> None:
    provider = await place.services.stores.provider(place.a_id)
    ours, foreign = f"t/{place.tenant_id}/ab/{new_id()}", f"t/{place.tenant_id}/somebody-elses.txt"
    for key in (ours, foreign):
        await provider.put(key, b"x")
    deletion = await request(place)
    await confirm(place)
    async with working(place.services):
        await until(place, deletion.id)
    assert [info.key for info in await place.listing(place.a_id)] == [foreign]


async def test_the_mark_of_a_place_that_the_tenant_brought_goes_with_it(place: Place) -> None:
    """Or the next owner of the bucket could not bring it."""
    services, globex = place.services, await make_place(place.services)
    async with services.database.platform() as uow:
        # As if the tenant had brought both; somebody else has marked one of them since.
        for store_id in (place.a_id, place.b_id):
            await uow.execute("UPDATE stores SET owner_tenant_id = %s WHERE id = %s", [place.tenant_id, store_id])
    for name, store_id, owner in (
        (place.a, place.a_id, place.tenant_id),
        (place.b, place.b_id, globex.tenant_id),
    ):
        await services.stores.set_credential(ANNA, name, {}, owner=place.tenant_id)
        await (await services.stores.provider(store_id)).put(places.MARK_KEY, places.mark_of(owner))
    ours, theirs = [await services.stores.provider(store_id) for store_id in (place.a_id, place.b_id)]
    deletion = await request(place)
    await confirm(place)
    async with working(services):
        await until(place, deletion.id)
    assert await places.find_mark(ours) is None
    assert await places.find_mark(theirs) == places.mark_of(globex.tenant_id)


async def test_two_workers_and_a_store_that_is_away(place: Place) -> None:
    """It waits for the store and says so; two workers do no harm."""
    await place.upload(b"x")
    deletion = await request(place)
    await confirm(place)
    removals = place.services.blobs.removals
    real = removals._provider

    async def away(store_id: UUID) -> object:
        from simples3dms.providers.errors import StoreUnavailable

        raise StoreUnavailable("away")

    removals._provider = away  # type: ignore[assignment]
    async with working(place.services), working(place.services):
        async with asyncio.timeout(20):
            while (await place.services.deletions.get_deletion(place.tenant_id)).error_code != "replicas_left":
                await asyncio.sleep(0.05)
        removals._provider = real
        done = await until(place, deletion.id)
    assert (done.document_count, done.version_count) == (1, 1)
    assert replace(done, certificate=None).error_code is None


@pytest.mark.parametrize("point", [name for name in failpoints.FAIL_POINTS if name.startswith("tenant_delete.")])
async def test_a_step_that_fails_is_taken_up_again(place: Place, point: str) -> None:
    """At each fail-point, in the process; `tests/faults` kills there."""
    for body in (b"one", b"two", b"three"):
        await place.upload(body)
    deletion = await request(place)
    await confirm(place)
    failpoints.arm(f"{point}=raise@1", environment="test")
    try:
        async with working(place.services):
            done = await until(place, deletion.id)
        assert failpoints.hits()[point] >= 1
    finally:
        failpoints.arm("", environment="test")
    assert done.certificate is not None
    assert (done.certificate["documents"], done.certificate["versions"]) == (3, 3)
    assert await place.listing(place.a_id) == []
    told = [
        event for event in await place.services.audit.list_events(None, limit=50) if event.action == "tenant.deleted"
    ]
    assert len(told) == 1
