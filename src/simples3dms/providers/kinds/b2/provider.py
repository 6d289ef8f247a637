"""A B2 store by the native API: versions always, parts of one size, deletes by file id."""

# ruff: noqa: ARG002  (the interface has arguments that this kind has no use for)

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Annotated, Any, Final

from pydantic import Field

from simples3dms.providers.base import (
    NOTHING_EXPECTED,
    Body,
    Capabilities,
    DeleteOutcome,
    Expected,
    ObjectInfo,
    ObjectReader,
    ObjectRef,
    PutResult,
    check_key,
)
from simples3dms.providers.errors import ObjectNotFound, ProviderError
from simples3dms.providers.kinds.b2.session import Account, upload_part, upload_small
from simples3dms.providers.registry import BuildOptions, FormModel, NotBlank, Prefix, ProviderKind, SecretField

#: Just above the service's least part size (5 MB); a body up to this goes in one request.
_PART_BYTES: Final = 5 * 1024 * 1024
_MOST_PARTS: Final = 9000
_PARALLEL_PARTS: Final = 3
_CHUNK_BYTES: Final = 1 << 20
_LIST_PAGE: Final = 1000
_PARALLEL_DELETES: Final = 8
_PLAIN_TYPE: Final = "application/octet-stream"


class B2Settings(FormModel):
    """`realm` is `production`, or the address of a server that speaks the same API."""

    bucket: Annotated[str, Field(pattern=r"^[A-Za-z0-9-]{6,63}$")]
    prefix: Prefix = ""
    realm: NotBlank = "production"


class B2Credential(FormModel):
    """An application key with listBuckets, listFiles, readFiles, writeFiles and deleteFiles."""

    application_key_id: NotBlank
    application_key: SecretField


