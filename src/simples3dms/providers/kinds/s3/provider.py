"""An S3 store: obstore moves whole bodies, botocore does parts and control calls in a few threads."""

# ruff: noqa: ARG002  (the interface has arguments that this kind has no use for)

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import cached_property, partial
from typing import Any, Final, TypeVar
from urllib.parse import quote, urlsplit

import obstore

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
from simples3dms.providers.errors import IntegrityError, ObjectNotFound, ObjectTooLarge, ProviderError, Unsupported
from simples3dms.providers.kinds.s3 import control, reading
from simples3dms.providers.kinds.s3.config import (
    S3Credential,
    S3Settings,
    boto3_client,
    obstore_client,
)
from simples3dms.providers.kinds.s3.doubts import Doubts
from simples3dms.providers.kinds.s3.errors import VENDOR_ERRORS, from_vendor, says_nothing_of_the_bucket
from simples3dms.providers.kinds.s3.inspection import Inspector
from simples3dms.providers.kinds.s3.keys import Keys
from simples3dms.providers.kinds.s3.locking import Locks
from simples3dms.providers.kinds.s3.profiles import WEEK_SECONDS
from simples3dms.providers.kinds.s3.versioning import Versioning, not_the_store
from simples3dms.providers.parts import part_size, put_in_parts
from simples3dms.providers.plain import ProviderBase
from simples3dms.providers.registry import BuildOptions
from simples3dms.providers.threads import CallThreads

T = TypeVar("T")
_COPY_PART_BYTES: Final = 1 << 30
#: What a range past the end is answered with; of obstore also its own refusal of one, which has no code.
_PAST_THE_END: Final = frozenset({"InvalidRange", "416", "Unsupported"})


