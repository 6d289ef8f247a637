"""Attacks on the API with what a stranger has: others' ids, lists, extra fields, odd methods, SQL, collisions."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import psycopg
import pytest
from tests.api.conftest import Door
from tests.api.test_rights import BODIES, Operation, operations, signed_in, state_of

from simples3dms.api.app import create_app
from simples3dms.client import Client
from simples3dms.db.provision import Provisioned
from simples3dms.kit.secret import Secret


@dataclass(frozen=True)
class Neighbours:
    """`acme` with a document in two versions and a migration, and Eve, who owns `globex` and nothing else."""

    door: Door
    eve: httpx.Client
    operator: httpx.Client
    ids: dict[str, str]
    own_document: str


@pytest.fixture
def neighbours(door: Door, tmp_path: Path) -> Iterator[Neighbours]:
    file = tmp_path / "plan.txt"
    file.write_bytes(b"the plan of acme")
    with ExitStack() as stack:
        operator = stack.enter_context(door.connect())
        operator.create_tenant("globex", "Globex")
        operator.grant_store("globex", "disk-a")
        operator.set_placement("globex", write="disk-a")
        made = operator.create_user("eve@example.org")
        assert made.password is not None
        operator.set_member("globex", "eve@example.org", "owner")
        with Client(door.url, tries=1) as client:
            token = Secret(client.log_in("eve@example.org", Secret(made.password)).token)
        eve = stack.enter_context(signed_in(door, token))
        document = operator.upload_document("acme", file)
        operator.upload_document("acme", file, document_id=document.id)
        migration = operator.plan_migration("acme", target="disk-b")
        with door.connect(token) as client:
            own = client.upload_document("globex", file)
        ids = {"document": str(document.id), "migration": str(migration.id), "number": "1", "store": "disk-a",
               "email": "eve@example.org", "token": str(uuid4())}  # fmt: skip
        yield Neighbours(door, eve, stack.enter_context(signed_in(door, door.token)), ids, str(own.id))


def _told(answer: httpx.Response) -> dict[str, Any]:
    """An answer without what differs each time."""
    return {**answer.json(), "request_id": "", "instance": ""}


def test_s01_another_tenants_ids_are_ids_of_nobody(neighbours: Neighbours) -> None:
    """In paths of her own tenant, in cursors and in bodies: as if they had never been."""
    eve, ids = neighbours.eve, neighbours.ids
    for operation in operations():
        if operation.is_of_tenant and {"document", "migration"} & set(re.findall(r"{(\w+)}", operation.path)):
            foreign = operation.ask(eve, tenant="globex", **ids)
            never = operation.ask(eve, tenant="globex", **ids | {"document": str(uuid4()), "migration": str(uuid4())})
            assert (foreign.status_code, _told(foreign)) == (404, _told(never)), operation.id
    for cursor in (ids["document"], str(uuid4())):
        page = eve.get("/api/v1/tenants/globex/documents", params={"after": cursor}).json()
        assert {item["id"] for item in page["items"]} <= {neighbours.own_document}
    retry = f"/api/v1/tenants/globex/migrations/{ids['migration']}/failures/retry"
    assert eve.post(retry, json={"failure_ids": [ids["document"]]}).json()["code"] == "migration_not_found"


def test_s03_what_is_derived_is_as_hidden_as_its_source(neighbours: Neighbours) -> None:
    """Versions, bytes, places, failures, audit, members: each operation that reads something of a tenant's."""
    derived = [one for one in operations() if one.is_of_tenant and one.method == "get"]
    assert {one.id for one in derived} >= {"list_versions", "list_replicas", "get_content", "list_failures"}
    for operation in derived:
        answer = operation.ask(neighbours.eve, tenant="acme", **neighbours.ids)
        assert (answer.status_code, answer.json()["code"]) == (404, "tenant_not_found"), operation.id
        assert "plan" not in answer.text, operation.id


def _lists(schema: dict[str, Any], definitions: dict[str, Any], seen: frozenset[str] = frozenset()) -> Iterator[str]:
    """The fields of a request that take several items."""
    name = schema.get("$ref", "").rpartition("/")[2]
    if name and name not in seen:
        yield from _lists(definitions[name], definitions, seen | {name})
    for field, found in schema.get("properties", {}).items():
        options = [found, *found.get("anyOf", [])]
        if any(option.get("type") == "array" for option in options):
            yield field
        for option in options:
            yield from _lists(option, definitions, seen)


#: Operations that take several items at once: one that is not the caller's, and nothing is done. Each is tried.
BULK = {
    *(("retry_failures", "failure_ids"), ("waive_failures", "failure_ids")),
    *((f"{act}_placement", field) for act in ("preview", "set") for field in ("copies", "read", "rules")),
}
#: Lists of words that are nobody's: rights, hosts, regions, codes of countries, hours, types.
WORDS = {
    *((f"create_{whose}token", "scopes") for whose in ("", "service_", "platform_service_")),
    *(("set_own_store_rule", name) for name in ("hosts", "regions")),
    *((name, "allowed") for name in ("plan_residency", "set_residency")),
    ("set_settings", "allowed_jurisdictions"),
    *((name, "windows") for name in ("plan_migration", "set_schedule")),
    ("plan_migration", "content_types"),
}
#: For operators, to whom no tenant is foreign.
OPERATORS = {
    *(("plan_rollout", "tenants"), ("set_rollout", "tenants"), ("request_erasure", "documents")),
    ("start_drain", "steps"),
}


