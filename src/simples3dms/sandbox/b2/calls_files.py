"""The calls about files that exist: listing, info, hiding, deleting, copying."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from typing import Any

from simples3dms.sandbox.b2.account import Account, check_name, check_rights
from simples3dms.sandbox.b2.blobs import Segment, slice_segments
from simples3dms.sandbox.b2.errors import B2Error, access_denied, bad_request, not_found
from simples3dms.sandbox.b2.files import File, Lock, NewFile, position_of
from simples3dms.sandbox.b2.http import Answer, Request, json_answer
from simples3dms.sandbox.b2.records import Key

MOST_SIMPLE_BYTES = 5_000_000_000
MOST_PAGE = 10_000


def file_fields(account: Account, file: File, key: Key | None = None) -> dict[str, Any]:
    """A file version as every answer shows it; its lock as far as the key may know. None: of a file without one."""
    mode = {"algorithm": file.encryption, "mode": "SSE-B2" if file.encryption else None}
    return {
        "accountId": account.id,
        "action": file.action,
        "bucketId": file.bucket_id,
        "contentLength": file.size,
        "contentSha1": file.sha1,
        "contentType": file.content_type,
        "fileId": file.id,
        "fileInfo": file.info,
        "fileName": file.name,
        "replicationStatus": None,
        "serverSideEncryption": mode,
        **lock_fields(account.files.find_lock(file.id) if key else Lock(), key),
        # The first version of the API called the length so; rclone's lists read it.
        "size": file.size,
        "uploadTimestamp": file.uploaded_at,
    }


def lock_fields(lock: Lock, key: Key | None) -> dict[str, Any]:
    """The retention and the legal hold; null to a key without the right to read them."""
    retention, hold = ({"mode": lock.mode, "retainUntilTimestamp": lock.until}, lock.hold)
    told = {"fileRetention": ("readFileRetentions", retention), "legalHold": ("readFileLegalHolds", hold)}
    may = {right: key is None or right in key.capabilities for right, _ in told.values()}
    return {
        name: {"isClientAuthorizedToRead": may[right], "value": value if may[right] else None}
        for name, (right, value) in told.items()
    }


def _folder_fields(account: Account, bucket_id: str, name: str) -> dict[str, Any]:
    nothing = ("contentSha1", "contentType", "fileId", "fileRetention", "legalHold", "replicationStatus")
    return {
        **dict.fromkeys(nothing),
        "accountId": account.id,
        "action": "folder",
        "bucketId": bucket_id,
        "contentLength": 0,
        "fileInfo": {},
        "fileName": name,
        "fileRetention": {"isClientAuthorizedToRead": True, "value": {"mode": None, "retainUntilTimestamp": None}},
        "legalHold": {"isClientAuthorizedToRead": True, "value": None},
        "serverSideEncryption": {"algorithm": None, "mode": None},
        "size": 0,
        "uploadTimestamp": 0,
    }


async def list_file_names(account: Account, request: Request) -> Answer:
    return _list(account, request, newest_only=True)


async def list_file_versions(account: Account, request: Request) -> Answer:
    return _list(account, request, newest_only=False)


def _list(account: Account, request: Request, *, newest_only: bool) -> Answer:
    bucket_id, prefix = request.text("bucketId"), request.find_text("prefix") or ""
    key = account.authorize(request, "listFiles", bucket_id=bucket_id, name=prefix)
    account.get_bucket(bucket_id)
    limit = request.number("maxFileCount", default=100, most=MOST_PAGE)
    start = max(request.find_text("startFileName") or "", prefix)
    found = _walk(account, bucket_id, start, prefix, request.find_text("delimiter"), newest_only=newest_only)
    if newest_only:
        found = _visible(found)
    elif (start_id := request.find_text("startFileId")) is not None:
        found = _from_id(found, start, start_id)
    entries: list[File | str] = []
    following: File | str | None = None
    for entry in found:
        if len(entries) == limit:
            following = entry
            break
        entries.append(entry)
    files = [
        _folder_fields(account, bucket_id, entry) if isinstance(entry, str) else file_fields(account, entry, key)
        for entry in entries
    ]
    next_name = following if isinstance(following, str) or following is None else following.name
    answer: dict[str, Any] = {"files": files, "nextFileName": next_name}
    if not newest_only:
        answer["nextFileId"] = following.id if isinstance(following, File) else None
    return json_answer(answer)


def _walk(
    account: Account, bucket_id: str, start: str, prefix: str, delimiter: str | None, *, newest_only: bool
) -> Iterator[File | str]:
    """File versions in order; with a delimiter, a folder's name in place of all that is in it."""
    end = _after(prefix) if prefix else None
    while True:
        folder = None
        for file in account.files.iter_from(bucket_id, start, end):
            at = file.name.find(delimiter, len(prefix)) if delimiter else -1
            if delimiter and at >= 0:
                folder = file.name[: at + len(delimiter)]
                break
            yield file
        if folder is None:
            return
        if not newest_only or account.files.has_visible(bucket_id, folder, _after(folder)):
            yield folder
        start = _after(folder)


def _after(prefix: str) -> str:
    """The least name after all that begin with the prefix."""
    code = ord(prefix[-1]) + 1
    return prefix[:-1] + chr(0xE000 if code == 0xD800 else min(code, 0x10FFFF))


