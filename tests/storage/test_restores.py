"""F52: a database that is older than it was removes nothing until an operator has confirmed it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from tests.conftest import Cluster, settings_for
from tests.support import Place, assert_clean, make_place, quiet, working

from simples3dms.bootstrap import Services, build_services
from simples3dms.context import HOST
from simples3dms.db.provision import Provisioned
from simples3dms.errors import Conflict, Failure, Invalid
from simples3dms.jobs import watchdog
from simples3dms.providers.kinds import memory

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def running(urls: Provisioned, directory: Path) -> AsyncIterator[Services]:
    services = await asyncio.to_thread(build_services, settings_for(urls, directory / "var"))
    await services.open()
    try:
        yield services
    finally:
        await services.close()


@pytest.fixture
async def place(services: Services) -> Place:
    return await make_place(services)


async def removed(place: Place) -> bool:
    """Have a document purged, and its bytes swept; whether they went."""
    count = len(await documents_at(place))
    await purge(place, (await place.upload(b"to be purged")).document.id)
    await place.services.blobs.sweep(place.tenant_id)
    return len(await documents_at(place)) == count


async def purge(place: Place, document_id: UUID) -> None:
    await place.services.documents.delete_document(HOST, place.tenant_id, document_id)
    await place.services.documents.purge_document(HOST, place.tenant_id, document_id)


async def documents_at(place: Place) -> list[str]:
    return [info.key for info in await place.listing(place.a_id) if "/audit/" not in info.key]


async def actions(services: Services) -> list[str]:
    return [event.action for event in await services.audit.list_events(None, limit=50)]


def owner(urls: Provisioned) -> psycopg.Connection[Any]:
    return psycopg.connect(urls.owner_url, autocommit=True)


def copied(cluster: Cluster, urls: Provisioned) -> Provisioned:
    """A backup that is put back under another name."""
    source = str(conninfo_to_dict(urls.app_url)["dbname"])
    name = f"{source}_back"
    with psycopg.connect(cluster.server.superuser_dsn("postgres"), autocommit=True) as connection:
        connection.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(source))
        )
    return Provisioned(make_conninfo(urls.owner_url, dbname=name), make_conninfo(urls.app_url, dbname=name))


async def test_an_installation_that_was_not_restored_removes_what_is_dead(urls: Provisioned, tmp_path: Path) -> None:
    async with running(urls, tmp_path) as services:
        place = await make_place(services)
        assert await removed(place)
    async with running(urls, tmp_path) as services:
        assert not await services.restores.is_held(), "a restart is none"
        assert (await services.restores.get()).is_same


async def test_f52_a_database_that_was_put_back_removes_nothing_until_that_is_confirmed(
    cluster: Cluster, urls: Provisioned, tmp_path: Path
) -> None:
    async with running(urls, tmp_path) as services:
        place = await make_place(services)
        kept = (await place.upload(b"kept")).document.id
        dead = (await place.upload(b"dead when it was backed up")).document.id
        trashed = (await place.upload(b"in the trash when it was backed up")).document.id
        await purge(place, dead)
        await services.documents.delete_document(HOST, place.tenant_id, trashed)
        assert not await services.restores.is_held()
    back = copied(cluster, urls)
    try:
        async with running(back, tmp_path) as services:
            place = Place(services, place.tenant_id, place.a, place.b, place.a_id, place.b_id)
            services.trash_days = 0
            # Neither a job that was in the queue already, nor the watchdog, nor a tenant's deletion.
            assert await services.blobs.sweep(place.tenant_id) == 0
            await watchdog.tick(services)
            async with working(services):
                newer = (await place.upload(b"written since")).document.id
                assert await place.read(kept) == b"kept"
                assert await place.read(newer) == b"written since"
                assert len(await documents_at(place)) == 4
            assert len(await services.documents.list_documents(place.tenant_id, trash=True)) == 1
            with pytest.raises(Failure) as caught:
                await services.blobs.clear_place(place.tenant_id, place.a_id, f"t/{place.tenant_id}/")
            assert caught.value.problem_code == "restore_unconfirmed"
            guard = await services.restores.get()
            assert guard.held_at is not None
            assert "restored" in (guard.held_reason or "")
            assert (await actions(services)).count("restore.found") == 1
            findings = [finding.kind for finding in (await services.upkeep.fsck()).findings]
            assert findings == ["restore_unconfirmed"]
            confirmed = await services.restores.confirm(HOST)
            assert (confirmed.held_at, confirmed.confirmed_by_name, confirmed.is_same) == (None, "host", True)
            assert "restore.confirmed" in await actions(services)
            with pytest.raises(Conflict):
                await services.restores.confirm(HOST)
            async with working(services), asyncio.timeout(60):
                while len(await documents_at(place)) != 2:
                    await asyncio.sleep(0.05)
                await quiet(place)
            await assert_clean(services)
    finally:
        cluster.drop_database(back)


async def test_f52_a_row_that_was_written_by_a_restore_tells(place: Place, urls: Provisioned) -> None:
    """As `pg_restore` does into the same database: the same values, written once more."""
    services = place.services
    assert await removed(place)
    with psycopg.connect(urls.owner_url, autocommit=True) as connection:
        connection.execute("ALTER TABLE restore_guard NO FORCE ROW LEVEL SECURITY")
        connection.execute("CREATE TABLE dumped AS SELECT * FROM restore_guard")
        connection.execute("DELETE FROM restore_guard")
        connection.execute("INSERT INTO restore_guard SELECT * FROM dumped")
        connection.execute("ALTER TABLE restore_guard FORCE ROW LEVEL SECURITY")
    assert not await removed(place)
    await services.restores.confirm(HOST)
    await services.blobs.sweep(place.tenant_id)
    assert await documents_at(place) == []


async def _checkpoint(place: Place) -> int:
    """Sign the tenant's audit, and have that copied into its stores."""
    services = place.services
    await services.audit.sealer.seal_all()
    made = await services.audit.create_checkpoint(HOST, place.tenant_id)
    await services.checkpoints.plan(place.tenant_id, made.seq)
    await services.checkpoints.copy_due(place.tenant_id)
    return made.seq


