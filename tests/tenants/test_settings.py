"""What is set for a tenant: each field's faults are told, limits hold under any number of uploads at once."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import psycopg
import pytest
from tests.support import Place, assert_clean, make_place, quiet, working

from simples3dms.bootstrap import Services
from simples3dms.context import HOST
from simples3dms.db.provision import Provisioned
from simples3dms.documents.values import UploadRequest
from simples3dms.errors import Conflict, Failure, Invalid, TooLarge
from simples3dms.settings import Settings

pytestmark = pytest.mark.anyio
#: As many uploads as can wait in the database at once.
_POOL = 8


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"regions": "eu-central, us-east", "database_pool": _POOL})


@pytest.fixture
async def place(services: Services) -> Place:
    return await make_place(services)


async def change(place: Place, **changes: Any) -> Any:
    return await place.services.tenants.change_settings(HOST, place.tenant_id, changes)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"trash_days": -1}, "trash_days"),
        ({"trash_days": float("nan")}, "trash_days"),
        ({"retention_days": 0, "retention_mode": "governance"}, "retention_days"),
        ({"retention_days": 5}, "retention_mode"),
        ({"retention_days": 5, "retention_mode": "forever"}, "retention_mode"),
        ({"region": "moon"}, "region"),
        ({"allowed_jurisdictions": []}, "allowed_jurisdictions"),
        ({"allowed_jurisdictions": ["de"]}, "allowed_jurisdictions"),
        ({"allowed_jurisdictions": ["DE", "DE"]}, "allowed_jurisdictions"),
        ({"largest_upload_bytes": 0}, "largest_upload_bytes"),
        ({"most_documents": -1}, "most_documents"),
        ({"most_bytes": 2**63}, "most_bytes"),
    ],
)
async def test_each_field_s_fault_is_told(place: Place, changes: dict[str, Any], field: str) -> None:
    with pytest.raises(Invalid) as caught:
        await change(place, **changes)
    assert caught.value.problem_code == "tenant_settings_invalid"
    assert field in [problem["field"] for problem in caught.value.extra["fields"]]  # type: ignore[attr-defined]
    assert (await place.services.tenants.get_settings(place.tenant_id)).version == 0


async def test_changes_are_versioned_and_told(place: Place) -> None:
    tenants = place.services.tenants
    await change(place, region="eu-central", allowed_jurisdictions=["EU", "CH", "USA"])
    await change(place, trash_days=7.5)
    found = await tenants.get_settings(place.tenant_id)
    assert (found.version, found.region, found.trash_days) == (2, "eu-central", 7.5)
    assert found.allowed_jurisdictions == ["EU", "CH", "USA"]
    with pytest.raises(Conflict) as caught:
        await tenants.change_settings(HOST, place.tenant_id, {"trash_days": 1}, expected_version=1)
    assert caught.value.problem_code == "tenant_settings_changed"
    told = [
        event.details
        for event in await place.services.audit.list_events(place.tenant_id)
        if event.action == "tenant.settings_changed"
    ]
    assert told[0] == {"version": 2, "before": {"trash_days": None}, "after": {"trash_days": 7.5}}
    outcomes = await asyncio.gather(*(change(place, trash_days=day) for day in range(6)), return_exceptions=True)
    done = [one for one in outcomes if not isinstance(one, Failure)]
    assert (await tenants.get_settings(place.tenant_id)).version == 2 + len(done)


async def refused(place: Place, failure: type[Failure], code: str, body: bytes, **announced: Any) -> Failure:
    with pytest.raises(failure) as caught:
        await place.upload(body, **announced)
    assert caught.value.problem_code == code
    return caught.value


async def test_a_tenant_s_largest_upload(place: Place) -> None:
    await change(place, largest_upload_bytes=10)
    await place.upload(b"x" * 10)
    await refused(place, TooLarge, "document_too_large", b"x" * 11)
    await refused(place, TooLarge, "document_too_large", b"x" * 11, size_bytes=None)


async def test_limits_count_versions_and_trash_and_what_is_purged_no_more(place: Place) -> None:
    await change(place, most_documents=2, most_bytes=100)
    first = (await place.upload(b"x" * 40)).document
    await place.upload(b"x" * 40, document_id=first.id)
    failure = await refused(place, Conflict, "limit_reached", b"x" * 21)
    assert failure.extra == {"limit": "most_bytes", "most": 100}
    # One of no announced size is cut off where the room ends.
    failure = await refused(place, Conflict, "limit_reached", b"x" * 21, size_bytes=None)
    await place.upload(b"x" * 20, size_bytes=None)
    failure = await refused(place, Conflict, "limit_reached", b"")
    assert failure.extra == {"limit": "most_documents", "most": 2}
    documents = place.services.documents
    await documents.delete_document(HOST, place.tenant_id, first.id)
    await refused(place, Conflict, "limit_reached", b"")
    await documents.purge_document(HOST, place.tenant_id, first.id)
    await place.upload(b"x" * 80)
    async with working(place.services):
        await quiet(place)
    await assert_clean(place.services)


@asynccontextmanager
async def nobody_writes_uploads(urls: Provisioned, *, until_waiting: int) -> AsyncIterator[None]:
    """While this is open, whoever would record an upload waits; and it closes once so many wait, for that or for each
    other: then all of them have looked at what is used already, if nothing keeps them from it."""
    async with await psycopg.AsyncConnection.connect(urls.owner_url) as holder:
        await holder.execute("LOCK TABLE uploads IN SHARE MODE")
        yield
        async with asyncio.timeout(20):
            waiting = 0
            while waiting < until_waiting:
                cursor = await holder.execute(
                    """SELECT count(*) FROM pg_locks JOIN pg_database d ON d.oid = database
                       WHERE NOT granted AND datname = current_database()"""
                )
                ((waiting,),) = await cursor.fetchall()


async def test_limits_hold_under_any_number_of_uploads(place: Place, urls: Provisioned) -> None:
    await change(place, most_documents=5, most_bytes=1000)
    go = asyncio.Event()

    async def slowly(body: bytes) -> AsyncIterator[bytes]:
        yield body[:1]
        await go.wait()
        yield body[1:]

    async def upload(size: int) -> object:
        request = UploadRequest("x", "text/plain", size_bytes=size)
        return await place.services.uploads.upload(HOST, place.tenant_id, request, slowly(os.urandom(size)))

    async with nobody_writes_uploads(urls, until_waiting=_POOL):
        tasks = [asyncio.create_task(upload(300)) for _ in range(12)]
    async with asyncio.timeout(20):
        while sum(task.done() for task in tasks) < 9:
            await asyncio.sleep(0.02)
    # Three fit, none of them has ended: what is reserved counts like what is there.
    assert sum(task.done() for task in tasks) == 9
    go.set()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert sum(isinstance(one, Conflict) for one in outcomes) == 9
    assert len(await place.services.documents.list_documents(place.tenant_id)) == 3
    # What failed has given its place back.
    await place.upload(b"x" * 100)
    await refused(place, Conflict, "limit_reached", b"x")
