"""The calls that hand bytes out, by id and by name, whole or in ranges, and the tokens that permit it."""

from __future__ import annotations

import json

from simples3dms.sandbox.b2.account import Account, check_rights
from simples3dms.sandbox.b2.blobs import slice_segments
from simples3dms.sandbox.b2.calls_files import parse_range
from simples3dms.sandbox.b2.errors import not_found, unauthorized
from simples3dms.sandbox.b2.files import File
from simples3dms.sandbox.b2.http import Answer, Request, decode_name, encode_name, json_answer

_WEEK_SECONDS = 7 * 86_400
# File info that comes back as a header of its own, and the parameter of a request that replaces it.
_SPECIAL = {
    "b2-content-disposition": ("content-disposition", "b2ContentDisposition"),
    "b2-content-language": ("content-language", "b2ContentLanguage"),
    "b2-expires": ("expires", "b2Expires"),
    "b2-cache-control": ("cache-control", "b2CacheControl"),
    "b2-content-encoding": ("content-encoding", "b2ContentEncoding"),
    "b2-content-type": ("content-type", "b2ContentType"),
}
# What an authorisation can force: then a download with any other value is refused.
_FORCEABLE = tuple(parameter for _, parameter in _SPECIAL.values())


async def get_download_authorization(account: Account, request: Request) -> Answer:
    bucket_id = request.text("bucketId")
    prefix = request.params.get("fileNamePrefix") or ""
    key = account.authorize(request, "shareFiles", bucket_id=bucket_id, name=prefix)
    account.get_bucket(bucket_id)
    seconds = request.number("validDurationInSeconds", default=0, most=_WEEK_SECONDS)
    forced = {name: str(request.params[name]) for name in _FORCEABLE if name in request.params}
    bound = json.dumps(forced, sort_keys=True)
    token = account.tokens.mint("download", key.id, seconds=seconds, scope=bucket_id, prefix=prefix, nonce=bound)
    return json_answer({"bucketId": bucket_id, "fileNamePrefix": prefix, "authorizationToken": token})


async def download_file_by_id(account: Account, request: Request) -> Answer:
    file = account.get_file(request.text("fileId"))
    _check_reader(account, request, file.bucket_id, file.name)
    return _download(account, request, file)


async def download_file_by_name(account: Account, request: Request) -> Answer:
    bucket_name, _, encoded = request.path.removeprefix("/file/").partition("/")
    bucket, name = account.records.find_bucket(name=decode_name(bucket_name)), decode_name(encoded)
    if bucket is None:
        account.read_token(request, "account", "download")
        raise not_found(f"Bucket {bucket_name}")
    _check_reader(account, request, bucket.id, name)
    file = account.files.find_newest(bucket.id, name)
    if file is None:
        raise not_found(f"File {name[:100]}")
    return _download(account, request, file)


def _check_reader(account: Account, request: Request, bucket_id: str, name: str) -> None:
    bucket = account.get_bucket(bucket_id)
    if bucket.is_public and "authorization" not in request.headers:
        return
    claims, key = account.read_token(request, "account", "download")
    check_rights(key, "readFiles", bucket_id=bucket_id, name=name)
    if claims.kind == "download" and (claims.scope != bucket_id or not name.startswith(claims.prefix)):
        raise unauthorized("the download authorization is for other files")
    if claims.kind == "download":
        asked = {name: request.query[name] for name in _FORCEABLE if name in request.query}
        if asked != json.loads(claims.nonce or "{}"):
            raise unauthorized("the download authorization is for other response headers")


def _download(account: Account, request: Request, file: File) -> Answer:
    if file.action != "upload":
        raise not_found(f"File {file.name[:100]}")
    status, start, length = 200, 0, file.size
    headers = _headers(request, file)
    if (text := request.headers.get("range")) is not None:
        status, (start, length) = 206, parse_range(text, file.size)
        headers["content-range"] = f"bytes {start}-{start + length - 1}/{file.size}"
    segments = slice_segments(account.files.segments(file.id), start, length)
    return Answer(status, headers, blocks=account.blobs.read(segments), length=length)


def _headers(request: Request, file: File) -> dict[str, str]:
    headers = {
        "accept-ranges": "bytes",
        "cache-control": "max-age=0, no-cache, no-store",
        "content-type": file.content_type or "application/octet-stream",
        "x-bz-content-sha1": file.sha1 or "none",
        "x-bz-file-id": file.id,
        "x-bz-file-name": encode_name(file.name),
        "x-bz-upload-timestamp": str(file.uploaded_at),
    }
    if file.encryption:
        headers["x-bz-server-side-encryption"] = file.encryption
    for name, value in file.info.items():
        special = _SPECIAL.get(name.lower())
        headers[special[0] if special else f"x-bz-info-{name}"] = value if special else encode_name(value)
    query = request.query
    for header, parameter in _SPECIAL.values():
        if parameter in query:
            headers[header] = query[parameter]
    return headers
