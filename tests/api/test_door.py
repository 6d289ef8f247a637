"""What every request and answer passes: request ids, security headers, the bound on bodies that are no documents."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest

from simples3dms.api.app import create_app

pytestmark = pytest.mark.anyio
LOGIN = "/api/v1/login"


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(create_app(None), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        yield client


@pytest.mark.parametrize("path", ["/livez", "/api/v1/tokens", "/nothing", "/api/v1/openapi.json"])
async def test_every_answer_has_the_security_headers(client: httpx.AsyncClient, path: str) -> None:
    headers = (await client.get(path)).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"
    assert headers["x-frame-options"] == "DENY"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cross-origin-resource-policy"] == "same-origin"
    assert headers["cross-origin-opener-policy"] == "same-origin"
    assert headers["cache-control"] == "no-store"
    assert "server" not in headers
    assert "strict-transport-security" not in headers


async def test_browsers_are_told_to_stay_with_https(client: httpx.AsyncClient) -> None:
    answer = await client.get("https://test/livez")
    assert answer.headers["strict-transport-security"] == "max-age=31536000"


@pytest.mark.parametrize("given", ["short", "x" * 65, "a b c d e f", "a\tb_______", "ünïcödé-ünïcödé"])
async def test_a_request_id_that_is_none_is_replaced(client: httpx.AsyncClient, given: str) -> None:
    answer = await client.get("/livez", headers={"X-Request-Id": given.encode()})
    assert answer.headers["x-request-id"] != given
    assert len(answer.headers["x-request-id"]) == 16


async def test_a_request_id_is_kept(client: httpx.AsyncClient) -> None:
    answer = await client.get("/livez", headers={"X-Request-Id": "trace-0123456789"})
    assert answer.headers["x-request-id"] == "trace-0123456789"


async def chunks(count: int) -> AsyncIterator[bytes]:
    for _ in range(count):
        yield b" " * 65_536


async def test_a_large_body_is_refused_whether_announced_or_not(client: httpx.AsyncClient) -> None:
    headers = {"Content-Type": "application/json"}
    announced = await client.post(LOGIN, content=b" " * (1024 * 1024 + 1), headers=headers)
    unannounced = await client.post(LOGIN, content=chunks(17), headers=headers)
    for answer in (announced, unannounced):
        assert (answer.status_code, answer.json()["code"]) == (413, "too_large")
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["request_id"] == answer.headers["x-request-id"]


async def test_a_body_of_no_announced_length_is_read_whole(client: httpx.AsyncClient) -> None:
    async def body() -> AsyncIterator[bytes]:
        yield b'{"email": '
        yield b'"a@b.c"}'

    answer = await client.post(LOGIN, content=body(), headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid")
    assert [field["field"] for field in answer.json()["fields"]] == ["password"]


@pytest.mark.parametrize(
    "body", [b"", b"null", b"[]", b"{", b"\xff", b"[" * 100_000, b'{"a":' * 100_000, b"1" * 100_000, b"NaN"]
)
async def test_nonsense_is_told_as_a_problem(client: httpx.AsyncClient, body: bytes) -> None:
    answer = await client.post(LOGIN, content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code in (400, 422)
    assert answer.json()["code"] in ("invalid", "body_malformed")
    assert answer.headers["content-type"] == "application/problem+json"


async def test_a_secret_in_a_bad_request_is_not_sent_back(client: httpx.AsyncClient) -> None:
    answer = await client.post(LOGIN, json={"email": 1, "password": ["hunter2"], "hunter3": "hunter4"})
    assert answer.status_code == 422
    assert "hunter2" not in answer.text
    assert "hunter4" not in answer.text
