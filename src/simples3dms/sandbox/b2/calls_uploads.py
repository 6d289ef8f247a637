"""The calls that bring bytes in: small files, and large files part by part."""

from __future__ import annotations

import re
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from simples3dms.sandbox.b2.account import TOKEN_SECONDS, Account, check_name, check_rights
from simples3dms.sandbox.b2.blobs import BlobWriter, Segment
from simples3dms.sandbox.b2.calls_account import MINIMUM_PART_BYTES
from simples3dms.sandbox.b2.calls_files import MOST_SIMPLE_BYTES, file_fields, hash_segments, source_range
from simples3dms.sandbox.b2.errors import B2Error, bad_request
from simples3dms.sandbox.b2.files import File, NewFile, Part
from simples3dms.sandbox.b2.http import Answer, Request, decode_name, json_answer
from simples3dms.sandbox.b2.records import Key, now_ms
from simples3dms.sandbox.b2.tokens import Claims, Kind

_HEX_AT_END, _NOT_VERIFIED = "hex_digits_at_end", "do_not_verify"
_SHA1 = re.compile(r"[0-9a-f]{40}")
_MOST_PARTS = 10_000
_INFO = "x-bz-info-"


async def get_upload_url(account: Account, request: Request) -> Answer:
    bucket_id = request.text("bucketId")
    key = account.authorize(request, "writeFiles", bucket_id=bucket_id)
    account.get_bucket(bucket_id)
    return json_answer({"bucketId": bucket_id, **_upload_place(account, request, key, "upload", bucket_id)})


async def get_upload_part_url(account: Account, request: Request) -> Answer:
    file = account.get_unfinished(request.text("fileId"))
    key = account.authorize(request, "writeFiles", bucket_id=file.bucket_id, name=file.name)
    return json_answer({"fileId": file.id, **_upload_place(account, request, key, "part", file.id)})


def _upload_place(account: Account, request: Request, key: Key, kind: Kind, scope: str) -> dict[str, str]:
    nonce = secrets.token_hex(8)
    call = "b2_upload_file" if kind == "upload" else "b2_upload_part"
    return {
        "uploadUrl": f"http://{request.headers['host']}/b2api/v4/{call}/{scope}/{nonce}",
        "authorizationToken": account.tokens.mint(kind, key.id, seconds=TOKEN_SECONDS, scope=scope, nonce=nonce),
    }


@asynccontextmanager
async def _claimed(account: Account, request: Request, kind: Kind) -> AsyncIterator[tuple[Claims, Key]]:
    """The right to use this upload URL, held for as long as the upload goes on."""
    claims, key = account.read_token(request, kind)
    if not request.path.endswith(f"/{claims.scope}/{claims.nonce}"):
        raise B2Error(401, "bad_auth_token", "The token belongs to another upload URL.")
    if claims.nonce in account.busy_uploads:
        raise bad_request(f"more than one upload using auth token {claims.nonce}", "auth_token_limit")
    account.busy_uploads.add(claims.nonce)
    try:
        yield claims, key
    finally:
        account.busy_uploads.discard(claims.nonce)


async def upload_file(account: Account, request: Request) -> Answer:
    async with _claimed(account, request, "upload") as (claims, key):
        name = decode_name(request.headers.get("x-bz-file-name", ""))
        check_name(name)
        check_rights(key, "writeFiles", bucket_id=claims.scope, name=name)
        _refuse_what_is_missing(request)
        stamp = request.headers.get("x-bz-custom-upload-timestamp", "")
        received = await _receive(account, request)
        if account.records.find_bucket(bucket_id=claims.scope) is None:  # deleted while the bytes came in
            account.files.drop_unused([received.segment])
        account.get_bucket(claims.scope)
        content_type = _content_type(request.headers.get("content-type"))
        encryption = request.headers.get("x-bz-server-side-encryption")
        what = (content_type, received.segment.length, received.recorded_sha1(), _file_info(request), encryption)
        new = NewFile(claims.scope, name, "upload", *what, int(stamp) if stamp.isdecimal() else None)
        return json_answer(file_fields(account, account.files.add(new, [received.segment])))