class S3Provider(ProviderBase):
    """One bucket and prefix."""

    kind = "s3"

    def __init__(self, settings: S3Settings, credential: S3Credential, options: BuildOptions | None = None) -> None:
        self._settings = settings
        self._credential = credential
        self._options = options or BuildOptions()
        self._prefix = settings.prefix
        self._bucket = settings.bucket
        self._keys = Keys(settings, credential, self._options)
        self._store = obstore_client(settings, credential, self._keys, self._options)
        self._threads = CallThreads(self._options.most_concurrent, "s3")
        self._doubts = Doubts(self.check)
        self._versioning = Versioning(settings, self._ask_bucket)
        self._locks = Locks(settings, self._control)
        # obstore has no way to send the CRC headers, so with those botocore writes small objects too.
        self._puts_by_obstore = settings.checksum_mode in ("none", "sha256")
        self._keeps_sha256 = settings.checksum_mode == "sha256"
        profile = settings.profile
        signs = (profile.signs if settings.signing is None else settings.signing) and settings.encryption != "SSE-C"
        self.capabilities = Capabilities(
            server_side_copy=profile.server_side_copy and settings.encryption != "SSE-C",
            sign_download=signs,
            sign_upload=signs,
            multipart=True,
            replaces_parts=profile.replaces_parts,
            part_size_bytes=max(settings.part_size_mib * 2**20, profile.smallest_part_bytes),
            most_parts=profile.most_parts,
            largest_part_bytes=profile.largest_put_bytes,
            largest_object_bytes=profile.largest_object_bytes,
            object_lock=settings.object_lock is not None,
            longest_signed_seconds=0 if not signs else WEEK_SECONDS if settings.role_arn is None else 3600,
            notes=profile.notes,
        )
        host = urlsplit(settings.url).netloc
        self.location = Location(f"s3:{host}:{credential.access_key_id}", settings.bucket, settings.prefix)

    @cached_property
    def _s3(self) -> Any:
        """Made at first use, in a thread: it takes a while."""
        return boto3_client(self._settings, self._credential, self._keys, self._options)

    # --- whole bodies -----------------------------------------------------------------------------------------------

    async def put(
        self, key: str, body: Body, *, expected: Expected = NOTHING_EXPECTED, content_type: str | None = None
    ) -> PutResult:
        if not isinstance(body, bytes):
            return await put_in_parts(self, key, body, expected, content_type)
        if len(body) > self._settings.profile.largest_put_bytes:
            raise ObjectTooLarge("the object is larger than one request may be", key=key)
        path = self._path(key)
        if not self._puts_by_obstore:
            return await self._put_by_botocore(key, path, body, content_type)
        attributes: Any = {}
        if content_type is not None:
            attributes["Content-Type"] = content_type
        if self._settings.storage_class is not None:
            attributes["Storage-Class"] = self._settings.storage_class
        done = await self._obstore(
            key, obstore.put_async(self._store, path, body, attributes=attributes or None, use_multipart=False)
        )
        return self._made(key, len(body), done.get("version"), done.get("e_tag"))

    async def _put_by_botocore(self, key: str, path: str, body: bytes, content_type: str | None) -> PutResult:
        asked = self._write_options(content_type) | control.checksum_of(body, self._settings.checksum_mode)
        done = await self._control(key, lambda s3: s3.put_object(Bucket=self._bucket, Key=path, Body=body, **asked))
        return self._made(key, len(body), done.get("VersionId"), done.get("ETag"))

    def _made(self, key: str, size_bytes: int, version_id: str | None, etag: str | None) -> PutResult:
        self._versioning.note(version_id)
        return PutResult(key, size_bytes, version_id, etag)

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
        if length is None and start == 0:
            length = expected.size_bytes
            if length is None or length <= reading.WINDOW_BYTES:
                # All of it, and either small or of unknown size: one answer, with a length that is compared above.
                result = await self._get(key, version_id, None)
                yield reading.StreamReader(self._info(key, result.meta), result)
                return
        if length == 0:
            yield reading.EmptyReader(await self.head(key, version_id=version_id))
            return
        async with self._open_part(key, version_id, start, length) as reader:
            yield reader

    async def get(self, key: str, *, version_id: str | None = None, expected: Expected) -> bytes:
        size = expected.size_bytes
        assert size is not None, "what is read whole is known to be small"
        if size > reading.WINDOW_BYTES:
            return await super().get(key, version_id=version_id, expected=expected)
        result = await self._get(key, version_id, None)
        if result.meta["size"] != size:
            raise IntegrityError(f"the store says {result.meta['size']} bytes, expected {size}", key=key)
        return bytes(await self._obstore(key, result.bytes_async()))

    @asynccontextmanager
    async def _open_part(
        self, key: str, version_id: str | None, start: int, length: int | None
    ) -> AsyncIterator[ObjectReader]:
        wanted = reading.WINDOW_BYTES if length is None else min(length, reading.WINDOW_BYTES)
        try:
            first = await self._get(key, version_id, (start, start + wanted))
        except reading.RangeIgnored:
            result = await self._get(key, version_id, None)
            yield reading.StreamReader(self._info(key, result.meta), result, skip=start, length=length)
            return
        except ProviderError as error:
            if error.vendor_code not in _PAST_THE_END:
                raise
            # A range past the end is an error to S3, and nothing to read to us.
            info = await self.head(key, version_id=version_id)
            if start < info.size_bytes:
                raise
            yield reading.EmptyReader(info)
            return
        info = self._info(key, first.meta)
        end = info.size_bytes if length is None else min(start + length, info.size_bytes)

        async def fetch(begin: int, upto: int) -> Any:
            return await self._get(key, version_id, (begin, upto))

        reader = reading.WindowReader(info, first, fetch, start, end)
        try:
            yield reader
        finally:
            await reader.close()

    async def _get(self, key: str, version_id: str | None, part: tuple[int, int] | None) -> Any:
        options: dict[str, Any] = {}
        if part is not None:
            options["range"] = part
        if version_id is not None:
            options["version"] = version_id
        return await self._obstore(key, reading.get(self._store, self._path(key), options))

    async def head(self, key: str, *, version_id: str | None = None) -> ObjectInfo:
        if version_id is None and not self._keeps_sha256:
            return self._info(key, await self._obstore(key, obstore.head_async(self._store, self._path(key))))
        asked = control.customer_key(self._settings, self._credential)
        asked |= {"ChecksumMode": "ENABLED"} if self._keeps_sha256 else {}
        place = ObjectRef(self._path(key), version_id)
        try:
            return await self._control(key, lambda s3: control.head_object(s3, self._bucket, key, place, asked))
        except ProviderError as error:
            raise await self._doubts.ask_again(error) if says_nothing_of_the_bucket(error) else error from None

    async def _obstore(self, key: str, call: Any) -> Any:
        try:
            return await call
        except Exception as error:  # noqa: BLE001  its Rust may panic, and that is no class of obstore's
            mapped = from_vendor(error, key)
            if reading.is_range_ignored(mapped, str(error)):
                mapped = reading.RangeIgnored("the store does not know ranges", key=key)
        raise await self._doubts.resolve(mapped)

    # --- parts ------------------------------------------------------------------------------------------------------

    async def begin_parts(
        self,
        key: str,
        *,
        size_bytes: int | None = None,
        content_type: str | None = None,
        sha1: bytes | None = None,
    ) -> PartsUpload:
        path, size = self._path(key), part_size(self.capabilities, size_bytes, key)
        asked = self._write_options(content_type)
        made = await self._control(key, lambda s3: s3.create_multipart_upload(Bucket=self._bucket, Key=path, **asked))
        return PartsUpload(key, made["UploadId"], size)

    async def put_part(self, upload: PartsUpload, number: int, body: bytes) -> Part:
        asked: dict[str, Any] = {**self._place(upload), "PartNumber": number, "Body": body}

        def work(s3: Any) -> Any:
            # Content-MD5, whatever whole objects use: the newer checksums would have to be repeated at the end, also
            # by who resumes, and not every service lists them.
            checksum = control.checksum_of(body, "none")
            return s3.upload_part(**asked, **checksum, **control.customer_key(self._settings, self._credential))

        done = await self._control(upload.key, work)
        return Part(number, len(body), done["ETag"])

    async def list_parts(self, upload: PartsUpload) -> list[Part]:
        path = self._path(upload.key)
        return await self._control(upload.key, lambda s3: control.list_parts(s3, self._bucket, path, upload))

    async def finish_parts(self, upload: PartsUpload, parts: Sequence[Part]) -> PutResult:
        size = sum(part.size_bytes for part in parts)
        listed = [{"PartNumber": part.number, "ETag": part.etag} for part in parts]
        try:
            done = await self._control(
                upload.key,
                lambda s3: s3.complete_multipart_upload(**self._place(upload), MultipartUpload={"Parts": listed}),
            )
        except ObjectNotFound:
            # Finished before, and the answer was lost: keys are written once, so what is there can only be this.
            found = await self.head(upload.key)
            if found.size_bytes != size:
                raise
            return self._made(upload.key, size, found.version_id, found.etag)
        return self._made(upload.key, size, done.get("VersionId"), done.get("ETag"))

    async def abort_parts(self, upload: PartsUpload) -> None:
        try:
            await self._control(upload.key, lambda s3: s3.abort_multipart_upload(**self._place(upload)))
        except ObjectNotFound as error:
            await self._doubts.believe(error)

    def _place(self, upload: PartsUpload) -> dict[str, Any]:
        return {"Bucket": self._bucket, "Key": self._path(upload.key), "UploadId": upload.upload_id}

    def _write_options(self, content_type: str | None) -> dict[str, Any]:
        asked = control.write_options(self._settings, self._credential)
        return asked if content_type is None else {**asked, "ContentType": content_type}

    # --- inside the service -----------------------------------------------------------------------------------------

    async def copy(self, source: CopySource, key: str, *, content_type: str | None = None) -> PutResult:
        if not self.capabilities.server_side_copy or source.location.account != self.location.account:
            raise Unsupported("this store can't copy from there by itself", key=key)
        path, profile = self._path(key), self._settings.profile
        whole = source.size_bytes <= profile.largest_put_bytes
        if not whole and not profile.copies_in_parts:
            raise Unsupported("the service does not copy objects of this size by itself", key=key)
        options = control.write_options(self._settings, self._credential)
        if whole and self._keeps_sha256:
            options["ChecksumAlgorithm"] = "SHA256"
        done = await self._control(
            key,
            lambda s3: control.copy_object(
                s3, self._bucket, path, source, options, part_bytes=_COPY_PART_BYTES, whole=whole
            ),
        )
        return self._made(key, source.size_bytes, done.get("VersionId"), done.get("ETag"))

    async def sign_download(
        self, ref: ObjectRef, *, expires_seconds: int, filename: str, content_type: str
    ) -> SignedRequest:
        asked = {
            "Bucket": self._bucket,
            "Key": self._path(ref.key),
            "ResponseContentType": content_type,
            "ResponseContentDisposition": f"attachment; filename*=UTF-8''{quote(filename, safe='')}",
        }
        if ref.version_id is not None:
            asked["VersionId"] = ref.version_id
        return await self._sign("GET", "get_object", asked, {}, expires_seconds)

    async def sign_upload(self, key: str, *, size_bytes: int, content_type: str, expires_seconds: int) -> SignedRequest:
        asked = {
            "Bucket": self._bucket,
            "Key": self._path(key),
            "ContentType": content_type,
            "ContentLength": size_bytes,
        }
        headers = {"Content-Type": content_type, "Content-Length": str(size_bytes)}
        return await self._sign("PUT", "put_object", asked, headers, expires_seconds)

    async def sign_part(
        self, upload: PartsUpload, number: int, *, size_bytes: int, expires_seconds: int
    ) -> SignedRequest:
        asked = {**self._place(upload), "PartNumber": number, "ContentLength": size_bytes}
        return await self._sign("PUT", "upload_part", asked, {"Content-Length": str(size_bytes)}, expires_seconds)

    async def _sign(
        self, method: str, operation: str, asked: dict[str, Any], headers: dict[str, str], expires_seconds: int
    ) -> SignedRequest:
        if not self.capabilities.sign_download:
            raise Unsupported("this store's requests can't be signed for others")
        if not 1 <= expires_seconds <= self.capabilities.longest_signed_seconds:
            raise Unsupported(f"signed for 1 to {self.capabilities.longest_signed_seconds} seconds")
        expires_at = datetime.now(UTC) + timedelta(seconds=expires_seconds)
        url = await self._control(
            None,
            lambda s3: s3.generate_presigned_url(operation, Params=asked, ExpiresIn=expires_seconds, HttpMethod=method),
        )
        return SignedRequest(method, Secret(url), headers, expires_at)

    # --- control ----------------------------------------------------------------------------------------------------

    async def _control(self, key: str | None, call: Callable[[Any], T]) -> T:
        return await self._threads.run(lambda: call(self._s3), VENDOR_ERRORS, partial(from_vendor, key=key))

    async def _ask_bucket(self, call: Callable[[Any], T]) -> T:
        """A call about no single object: a 404 to it is never a reason to call an object missing."""
        try:
            return await self._control(None, call)
        except ObjectNotFound:
            raise not_the_store() from None

    async def delete(self, refs: Sequence[ObjectRef]) -> list[DeleteOutcome]:
        failed: dict[ObjectRef, ProviderError] = {}
        versioned = await self._versioning.is_on()
        exact = [ref for ref in refs if ref.version_id is not None or not versioned]
        for offset in range(0, len(exact), control.DELETE_PAGE):
            page = exact[offset : offset + control.DELETE_PAGE]
            failed |= await self._ask_bucket(partial(self._delete_page, refs=page))
        if versioned:
            for ref in [ref for ref in refs if ref.version_id is None]:
                try:
                    await self.discard(ref.key)
                except ProviderError as error:
                    failed[ref] = error
        if any(isinstance(error, ObjectNotFound) for error in failed.values()):
            await self.check()
            failed = {ref: error for ref, error in failed.items() if not isinstance(error, ObjectNotFound)}
        return [DeleteOutcome(ref, failed.get(ref)) for ref in refs]

    def _delete_page(self, s3: Any, *, refs: Sequence[ObjectRef]) -> dict[ObjectRef, ProviderError]:
        return control.delete_page(s3, self._bucket, self._prefix, refs, many=self._settings.profile.deletes_many)

    async def discard(self, key: str) -> None:
        path = self._path(key)
        # Some servers answer 404 where there is nothing to delete, or nothing was ever uploaded in parts.
        try:
            if await self._versioning.is_on():
                await self._control(key, lambda s3: control.delete_versions(s3, self._bucket, path))
            else:
                await self._control(key, lambda s3: s3.delete_object(Bucket=self._bucket, Key=path))
        except ObjectNotFound as error:
            await self._doubts.believe(error)
        try:
            await self._control(key, lambda s3: control.abort_uploads(s3, self._bucket, path))
        except ObjectNotFound as error:
            await self._doubts.believe(error)

    async def get_lock(self, ref: ObjectRef) -> ObjectLock:
        return await self._locks.get(ref)

    async def set_hold(self, ref: ObjectRef, *, on: bool) -> None:
        await self._locks.hold(ref, on=on)

    async def set_retention(self, ref: ObjectRef, *, mode: LockMode, until: datetime, bypass: bool = False) -> None:
        await self._locks.retain(ref, mode=mode, until=until, bypass=bypass)

    async def list_page(
        self,
        prefix: str = "",
        *,
        start_after: str | None = None,
        cursor: str | None = None,
        unfinished: bool = False,
    ) -> ListPage:
        own, wanted = self._prefix, self._prefix + prefix
        if unfinished:
            return await self._ask_bucket(lambda s3: control.unfinished_page(s3, self._bucket, wanted, own, cursor))
        versioned = await self._versioning.is_on()
        return await self._ask_bucket(
            lambda s3: control.list_page(s3, self._bucket, wanted, own, cursor, start_after, versioned=versioned)
        )

    async def inspect(self, scratch: str) -> Sequence[Finding]:
        place = self._prefix + scratch

        def work(s3: Any) -> Sequence[Finding]:
            uses = {"locks": self.capabilities.object_lock, "sha256": self._keeps_sha256}
            return Inspector(s3, self._bucket, place, self._options, **uses).run()

        return await self._control(None, work)

    async def check(self) -> None:
        asked = {"Bucket": self._bucket, "Prefix": self._prefix, "MaxKeys": 1}
        await self._ask_bucket(lambda s3: s3.list_objects_v2(**asked))

    async def close(self) -> None:
        if "_s3" in self.__dict__:
            self._threads.later(self._s3.close)
        self._threads.close()

    def _path(self, key: str) -> str:
        return self._prefix + check_key(key)

    def _info(self, key: str, meta: Any) -> ObjectInfo:
        return ObjectInfo(key, meta["size"], meta.get("version"), meta.get("e_tag"), meta.get("last_modified"))
