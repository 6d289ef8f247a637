"""Uploads through the service: what becomes visible, what never does, and what a repeat answers."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator

import pytest
from tests.support import Place, assert_clean, make_place, quiet, working

from simples3dms.bootstrap import Services
from simples3dms.context import HOST
from simples3dms.documents.values import UploadRequest
from simples3dms.errors import Conflict, Failure, Invalid, NotFound

pytestmark = pytest.mark.anyio


@pytest.fixture
async def place(services: Services) -> Place:
    return await make_place(services)


@pytest.mark.parametrize("size", [0, 1, 65_536, 1024 * 1024, 1024 * 1024 + 1, 9 * 1024 * 1024 + 7])
async def test_what_was_uploaded_is_read_back(place: Place, size: int) -> None:
    body = os.urandom(size)
    result = await place.upload(body, sha256=hashlib.sha256(body).digest())
    assert result.version.sha256 == hashlib.sha256(body).hexdigest()
    assert await place.read(result.document.id) == body
    if size > 10:
        assert await place.read(result.document.id, start=3, length=5) == body[3:8]
        assert await place.read(result.document.id, start=size - 4) == body[-4:]


async def test_versions_are_kept_and_numbered(place: Place) -> None:
    first = await place.upload(b"one")
    second = await place.upload(b"two", document_id=first.document.id)
    assert second.version.number == 2
    assert await place.read(first.document.id) == b"two"
    assert await place.read(first.document.id, number=1) == b"one"


async def _refused(
    place: Place, failure: type[Failure], code: str, body: AsyncIterator[bytes], **announced: object
) -> None:
    request = UploadRequest("x", "text/plain", **announced)  # type: ignore[arg-type]
    with pytest.raises(failure) as caught:
        await place.services.uploads.upload(HOST, place.tenant_id, request, body)
    assert caught.value.problem_code == code
    assert await place.services.documents.list_documents(place.tenant_id) == []
    async with working(place.services):
        await quiet(place)
    assert await place.listing(place.a_id) == []
    await assert_clean(place.services)


async def _stream(*chunks: bytes) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


async def test_a_body_shorter_than_announced_leaves_nothing(place: Place) -> None:
    await _refused(place, Invalid, "size_mismatch", _stream(b"abc"), size_bytes=4)


async def test_a_body_longer_than_announced_leaves_nothing(place: Place) -> None:
    await _refused(place, Invalid, "size_mismatch", _stream(b"abc", b"de"), size_bytes=4)


async def test_a_wrong_digest_leaves_nothing(place: Place) -> None:
    await _refused(place, Invalid, "digest_mismatch", _stream(b"abc"), sha256=b"\0" * 32)


async def test_a_client_that_goes_away_leaves_nothing(place: Place) -> None:
    async def cut() -> AsyncIterator[bytes]:
        yield b"x" * 200_000
        raise Invalid("the connection ended", code="body_incomplete")

    await _refused(place, Invalid, "body_incomplete", cut(), size_bytes=400_000)


async def test_a_cancelled_upload_leaves_nothing(place: Place) -> None:
    reached = asyncio.Event()

    async def stalls() -> AsyncIterator[bytes]:
        yield b"x" * 200_000
        reached.set()
        await asyncio.Event().wait()

    request = UploadRequest("x", "text/plain")
    task = asyncio.create_task(place.services.uploads.upload(HOST, place.tenant_id, request, stalls()))
    await reached.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    async with working(place.services):
        await quiet(place)
    assert await place.listing(place.a_id) == []


@pytest.mark.parametrize("name", ["", "   ", "x" * 256, "a\nb", "a\x00b"])
async def test_unusable_names_are_refused(place: Place, name: str) -> None:
    with pytest.raises(Invalid) as caught:
        await place.upload(b"x", name=name)
    assert caught.value.problem_code == "document_name_invalid"


async def test_the_same_key_has_one_effect_and_one_answer(place: Place) -> None:
    first = await place.upload(b"once", idempotency_key="k")
    again = await place.upload(b"once", idempotency_key="k")
    assert again.replayed
    assert (again.document.id, again.version) == (first.document.id, first.version)
    assert len(await place.services.documents.list_documents(place.tenant_id)) == 1


async def test_the_same_key_for_something_else_is_refused(place: Place) -> None:
    await place.upload(b"once", idempotency_key="k")
    with pytest.raises(Conflict) as caught:
        await place.upload(b"other!", idempotency_key="k")
    assert caught.value.problem_code == "idempotency_key_reused"


async def test_twenty_at_once_with_one_key_make_one_document(place: Place) -> None:
    outcomes = await asyncio.gather(
        *(place.upload(b"race", idempotency_key="k") for _ in range(20)), return_exceptions=True
    )
    refused = [o for o in outcomes if isinstance(o, BaseException)]
    assert all(isinstance(o, Conflict) and o.problem_code == "upload_in_progress" for o in refused)
    assert len(refused) < 20
    assert len(await place.services.documents.list_documents(place.tenant_id)) == 1


async def test_a_failed_upload_may_be_repeated_with_its_key(place: Place) -> None:
    async def cut() -> AsyncIterator[bytes]:
        yield b"xy"
        raise Invalid("the connection ended", code="body_incomplete")

    request = UploadRequest("file.bin", "application/octet-stream", size_bytes=4, idempotency_key="k")
    with pytest.raises(Invalid):
        await place.services.uploads.upload(HOST, place.tenant_id, request, cut())
    result = await place.upload(b"good", idempotency_key="k")
    assert not result.replayed
    assert await place.read(result.document.id) == b"good"


async def test_another_tenants_document_does_not_exist(services: Services) -> None:
    mine, theirs = await make_place(services), await make_place(services)
    foreign = (await theirs.upload(b"theirs")).document.id
    for act in (
        lambda: services.documents.get_document(mine.tenant_id, foreign),
        lambda: services.documents.delete_document(HOST, mine.tenant_id, foreign),
        lambda: services.documents.restore_document(HOST, mine.tenant_id, foreign),
        lambda: services.documents.purge_document(HOST, mine.tenant_id, foreign),
        lambda: services.documents.list_versions(mine.tenant_id, foreign),
        lambda: services.documents.list_replicas(mine.tenant_id, foreign),
        lambda: mine.read(foreign),
        lambda: mine.upload(b"evil", document_id=foreign),
    ):
        with pytest.raises(NotFound) as caught:
            await act()
        assert caught.value.problem_code == "document_not_found"
    assert await theirs.read(foreign) == b"theirs"


async def test_the_trash_gives_back_and_a_purge_does_not(place: Place) -> None:
    documents, tenant_id = place.services.documents, place.tenant_id
    document_id = (await place.upload(b"keep")).document.id
    with pytest.raises(Conflict):
        await documents.purge_document(HOST, tenant_id, document_id)
    await documents.delete_document(HOST, tenant_id, document_id)
    assert await documents.list_documents(tenant_id) == []
    with pytest.raises(Conflict) as caught:
        await place.read(document_id)
    assert caught.value.problem_code == "document_deleted"
    await documents.restore_document(HOST, tenant_id, document_id)
    assert await place.read(document_id) == b"keep"
    await documents.delete_document(HOST, tenant_id, document_id)
    await documents.purge_document(HOST, tenant_id, document_id)
    with pytest.raises(NotFound):
        await documents.restore_document(HOST, tenant_id, document_id)
    async with working(place.services):
        await quiet(place)
    assert await place.listing(place.a_id) == []
    await assert_clean(place.services)
