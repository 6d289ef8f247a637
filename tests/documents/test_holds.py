"""Legal holds and retention through the services: at every way out, and in the database itself."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from uuid import UUID

import psycopg
import pytest
from tests.support import Place, assert_clean, make_place, quiet, working

from simples3dms.bootstrap import Services
from simples3dms.context import HOST, Principal
from simples3dms.documents.holds.values import RetentionMode
from simples3dms.errors import Conflict, Failure, Invalid, NotFound
from simples3dms.kit.ids import new_id

pytestmark = pytest.mark.anyio
LATER = datetime.now(UTC) + timedelta(days=365)


@pytest.fixture
async def place(services: Services) -> Place:
    return await make_place(services)


async def refused(code: str, act: object, failure: type[Failure] = Conflict) -> None:
    with pytest.raises(failure) as caught:
        await act  # type: ignore[misc]
    assert caught.value.problem_code == code


async def events(place: Place, action: str, outcome: str = "done") -> int:
    found = await place.services.audit.list_events(place.tenant_id, limit=500)
    return sum(event.action == action and event.outcome == outcome for event in found)


async def hold(place: Place, document_id: UUID, name: str = "case-1") -> UUID:
    made = await place.services.holds.place_hold(HOST, place.tenant_id, document_id, name=name, reason="asked for")
    return made.id


async def release(place: Place, document_id: UUID, hold_id: UUID) -> None:
    await place.services.holds.release_hold(HOST, place.tenant_id, document_id, hold_id, reason="over")


async def retain(place: Place, document_id: UUID, until: datetime, mode: str = "governance") -> None:
    await place.services.holds.set_retention(HOST, place.tenant_id, document_id, until=until, mode=RetentionMode(mode))


async def lift(place: Place, document_id: UUID, until: datetime | None = None) -> None:
    await place.services.holds.lift_retention(HOST, place.tenant_id, document_id, until=until, reason="a mistake")


async def let_time_pass(place: Place, document_id: UUID) -> None:
    """As if the retention had ended a second ago. Only of the mode governance: for the other the database refuses."""
    async with place.services.database.tenant(place.tenant_id) as uow:
        await uow.execute(
            """UPDATE documents SET retain_until = now() - interval '1 second', kept_at = kept_at - interval '1 hour'
               WHERE id = %s""",
            [document_id],
        )


async def test_holds_are_many_named_and_released_each(place: Place) -> None:
    document = (await place.upload(b"evidence")).document
    first, second = await hold(place, document.id), await hold(place, document.id, "case-2")
    await refused("hold_exists", hold(place, document.id))
    documents = place.services.documents
    await refused("document_held", documents.delete_document(HOST, place.tenant_id, document.id))
    await release(place, document.id, first)
    await refused("hold_released", release(place, document.id, first))
    await refused("document_held", documents.delete_document(HOST, place.tenant_id, document.id))
    # A new version is welcome, and the one before stays.
    assert (await place.upload(b"more", document_id=document.id)).version.number == 2
    assert await place.read(document.id, number=1) == b"evidence"
    await release(place, document.id, second)
    assert await hold(place, document.id) != first
    held = await place.services.holds.list_tenant_holds(place.tenant_id)
    assert [(one.name, one.released_at) for one in held] == [("case-1", None)]
    assert len(await place.services.holds.list_holds(place.tenant_id, document.id)) == 3
    assert (await events(place, "hold.placed"), await events(place, "hold.released")) == (3, 2)
    assert await events(place, "document.deleted", "refused") == 2


async def test_bad_holds_are_refused(place: Place) -> None:
    document = (await place.upload(b"x")).document
    holds = place.services.holds
    for name, reason in (
        ("", "r"),
        (" ", "r"),
        ("n" * 101, "r"),
        ("n\n", "r"),
        ("n", ""),
        ("n", "r" * 501),
        ("n", "\0"),
    ):
        act = holds.place_hold(HOST, place.tenant_id, document.id, name=name, reason=reason)
        await refused("hold_invalid", act, Invalid)
    await refused("document_not_found", hold(place, new_id()), NotFound)
    await refused("hold_not_found", release(place, document.id, new_id()), NotFound)
    other = await make_place(place.services)
    await refused("document_not_found", hold(other, document.id), NotFound)
    assert await events(place, "hold.placed") == 0


async def test_a_retention_is_lengthened_and_never_shortened(place: Place) -> None:
    document = (await place.upload(b"books")).document
    await retain(place, document.id, LATER)
    await retain(place, document.id, LATER + timedelta(days=1))
    await refused("retention_not_lengthened", retain(place, document.id, LATER))
    await refused("retention_invalid", retain(place, document.id, datetime(2000, 1, 1, tzinfo=UTC)), Invalid)
    await refused("retention_invalid", lift(place, document.id, LATER + timedelta(days=2)), Invalid)
    await lift(place, document.id, LATER)
    await retain(place, document.id, LATER, "compliance")
    for act in (lift(place, document.id), lift(place, document.id, LATER - timedelta(days=1)),
                retain(place, document.id, LATER, "governance")):  # fmt: skip
        await refused("retention_locked", act)
    await retain(place, document.id, LATER + timedelta(days=9), "compliance")
    found = await place.services.holds.get_retention(place.tenant_id, document.id)
    assert (found.retain_until, found.mode, found.is_retained) == (LATER + timedelta(days=9), "compliance", True)
    refusal = place.services.documents.delete_document(HOST, place.tenant_id, document.id)
    await refused("document_retained", refusal)
    assert await events(place, "retention.lifted", "refused") == 2
    other = (await place.upload(b"y")).document
    await retain(place, other.id, LATER)
    await lift(place, other.id)
    await place.services.documents.delete_document(HOST, place.tenant_id, other.id)


async def test_new_documents_are_retained_as_the_tenant_says(place: Place) -> None:
    settings = {"retention_days": 30, "retention_mode": "governance"}
    before = (await place.upload(b"before")).document
    await place.services.tenants.change_settings(HOST, place.tenant_id, settings)
    after = (await place.upload(b"after")).document
    get = place.services.holds.get_retention
    assert not (await get(place.tenant_id, before.id)).is_retained
    first = await get(place.tenant_id, after.id)
    assert first.retain_until is not None
    assert timedelta(days=29) < first.retain_until - datetime.now(UTC) <= timedelta(days=30)
    # A new version begins it anew, and a longer one of its own stays.
    await place.upload(b"before, again", document_id=before.id)
    assert (await get(place.tenant_id, before.id)).is_retained
    await retain(place, after.id, LATER, "compliance")
    await place.upload(b"after, again", document_id=after.id)
    kept = await get(place.tenant_id, after.id)
    assert (kept.retain_until, kept.mode) == (LATER, "compliance")


async def test_s56_the_trash_passes_over_what_is_kept_and_tells_it_once(place: Place) -> None:
    held, retained, free = [(await place.upload(name.encode())).document for name in ("held", "retained", "free")]
    documents = place.services.documents
    for document in (held, retained, free):
        await documents.delete_document(HOST, place.tenant_id, document.id)
    hold_id = await hold(place, held.id)
    await retain(place, retained.id, LATER)
    for document in (held, retained):
        code = "document_held" if document is held else "document_retained"
        await refused(code, documents.purge_document(HOST, place.tenant_id, document.id))
    await place.services.tenants.change_settings(HOST, place.tenant_id, {"trash_days": 0})
    refusals = await events(place, "document.purged", "refused")
    async with working(place.services):
        async with asyncio.timeout(20):
            while await events(place, "document.purged") < 1:
                await asyncio.sleep(0.05)
            while await events(place, "document.purged", "refused") < refusals + 2:
                await asyncio.sleep(0.05)
        await asyncio.sleep(place.services.watchdog_seconds * 3)
        # Passed over again and again, and told once.
        assert await events(place, "document.purged", "refused") == refusals + 2
        trash = await documents.list_documents(place.tenant_id, trash=True)
        assert {document.id for document in trash} == {held.id, retained.id}
        await quiet(place)
        assert len(await place.listing(place.a_id)) == 2
        # What kept them is over: the trash's time is, too.
        await release(place, held.id, hold_id)
        await let_time_pass(place, retained.id)
        async with asyncio.timeout(20):
            while await documents.list_documents(place.tenant_id, trash=True):
                await asyncio.sleep(0.05)
        await quiet(place)
        assert await place.listing(place.a_id) == []
    await assert_clean(place.services)


async def test_s56_finalizing_a_migration_moves_what_is_held_and_loses_no_last_copy(place: Place) -> None:
    document = (await place.upload(b"evidence")).document
    await hold(place, document.id)
    await retain(place, document.id, LATER, "compliance")
    migrations, tenant = place.services.migrations, place.tenant_id
    async with working(place.services):
        planned = await migrations.plan_migration(HOST, tenant, target=place.b)
        await migrations.start_migration(HOST, tenant, planned.id)
        await place.until(planned.id, "ready")
        await migrations.cut_over(HOST, tenant, planned.id)
        await migrations.finalize(HOST, tenant, planned.id)
        await place.until(planned.id, "done")
    assert (len(await place.listing(place.a_id)), len(await place.listing(place.b_id))) == (0, 1)
    assert await place.read(document.id) == b"evidence"
    await assert_clean(place.services)


MISTAKES = [
    "UPDATE documents SET deleted_at = now() WHERE id = %(d)s",
    "UPDATE documents SET deleted_at = now(), purged_at = now(), name = '' WHERE id = %(d)s",
    "DELETE FROM versions WHERE document_id = %(d)s",
    "UPDATE blobs SET dead_at = now() WHERE id IN (SELECT blob_id FROM versions WHERE document_id = %(d)s)",
    "DELETE FROM blobs WHERE id IN (SELECT blob_id FROM versions WHERE document_id = %(d)s)",
    "DELETE FROM documents WHERE id = %(d)s",
    "UPDATE versions SET blob_id = (SELECT blob_id FROM versions WHERE document_id = %(o)s) WHERE document_id = %(d)s",
]


@pytest.mark.parametrize("statement", MISTAKES)
@pytest.mark.parametrize("why", ["held", "retained"])
async def test_s56_a_mistake_in_a_service_removes_nothing(place: Place, statement: str, why: str) -> None:
    """The statements that a service would run if it forgot to ask, as either role."""
    document, other = (await place.upload(b"evidence")).document, (await place.upload(b"other")).document
    await (hold(place, document.id) if why == "held" else retain(place, document.id, LATER, "compliance"))
    ids = {"d": document.id, "o": other.id}
    database = place.services.database
    for unit in (database.tenant(place.tenant_id), database.platform()):
        with pytest.raises((psycopg.errors.IntegrityError, psycopg.errors.InsufficientPrivilege)):
            async with unit as uow:
                await uow.execute(statement, ids)  # type: ignore[arg-type]
    assert await place.read(document.id) == b"evidence"


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE documents SET retain_until = NULL, retention_mode = NULL WHERE id = %(d)s",
        "UPDATE documents SET retain_until = retain_until - interval '1 day' WHERE id = %(d)s",
        "UPDATE documents SET retention_mode = 'governance' WHERE id = %(d)s",
        "DELETE FROM holds WHERE document_id = %(d)s",
        "UPDATE holds SET reason = 'another' WHERE document_id = %(d)s",
    ],
)
async def test_s56_what_keeps_a_document_is_not_loosened_by_mistake(place: Place, statement: str) -> None:
    document = (await place.upload(b"evidence")).document
    await hold(place, document.id)
    await retain(place, document.id, LATER, "compliance")
    with pytest.raises(psycopg.errors.IntegrityError):
        async with place.services.database.platform() as uow:
            await uow.execute(statement, {"d": document.id})  # type: ignore[arg-type]


async def test_s56_of_a_hold_and_a_purge_at_once_one_wins(place: Place) -> None:
    """Never both: a hold that was granted keeps its document, and a document that is gone can't be held."""
    for _ in range(12):
        document = (await place.upload(b"x")).document
        await place.services.documents.delete_document(HOST, place.tenant_id, document.id)
        placed, purged = await asyncio.gather(
            hold(place, document.id),
            place.services.documents.purge_document(HOST, place.tenant_id, document.id),
            return_exceptions=True,
        )
        assert isinstance(placed, NotFound) != isinstance(purged, Conflict)
        trash = await place.services.documents.list_documents(place.tenant_id, trash=True)
        assert (document.id in {one.id for one in trash}) == isinstance(purged, Conflict)


async def test_who_placed_it_is_told(place: Place) -> None:
    document = (await place.upload(b"x")).document
    olga = Principal(new_id(), "olga@example.org")
    made = await place.services.holds.place_hold(olga, place.tenant_id, document.id, name="n", reason="r")
    assert made.placed_by == "olga@example.org"