def test_s02_every_operation_on_several_items_is_known() -> None:
    document = create_app(None).openapi()
    found = set()
    for methods in document["paths"].values():
        for one in methods.values():
            for content in one.get("requestBody", {}).get("content", {}).values():
                lists = _lists(content["schema"], document["components"]["schemas"])
                found |= {(one["operationId"], field) for field in lists}
    assert found == BULK | WORDS | OPERATORS, "try the new one below, with one foreign item among its own"


def test_s02_one_foreign_item_and_nothing_is_done(neighbours: Neighbours) -> None:
    eve, before = neighbours.eve, neighbours.eve.get("/api/v1/tenants/globex/placement").json()
    nowhere = eve.put("/api/v1/tenants/globex/placement", json={"write": "disk-a", "copies": ["not-there"]})
    refused = (422, "placement_invalid", nowhere.json()["detail"].replace("not-there", "..."))
    for field in ("copies", "read", "rules"):
        for foreign in ("disk-b", "never-was"):
            own: list[Any] = ["disk-a"] if field == "read" else []
            item = {"write": foreign, "match": {"max_bytes": 1}} if field == "rules" else foreign
            body = {"write": "disk-a", field: [*own, item]}
            for method, path in (("PUT", "placement"), ("POST", "placement/preview")):
                answer = eve.request(method, f"/api/v1/tenants/globex/{path}", json=body)
                told = (answer.status_code, answer.json()["code"], answer.json()["detail"].replace(foreign, "..."))
                assert told == refused, (method, field, foreign)
    assert eve.get("/api/v1/tenants/globex/placement").json() == before
    neighbours.door.connect().grant_store("globex", "disk-b")
    planned = eve.post("/api/v1/tenants/globex/migrations", json={"target": "disk-b"}).json()
    for act, given in (("retry", {}), ("waive", {"reason": "x"})):
        path = f"/api/v1/tenants/globex/migrations/{planned['id']}/failures/{act}"
        answer = eve.post(path, json={"failure_ids": [neighbours.ids["document"]], **given})
        assert (answer.status_code, answer.json()["code"]) == (404, "failure_not_found")
    with neighbours.door.connect() as operator:
        actions = {event["action"] for event in operator.http.get("/api/v1/tenants/globex/audit").json()["items"]}
    assert not {"migration.retried", "migration.waived"} & actions


SMUGGLED: dict[str, object] = {
    "id": str(uuid4()), "tenant_id": str(uuid4()), "owner_id": str(uuid4()), "user_id": str(uuid4()), "is_admin": True,
    "is_operator": True, "is_auditor": True, "role": "owner", "quota": 10**15, "size_bytes": 0, "sha256": "00" * 32,
    "store_id": str(uuid4()), "created_at": "2020-01-01T00:00:00Z", "deleted_at": None, "password_hash": "x",
    "prefix": "t/other/", "state": "done", "version": 99, "fence": 10**6, "probe_verdict": "green", "__proto__": {},
}  # fmt: skip


def test_s04_no_field_is_taken_that_is_not_asked_for(neighbours: Neighbours) -> None:
    """Every operation with a body, as an operator, who may do all of it."""
    document = create_app(None).openapi()
    before = state_of(neighbours.door)
    tried = 0
    for operation in operations():
        if operation.body is None:
            continue
        foreign = {name: value for name, value in SMUGGLED.items() if name not in _fields_of(document, operation)}
        body = {**operation.body, **foreign}
        smuggling = Operation(operation.id, operation.method, operation.path, body, operation.permission)
        answer = smuggling.ask(neighbours.operator, tenant="acme", **neighbours.ids)
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid"), operation.id
        told = {field["field"].rpartition(".")[2] for field in answer.json()["fields"]}
        assert told >= set(foreign), operation.id
        tried += len(foreign)
    assert tried > 10 * len(BODIES)
    assert state_of(neighbours.door) == before


def _fields_of(document: dict[str, Any], operation: Operation) -> set[str]:
    content = document["paths"][operation.path][operation.method]["requestBody"]["content"]
    name = content["application/json"]["schema"]["$ref"].rpartition("/")[2]
    return set(document["components"]["schemas"][name]["properties"])


