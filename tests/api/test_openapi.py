"""The OpenAPI document: every operation has a name of its own, says how it fails, and asks who is there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from simples3dms.api.app import create_app

#: What anybody may call. Everything else asks for a token.
OPEN = {
    *("get_livez", "get_readyz", "log_in", "sign_in", "accept_invitation", "request_reset", "use_reset"),
    *("list_offered_providers", "begin_sign_in", "finish_sign_in"),
}
_VERBS = {
    *("probe", "preview"),
    *("lift", "place", "release", "export", "rotate"),
    *("accept", "begin", "change", "confirm", "disable", "enable", "end", "finish", "join", "request", "sign", "use"),
    *("add", "cancel", "check", "create", "cut", "delete", "drop", "finalize", "get", "grant", "list", "log", "pause"),
    *("plan", "purge", "remove", "restore", "resume", "retry", "revoke", "roll", "set", "start", "suspend", "upload"),
    *("declare", "explain", "repair", "trust", "waive"),
}


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return create_app(None).openapi()


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield method, path, operation


def test_operation_ids_are_unique_and_begin_with_a_verb(document: dict[str, Any]) -> None:
    ids = [operation["operationId"] for _, _, operation in operations(document)]
    assert len(ids) == len(set(ids))
    for name in ids:
        assert re.fullmatch(r"[a-z]+(_[a-z]+)+", name), name
        assert name.partition("_")[0] in _VERBS, name


def test_every_operation_documents_its_problems(document: dict[str, Any]) -> None:
    for method, path, operation in operations(document):
        content = operation["responses"]["default"]["content"]
        assert content == {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}, path
        assert "422" not in operation["responses"], f"{method} {path} documents the framework's own errors"
        assert operation["summary"], path
        assert operation["tags"], path


def test_every_operation_asks_who_is_there(document: dict[str, Any]) -> None:
    unasked = {operation["operationId"] for _, _, operation in operations(document) if not operation.get("security")}
    assert unasked == OPEN


def test_request_bodies_refuse_unknown_fields(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    for _, path, operation in operations(document):
        content = operation.get("requestBody", {}).get("content", {})
        if "application/json" in content:
            name = content["application/json"]["schema"]["$ref"].rpartition("/")[2]
            assert schemas[name]["additionalProperties"] is False, path


def test_no_answer_has_a_field_for_a_stored_secret(document: dict[str, Any]) -> None:
    """A password or token is shown once, by the operations that make one; a credential never is."""
    shown = {
        (name, field)
        for name, schema in document["components"]["schemas"].items()
        if "additionalProperties" not in schema
        for field in schema.get("properties", {})
        if field in {"password", "password_hash", "credential", "secret"}
    }
    assert shown == {("NewUser", "password"), ("NewTotp", "secret")}


def test_downloads_are_bytes(document: dict[str, Any]) -> None:
    for path in ("content", "versions/{number}/content"):
        get = document["paths"][f"/api/v1/tenants/{{tenant}}/documents/{{document}}/{path}"]["get"]
        assert list(get["responses"]["200"]["content"]) == ["application/octet-stream"]
        assert list(get["responses"]["206"]["content"]) == ["application/octet-stream"]
