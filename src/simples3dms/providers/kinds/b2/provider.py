"""A B2 store by the native API: versions always, parts of one size, deletes by file id."""

# ruff: noqa: ARG002  (the interface has arguments that this kind has no use for)

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Annotated, Any, Final, TypeVar
from urllib.parse import quote

from b2sdk.v3 import FileRetentionSetting, LegalHold, RetentionMode
from pydantic import AfterValidator, Field

from simples3dms.kit.secret import Secret
from simples3dms.providers.base import (
    NOTHING_EXPECTED,
    Body,
    Capabilities,
    CopySource,
    DeleteOutcome,
    Expected,
    Finding,
    ListPage,
    Location,
    LockMode,
    ObjectInfo,
    ObjectLock,
    ObjectReader,
    ObjectRef,
    Part,
    PartsUpload,
    PutResult,
    SignedRequest,
    check_key,
)
from simples3dms.providers.errors import AccessDenied, ObjectNotFound, ProviderError, Unsupported
from simples3dms.providers.kinds.b2 import reading
from simples3dms.providers.kinds.b2.calls import (
    LARGE_FILE_SHA1,
    Cursor,
    all_parts,
    check_advances,
    copy_file,
    inspect_checksum,
    inspect_key,
    inspect_lock,
    known_upload,
    sign_download,
    told_lock,
    unfinished_page,
    upload_part,
    upload_small,
    versions_page,
    vouched_sha1,
)
from simples3dms.providers.kinds.b2.keys import B2Keys
from simples3dms.providers.kinds.b2.session import Account
from simples3dms.providers.parts import part_size, put_in_parts
from simples3dms.providers.plain import ProviderBase
from simples3dms.providers.registry import (
    BuildOptions,
    FormModel,
    NotBlank,
    ObjectLockUse,
    Prefix,
    ProviderKind,
    SecretField,
    check_url,
)

T = TypeVar("T")
#: Just above the service's least part size (5 MB); a body up to this goes in one request.
_PART_BYTES: Final = 5 * 1024 * 1024
_CHUNK_BYTES: Final = 1 << 20
_LIST_PAGE: Final = 1000
_UNFINISHED_PAGE: Final = 100
_PARALLEL_DELETES: Final = 8
_PLAIN_TYPE: Final = "application/octet-stream"


def _realm(value: str) -> str:
    return value.strip() if value.strip() == "production" else check_url(value)


class B2Settings(FormModel):
    """`realm` is `production`, or the address of a server that speaks the same API."""

    bucket: Annotated[str, Field(pattern=r"^[A-Za-z0-9-]{6,63}$")]
    prefix: Prefix = ""
    realm: Annotated[str, AfterValidator(_realm)] = "production"
    object_lock: ObjectLockUse = None


class B2Credential(FormModel):
    """An application key with listBuckets, listFiles, readFiles, writeFiles and deleteFiles.

    With `object_lock` also readFileRetentions, writeFileRetentions, readFileLegalHolds and writeFileLegalHolds, and
    bypassGovernance where a retention may be shortened.
    """

    application_key_id: NotBlank
    application_key: SecretField


