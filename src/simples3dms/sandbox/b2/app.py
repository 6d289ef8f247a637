"""The B2 native HTTP API, as far as documents need it, over `State`."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, unquote_plus

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from simples3dms.sandbox.b2.faults import Faults
from simples3dms.sandbox.b2.state import LEAST_PART_BYTES, B2Failure, State

_BLOCK = 1 << 20
_CAPABILITIES = [
    *("listKeys", "writeKeys", "deleteKeys", "listBuckets", "listAllBucketNames", "readBuckets", "writeBuckets"),
    *("deleteBuckets", "listFiles", "readFiles", "shareFiles", "writeFiles", "deleteFiles"),
]
Call = Callable[[dict[str, Any]], dict[str, Any]]


class B2Server:
    """One account with one application key."""

    def __init__(self, directory: Path, *, key_id: str, key: str, control_token: str) -> None:
        self._state = State(directory)
        self._drafts = directory / "drafts"
        self._drafts.mkdir(exist_ok=True)
        self._key_id, self._key, self._control_token = key_id, key, control_token
        self._account_id = "0123456789ab"
        self._tokens: set[str] = set()
        self._upload_tokens: dict[str, str] = {}
        self._faults = Faults()
        self._base = ""
        self._calls: dict[str, Call] = {
            "b2_list_buckets": self._list_buckets,
            "b2_create_bucket": lambda body: self._bucket(self._state.create_bucket(body["bucketName"])),
            "b2_delete_bucket": self._delete_bucket,
            "b2_get_upload_url": self._get_upload_url,
            "b2_get_upload_part_url": self._get_upload_part_url,
            "b2_start_large_file": self._start_large_file,
            "b2_finish_large_file": lambda b: self._file(self._state.finish(b["fileId"], b["partSha1Array"])),
            "b2_cancel_large_file": lambda body: self._file(self._state.cancel(body["fileId"])),
            "b2_list_parts": self._list_parts,
            "b2_list_unfinished_large_files": self._list_unfinished,
            "b2_list_file_names": self._list_names,
            "b2_list_file_versions": self._list_versions,
            "b2_get_file_info": lambda body: self._file(self._state.get_file(body["fileId"])),
            "b2_hide_file": lambda b: self._file(self._state.add_file(b["bucketId"], b["fileName"], "hide")),
            "b2_delete_file_version": self._delete_version,
            "b2_get_download_authorization": self._get_download_authorization,
        }

    def app(self) -> Starlette:
        routes = [
            Route("/sandbox/{action}", self._control, methods=["POST"]),
            Route("/b2api/{version}/b2_authorize_account", self._authorize, methods=["GET", "POST"]),
            Route("/b2api/{version}/b2_upload_file/{bucket}/{token}", self._upload_file, methods=["POST"]),
            Route("/b2api/{version}/b2_upload_part/{file}/{token}", self._upload_part, methods=["POST"]),
            Route("/b2api/{version}/b2_download_file_by_id", self._download_by_id, methods=["GET", "HEAD"]),
            Route("/file/{bucket}/{name:path}", self._download_by_name, methods=["GET", "HEAD"]),
            Route("/b2api/{version}/{call}", self._json_call, methods=["GET", "POST"]),
        ]
        return Starlette(routes=routes, exception_handlers={B2Failure: _on_failure})

    # --- control ----------------------------------------------------------------------------------------------------

    async def _control(self, request: Request) -> Response:
        if not hmac.compare_digest(request.headers.get("authorization", ""), self._control_token):
            raise B2Failure(401, "unauthorized")
        match request.path_params["action"]:
            case "inject":
                self._faults.add(await request.json())
            case "clear":
                self._faults.clear()
            case "expire":
                self._tokens.clear()
                self._upload_tokens.clear()
            case "calls":
                return JSONResponse(list(self._faults.calls))
        return JSONResponse({})

    def _due(self, call: str) -> str | None:
        """Raise the fault that is due for this call, or say that its answer is to be lost."""
        fault = self._faults.take(call)
        if fault is None:
            return None
        if fault.mode == "status":
            raise B2Failure(fault.status, fault.code, "injected")
        return fault.mode

    # --- account ----------------------------------------------------------------------------------------------------

    async def _authorize(self, request: Request) -> Response:
        self._due("b2_authorize_account")
        given = request.headers.get("authorization", "").removeprefix("Basic ")
        wanted = base64.b64encode(f"{self._key_id}:{self._key}".encode()).decode()
        if not hmac.compare_digest(given, wanted):
            raise B2Failure(401, "unauthorized", "The application key id or the key is wrong.")
        token = secrets.token_hex(24)
        self._tokens.add(token)
        base = str(request.base_url).rstrip("/")
        self._base = base
        allowed = {"capabilities": _CAPABILITIES, "buckets": None, "namePrefix": None}
        return JSONResponse(
            {
                "accountId": self._account_id,
                "authorizationToken": token,
                "apiInfo": {
                    "storageApi": {
                        "apiUrl": base,
                        "downloadUrl": base,
                        "s3ApiUrl": base,
                        "absoluteMinimumPartSize": LEAST_PART_BYTES,
                        "recommendedPartSize": 100_000_000,
                        "allowed": allowed,
                        **allowed,
                    }
                },
                # What clients of the older versions look for.
                "apiUrl": base,
                "downloadUrl": base,
                "s3ApiUrl": base,
                "absoluteMinimumPartSize": LEAST_PART_BYTES,
                "recommendedPartSize": 100_000_000,
                "allowed": {"capabilities": _CAPABILITIES, "bucketId": None, "bucketName": None, "namePrefix": None},
            }
        )

    def _require_token(self, request: Request) -> None:
        if request.headers.get("authorization") not in self._tokens:
            raise B2Failure(401, "expired_auth_token", "Authorization token has expired")

    async def _json_call(self, request: Request) -> Response:
        name = request.path_params["call"]
        work = self._calls.get(name)
        if work is None:
            raise B2Failure(404, "not_found", f"No such call: {name}")
        mode = self._due(name)
        self._require_token(request)
        body = dict(request.query_params) if request.method == "GET" else json.loads(await request.body() or b"{}")
        try:
            answer = work(body)
        except KeyError as missing:
            raise B2Failure(400, "bad_request", f"required field {missing} is missing") from missing
        if mode == "lost":
            raise B2Failure(503, "service_unavailable", "injected: the answer was lost")
        return JSONResponse(answer)

    # --- buckets ----------------------------------------------------------------------------------------------------

    def _bucket(self, bucket: dict[str, Any]) -> dict[str, Any]:
        return {
            "accountId": self._account_id,
            "bucketId": bucket["id"],
            "bucketName": bucket["name"],
            "bucketType": "allPrivate",
            "bucketInfo": {},
            "corsRules": [],
            "lifecycleRules": [],
            "options": [],
            "revision": 1,
            "defaultServerSideEncryption": {"isClientAuthorizedToRead": True, "value": {"mode": None}},
            "fileLockConfiguration": {
                "isClientAuthorizedToRead": True,
                "value": {"defaultRetention": {"mode": None, "period": None}, "isFileLockEnabled": False},
            },
            "replicationConfiguration": {"isClientAuthorizedToRead": True, "value": None},
        }

    def _list_buckets(self, body: dict[str, Any]) -> dict[str, Any]:
        name, bucket_id = body.get("bucketName"), body.get("bucketId")
        return {
            "buckets": [
                self._bucket(bucket)
                for bucket in self._state.list_buckets()
                if name in (None, bucket["name"]) and bucket_id in (None, bucket["id"])
            ]
        }

    def _delete_bucket(self, body: dict[str, Any]) -> dict[str, Any]:
        bucket = next((b for b in self._state.list_buckets() if b["id"] == body["bucketId"]), None)
        if bucket is None:
            raise B2Failure(400, "bad_bucket_id", "Bucket does not exist")
        self._state.delete_bucket(body["bucketId"])
        return self._bucket(bucket)

    # --- files ------------------------------------------------------------------------------------------------------

    def _file(self, file: dict[str, Any]) -> dict[str, Any]:
        return {
            "accountId": self._account_id,
            "action": file["action"],
            "bucketId": file["bucket_id"],
            "contentLength": file["size"],
            "size": file["size"],
            "contentSha1": file["sha1"] or "none",
            "contentMd5": None,
            "contentType": file["content_type"],
            "fileId": file["id"],
            "fileInfo": json.loads(file["info"]),
            "fileName": file["name"],
            "uploadTimestamp": file["uploaded_at"],
            "fileRetention": {"isClientAuthorizedToRead": True, "value": {"mode": None, "retainUntilTimestamp": None}},
            "legalHold": {"isClientAuthorizedToRead": True, "value": None},
            "serverSideEncryption": {"algorithm": None, "mode": None},
            "replicationStatus": None,
        }

    def _list_versions(self, body: dict[str, Any]) -> dict[str, Any]:
        self._state.require_bucket(body["bucketId"])
        files, following = self._state.list_versions(
            body["bucketId"],
            body.get("prefix") or "",
            body.get("startFileName") or "",
            body.get("startFileId"),
            min(int(body.get("maxFileCount") or 100), 10_000),
        )
        answer = _folded([self._file(file) for file in files], body)
        return {
            "files": answer,
            "nextFileName": following["name"] if following else None,
            "nextFileId": following["id"] if following else None,
        }

    def _list_names(self, body: dict[str, Any]) -> dict[str, Any]:
        self._state.require_bucket(body["bucketId"])
        files, following = self._state.list_names(
            body["bucketId"],
            body.get("prefix") or "",
            body.get("startFileName") or "",
            min(int(body.get("maxFileCount") or 100), 10_000),
        )
        return {"files": _folded([self._file(file) for file in files], body), "nextFileName": following}

    def _delete_version(self, body: dict[str, Any]) -> dict[str, Any]:
        self._state.delete_version(body["fileId"], body["fileName"])
        return {"fileId": body["fileId"], "fileName": body["fileName"]}

    def _get_download_authorization(self, body: dict[str, Any]) -> dict[str, Any]:
        token = secrets.token_hex(24)
        self._tokens.add(token)
        return {
            "bucketId": body["bucketId"],
            "fileNamePrefix": body["fileNamePrefix"],
            "authorizationToken": token,
        }

    # --- uploads ----------------------------------------------------------------------------------------------------

    def _get_upload_url(self, body: dict[str, Any]) -> dict[str, Any]:
        self._state.require_bucket(body["bucketId"])
        return {"bucketId": body["bucketId"], **self._upload_place("b2_upload_file", body["bucketId"])}

    def _get_upload_part_url(self, body: dict[str, Any]) -> dict[str, Any]:
        self._state.require_unfinished(body["fileId"])
        return {"fileId": body["fileId"], **self._upload_place("b2_upload_part", body["fileId"])}

    def _upload_place(self, call: str, place: str) -> dict[str, str]:
        token = secrets.token_hex(24)
        self._upload_tokens[token] = place
        path = f"/b2api/v4/{call}/{place}/{secrets.token_hex(4)}"
        return {"uploadUrl": self._base + path, "authorizationToken": token}

    def _require_upload_token(self, request: Request, place: str) -> None:
        if self._upload_tokens.get(request.headers.get("authorization", "")) != place:
            raise B2Failure(401, "expired_auth_token", "Upload token has expired")

    async def _upload_file(self, request: Request) -> Response:
        mode = self._due("b2_upload_file")
        bucket_id = request.path_params["bucket"]
        self._require_upload_token(request, bucket_id)
        draft, size, sha1 = await self._receive(request)
        info = {
            name.removeprefix("x-bz-info-"): unquote_plus(value)
            for name, value in request.headers.items()
            if name.startswith("x-bz-info-")
        }
        file = self._state.add_file(
            bucket_id,
            unquote_plus(request.headers["x-bz-file-name"]),
            "upload",
            size=size,
            sha1=sha1,
            content_type=_content_type(request.headers.get("content-type")),
            info=info,
            draft=draft,
        )
        return self._after(mode, self._file(file))

    async def _upload_part(self, request: Request) -> Response:
        mode = self._due("b2_upload_part")
        file_id = request.path_params["file"]
        self._require_upload_token(request, file_id)
        number = int(request.headers["x-bz-part-number"])
        draft, size, sha1 = await self._receive(request)
        self._state.add_part(file_id, number, size, sha1, draft)
        return self._after(mode, {"fileId": file_id, "partNumber": number, "contentLength": size, "contentSha1": sha1})

    def _after(self, mode: str | None, answer: dict[str, Any]) -> Response:
        if mode == "lost":
            raise B2Failure(503, "service_unavailable", "injected: the answer was lost")
        return JSONResponse(answer)

    async def _receive(self, request: Request) -> tuple[Path, int, str]:
        """Stream a body to disk and compare its SHA-1 with the one announced, or sent behind it."""
        announced = request.headers.get("x-bz-content-sha1", "none")
        behind = 40 if announced == "hex_digits_at_end" else 0
        length = int(request.headers.get("content-length", "0"))
        draft = self._drafts / secrets.token_hex(8)
        digest, size, tail = hashlib.sha1(usedforsecurity=False), 0, b""
        try:
            with draft.open("wb") as file:
                async for chunk in request.stream():
                    body = tail + chunk if behind else chunk
                    tail, body = (body[-behind:], body[:-behind]) if behind else (b"", body)
                    file.write(body)
                    digest.update(body)
                    size += len(body)
            given = tail.decode("ascii", "replace") if behind else announced.removeprefix("unverified:")
            if size + behind != length or (given != "do_not_verify" and given != digest.hexdigest()):
                raise B2Failure(400, "bad_request", "Sha1 did not match data received")
        except BaseException:
            draft.unlink(missing_ok=True)
            raise
        return draft, size, digest.hexdigest()

    def _start_large_file(self, body: dict[str, Any]) -> dict[str, Any]:
        self._state.require_bucket(body["bucketId"])
        file = self._state.add_file(
            body["bucketId"],
            body["fileName"],
            "start",
            content_type=_content_type(body.get("contentType")),
            info=body.get("fileInfo") or {},
        )
        return self._file(file)

    def _list_parts(self, body: dict[str, Any]) -> dict[str, Any]:
        self._state.require_unfinished(body["fileId"])
        first = int(body.get("startPartNumber") or 1)
        parts = [part for part in self._state.list_parts(body["fileId"]) if part["number"] >= first]
        shown = [
            {
                "fileId": part["file_id"],
                "partNumber": part["number"],
                "contentLength": part["size"],
                "contentSha1": part["sha1"],
                "uploadTimestamp": 0,
            }
            for part in parts[: int(body.get("maxPartCount") or 100)]
        ]
        following = parts[len(shown)]["number"] if len(parts) > len(shown) else None
        return {"parts": shown, "nextPartNumber": following}

    def _list_unfinished(self, body: dict[str, Any]) -> dict[str, Any]:
        self._state.require_bucket(body["bucketId"])
        count = min(int(body.get("maxFileCount") or 100), 100)
        files = self._state.list_unfinished(
            body["bucketId"], body.get("namePrefix") or "", body.get("startFileId") or "", count + 1
        )
        following = files[count]["id"] if len(files) > count else None
        return {"files": [self._file(file) for file in files[:count]], "nextFileId": following}

    # --- downloads --------------------------------------------------------------------------------------------------

    async def _download_by_id(self, request: Request) -> Response:
        mode = self._due("b2_download_file_by_id")
        self._require_token(request)
        return self._content(request, self._state.get_file(request.query_params["fileId"]), mode)

    async def _download_by_name(self, request: Request) -> Response:
        mode = self._due("b2_download_file_by_name")
        self._require_token(request)
        bucket = self._state.find_bucket(request.path_params["bucket"])
        name = unquote(request.path_params["name"])
        file = self._state.find_newest(bucket["id"], name) if bucket else None
        if file is None or file["action"] != "upload":
            raise B2Failure(404, "not_found", f"Bucket or file is not there: {name}")
        return self._content(request, file, mode)

    def _content(self, request: Request, file: dict[str, Any], mode: str | None) -> Response:
        if file["action"] != "upload":
            raise B2Failure(404, "not_found", "File is hidden")
        start, end, status = 0, file["size"] - 1, 200
        wanted = request.headers.get("range", "")
        if wanted.startswith("bytes="):
            first, _, last = wanted.removeprefix("bytes=").partition("-")
            start, end, status = int(first or 0), min(int(last or end), end), 206
            if start > end:
                raise B2Failure(416, "range_not_satisfiable", "The Range is outside the size of the file.")
        length = end - start + 1
        headers = {
            "Content-Length": str(length),
            "Content-Type": file["content_type"] or "application/octet-stream",
            "x-bz-file-id": file["id"],
            "x-bz-file-name": quote(file["name"]),
            "x-bz-content-sha1": file["sha1"] or "none",
            "x-bz-upload-timestamp": str(file["uploaded_at"]),
            "Accept-Ranges": "bytes",
        }
        headers |= {f"x-bz-info-{name}": quote(value) for name, value in json.loads(file["info"]).items()}
        if status == 206:
            headers["Content-Range"] = f"bytes {start}-{end}/{file['size']}"
        if request.method == "HEAD":
            return Response(status_code=status, headers=headers)
        body = _blocks(self._state.path(file["id"]), start, length // 2 if mode == "truncate" else length)
        return StreamingResponse(body, status_code=status, headers=headers)


async def _blocks(path: Path, start: int, length: int) -> AsyncIterator[bytes]:
    if length <= 0:
        return
    with path.open("rb") as file:
        file.seek(start)
        while length > 0 and (block := file.read(min(_BLOCK, length))):
            length -= len(block)
            yield block


def _content_type(given: str | None) -> str:
    return "application/octet-stream" if given in (None, "b2/x-auto") else str(given)


def _folded(files: list[dict[str, Any]], body: dict[str, Any]) -> list[dict[str, Any]]:
    """With a delimiter, what lies deeper shows as one folder."""
    delimiter = body.get("delimiter")
    if not delimiter:
        return files
    prefix = body.get("prefix") or ""
    shown: list[dict[str, Any]] = []
    for file in files:
        head, found, _ = file["fileName"][len(prefix) :].partition(delimiter)
        if not found:
            shown.append(file)
            continue
        folder = prefix + head + delimiter
        if not shown or shown[-1]["fileName"] != folder:
            empty = {"fileId": None, "contentLength": 0, "size": 0, "contentSha1": None, "contentType": None}
            shown.append({**file, **empty, "action": "folder", "fileName": folder, "fileInfo": {}})
    return shown


def _on_failure(request: Request, error: Exception) -> Response:
    assert isinstance(error, B2Failure)
    if request.method == "HEAD":
        return Response(status_code=error.status)
    headers = {"Retry-After": "1"} if error.status == 429 else {}
    body = {"status": error.status, "code": error.code, "message": str(error)}
    return JSONResponse(body, error.status, headers)
