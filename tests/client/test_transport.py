"""Requests of the client: what is repeated, what is not, and who else may answer."""

from __future__ import annotations

from collections.abc import Callable
from uuid import UUID

import httpx
import pytest

from simples3dms.client import ApiProblem, Client, ServerUnreachable
from simples3dms.kit.secret import Secret

TENANT = {"id": str(UUID(int=1)), "slug": "acme", "name": "Acme", "created_at": "2026-01-01T00:00:00Z"}


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    waits: list[float] = []
    monkeypatch.setattr("simples3dms.client.transport.time.sleep", waits.append)
    return waits


def client_over(handle: Callable[[httpx.Request], httpx.Response]) -> Client:
    client = Client("http://test/", token=Secret("t"), tries=3)
    client.http = httpx.Client(transport=httpx.MockTransport(handle), base_url="http://test")
    return client


def failing(*answers: httpx.Response | Exception) -> tuple[Client, list[httpx.Request]]:
    seen: list[httpx.Request] = []
    left = list(answers)

    def handle(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        answer = left.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    return client_over(handle), seen


def test_reads_are_repeated_as_the_server_asks(waits: list[float]) -> None:
    client, seen = failing(
        httpx.ConnectError("refused"),
        httpx.Response(503, headers={"Retry-After": "3"}),
        httpx.Response(200, json=TENANT),
    )
    assert client.get_tenant("acme").name == "Acme"
    assert len(seen) == 3
    assert waits[1] == 3.0


def test_what_may_have_happened_is_not_repeated(waits: list[float]) -> None:
    client, seen = failing(httpx.ReadError("cut"))
    with pytest.raises(ServerUnreachable, match="http://test"):
        client.create_tenant("acme", "Acme")
    assert len(seen) == 1
    assert waits == []


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(200, text="<html>hello</html>"),
        httpx.Response(200, json={"id": 1}),
        httpx.Response(200, content=b""),
    ],
)
def test_another_server_is_told_apart(answer: httpx.Response) -> None:
    client, _ = failing(answer)
    with pytest.raises(ServerUnreachable, match="no SimpleS3DMS"):
        client.get_tenant("acme")


def test_a_redirect_is_named_and_not_followed() -> None:
    client, seen = failing(httpx.Response(301, headers={"Location": "https://elsewhere/"}))
    with pytest.raises(ApiProblem, match="https://elsewhere/"):
        client.get_tenant("acme")
    assert len(seen) == 1


def test_an_error_page_of_a_proxy_is_a_problem_too(waits: list[float]) -> None:
    client, seen = failing(*[httpx.Response(502, text="Bad gateway")] * 3)
    with pytest.raises(ApiProblem, match="502"):
        client.get_tenant("acme")
    assert len(seen) == 3


def test_pages_are_followed_to_the_last() -> None:
    pages = [
        httpx.Response(200, json={"items": [TENANT], "next_after": str(UUID(int=7))}),
        httpx.Response(200, json={"items": [TENANT], "next_after": None}),
    ]
    client, seen = failing(*pages)
    assert len(list(client.iter_tenants())) == 2
    assert seen[1].url.params["after"] == str(UUID(int=7))


def test_secrets_are_sent_and_never_shown() -> None:
    client, seen = failing(httpx.Response(401, json={}), httpx.Response(401, json={}))
    with pytest.raises(ApiProblem):
        client.log_in("a@b.c", Secret("hunter2"))
    assert b"hunter2" in seen[0].content
    with pytest.raises(ApiProblem) as caught:
        client.add_store("x", kind="s3", settings={}, credential={"secret_access_key": Secret("hunter3")})
    assert b"hunter3" in seen[1].content
    assert "hunter" not in repr(caught.value)