def _forget(urls: Provisioned, place: Place, seq: int) -> None:
    """The records as they were before the checkpoint: files that were put back, with the guard's row as it was."""
    with psycopg.connect(urls.owner_url, autocommit=True) as connection:
        for table in ("audit_copies", "audit_checkpoints"):
            connection.execute(sql.SQL("ALTER TABLE {} NO FORCE ROW LEVEL SECURITY").format(sql.Identifier(table)))
            connection.execute(sql.SQL("ALTER TABLE {} DISABLE TRIGGER USER").format(sql.Identifier(table)))
            connection.execute(
                sql.SQL("DELETE FROM {} WHERE tenant_id = %s AND seq >= %s").format(sql.Identifier(table)),
                [place.tenant_id, seq],
            )


async def test_f52_a_later_checkpoint_in_a_store_tells_that_files_were_put_back(
    place: Place, urls: Provisioned
) -> None:
    services = place.services
    await _checkpoint(place)
    assert await removed(place)
    later = await _checkpoint(place)
    services.restores._seen_until.clear()
    assert await removed(place)
    _forget(urls, place, later)
    services.restores._seen_until.clear()
    assert not await removed(place)
    assert f"checkpoint {later}" in ((await services.restores.get()).held_reason or "")
    await services.restores.confirm(HOST)
    # What was there when it was confirmed tells nothing any more.
    assert await removed(place) or await documents_at(place) == []
    assert not await services.restores.is_held()


async def test_f52_what_anybody_may_have_put_there_holds_that_place_only(place: Place) -> None:
    services, other = place.services, await make_place(place.services)
    seq = await _checkpoint(place)
    path = f"t/{place.tenant_id}/audit/checkpoint-{seq:020d}.json"
    objects = memory._shelves[place.a].objects
    (stored,) = objects[path]
    forged = stored.data.replace(b'"seq":%d,' % seq, b'"seq":%d,' % (seq + 5))
    assert forged != stored.data
    provider = await services.stores.provider(place.a_id)
    await provider.put(f"t/{place.tenant_id}/audit/checkpoint-{seq + 5:020d}.json", forged)
    await provider.put(f"t/{place.tenant_id}/audit/checkpoint-{seq + 4:020d}.json", b"[" * 9000)
    services.restores._seen_until.clear()
    assert not await removed(place)
    assert not await services.restores.is_held()
    assert await removed(other)


async def test_f52_a_checkpoint_of_records_that_are_gone_is_not_written_over(place: Place, urls: Provisioned) -> None:
    services = place.services
    seq = await _checkpoint(place)
    path = f"t/{place.tenant_id}/audit/checkpoint-{seq:020d}.json"
    before = memory._shelves[place.a].objects[path][-1].data
    with psycopg.connect(urls.owner_url, autocommit=True) as connection:
        # Another history since the backup, that came as far.
        for table in ("audit_checkpoints", "audit_copies"):
            connection.execute(sql.SQL("ALTER TABLE {} NO FORCE ROW LEVEL SECURITY").format(sql.Identifier(table)))
            connection.execute(sql.SQL("ALTER TABLE {} DISABLE TRIGGER USER").format(sql.Identifier(table)))
        connection.execute(
            "UPDATE audit_checkpoints SET hash = sha256('another') WHERE tenant_id = %s AND seq = %s",
            [place.tenant_id, seq],
        )
        connection.execute("UPDATE audit_copies SET state = 'writing', due_at = now(), stored_at = NULL")
    await services.checkpoints.copy_due(place.tenant_id)
    assert memory._shelves[place.a].objects[path][-1].data == before
    assert await services.restores.is_held()
    await services.restores.confirm(HOST)
    async with services.database.tenant(place.tenant_id) as uow:
        await uow.execute("UPDATE audit_copies SET due_at = now()")
    await services.checkpoints.copy_due(place.tenant_id)
    assert memory._shelves[place.a].objects[path][-1].data != before


async def test_f52_a_restore_that_nothing_gives_away_can_be_declared(place: Place) -> None:
    services = place.services
    with pytest.raises(Invalid):
        await services.restores.declare(HOST, " ")
    await services.restores.declare(HOST, "yesterday's files")
    assert not await removed(place)
    assert (await services.restores.get()).held_reason == "yesterday's files"
    await services.restores.declare(HOST, "again")
    assert (await services.restores.get()).held_reason == "yesterday's files"
    await services.restores.confirm(HOST)
    await services.blobs.sweep(place.tenant_id)
    assert await documents_at(place) == []


async def test_f52_a_hold_that_comes_between_the_claim_and_the_store_counts(place: Place) -> None:
    services = place.services
    await purge(place, (await place.upload(b"body")).document.id)
    real = services.restores.is_behind

    async def late(*given: Any) -> bool:
        await services.restores.declare(HOST, "just now")
        return await real(*given)

    services.restores.is_behind = late  # type: ignore[method-assign,assignment]
    assert await services.blobs.sweep(place.tenant_id) == 0
    assert len(await documents_at(place)) == 1