def _refuse_what_is_missing(request: Request) -> None:
    wanted = [name for name in request.headers if name.startswith(("x-bz-file-ret", "x-bz-file-legal"))]
    if wanted or "x-bz-server-side-encryption-customer-algorithm" in request.headers:
        raise bad_request("The sandbox has neither file lock nor SSE-C.")


def _content_type(given: str | None) -> str:
    return "application/octet-stream" if given in (None, "", "b2/x-auto") else str(given)


def _file_info(request: Request) -> dict[str, str]:
    info = {n.removeprefix(_INFO): decode_name(v) for n, v in request.headers.items() if n.startswith(_INFO)}
    if len(info) > 10:
        raise bad_request("At most 10 items of file info are allowed.")
    return info


@dataclass(frozen=True, slots=True)
class _Received:
    segment: Segment
    sha1: str
    is_verified: bool

    def recorded_sha1(self) -> str:
        return self.sha1 if self.is_verified else f"unverified:{self.sha1}"


async def _receive(account: Account, request: Request) -> _Received:
    """Take the body in, block by block, and keep it if its SHA-1 is the announced one."""
    announced = request.headers.get("x-bz-content-sha1", "").lower()
    if announced not in (_HEX_AT_END, _NOT_VERIFIED) and not _SHA1.fullmatch(announced):
        raise bad_request("X-Bz-Content-Sha1 is missing or malformed.")
    size = request.content_length - (40 if announced == _HEX_AT_END else 0)
    if not 0 <= size <= MOST_SIMPLE_BYTES:
        raise bad_request("The content is too short or too long.")
    writer = account.blobs.write()
    try:
        trailer = await _receive_into(writer, request, size)
        found = writer.sha1()
        if announced != _NOT_VERIFIED and found != (trailer if announced == _HEX_AT_END else announced):
            raise bad_request(f"Sha1 did not match data received: {found}")
    except BaseException:
        writer.drop()
        raise
    return _Received(writer.keep(), found, announced != _NOT_VERIFIED)


async def _receive_into(writer: BlobWriter, request: Request, size: int) -> str:
    """Write `size` bytes; what comes after them, as text."""
    trailer = b""
    async for chunk in request.chunks():
        left = size - writer.size
        if len(chunk) > left:
            chunk, trailer = chunk[:left], trailer + chunk[left:]
        writer.append(chunk)
    return trailer.decode("latin-1").lower()


async def start_large_file(account: Account, request: Request) -> Answer:
    bucket_id, name = request.text("bucketId"), request.text("fileName")
    account.authorize(request, "writeFiles", bucket_id=bucket_id, name=name)
    check_name(name)
    account.get_bucket(bucket_id)
    if request.find_text("legalHold") or request.params.get("fileRetention"):
        raise bad_request("The sandbox has no file lock.")
    encryption = (request.params.get("serverSideEncryption") or {}).get("algorithm")
    stamp = request.number("custom_upload_timestamp", default=0, least=0, most=10**15) or None
    what = (_content_type(request.text("contentType")), 0, "none", request.info(), encryption, stamp)
    return json_answer(file_fields(account, account.files.add(NewFile(bucket_id, name, "start", *what))))


async def upload_part(account: Account, request: Request) -> Answer:
    async with _claimed(account, request, "part") as (claims, _):
        file = account.get_unfinished(claims.scope)
        number = request.headers.get("x-bz-part-number", "")
        if not number.isdecimal() or not 1 <= int(number) <= _MOST_PARTS:
            raise bad_request(f"The part number must be from 1 to {_MOST_PARTS}.")
        _refuse_what_is_missing(request)
        received = await _receive(account, request)
        part = Part(int(number), received.segment.length, received.recorded_sha1(), now_ms())
        return _put_part(account, file.id, part, [received.segment])


