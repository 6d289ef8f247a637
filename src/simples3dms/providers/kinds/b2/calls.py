"""Calls on b2sdk's session that take more than one line. All of them block."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final, TypeVar
from urllib.parse import urlencode

from b2sdk.v3.exception import B2Error, BadRequest, ChecksumMismatch

from simples3dms.providers.base import CopySource, Finding, LockMode, ObjectLock
from simples3dms.providers.errors import AccessDenied, ObjectNotFound, StoreUnavailable, Unsupported
from simples3dms.providers.kinds.b2.errors import is_worth_another_url
from simples3dms.providers.threads import check_wanted
from simples3dms.providers.vouching import REPORTED

T = TypeVar("T")
#: One swap of a broken upload URL at once, as the service asks for; more is the retry layer's, with pauses.
_URL_TRIES: Final = 2
#: Where the SHA-1 of a large file is kept: as its owner told it at the beginning. B2 itself compares those of parts.
LARGE_FILE_SHA1: Final = "large_file_sha1"
_SIMPLE_COPY_BYTES: Final = 5 * 10**9
_COPY_PART_BYTES: Final = 10**9
_PARTS_PAGE: Final = 1000
_MOST_PARTS: Final = 10_000
#: What a key must be allowed to do beside the rest, to hold and retain files at the store.
LOCK_RIGHTS: Final = frozenset(
    {"readFileRetentions", "writeFileRetentions", "readFileLegalHolds", "writeFileLegalHolds"}
)


def _with_fresh_url(call: Callable[[], T]) -> tuple[T, bool]:
    """Call again after a failure that only means "take another upload URL": b2sdk takes a fresh one each time.

    The result, and whether it took more than one call.
    """
    for tried in range(_URL_TRIES - 1):
        try:
            return call(), tried > 0
        except B2Error as error:
            if not is_worth_another_url(error):
                raise
    return call(), True


def upload_small(session: Any, bucket_id: str, path: str, body: bytes, content_type: str) -> tuple[Any, bool]:
    """One request; B2 compares the SHA-1 that we send. The answer, and whether it was sent twice."""
    digest = hashlib.sha1(body, usedforsecurity=False).hexdigest()
    # Of a stream without bytes, requests would make a chunked body beside the Content-Length.
    return _with_fresh_url(
        lambda: session.upload_file(
            bucket_id, path, len(body), content_type, digest, {}, io.BytesIO(body) if body else b""
        )
    )


def upload_part(session: Any, file_id: str, number: int, body: bytes) -> str:
    """One part; its SHA-1, which finishing the file needs."""
    digest = hashlib.sha1(body, usedforsecurity=False).hexdigest()
    _with_fresh_url(lambda: session.upload_part(file_id, number, len(body), digest, io.BytesIO(body)))
    return digest


def known_upload(call: Callable[[], T], key: str) -> T:
    """The call, with "no such upload", which B2 says as a bad request, as what it is."""
    try:
        return call()
    except BadRequest as error:
        if "no active upload" in str(error).lower():
            raise ObjectNotFound("no such upload", vendor_code="no_active_upload", key=key) from None
        raise


def all_parts(session: Any, file_id: str, key: str) -> list[Any]:
    """Every part that the service has, by number."""
    found: list[Any] = []
    start = 1
    while True:
        check_wanted()
        page = known_upload(partial(session.list_parts, file_id, start, _PARTS_PAGE), key)
        found += page["parts"]
        following = page.get("nextPartNumber")
        if following is None:
            break
        if not start < following <= _MOST_PARTS:
            raise stuck()
        start = following
    return sorted(found, key=lambda item: item["partNumber"])


def copy_file(session: Any, bucket_id: str, path: str, source: CopySource, content_type: str) -> str:
    """Copy inside the service, in parts where one call may not; the new file's id."""
    if source.version_id is None:
        raise Unsupported("a copy inside B2 needs the id of the file version", key=source.key)
    if source.size_bytes <= _SIMPLE_COPY_BYTES:
        made = session.copy_file(source.version_id, path, destination_bucket_id=bucket_id)
        return str(made["fileId"])
    # What a copy in one call takes along by itself: the file's type and information, its SHA-1 among them.
    told = session.get_file_info_by_id(source.version_id)
    kept = dict(told.get("fileInfo") or {})
    file_id = str(session.start_large_file(bucket_id, path, told.get("contentType") or content_type, kept)["fileId"])
    try:
        digests = []
        for number, start in enumerate(range(0, source.size_bytes, _COPY_PART_BYTES), 1):
            end = min(start + _COPY_PART_BYTES, source.size_bytes) - 1
            digests.append(session.copy_part(source.version_id, file_id, number, (start, end))["contentSha1"])
        session.finish_large_file(file_id, digests)
    except BaseException:
        session.cancel_large_file(file_id)
        raise
    return file_id