class B2Provider:
    """One bucket and prefix."""

    kind = "b2"

    def __init__(self, settings: B2Settings, credential: B2Credential) -> None:
        self._prefix = settings.prefix
        self._bucket = settings.bucket
        self._account = Account(
            key_id=credential.application_key_id,
            key=credential.application_key.reveal(),
            realm=settings.realm,
            bucket=settings.bucket,
        )
        self.capabilities = Capabilities(
            versions=True, multipart=True, part_size_bytes=_PART_BYTES, largest_object_bytes=10 * 10**12
        )

    # --- writing ----------------------------------------------------------------------------------------------------

    async def put(
        self, key: str, body: Body, *, expected: Expected = NOTHING_EXPECTED, content_type: str | None = None
    ) -> PutResult:
        path = self._path(key)
        kind = content_type or _PLAIN_TYPE
        if not isinstance(body, bytes):
            parts = _parts(body, _part_size(expected.size_bytes))
            first = await anext(parts, b"")
            second = await anext(parts, None)
            if second is not None:
                return await self._put_large(key, path, kind, first, second, parts)
            body = first
        whole = body
        made = await self._account.run(lambda session, bucket: upload_small(session, bucket, path, whole, kind), key)
        return PutResult(key, len(whole), made["fileId"])

    async def _put_large(
        self, key: str, path: str, kind: str, first: bytes, second: bytes, rest: AsyncIterator[bytes]
    ) -> PutResult:
        """A large file of equal parts, a few at a time. Whatever fails, the unfinished file is cancelled."""
        started = await self._account.run(lambda session, bucket: session.start_large_file(bucket, path, kind, {}), key)
        file_id: str = started["fileId"]
        try:
            digests, size = await self._send_parts(key, file_id, first, second, rest)
            await self._account.run(lambda session, _: session.finish_large_file(file_id, digests), key)
        except BaseException:
            await asyncio.shield(self._cancel(file_id))
            raise
        return PutResult(key, size, file_id)

    async def _send_parts(
        self, key: str, file_id: str, first: bytes, second: bytes, rest: AsyncIterator[bytes]
    ) -> tuple[list[str], int]:
        sent: list[asyncio.Task[str]] = []
        slots = asyncio.Semaphore(_PARALLEL_PARTS)
        size = 0

        async def send(number: int, body: bytes) -> str:
            try:
                return await self._account.run(lambda session, _: upload_part(session, file_id, number, body), key)
            finally:
                slots.release()

        try:
            async with asyncio.TaskGroup() as group:
                async for body in _chained(first, second, rest):
                    # No more than a few parts are in memory; a part that failed cancels this loop.
                    await slots.acquire()
                    size += len(body)
                    sent.append(group.create_task(send(len(sent) + 1, body)))
        except BaseExceptionGroup as failed:
            # The caller wants to see what its source, or a part, raised: one error, as it was.
            raise failed.exceptions[0] from None
        return [task.result() for task in sent], size

    async def _cancel(self, file_id: str) -> None:
        try:
            await self._account.run(lambda session, _: session.cancel_large_file(file_id))
        except ProviderError:
            return  # the caller's record of the key has it cleaned later

    # --- reading ----------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def open(
        self,
        key: str,
        *,
        version_id: str | None = None,
        start: int = 0,
        length: int | None = None,
        expected: Expected = NOTHING_EXPECTED,
    ) -> AsyncIterator[ObjectReader]:
        if start or length is not None:
            info = await self.head(key, version_id=version_id)
            end = info.size_bytes if length is None else min(start + length, info.size_bytes)
            if start >= end:
                yield _Reader(self._account, info, None)
                return
            wanted: tuple[int, int] | None = (start, end - 1)
        else:
            wanted = None
        response = await self._account.run(lambda session, _: self._request(session, key, version_id, wanted), key)
        try:
            yield _Reader(self._account, self._info_of(key, version_id, response), response)
        finally:
            response.close()

    def _request(self, session: Any, key: str, version_id: str | None, wanted: tuple[int, int] | None) -> Any:
        if version_id is not None:
            url = session.get_download_url_by_id(version_id)
        else:
            url = session.get_download_url_by_name(self._bucket, self._path(key))
        return session.download_file_from_url(url, wanted).__enter__()

    def _info_of(self, key: str, version_id: str | None, response: Any) -> ObjectInfo:
        headers = response.headers
        ranged = headers.get("Content-Range", "")
        size = int(ranged.rpartition("/")[2]) if ranged else int(headers["Content-Length"])
        return ObjectInfo(key, size, version_id or headers.get("x-bz-file-id"), None, None)

    async def head(self, key: str, *, version_id: str | None = None) -> ObjectInfo:
        path = self._path(key)
        if version_id is not None:
            found = await self._account.run(lambda session, _: session.get_file_info_by_id(version_id), key)
            if found["fileName"] != path or found.get("action") == "hide":
                raise ObjectNotFound("no such object", key=key)
            return self._info(found)
        newest = await self._account.run(
            lambda session, bucket: session.list_file_names(bucket, path, 1, path)["files"], key
        )
        if not newest or newest[0]["fileName"] != path:
            raise ObjectNotFound("no such object", key=key)
        return self._info(newest[0])

    # --- removing ---------------------------------------------------------------------------------------------------

    async def delete(self, refs: Sequence[ObjectRef]) -> list[DeleteOutcome]:
        slots = asyncio.Semaphore(_PARALLEL_DELETES)

        async def one(ref: ObjectRef) -> DeleteOutcome:
            async with slots:
                try:
                    if ref.version_id is None:
                        await self.discard(ref.key)
                    else:
                        await self._delete_version(ref.key, ref.version_id)
                except ProviderError as error:
                    return DeleteOutcome(ref, error)
            return DeleteOutcome(ref)

        return list(await asyncio.gather(*(one(ref) for ref in refs)))

    async def _delete_version(self, key: str, version_id: str) -> None:
        path = self._path(key)
        try:
            await self._account.run(lambda session, _: session.delete_file_version(version_id, path), key)
        except ObjectNotFound:
            return

    async def discard(self, key: str) -> None:
        path = self._path(key)
        versions = await self._account.run(lambda session, bucket: list(_versions(session, bucket, path)), key)
        for version in versions:
            if version["fileName"] == path and version["action"] != "start":
                await self._delete_version(key, version["fileId"])
        unfinished = await self._account.run(lambda session, bucket: list(_unfinished(session, bucket, path)), key)
        for item in unfinished:
            if item["fileName"] == path:
                await self._account.run(
                    lambda session, _, item=item: session.cancel_large_file(item["fileId"]),  # type: ignore[misc]
                    key,
                )

    # --- listing ----------------------------------------------------------------------------------------------------

    async def list(self, prefix: str = "", *, start_after: str | None = None) -> AsyncIterator[ObjectInfo]:
        wanted = self._prefix + prefix
        name: str | None = None if start_after is None else self._prefix + start_after
        file_id: str | None = None
        while True:
            page = await self._account.run(
                lambda session, bucket, name=name, file_id=file_id: session.list_file_versions(  # type: ignore[misc]
                    bucket, name, file_id, _LIST_PAGE, wanted
                )
            )
            for item in page["files"]:
                info = self._info(item)
                if item["action"] in ("upload", "hide") and (start_after is None or info.key > start_after):
                    yield info
            name, file_id = page.get("nextFileName"), page.get("nextFileId")
            if name is None:
                return

    async def list_unfinished(self, prefix: str = "") -> AsyncIterator[ObjectInfo]:
        wanted = self._prefix + prefix
        for item in await self._account.run(lambda session, bucket: list(_unfinished(session, bucket, wanted))):
            yield ObjectInfo(item["fileName"].removeprefix(self._prefix), 0, item["fileId"])

    async def check(self) -> None:
        await self._account.run(lambda session, bucket: session.list_file_names(bucket, None, 1, self._prefix))

    async def close(self) -> None:
        self._account.close()

    def _path(self, key: str) -> str:
        return self._prefix + check_key(key)

    def _info(self, item: Any) -> ObjectInfo:
        made = datetime.fromtimestamp(item.get("uploadTimestamp", 0) / 1000, UTC)
        size = item.get("contentLength", item.get("size")) or 0
        return ObjectInfo(item["fileName"].removeprefix(self._prefix), size, item["fileId"], None, made)