class B2Provider(ProviderBase):
    """One bucket and prefix."""

    kind = "b2"

    def __init__(self, settings: B2Settings, credential: B2Credential, options: BuildOptions | None = None) -> None:
        self._prefix = settings.prefix
        self._bucket = settings.bucket
        self._account = Account(
            key_id=credential.application_key_id,
            key=credential.application_key.reveal(),
            realm=settings.realm,
            bucket=settings.bucket,
            options=options or BuildOptions(),
        )
        self.capabilities = Capabilities(
            versions=True,
            multipart=True,
            server_side_copy=True,
            sign_download=True,
            object_lock=settings.object_lock is not None,
            part_size_bytes=_PART_BYTES,
            largest_object_bytes=10 * 10**12,
            longest_signed_seconds=604_800,
            notes=("every write is a version, and only a delete by its id frees the space",),
        )
        self.location = Location(f"b2:{settings.realm}:{credential.application_key_id}", settings.bucket, self._prefix)

    # --- writing ----------------------------------------------------------------------------------------------------

    async def put(
        self, key: str, body: Body, *, expected: Expected = NOTHING_EXPECTED, content_type: str | None = None
    ) -> PutResult:
        if not isinstance(body, bytes):
            return await put_in_parts(self, key, body, expected, content_type)
        path, kind = self._path(key), content_type or _PLAIN_TYPE
        made, repeated = await self._account.run(
            lambda session, bucket: upload_small(session, bucket, path, body, kind), key
        )
        return PutResult(key, len(body), made["fileId"], repeated=repeated)

    async def begin_parts(
        self,
        key: str,
        *,
        size_bytes: int | None = None,
        content_type: str | None = None,
        sha1: bytes | None = None,
    ) -> PartsUpload:
        path, kind, size = self._path(key), content_type or _PLAIN_TYPE, part_size(self.capabilities, size_bytes, key)
        info = {} if sha1 is None else {LARGE_FILE_SHA1: sha1.hex()}
        started = await self._account.run(
            lambda session, bucket: session.start_large_file(bucket, path, kind, info), key
        )
        return PartsUpload(key, started["fileId"], size)

    async def put_part(self, upload: PartsUpload, number: int, body: bytes) -> Part:
        digest = await self._account.run(
            lambda session, _: upload_part(session, upload.upload_id, number, body), upload.key
        )
        return Part(number, len(body), digest)

    async def list_parts(self, upload: PartsUpload) -> list[Part]:
        found = await self._account.run(lambda session, _: all_parts(session, upload.upload_id, upload.key), upload.key)
        return [Part(item["partNumber"], item["contentLength"], item["contentSha1"]) for item in found]

    async def finish_parts(self, upload: PartsUpload, parts: Sequence[Part]) -> PutResult:
        size = sum(part.size_bytes for part in parts)
        if len(parts) < 2:
            raise Unsupported("a large file has two parts at least: put smaller bodies whole", key=upload.key)
        digests = [part.etag for part in sorted(parts, key=lambda part: part.number)]
        try:
            await self._account.run(lambda session, _: session.finish_large_file(upload.upload_id, digests), upload.key)
        except ProviderError as error:
            # Finished before, and the answer was lost: the file of that id is there, whole.
            if error.retryable or not await self._is_finished(upload, size):
                raise
        return PutResult(upload.key, size, upload.upload_id)

    async def _is_finished(self, upload: PartsUpload, size_bytes: int) -> bool:
        try:
            return (await self.head(upload.key, version_id=upload.upload_id)).size_bytes == size_bytes
        except ObjectNotFound:
            return False

    async def abort_parts(self, upload: PartsUpload) -> None:
        await self._cancel(upload.upload_id, upload.key)

    async def _cancel(self, file_id: str, key: str) -> None:
        def work(session: Any, _: str) -> None:
            known_upload(lambda: session.cancel_large_file(file_id), key)

        try:
            await self._account.run(work, key)
        except ObjectNotFound:
            return

    async def copy(self, source: CopySource, key: str, *, content_type: str | None = None) -> PutResult:
        if source.location.account != self.location.account:
            raise Unsupported("this store can't copy from there by itself", key=key)
        path = self._path(key)
        made = await self._account.run(
            lambda session, bucket: copy_file(session, bucket, path, source, content_type or _PLAIN_TYPE), key
        )
        return PutResult(key, source.size_bytes, made)

    async def sign_download(
        self, ref: ObjectRef, *, expires_seconds: int, filename: str, content_type: str
    ) -> SignedRequest:
        """B2 signs for a name, not for a version: the newest version of the key is what is read."""
        if not 1 <= expires_seconds <= self.capabilities.longest_signed_seconds:
            raise Unsupported(f"signed for 1 to {self.capabilities.longest_signed_seconds} seconds")
        path = self._path(ref.key)
        forced = {
            "b2ContentDisposition": f"attachment; filename*=UTF-8''{quote(filename, safe='')}",
            "b2ContentType": content_type,
        }
        url = await self._account.run(
            lambda session, bucket: sign_download(session, bucket, self._bucket, path, expires_seconds, forced), ref.key
        )
        expires_at = datetime.now(UTC) + timedelta(seconds=expires_seconds)
        return SignedRequest("GET", Secret(url), {}, expires_at)

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
                yield reading.EmptyReader(info)
                return
            wanted: tuple[int, int, int] | None = (start, end - 1, info.size_bytes)
        else:
            wanted = None
        response = await self._account.run(lambda session, _: self._request(session, key, version_id, wanted), key)
        reader = None
        try:
            reader = reading.Reader(self._account, key, self._path(key), version_id, response, wanted)
            yield reader
        finally:
            reading.let_go(self._account, response, is_whole=reader is not None and reader.is_whole)

    def _request(self, session: Any, key: str, version_id: str | None, wanted: tuple[int, int, int] | None) -> Any:
        if version_id is not None:
            url = session.get_download_url_by_id(version_id)
        else:
            url = session.get_download_url_by_name(self._bucket, self._path(key))
        return session.download_file_from_url(url, wanted and wanted[:2]).__enter__()

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
        async for version in self._pages(versions_page, path, _LIST_PAGE, key):
            if version["action"] != "start":
                await self._delete_version(key, version["fileId"])
        async for item in self._pages(unfinished_page, path, _UNFINISHED_PAGE, key):
            await self._cancel(item["fileId"], key)

    async def get_lock(self, ref: ObjectRef) -> ObjectLock:
        return await self._locking(ref, lambda session, file_id, _: told_lock(session, file_id, ref.key))

    async def set_hold(self, ref: ObjectRef, *, on: bool) -> None:
        hold = LegalHold.ON if on else LegalHold.OFF
        await self._locking(ref, lambda session, *file: session.update_file_legal_hold(*file, hold))

    async def set_retention(self, ref: ObjectRef, *, mode: LockMode, until: datetime, bypass: bool = False) -> None:
        wanted = FileRetentionSetting(RetentionMode(mode), int(until.timestamp() * 1000))
        await self._locking(ref, lambda session, *file: session.update_file_retention(*file, wanted, bypass))

    async def _locking(self, ref: ObjectRef, call: Callable[[Any, str, str], T]) -> T:
        """`call(session, file id, file name)` about one version's lock."""
        if not self.capabilities.object_lock:
            raise Unsupported("the store's settings do not name its object lock", key=ref.key)
        version_id = ref.version_id or (await self.head(ref.key)).version_id
        assert version_id is not None
        path = self._path(ref.key)
        return await self._account.run(lambda session, _: call(session, version_id, path), ref.key)

    async def _pages(self, page: Any, path: str, size: int, key: str) -> AsyncIterator[Any]:
        """A page at a time: what is deleted of one does not move where the next begins. Raises for pages in a ring."""
        cursor: Cursor | None = (path, None)
        known, turned = cursor, 0
        while cursor is not None:
            found, cursor = await self._account.run(partial(page, path=path, cursor=cursor, page_size=size), key)
            for item in found:
                yield item
            check_advances(known, cursor)
            turned += 1
            if turned.bit_count() == 1:  # at powers of two: a ring of any length is noticed (Brent, 1980)
                known = cursor

    # --- listing ----------------------------------------------------------------------------------------------------

    async def list_page(
        self,
        prefix: str = "",
        *,
        start_after: str | None = None,
        cursor: str | None = None,
        unfinished: bool = False,
    ) -> ListPage:
        wanted = self._prefix + prefix
        if unfinished:
            page = await self._account.run(
                lambda session, bucket: session.list_unfinished_large_files(bucket, cursor, _UNFINISHED_PAGE, wanted)
            )
            found = [
                ObjectInfo(item["fileName"].removeprefix(self._prefix), 0, item["fileId"]) for item in page["files"]
            ]
            following = page.get("nextFileId")
            check_advances(cursor, following)
            return ListPage(found, following)
        name, file_id = (None if start_after is None else self._prefix + start_after), None
        if cursor is not None:
            name, file_id = json.loads(cursor)
        page = await self._account.run(
            lambda session, bucket: session.list_file_versions(bucket, name, file_id, _LIST_PAGE, wanted)
        )
        # A hostile or careless service may list what was not asked for.
        ours = [i for i in page["files"] if i["action"] in ("upload", "hide") and i["fileName"].startswith(wanted)]
        kept = [info for info in map(self._info, ours) if start_after is None or info.key > start_after]
        if (following := page.get("nextFileName")) is None:
            return ListPage(kept)
        following_id = page.get("nextFileId")
        check_advances((name, file_id), (following, following_id))
        return ListPage(kept, json.dumps([following, following_id]))

    async def inspect(self, scratch: str) -> Sequence[Finding]:
        locks, path = self.capabilities.object_lock, self._path(f"{scratch}checksum")
        return await self._account.run(
            lambda session, bucket: [
                *inspect_key(session, bucket),
                inspect_lock(session, bucket, needed=locks),
                inspect_checksum(session, bucket, path),
            ]
        )

    async def check(self) -> None:
        missing = await self._account.missing_rights()
        if missing:
            raise AccessDenied(f"the application key lacks: {', '.join(missing)}", vendor_code="key_lacks_rights")
        await self._account.run(lambda session, bucket: session.list_file_names(bucket, None, 1, self._prefix))

    async def close(self) -> None:
        self._account.close()

    def _path(self, key: str) -> str:
        return self._prefix + check_key(key)

    def _info(self, item: Any) -> ObjectInfo:
        made = datetime.fromtimestamp(item.get("uploadTimestamp", 0) / 1000, UTC)
        size = item.get("contentLength", item.get("size")) or 0
        key = item["fileName"].removeprefix(self._prefix)
        return ObjectInfo(key, size, item["fileId"], None, made, vouched_sha1(item))


def _build(settings: B2Settings, credential: B2Credential, options: BuildOptions) -> B2Provider:
    return B2Provider(settings, credential, options)


def _manage_keys(settings: B2Settings, signing: B2Credential, own: B2Credential, options: BuildOptions) -> B2Keys:
    account = Account(
        key_id=signing.application_key_id,
        key=signing.application_key.reveal(),
        realm=settings.realm,
        bucket=settings.bucket,
        options=options,
    )
    return B2Keys(account, own.application_key_id)


KIND = ProviderKind(
    name="b2",
    title="Backblaze B2 (native API)",
    settings_model=B2Settings,
    credential_model=B2Credential,
    build=_build,
    destinations=lambda settings: [settings.realm if "://" in settings.realm else "https://*.backblazeb2.com"],
    manage_keys=_manage_keys,
    key_id_field="application_key_id",
)
