"""An S3 store: obstore moves the bytes, botocore does the control calls in a few threads."""

# ruff: noqa: ARG002  (the interface has arguments that this kind has no use for)

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, Final, TypeVar

import obstore
from botocore.exceptions import ClientError

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
from simples3dms.providers.errors import BucketMissing, ObjectNotFound, ProviderError
from simples3dms.providers.kinds.s3.config import (
    CONTROL_THREADS,
    S3Credential,
    S3Settings,
    boto3_client,
    obstore_client,
)
from simples3dms.providers.kinds.s3.errors import VENDOR_ERRORS, from_vendor, says_nothing_of_the_bucket
from simples3dms.providers.registry import BuildOptions, ProviderKind

T = TypeVar("T")
_PART_BYTES: Final = 8 * 1024 * 1024
_MOST_PARTS: Final = 9000
_PARALLEL_PARTS: Final = 3
#: A stream known to be no longer than this goes in one request: nothing unfinished can be left of it.
_SINGLE_BYTES: Final = _PART_BYTES
_CHUNK_BYTES: Final = 1 << 20
_DELETE_PAGE: Final = 1000
_LIST_PAGE: Final = 1000
_RETRIES: Final = 2


class S3Provider:
    """One bucket and prefix."""

    kind = "s3"

    def __init__(self, settings: S3Settings, credential: S3Credential, *, proxy_url: str | None = None) -> None:
        self._settings = settings
        self._credential = credential
        self._proxy_url = proxy_url
        self._prefix = settings.prefix
        self._store = obstore_client(settings, credential, _RETRIES, proxy_url)
        self._threads = ThreadPoolExecutor(CONTROL_THREADS, thread_name_prefix="s3-control")
        self._boto: Any = None
        self._is_versioned: bool | None = None
        self.capabilities = Capabilities(
            multipart=True, part_size_bytes=_PART_BYTES, presign=True, server_side_copy=True
        )

    # --- bytes ------------------------------------------------------------------------------------------------------

    async def put(
        self, key: str, body: Body, *, expected: Expected = NOTHING_EXPECTED, content_type: str | None = None
    ) -> PutResult:
        path = self._path(key)
        attributes: Any = {"Content-Type": content_type} if content_type else None
        if not isinstance(body, bytes) and expected.size_bytes is not None and expected.size_bytes <= _SINGLE_BYTES:
            body = b"".join([chunk async for chunk in body])
        if isinstance(body, bytes):
            done = await self._obstore(
                key, obstore.put_async(self._store, path, body, attributes=attributes, use_multipart=False)
            )
            return PutResult(key, len(body), done.get("version"), done.get("e_tag"))
        return await self._put_stream(key, path, body, expected, attributes)

    async def _put_stream(
        self, key: str, path: str, body: AsyncIterable[bytes], expected: Expected, attributes: Any
    ) -> PutResult:
        """Equal parts through obstore. If the source fails nothing is completed, and the parts are removed."""
        counted = _Source(body)
        size = _part_size(expected.size_bytes)
        try:
            done = await self._obstore(
                key,
                obstore.put_async(
                    self._store,
                    path,
                    counted,
                    attributes=attributes,
                    use_multipart=True,
                    chunk_size=size,
                    max_concurrency=_PARALLEL_PARTS,
                ),
            )
        except BaseException as error:
            await asyncio.shield(self._clean(key))
            if counted.error is not None and not isinstance(error, asyncio.CancelledError):
                # obstore wraps what its source raised; the caller wants to see it as it was.
                raise counted.error from None
            raise
        if counted.error is not None:
            await self.discard(key)
            raise counted.error
        return PutResult(key, counted.size_bytes, done.get("version"), done.get("e_tag"))

    async def _clean(self, key: str) -> None:
        try:
            await self.discard(key)
        except ProviderError:
            return  # the caller's record of the key has it cleaned later

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
        options: Any = {}
        if length is not None:
            if length == 0 or await self._is_beyond(key, version_id, start):
                yield _Empty(await self.head(key, version_id=version_id))
                return
            options["range"] = (start, start + length)
        elif start:
            if await self._is_beyond(key, version_id, start):
                yield _Empty(await self.head(key, version_id=version_id))
                return
            options["range"] = {"offset": start}
        if version_id is not None:
            options["version"] = version_id
        result = await self._obstore(key, obstore.get_async(self._store, self._path(key), options=options))
        yield _Reader(self._info(key, result.meta), result)

    async def _is_beyond(self, key: str, version_id: str | None, start: int) -> bool:
        """A range past the end is an error to S3, and nothing to read to us. Costs a HEAD."""
        return start > 0 and start >= (await self.head(key, version_id=version_id)).size_bytes

    async def head(self, key: str, *, version_id: str | None = None) -> ObjectInfo:
        if version_id is None:
            return self._info(key, await self._obstore(key, obstore.head_async(self._store, self._path(key))))
        found = await self._control(
            key, lambda s3: s3.head_object(Bucket=self._settings.bucket, Key=self._path(key), VersionId=version_id)
        )
        return ObjectInfo(key, found["ContentLength"], version_id, found.get("ETag"), found.get("LastModified"))

    async def _obstore(self, key: str, call: Any) -> Any:
        try:
            return await call
        except VENDOR_ERRORS as error:
            mapped = from_vendor(error, key)
        if says_nothing_of_the_bucket(mapped) or (type(mapped) is ObjectNotFound and mapped.vendor_code is None):
            mapped = await self._ask_again(mapped)
        raise mapped

    async def _ask_again(self, error: ProviderError) -> ProviderError:
        """An answer without a body does not say whether the object or the bucket is missing: the bucket knows."""
        try:
            await self.check()
        except (BucketMissing, ProviderError) as found:
            return found if not found.retryable else error
        return error

    # --- control ----------------------------------------------------------------------------------------------------

    async def _control(self, key: str | None, call: Callable[[Any], T]) -> T:
        """Run a botocore call in a thread of our own."""

        def work() -> T:
            if self._boto is None:
                self._boto = boto3_client(self._settings, self._credential, self._proxy_url)
            return call(self._boto)

        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)
        except VENDOR_ERRORS as error:
            raise from_vendor(error, key) from None

    async def _versioned(self) -> bool:
        """Whether the bucket keeps versions; a store that can't say keeps none."""
        if self._is_versioned is None:
            try:
                found = await self._control(None, lambda s3: s3.get_bucket_versioning(Bucket=self._settings.bucket))
                self._is_versioned = found.get("Status") in ("Enabled", "Suspended")
            except ProviderError as error:
                if error.retryable:
                    raise
                self._is_versioned = False
        return self._is_versioned

    async def delete(self, refs: Sequence[ObjectRef]) -> list[DeleteOutcome]:
        outcomes: list[DeleteOutcome] = []
        versioned = await self._versioned()
        for offset in range(0, len(refs), _DELETE_PAGE):
            page = refs[offset : offset + _DELETE_PAGE]
            exact = [ref for ref in page if ref.version_id is not None or not versioned]
            failed = await self._delete_page(exact)
            for ref in page:
                error: ProviderError | None = failed.get(ref.key)
                if versioned and ref.version_id is None:
                    error = await self._try_discard(ref.key)
                outcomes.append(DeleteOutcome(ref, error))
        return outcomes

    async def _delete_page(self, refs: Sequence[ObjectRef]) -> dict[str, ProviderError]:
        if not refs:
            return {}
        objects = [
            {"Key": self._path(ref.key)} | ({"VersionId": ref.version_id} if ref.version_id else {}) for ref in refs
        ]
        answer = await self._control(
            None,
            lambda s3: s3.delete_objects(Bucket=self._settings.bucket, Delete={"Objects": objects, "Quiet": True}),
        )
        failed: dict[str, ProviderError] = {}
        for item in answer.get("Errors", []):
            error = from_vendor(_as_client_error(item), item.get("Key"))
            if not isinstance(error, ObjectNotFound):
                failed[str(item.get("Key", "")).removeprefix(self._prefix)] = error
        return failed

    async def _try_discard(self, key: str) -> ProviderError | None:
        try:
            await self.discard(key)
        except ProviderError as error:
            return error
        return None

    async def discard(self, key: str) -> None:
        path = self._path(key)
        if await self._versioned():
            await self._control(key, lambda s3: self._delete_versions(s3, path))
        else:
            await self._control(key, lambda s3: s3.delete_object(Bucket=self._settings.bucket, Key=path))
        await self._control(key, lambda s3: self._abort_uploads(s3, path))

    def _delete_versions(self, s3: Any, path: str) -> None:
        pages = s3.get_paginator("list_object_versions").paginate(Bucket=self._settings.bucket, Prefix=path)
        for page in pages:
            for item in (*page.get("Versions", ()), *page.get("DeleteMarkers", ())):
                if item["Key"] == path:
                    s3.delete_object(Bucket=self._settings.bucket, Key=path, VersionId=item["VersionId"])

    def _abort_uploads(self, s3: Any, path: str) -> None:
        for item in self._unfinished(s3, path):
            if item["Key"] == path:
                s3.abort_multipart_upload(Bucket=self._settings.bucket, Key=path, UploadId=item["UploadId"])

    def _unfinished(self, s3: Any, prefix: str) -> list[Any]:
        pages = s3.get_paginator("list_multipart_uploads").paginate(Bucket=self._settings.bucket, Prefix=prefix)
        return [item for page in pages for item in page.get("Uploads", ())]

    async def list(self, prefix: str = "", *, start_after: str | None = None) -> AsyncIterator[ObjectInfo]:
        versioned = await self._versioned()
        token: dict[str, str] = {"StartAfter": self._prefix + start_after} if start_after and not versioned else {}
        while True:
            asked = {"Bucket": self._settings.bucket, "Prefix": self._prefix + prefix, "MaxKeys": _LIST_PAGE, **token}
            name = "list_object_versions" if versioned else "list_objects_v2"
            page = await self._control(None, lambda s3, name=name, asked=asked: getattr(s3, name)(**asked))  # type: ignore[misc]
            for item in page.get("Versions" if versioned else "Contents", ()):
                key = str(item["Key"])
                # A hostile or careless store may list what was not asked for.
                if not key.startswith(self._prefix + prefix):
                    continue
                key = key.removeprefix(self._prefix)
                if start_after is None or key > start_after:
                    version = item.get("VersionId") if versioned else None
                    yield ObjectInfo(key, item["Size"], version, item.get("ETag"), item.get("LastModified"))
            if not page.get("IsTruncated"):
                return
            following = _next(page, versioned=versioned)
            if following == token:
                raise ProviderError("the store lists the same page again and again")
            token = following

    async def list_unfinished(self, prefix: str = "") -> AsyncIterator[ObjectInfo]:
        for item in await self._control(None, lambda s3: self._unfinished(s3, self._prefix + prefix)):
            yield ObjectInfo(item["Key"].removeprefix(self._prefix), 0, item["UploadId"], None, item.get("Initiated"))

    async def check(self) -> None:
        asked = {"Bucket": self._settings.bucket, "Prefix": self._prefix, "MaxKeys": 1}
        await self._control(None, lambda s3: s3.list_objects_v2(**asked))

    async def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _path(self, key: str) -> str:
        return self._prefix + check_key(key)

    def _info(self, key: str, meta: Any) -> ObjectInfo:
        modified: datetime | None = meta.get("last_modified")
        return ObjectInfo(key, meta["size"], meta.get("version"), meta.get("e_tag"), modified)