def sign_download(
    session: Any, bucket_id: str, bucket: str, path: str, expires_seconds: int, forced: dict[str, str]
) -> str:
    """A URL that downloads this name, with the headers forced: the service refuses it with any other ones."""
    # b2sdk's own call leaves the forced headers out, so the request is put together here.
    answer = session._wrap_default_token(
        lambda api_url, token: session.raw_api._post_json(
            api_url,
            "b2_get_download_authorization",
            token,
            bucketId=bucket_id,
            fileNamePrefix=path,
            validDurationInSeconds=expires_seconds,
            **forced,
        )
    )
    url = session.get_download_url_by_name(bucket, path)
    return f"{url}?{urlencode({'Authorization': answer['authorizationToken'], **forced})}"


def vouched_sha1(item: Any) -> str | None:
    """The SHA-1 that the service compared: `none` (large files) and `unverified:` (S3 uploads) are no evidence."""
    digest = item.get("contentSha1")
    if not isinstance(digest, str) or digest == "none" or digest.startswith("unverified:") or len(digest) != 40:
        return None
    return digest


Cursor = tuple[str | None, str | None]


def versions_page(session: Any, bucket_id: str, path: str, cursor: Cursor, page_size: int) -> tuple[Any, Cursor | None]:
    """Versions of exactly this name, hidden ones and hide markers too, and where the next page begins."""
    page = session.list_file_versions(bucket_id, cursor[0], cursor[1], page_size, path)
    following = (page.get("nextFileName"), page.get("nextFileId"))
    # Names are in order: behind the last version of this one come longer ones.
    return _exactly(path, page), _another(cursor, following) if following[0] == path else None


def unfinished_page(
    session: Any, bucket_id: str, path: str, cursor: Cursor, page_size: int
) -> tuple[Any, Cursor | None]:
    """Unfinished large files of exactly this name, and where the next page begins."""
    page = session.list_unfinished_large_files(bucket_id, cursor[1], page_size, path)
    following = (path, page.get("nextFileId"))
    return _exactly(path, page), None if following[1] is None else _another(cursor, following)


def _exactly(path: str, page: Any) -> list[Any]:
    return [item for item in page["files"] if item["fileName"] == path]


def _another(cursor: Cursor, following: Cursor) -> Cursor:
    check_advances(cursor, following)
    return following


def check_advances(cursor: object, following: object) -> None:
    """Raise StoreUnavailable if the next page would be the same one."""
    if following is not None and following == cursor:
        raise stuck()


def stuck() -> StoreUnavailable:
    return StoreUnavailable("the store lists the same page again and again", vendor_code="malformed_answer")


_LOCK_MODES: Final[dict[str, LockMode]] = {"governance": "governance", "compliance": "compliance"}


def told_lock(session: Any, file_id: str, key: str) -> ObjectLock:
    """The hold and the retention of a file version, as B2 tells keys that may know."""
    told = session.get_file_info_by_id(file_id)
    hold, retention = told.get("legalHold") or {}, told.get("fileRetention") or {}
    if not (hold.get("isClientAuthorizedToRead") and retention.get("isClientAuthorizedToRead")):
        raise AccessDenied(
            "the application key lacks: readFileLegalHolds, readFileRetentions",
            vendor_code="key_lacks_rights",
            key=key,
        )
    held, value = hold.get("value") == "on", retention.get("value") or {}
    mode, until = value.get("mode"), value.get("retainUntilTimestamp")
    if mode not in _LOCK_MODES or until is None:
        return ObjectLock(held)
    return ObjectLock(held, _LOCK_MODES[mode], datetime.fromtimestamp(int(until) / 1000, UTC))