class _Reader:
    """A download, read in a thread, chunk by chunk."""

    def __init__(self, account: Account, info: ObjectInfo, response: Any) -> None:
        self.info = info
        self._account = account
        self._response = response

    async def __aiter__(self) -> AsyncIterator[bytes]:
        if self._response is None:
            return
        chunks: Iterator[bytes] = self._response.iter_content(_CHUNK_BYTES)
        while True:
            chunk = await self._account.run_plain(lambda: next(chunks, b""), self.info.key)
            if not chunk:
                return
            yield chunk


async def _parts(body: AsyncIterable[bytes], size: int) -> AsyncIterator[bytes]:
    """The body cut into parts of one size; the last may be shorter. One part's bytes are held, and joined once."""
    held: list[memoryview] = []
    held_bytes = 0
    async for chunk in body:
        rest = memoryview(chunk)
        # A part goes out only when a byte beyond it has come, so that the last one is never empty.
        while held_bytes + len(rest) > size:
            head, rest = rest[: size - held_bytes], rest[size - held_bytes :]
            part = b"".join((*held, head))
            held.clear()
            held_bytes = 0
            yield part
            del part
        if rest:
            held.append(rest)
            held_bytes += len(rest)
    if held:
        yield b"".join(held)


async def _chained(first: bytes, second: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    yield second
    async for part in rest:
        yield part


def _part_size(size_bytes: int | None) -> int:
    """Constant for the whole file, and large enough that the parts do not run out."""
    return _PART_BYTES if size_bytes is None else max(_PART_BYTES, -(-size_bytes // _MOST_PARTS))


def _versions(session: Any, bucket_id: str, path: str) -> Iterator[Any]:
    name: str | None = path
    file_id: str | None = None
    while name is not None and name.startswith(path):
        page = session.list_file_versions(bucket_id, name, file_id, _LIST_PAGE, path)
        yield from page["files"]
        name, file_id = page.get("nextFileName"), page.get("nextFileId")


def _unfinished(session: Any, bucket_id: str, prefix: str) -> Iterator[Any]:
    file_id: str | None = None
    while True:
        page = session.list_unfinished_large_files(bucket_id, file_id, 100, prefix)
        yield from page["files"]
        file_id = page.get("nextFileId")
        if file_id is None:
            return


def _build(settings: B2Settings, credential: B2Credential, _options: BuildOptions) -> B2Provider:
    return B2Provider(settings, credential)


KIND = ProviderKind(
    name="b2",
    title="Backblaze B2 (native API)",
    settings_model=B2Settings,
    credential_model=B2Credential,
    build=_build,
)