class _Source:
    """A body on its way into obstore: counted, and remembered if it failed."""

    def __init__(self, body: AsyncIterable[bytes]) -> None:
        self._body = body
        self.size_bytes = 0
        self.error: Exception | None = None

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for chunk in self._body:
                self.size_bytes += len(chunk)
                yield chunk
        except Exception as error:
            self.error = error
            raise


class _Reader:
    """The bytes of an answer, in chunks of about a mebibyte."""

    def __init__(self, info: ObjectInfo, result: Any) -> None:
        self.info = info
        self._result = result

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for chunk in self._result.stream(min_chunk_size=_CHUNK_BYTES):
                yield bytes(chunk)
        except VENDOR_ERRORS as error:
            raise from_vendor(error, self.info.key) from None


class _Empty:
    """Nothing to read."""

    def __init__(self, info: ObjectInfo) -> None:
        self.info = info

    async def __aiter__(self) -> AsyncIterator[bytes]:
        nothing: tuple[bytes, ...] = ()
        for chunk in nothing:
            yield chunk


def _part_size(size_bytes: int | None) -> int:
    """Constant for the whole object (R2 demands it), and large enough that the parts do not run out."""
    if size_bytes is None or size_bytes <= _PART_BYTES * _MOST_PARTS:
        return _PART_BYTES
    return -(-size_bytes // _MOST_PARTS // 1024) * 1024 + 1024


def _next(page: Any, *, versioned: bool) -> dict[str, str]:
    if versioned:
        return {"KeyMarker": page["NextKeyMarker"], "VersionIdMarker": page.get("NextVersionIdMarker", "")}
    return {"ContinuationToken": page["NextContinuationToken"]}


def _as_client_error(item: Any) -> Exception:
    made: Exception = ClientError({"Error": {"Code": item.get("Code", ""), "Message": ""}}, "DeleteObjects")
    return made


def _build(settings: S3Settings, credential: S3Credential, options: BuildOptions) -> S3Provider:
    return S3Provider(settings, credential, proxy_url=options.proxy_url)


KIND = ProviderKind(
    name="s3",
    title="Amazon S3 and everything that speaks S3",
    settings_model=S3Settings,
    credential_model=S3Credential,
    build=_build,
)
