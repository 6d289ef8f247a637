"""The ASGI application: finds the call by its URL, lets faults happen, answers errors as B2 does."""

from __future__ import annotations

import asyncio
import logging
import secrets
import socket
import struct
from collections.abc import Awaitable, Callable
from typing import Any

from simples3dms.sandbox.b2 import calls_account, calls_downloads, calls_files, calls_locks, calls_uploads
from simples3dms.sandbox.b2.account import Account
from simples3dms.sandbox.b2.errors import B2Error, ClientGone, not_found, unauthorized
from simples3dms.sandbox.b2.faults import Call, Fault, Faults
from simples3dms.sandbox.b2.http import Answer, Receive, Request, Scope, Send, error_answer, json_answer, send_answer

Handler = Callable[[Account, Request], Awaitable[Answer]]
_logger = logging.getLogger(__name__)

_UPLOADS: dict[str, Handler] = {
    "b2_upload_file": calls_uploads.upload_file,
    "b2_upload_part": calls_uploads.upload_part,
}
_CALLS: dict[str, Handler] = {
    f"b2_{handler.__name__}": handler
    for handler in (
        calls_account.authorize_account,
        calls_account.create_bucket,
        calls_account.create_key,
        calls_account.delete_bucket,
        calls_account.delete_key,
        calls_account.list_buckets,
        calls_account.list_keys,
        calls_account.update_bucket,
        calls_downloads.download_file_by_id,
        calls_downloads.get_download_authorization,
        calls_files.copy_file,
        calls_files.delete_file_version,
        calls_files.get_file_info,
        calls_files.hide_file,
        calls_files.list_file_names,
        calls_files.list_file_versions,
        calls_locks.update_file_legal_hold,
        calls_locks.update_file_retention,
        calls_uploads.cancel_large_file,
        calls_uploads.copy_part,
        calls_uploads.finish_large_file,
        calls_uploads.get_upload_part_url,
        calls_uploads.get_upload_url,
        calls_uploads.list_parts,
        calls_uploads.list_unfinished_large_files,
        calls_uploads.start_large_file,
    )
}


class App:
    """One account behind HTTP. `/sandbox/...` is the control of the faults, for holders of its token only."""

    def __init__(self, account: Account, control_token: str) -> None:
        self._account = account
        self._control_token = control_token
        self._faults = Faults()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        try:
            if request.path.startswith("/sandbox/"):
                await send_answer(send, await self._answer(self._control, request))
            else:
                await self._call(request, send)
        except ClientGone:
            _cut(send)

    async def _call(self, request: Request, send: Send) -> None:
        name = _call_name(request.path)
        call, fault = self._faults.begin(name), self._faults.take(name)
        call.fault = fault.action if fault else None
        if fault is not None and fault.action == "stall":
            await _stall(request, fault.seconds)
        if fault is not None and fault.action == "reset":
            _cut(send)
            return
        if fault is not None and fault.action == "error":
            answer = error_answer(B2Error(fault.status, fault.code, fault.message, headers=fault.headers))
            await self._finish_request(request, answer)
        else:
            answer = await self._answer(self._dispatch, request)
        if fault is not None and fault.action == "lose_answer":
            _cut(send)
            return
        await self._send(request, send, answer, call, fault)

    async def _send(self, request: Request, send: Send, answer: Answer, call: Call, fault: Fault | None) -> None:
        is_head = request.method == "HEAD"
        if fault is not None and fault.action == "truncate":
            await send_answer(send, answer, is_head=is_head, at_most=answer.body_length() // 2)
            _close(send)
            return
        call.status = answer.status
        await send_answer(send, answer, is_head=is_head)

    async def _answer(self, handle: Callable[[Request], Awaitable[Answer]], request: Request) -> Answer:
        try:
            return await handle(request)
        except B2Error as error:
            answer = error_answer(error)
        except ClientGone:
            raise
        except Exception:
            _logger.exception("call failed: %s", request.path)
            answer = error_answer(B2Error(500, "internal_error", "The sandbox failed; see its log."))
        await self._finish_request(request, answer)
        return answer

    async def _finish_request(self, request: Request, answer: Answer) -> None:
        if not await request.discard():
            answer.headers = {**answer.headers, "connection": "close"}

    async def _dispatch(self, request: Request) -> Answer:
        name = _call_name(request.path)
        if name in _UPLOADS:
            return await _UPLOADS[name](self._account, request)
        if request.path.startswith("/file/"):
            return await calls_downloads.download_file_by_name(self._account, request)
        if name not in _CALLS:
            raise B2Error(404, "not_found", f"The sandbox has no call {name[:60]}.")
        await request.read_params()
        return await _CALLS[name](self._account, request)

    async def _control(self, request: Request) -> Answer:
        given = request.headers.get("authorization", "").removeprefix("Bearer ")
        if not secrets.compare_digest(given.encode(), self._control_token.encode()):
            raise unauthorized("The control token is wrong.")
        await request.read_params()
        result: Any = None
        match request.path.removeprefix("/sandbox/"):
            case "ready":
                pass
            case "inject":
                self._faults.inject(Fault(**request.params))
            case "clear":
                self._faults.clear()
            case "calls":
                result = self._faults.calls()
            case "expire":
                self._account.expire_tokens()
            case "bucket":
                settings = {"fileLockEnabled": True} if request.params.get("object_lock") else {}
                result = self._account.add_bucket(request.text("name"), settings).id
            case other:
                raise not_found(other)
        return json_answer(result)


def _call_name(path: str) -> str:
    """`/b2api/v4/b2_upload_file/...` is b2_upload_file; `/file/...` is a download by name."""
    if path.startswith("/file/"):
        return "b2_download_file_by_name"
    parts = path.split("/", 4)
    return parts[3] if len(parts) > 3 and parts[1] == "b2api" else path


async def _stall(request: Request, seconds: float | None) -> None:
    if seconds is None:
        await request.wait_until_gone()
    else:
        await asyncio.sleep(seconds)


# ASGI has no word for a broken connection. uvicorn's `send` is a method of an object that has the transport.
def _transport(send: Send) -> asyncio.Transport:
    transport: asyncio.Transport = send.__self__.transport  # type: ignore[attr-defined]
    return transport


def _cut(send: Send) -> None:
    """A reset: what was sent and not yet read is lost to the client."""
    transport = _transport(send)
    linger = struct.pack("ii", 1, 0)
    transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    transport.abort()


def _close(send: Send) -> None:
    """An end in the middle: what was sent arrives."""
    _transport(send).close()
