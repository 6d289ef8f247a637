"""The table of problems: every failure that the product can raise has a status, and nothing unforeseen leaks."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator

import httpx
import pytest

import simples3dms
from simples3dms import errors
from simples3dms.api.app import create_app
from simples3dms.api.problems import STATUSES, status_of

pytestmark = pytest.mark.anyio


def descendants(cls: type[errors.Failure]) -> Iterator[type[errors.Failure]]:
    for child in cls.__subclasses__():
        yield child
        yield from descendants(child)


def test_every_failure_has_a_status_of_its_own_kind() -> None:
    for module in pkgutil.walk_packages(simples3dms.__path__, "simples3dms."):
        if module.name.split(".")[1] not in ("__main__", "cli", "revisions", "sandbox"):
            importlib.import_module(module.name)
    ours = [cls for cls in descendants(errors.Failure) if cls.__module__.startswith("simples3dms.")]
    for cls in ours:
        failure = cls.__new__(cls)
        errors.Failure.__init__(failure, "x")
        status, title = status_of(failure)
        # What is wrong with the key ring is nothing that a caller did or can mend.
        ours_to_mend = cls.__module__ == "simples3dms.crypto.errors" and not issubclass(cls, errors.Unavailable)
        assert (status == 500) == ours_to_mend, f"{cls.__name__} has no row"
        assert title
    assert len({status for cls, (status, _) in STATUSES.items()}) == len(STATUSES)


def test_codes_with_a_status_of_their_own() -> None:
    assert status_of(errors.Invalid("x", code="digest_malformed"))[0] == 400
    assert status_of(errors.Invalid("x", code="range_not_satisfiable"))[0] == 416
    assert status_of(errors.StorageFailed("x", code="store_full"))[0] == 507


async def answer_to(error: Exception, path: str = "/boom") -> httpx.Response:
    """What the shipped application answers when a route raises this."""
    app = create_app(None)

    @app.get("/boom")
    async def boom() -> None:
        raise error

    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        return await client.get(path, headers={"X-Request-Id": "abcdefgh"})


async def test_a_problem_in_full() -> None:
    answer = await answer_to(errors.Conflict("Wait for it.", code="busy", owner="me"))
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json() == {
        "type": "urn:simples3dms:problem:busy",
        "title": "Conflict",
        "status": 409,
        "detail": "Wait for it.",
        "code": "busy",
        "instance": "urn:simples3dms:request:abcdefgh",
        "request_id": "abcdefgh",
        "owner": "me",
    }


async def test_headers_that_go_with_a_status() -> None:
    assert (await answer_to(errors.Unauthenticated("Who?"))).headers["www-authenticate"] == "Bearer"
    later = await answer_to(errors.Unavailable("Later.", retry_after_seconds=6.2))
    assert (later.status_code, later.headers["retry-after"]) == (503, "7")
    assert int((await answer_to(errors.Unavailable("Later."))).headers["retry-after"]) > 0


async def test_extra_details_never_hide_what_a_problem_says() -> None:
    answer = await answer_to(errors.Invalid("No.", code="bad", status=200, detail="fine", title="ok"))
    assert (answer.json()["status"], answer.json()["detail"], answer.json()["title"]) == (422, "No.", "Not valid")


async def test_nothing_of_an_unforeseen_error_leaves() -> None:
    answer = await answer_to(RuntimeError("password=hunter2 at /srv/app.py"))
    assert (answer.status_code, answer.json()["code"]) == (500, "internal")
    assert answer.json()["request_id"] == answer.headers["x-request-id"] == "abcdefgh"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "hunter2" not in answer.text
    assert "app.py" not in answer.text


@pytest.mark.parametrize("path", ["/nothing", "/livez/", "/api/v1/", "/docs"])
async def test_paths_that_are_not_there(path: str) -> None:
    answer = await answer_to(RuntimeError(), path)
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