def test_s05_no_other_spelling_of_a_request_gets_further(neighbours: Neighbours) -> None:
    eve, ids = neighbours.eve, neighbours.ids
    paths = [f"/api/v1/tenants/acme/documents/{ids['document']}", "/api/v1/tenants/acme/audit", "/api/v1/users"]
    spellings = [
        *("{}/", "/{}", "{}//", "{}/.", "{}%2f", "{}%00", "{};x=1", "{}?_method=GET", "{}.json", "{}%20"),
        "/api/v1/tenants/globex/../acme/audit",
        "/api/v1/tenants/globex/%2e%2e/acme/audit",
        "/API/V1/users",
    ]
    before = state_of(neighbours.door)
    for path in paths:
        for spelling in spellings:
            for method in ("GET", "HEAD", "OPTIONS", "PUT", "PATCH", "DELETE", "POST", "TRACE", "PROPFIND"):
                target = spelling.format(path)
                url = httpx.URL(neighbours.door.url).copy_with(raw_path=target.encode())
                answer = eve.request(method, url)
                assert answer.status_code in (400, 401, 403, 404, 405, 422), (method, target)
        for header in ("X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override"):
            answer = eve.post(path, headers={header: "GET"}, params={"_method": "GET"})
            assert answer.status_code in (403, 404, 405, 422), (header, path)
    assert state_of(neighbours.door) == before


PAYLOADS = ["' OR '1'='1", "'; DROP TABLE documents; --", "x' UNION SELECT password_hash FROM users --", "%", "_", "\\",
            "1; SELECT pg_sleep(3)", "'||pg_sleep(3)||'", "$$", "%s", "%(tenant)s", "{0}", "::uuid", "a'--",
            "\U0001f600", "ﬀ", "a" * 90]  # fmt: skip


def test_s08_statements_are_only_ever_values(neighbours: Neighbours) -> None:
    """In every path, query and body: refused or taken as text, never run, and never an error of ours."""
    operator, before = neighbours.operator, state_of(neighbours.door)
    operator.headers["Sec-Fetch-Site"] = "same-origin"  # so that doors of browsers look at what is asked, too
    payloads = cycle(PAYLOADS)  # three at each place, and each of them at many places
    for operation in operations():
        names = re.findall(r"{(\w+)}", operation.path)
        if operation.id in ("log_in", "create_tenant", "create_user", "create_token", "suspend_tenant") or not names:
            continue
        for name in names:
            for payload in islice(payloads, 3):
                known = {"tenant": "acme", **{key: str(uuid4()) for key in neighbours.ids}, "number": "1"}
                spelled = {key: httpx.URL("/x").copy_with(path=f"/{value}").raw_path.decode()[1:]
                           for key, value in (known | {name: payload}).items()}  # fmt: skip
                answer = operation.ask(operator, **spelled)
                assert answer.status_code in (404, 405, 409, 422), (operation.id, name, payload, answer.text)
    for path in ("/api/v1/tenants", "/api/v1/users", "/api/v1/tenants/acme/documents", "/api/v1/tenants/acme/audit"):
        for payload in PAYLOADS:
            for name in ("after", "limit", "trash", "sort", "filter", "q"):
                answer = operator.get(path, params={name: payload})
                assert answer.status_code in (200, 422), (path, name, payload)
    for payload in PAYLOADS:
        answer = operator.post("/api/v1/login", json={"email": payload, "password": payload})
        assert answer.status_code in (401, 422, 429)
    assert state_of(neighbours.door) == before


def test_s09_a_collision_tells_nothing_of_the_other_tenant(neighbours: Neighbours, urls: Provisioned) -> None:
    """The same bytes, names and keys as another tenant has: nothing is found again, refused or shared."""
    body = b"the plan of acme"
    with psycopg.connect(urls.app_url, autocommit=True) as connection:
        connection.execute("SET ROLE simples3dms_platform")
        counted = "SELECT count(*), count(DISTINCT tenant_id) FROM blobs WHERE digest = sha256(%s)"
        before = connection.execute(counted, [body]).fetchone()
        answers = []
        for _ in range(2):
            answer = neighbours.eve.post(
                "/api/v1/tenants/globex/documents",
                params={"name": "plan.txt"},
                content=body,
                headers={"Idempotency-Key": "the-same-key-as-acme", "Content-Type": "text/plain"},
            )
            answers.append((answer.status_code, answer.json()["id"]))
        after = connection.execute(counted, [body]).fetchone()
    assert answers[0] == answers[1], "one effect, her own"
    assert before is not None
    assert after is not None
    assert (after[0], after[1]) == (before[0] + 1, 2), "a blob of her own, though acme has the same bytes"


def test_s09_no_answer_shows_what_the_database_said(neighbours: Neighbours) -> None:
    operator = neighbours.operator
    for path, body in (
        ("/api/v1/tenants", {"slug": "acme", "name": "Again"}),
        ("/api/v1/users", {"email": "eve@example.org"}),
        ("/api/v1/stores", {"name": "disk-a", "kind": "local", "settings": {"path": "/nowhere"}}),
    ):
        answer = operator.post(path, json=body)
        assert answer.status_code in (409, 422)
        assert not re.search(r"(?i)duplicate key|constraint|detail:|relation|psycopg|sqlstate", answer.text)
