"""Failures as RFC 9457 problems: the one table from class to status."""

from __future__ import annotations

import json
import math
import secrets
from collections.abc import Mapping, Sequence
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.encoders import jsonable_encoder
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from simples3dms import errors
from simples3dms.api.refusals import note_refusal

log = structlog.get_logger(__name__)

PROBLEM_TYPE = "application/problem+json"
#: Class -> (status, title). The nearest class in a failure's own line of descent counts.
STATUSES: Mapping[type[errors.Failure], tuple[int, str]] = {
    errors.Unauthenticated: (401, "Not signed in"),
    errors.Forbidden: (403, "Not allowed"),
    errors.NotFound: (404, "Not found"),
    errors.Invalid: (422, "Not valid"),
    errors.Conflict: (409, "Conflict"),
    errors.TooLarge: (413, "Too large"),
    errors.TooMany: (429, "Too often"),
    errors.Unavailable: (503, "Not available now"),
    errors.StorageFailed: (502, "The store failed"),
    errors.Failure: (500, "Internal error"),
}
#: Codes that have a status of their own in HTTP.
_STATUS_OF_CODE = {
    "store_full": 507,
    "range_not_satisfiable": 416,
    "digest_malformed": 400,
    "body_incomplete": 400,
    "request_too_slow": 408,
    "two_credentials": 400,
    "token_in_query": 400,
}
#: Codes of what the framework refuses by itself: no such path, no such method, a body that is no JSON at all.
_CODE_OF_STATUS = {400: "body_malformed", 404: "not_found", 405: "method_not_allowed"}
_RETRY_SECONDS = 2.0


def status_of(failure: errors.Failure) -> tuple[int, str]:
    """The HTTP status and title of a failure."""
    status, title = next(STATUSES[cls] for cls in type(failure).__mro__ if cls in STATUSES)
    return _STATUS_OF_CODE.get(failure.problem_code, status), title


def problem_response(
    request: Request,
    status: int,
    code: str,
    title: str,
    detail: str,
    *,
    extra: Mapping[str, Any] | None = None,
    headers: Mapping[str, str] | None = None,
) -> JSONResponse:
    request_id = getattr(request.state, "request_id", None)
    body = {**(extra or {}), **_problem(status, code, title, detail, request_id)}
    return JSONResponse(jsonable_encoder(body), status, dict(headers or {}), media_type=PROBLEM_TYPE)


def encoded_problem(status: int, code: str, detail: str) -> bytes:
    """A problem for what never became a request of the application."""
    return json.dumps(_problem(status, code, "Request refused", detail, secrets.token_hex(8))).encode()


def _problem(status: int, code: str, title: str, detail: str, request_id: str | None) -> dict[str, Any]:
    return {
        "type": f"urn:simples3dms:problem:{code}",
        "title": title,
        "status": status,
        "detail": detail,
        "code": code,
        "instance": f"urn:simples3dms:request:{request_id}",
        "request_id": request_id,
    }


async def on_failure(request: Request, failure: Exception) -> JSONResponse:
    assert isinstance(failure, errors.Failure)
    await note_refusal(request, failure)
    status, title = status_of(failure)
    headers: dict[str, str] = {}
    extra = dict(failure.extra)
    if status == 500:
        log.error("request.failed", code=failure.problem_code, detail=failure.message)
    if status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    if status in (429, 503):
        wait = extra.setdefault("retry_after_seconds", _RETRY_SECONDS)
        headers["Retry-After"] = str(math.ceil(float(str(wait))))
    if status == 408:
        headers["Connection"] = "close"
    if status == 416 and "size_bytes" in extra:
        headers["Content-Range"] = f"bytes */{extra['size_bytes']}"
    return problem_response(request, status, failure.problem_code, title, failure.message, extra=extra, headers=headers)


async def on_invalid(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    fields = [{"field": _name(item["loc"]), "message": item["msg"]} for item in error.errors()]
    detail = "; ".join(f"{item['field']}: {item['message']}" for item in fields[:5])
    return problem_response(request, 422, "invalid", "Not valid", detail, extra={"fields": fields})


def _name(location: Sequence[Any]) -> str:
    """`body.name` and the like, without where FastAPI found it."""
    parts = [str(part) for part in location if part not in ("body", "query", "path", "header")]
    return ".".join(parts) or "body"


async def on_http(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    code = _CODE_OF_STATUS.get(error.status_code, "http_error")
    return problem_response(
        request, error.status_code, code, "Request refused", str(error.detail), headers=error.headers
    )


async def on_unforeseen(request: Request, error: Exception) -> JSONResponse:
    """Nothing of the error leaves; the log has it under the same request id."""
    log.error("request.crashed", request_id=getattr(request.state, "request_id", None), exc_info=error)
    return problem_response(
        request,
        500,
        "internal",
        "Internal error",
        "Something went wrong here; it has been logged with this request's id.",
    )


def install(app: FastAPI) -> None:
    """Have every error of the app answered as a problem; `DoorMiddleware` sees to the unforeseen ones."""
    app.add_exception_handler(errors.Failure, on_failure)
    app.add_exception_handler(RequestValidationError, on_invalid)
    app.add_exception_handler(HTTPException, on_http)