def inspect_lock(session: Any, bucket_id: str, *, needed: bool) -> Finding:
    """What the probe says of the bucket's Object Lock; without it a store that is to use it (`needed`) is unfit."""
    name, meaning = "object lock", "The bucket's object lock: whether what is held is kept by the store as well."
    allowed = session.account_info.get_allowed() or {}
    lacking = sorted(LOCK_RIGHTS - set(allowed.get("capabilities") or ()))
    found = session.list_buckets(session.account_info.get_account_id(), bucket_id=bucket_id)["buckets"]
    told = (found[0].get("fileLockConfiguration") or {}) if found else {}
    value = told.get("value") or {}
    if not needed:
        return Finding(name, "green", meaning, "offered and not used" if value.get("isFileLockEnabled") else "")
    if told.get("isClientAuthorizedToRead") and not value.get("isFileLockEnabled"):
        return Finding(name, "red", meaning, "the bucket has none: turn its Object Lock on")
    if lacking:
        return Finding(name, "red", meaning, f"the application key lacks: {', '.join(lacking)}")
    if (value.get("defaultRetention") or {}).get("mode"):
        detail = "the bucket retains all that is written: nothing can be removed there before that is over"
        return Finding(name, "amber", meaning, detail)
    return Finding(name, "green", meaning)


def inspect_checksum(session: Any, bucket_id: str, path: str) -> Finding:
    """Whether the SHA-1 that the service tells of a file is one that it has compared with the bytes."""
    meaning = "The SHA-1 that the store reports is its own: a wrong one is refused, and the right one is told later."
    body, wrong = b"what the probe writes", hashlib.sha1(b"other bytes", usedforsecurity=False).hexdigest()
    made, _ = upload_small(session, bucket_id, path, body, "application/octet-stream")
    told = vouched_sha1(session.get_file_info_by_id(made["fileId"]))
    if told != hashlib.sha1(body, usedforsecurity=False).hexdigest():
        return Finding(REPORTED, "amber", meaning, "it tells none, or another: copies are read back")
    try:
        _with_fresh_url(
            lambda: session.upload_file(
                bucket_id, f"{path}-wrong", len(body), "application/octet-stream", wrong, {}, io.BytesIO(body)
            )
        )
    except (BadRequest, ChecksumMismatch):
        return Finding(REPORTED, "green", meaning)
    return Finding(REPORTED, "amber", meaning, "it repeats whatever it was told: copies are read back")


def inspect_key(session: Any, bucket_id: str) -> list[Finding]:
    """What the probe says of the application key and the bucket's own rules."""
    allowed = session.account_info.get_allowed() or {}
    rights = set(allowed.get("capabilities") or ())
    buckets = [one.get("id") for one in allowed.get("buckets") or ()]
    narrow = "The key is for this bucket alone: a key that opens others is a greater loss if it leaks."
    share = "The key may sign downloads (`shareFiles`)."
    hidden = "Hidden versions do not pile up: the bucket's rules remove them, or we delete each by its id."
    account_id = session.account_info.get_account_id()
    found = session.list_buckets(account_id, bucket_id=bucket_id)["buckets"]
    rules = found[0].get("lifecycleRules") if found else None
    expiring = any(rule.get("daysFromUploadingToHiding") for rule in rules or ())
    return [
        Finding("scope", "green", narrow)
        if buckets == [bucket_id]
        else Finding("scope", "amber", narrow, "the key opens other buckets: make one for this bucket"),
        Finding("signing", "green", share)
        if "shareFiles" in rights
        else Finding("signing", "amber", share, "it may not: downloads pass through this server"),
        Finding("versioning", "red", hidden, "a lifecycle rule of the bucket hides files by age: remove it")
        if expiring
        else Finding("versioning", "green", hidden),
    ]