async def copy_part(account: Account, request: Request) -> Answer:
    source, target = account.get_file(request.text("sourceFileId")), account.get_unfinished(request.text("largeFileId"))
    key = account.authorize(request, "writeFiles", bucket_id=target.bucket_id, name=target.name)
    check_rights(key, "readFiles", bucket_id=source.bucket_id, name=source.name)
    segments, size = source_range(account, source, request)
    number = request.number("partNumber", default=1, most=_MOST_PARTS)
    return _put_part(account, target.id, Part(number, size, await hash_segments(account, segments), now_ms()), segments)


def _put_part(account: Account, file_id: str, part: Part, segments: list[Segment]) -> Answer:
    # While the bytes came in the file may have been finished or cancelled.
    try:
        account.get_unfinished(file_id)
    except B2Error:
        account.files.drop_unused(segments)
        raise
    account.files.put_part(file_id, part, segments)
    return json_answer(_part_fields(file_id, part))


def _part_fields(file_id: str, part: Part) -> dict[str, object]:
    return {
        "fileId": file_id,
        "partNumber": part.number,
        "contentLength": part.size,
        "contentSha1": part.sha1,
        "uploadTimestamp": part.uploaded_at,
    }


async def finish_large_file(account: Account, request: Request) -> Answer:
    file = account.get_unfinished(request.text("fileId"))
    account.authorize(request, "writeFiles", bucket_id=file.bucket_id, name=file.name)
    hashes = request.params.get("partSha1Array")
    if not isinstance(hashes, list) or not hashes:
        raise bad_request("required field partSha1Array is missing")
    parts = account.files.list_parts(file.id, 1, _MOST_PARTS)
    if [part.number for part in parts] != list(range(1, len(hashes) + 1)):
        raise bad_request("The parts received are not the parts listed.", "missing_part")
    if [part.sha1.removeprefix("unverified:") for part in parts] != hashes:
        raise bad_request("The SHA-1 of a part does not match.", "part_sha1_mismatch")
    small = [part.number for part in parts[:-1] if part.size < MINIMUM_PART_BYTES]
    if small:
        raise bad_request(f"Part number {small[0]} is smaller than {MINIMUM_PART_BYTES} bytes")
    account.files.finish(file, sum(part.size for part in parts))
    return json_answer(file_fields(account, account.get_file(file.id)))


async def cancel_large_file(account: Account, request: Request) -> Answer:
    file = account.get_unfinished(request.text("fileId"))
    account.authorize(request, "writeFiles", bucket_id=file.bucket_id, name=file.name)
    account.files.delete(file)
    return json_answer({"accountId": account.id, "bucketId": file.bucket_id, "fileId": file.id, "fileName": file.name})


async def list_parts(account: Account, request: Request) -> Answer:
    file = account.get_unfinished(request.text("fileId"))
    account.authorize(request, "writeFiles", bucket_id=file.bucket_id, name=file.name)
    limit = request.number("maxPartCount", default=100, most=_MOST_PARTS)
    start = request.number("startPartNumber", default=1, most=_MOST_PARTS)
    parts = account.files.list_parts(file.id, start, limit + 1)
    following = parts[limit].number if len(parts) > limit else None
    return json_answer({"parts": [_part_fields(file.id, part) for part in parts[:limit]], "nextPartNumber": following})


async def list_unfinished_large_files(account: Account, request: Request) -> Answer:
    bucket_id, prefix = request.text("bucketId"), request.find_text("namePrefix") or ""
    account.authorize(request, "listFiles", bucket_id=bucket_id, name=prefix)
    account.get_bucket(bucket_id)
    limit = request.number("maxFileCount", default=100, most=100)
    start = _start_of_unfinished(account, request.find_text("startFileId"))
    found = account.files.list_unfinished(bucket_id, prefix, start, limit + 1)
    following = found[limit].id if len(found) > limit else None
    return json_answer({"files": [file_fields(account, file) for file in found[:limit]], "nextFileId": following})


def _start_of_unfinished(account: Account, file_id: str | None) -> int:
    file: File | None = None if file_id is None else account.files.find(file_id)
    return 0 if file is None else file.seq