def _visible(entries: Iterable[File | str]) -> Iterator[File | str]:
    """The newest version of each name, unless it is hidden."""
    last = None
    for entry in entries:
        if isinstance(entry, str):
            yield entry
        elif entry.action != "start" and entry.name != last:
            last = entry.name
            if entry.action == "upload":
                yield entry


def _from_id(entries: Iterable[File | str], name: str, file_id: str) -> Iterator[File | str]:
    position = position_of(file_id)
    for entry in entries:
        is_before = isinstance(entry, File) and entry.name == name and (entry.uploaded_at, entry.seq) > position
        if not is_before:
            yield entry


async def get_file_info(account: Account, request: Request) -> Answer:
    file = account.get_file(request.text("fileId"))
    key = account.authorize(request, "readFiles", bucket_id=file.bucket_id, name=file.name)
    return json_answer(file_fields(account, file, key))


async def hide_file(account: Account, request: Request) -> Answer:
    bucket_id, name = request.text("bucketId"), request.text("fileName")
    account.authorize(request, "writeFiles", bucket_id=bucket_id, name=name)
    account.get_bucket(bucket_id)
    newest = account.files.find_newest(bucket_id, name)
    if newest is None:
        raise bad_request(f"File not present: {name}", "no_such_file")
    if newest.action == "hide":
        raise bad_request(f"File already hidden: {name}", "already_hidden")
    marker = NewFile(bucket_id, name, "hide", content_type="application/x-bz-hide-marker")
    return json_answer(file_fields(account, account.files.add(marker)))


async def delete_file_version(account: Account, request: Request) -> Answer:
    file_id, name = request.text("fileId"), request.text("fileName")
    account.authorize(request, "deleteFiles", name=name)
    file = account.files.find(file_id)
    if file is None or file.name != name:
        raise bad_request(f"File not present: {name} {file_id}", "file_not_present")
    key = account.authorize(request, "deleteFiles", bucket_id=file.bucket_id, name=name)
    refuse_locked(account, file, key, bypass=bool(request.params.get("bypassGovernance")))
    account.files.delete(file)
    return json_answer({"fileId": file_id, "fileName": name})


def refuse_locked(account: Account, file: File, key: Key, *, bypass: bool) -> None:
    """https://www.backblaze.com/docs/cloud-storage-object-lock: neither a hold nor `compliance` yields to anybody."""
    if bypass:
        check_rights(key, "bypassGovernance", bucket_id=file.bucket_id, name=file.name)
    lock = account.files.find_lock(file.id)
    if lock.hold == "on" or (lock.is_retained and not (bypass and lock.mode == "governance")):
        raise access_denied("The file is protected by Object Lock.")


async def copy_file(account: Account, request: Request) -> Answer:
    source, name = account.get_file(request.text("sourceFileId")), request.text("fileName")
    target_id = request.find_text("destinationBucketId") or source.bucket_id
    key = account.authorize(request, "writeFiles", bucket_id=target_id, name=name)
    check_rights(key, "readFiles", bucket_id=source.bucket_id, name=source.name)
    check_name(name)
    account.get_bucket(target_id)
    segments, size = source_range(account, source, request)
    is_whole = size == source.size
    sha1 = source.sha1 if is_whole else await hash_segments(account, segments)
    content_type, info = source.content_type, source.info
    if request.find_text("metadataDirective") == "REPLACE":
        content_type, info = request.text("contentType"), request.info()
    elif "contentType" in request.params or "fileInfo" in request.params:
        raise bad_request("contentType and fileInfo go with metadataDirective REPLACE.")
    new = NewFile(target_id, name, "upload", content_type, size, sha1, info)
    return json_answer(file_fields(account, account.files.add(new, segments)))


def source_range(account: Account, source: File, request: Request) -> tuple[list[Segment], int]:
    """The segments that a copy is made of, and their length."""
    if source.action != "upload":
        raise not_found(f"File {source.id}")
    start, length = 0, source.size
    if (text := request.find_text("range")) is not None:
        start, length = parse_range(text, source.size)
    if length > MOST_SIMPLE_BYTES:
        raise bad_request(f"Copy source is too big: {length}", "source_too_large")
    return slice_segments(account.files.segments(source.id), start, length), length


async def hash_segments(account: Account, segments: list[Segment]) -> str:
    try:
        return await asyncio.to_thread(account.blobs.sha1, segments)
    except FileNotFoundError as error:
        raise not_found("The source") from error


def parse_range(text: str, size: int) -> tuple[int, int]:
    """(start, length) of `bytes=a-b`, `bytes=a-` or `bytes=-n` in a file of `size` bytes."""
    first, dash, last = text.removeprefix("bytes=").partition("-")
    is_number = all(part.isdecimal() or not part for part in (first, last)) and (first or last)
    if not text.startswith("bytes=") or not dash or not is_number:
        raise bad_request(f"Bad range: {text}")
    if not first:
        start, end = max(0, size - int(last)), size
    else:
        start, end = int(first), min(size, int(last) + 1 if last else size)
    if start >= end:
        raise B2Error(416, "range_not_satisfiable", "The range is not in the file.")
    return start, end - start
