"""Who may do what: every operation of the OpenAPI document, asked by nobody, a stranger, a member and an operator."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
from tests.api.conftest import Door

from simples3dms.api.app import create_app
from simples3dms.client import Client
from simples3dms.kit.secret import Secret

#: Operations below a tenant that need its administrator; a member may call all others there.
ADMIN = {
    *("set_member", "remove_member", "set_placement", "list_audit_events", "purge_document", "plan_migration"),
    *("start_migration", "pause_migration", "resume_migration", "cut_over_migration", "roll_back_migration"),
    *("finalize_migration", "cancel_migration", "retry_failures"),
}
#: Operations outside of tenants that anybody signed in may call, about themselves.
OWN = {"create_token", "list_tokens", "revoke_token"}
OPEN = {"get_livez", "get_readyz", "log_in"}


@dataclass(frozen=True)
class Operation:
    id: str
    method: str
    path: str
    body: dict[str, Any] | None

    @property
    def is_of_tenant(self) -> bool:
        return self.path.startswith("/api/v1/tenants/{tenant}")

    def ask(self, client: httpx.Client, **ids: str) -> httpx.Response:
        path = re.sub(r"{(\w+)}", lambda found: ids.get(found.group(1), str(uuid4())), self.path)
        params = {"name": "x"} if self.id == "upload_document" else {}
        return client.request(self.method, path, json=self.body, params=params)


#: Bodies that are well-formed, so that only the caller's rights are in question.
BODIES: dict[str, dict[str, Any]] = {
    "add_store": {"name": "x", "kind": "local"},
    "create_tenant": {"slug": "x", "name": "x"},
    "create_token": {"name": "x"},
    "create_user": {"email": "x@example.org"},
    "grant_store": {"tenant": "acme"},
    "plan_migration": {"target": "disk-b"},
    "probe_config": {"kind": "local"},
    "retry_failures": {},
    "set_credential": {"credential": {}},
    "set_tuning": {"tuning": {}},
    "set_member": {"role": "member"},
    "set_placement": {"write": "disk-b"},
}


def operations() -> Iterator[Operation]:
    for path, methods in create_app(None).openapi()["paths"].items():
        for method, found in methods.items():
            name = found["operationId"]
            yield Operation(name, method, path, BODIES.get(name))


def test_every_body_is_known() -> None:
    """A new operation with a body gets a row above."""
    document = create_app(None).openapi()
    with_body = {
        operation["operationId"]
        for methods in document["paths"].values()
        for operation in methods.values()
        if "application/json" in operation.get("requestBody", {}).get("content", {})
    }
    assert with_body - {"log_in"} == set(BODIES)


@pytest.fixture
def people(door: Door) -> dict[str, Secret]:
    """Eve owns another tenant; Max is a plain member of acme."""
    tokens = {}
    with door.connect() as operator:
        operator.create_tenant("globex", "Globex")
        operator.grant_store("globex", "disk-a")
        operator.set_placement("globex", write="disk-a")
        for name, tenant, role in (("eve", "globex", "admin"), ("max", "acme", "member")):
            made = operator.create_user(f"{name}@example.org")
            operator.set_member(tenant, f"{name}@example.org", role)
            assert made.password is not None
            with Client(door.url, tries=1) as client:
                tokens[name] = Secret(client.log_in(f"{name}@example.org", Secret(made.password)).token)
    return tokens


def signed_in(door: Door, token: Secret | None) -> httpx.Client:
    headers = {"Authorization": f"Bearer {token.reveal()}"} if token else {}
    return httpx.Client(base_url=door.url, headers=headers, trust_env=False, timeout=30)


def state_of(door: Door) -> object:
    """Everything that a trespasser might have changed."""
    with door.connect() as client:
        placement = client.get_placement("acme")
        members = client.list_members("acme")
        documents = list(client.iter_documents("acme")), list(client.iter_documents("acme", trash=True))
        return placement, members, documents, list(client.iter_migrations("acme")), client.list_stores()


def test_rights(door: Door, people: dict[str, Secret], tmp_path: Path) -> None:
    file = tmp_path / "mine.txt"
    file.write_bytes(b"mine")
    with door.connect() as operator:
        ids = {
            "document": str(operator.upload_document("acme", file).id),
            "migration": str(operator.plan_migration("acme", target="disk-b").id),
            "token": str(operator.list_tokens()[0].id),
            "store": "disk-a",
            "email": "max@example.org",
            "number": "1",
        }
    before = state_of(door)
    with (
        signed_in(door, None) as nobody,
        signed_in(door, people["eve"]) as eve,
        signed_in(door, people["max"]) as member,
    ):
        for operation in operations():
            if operation.id in OPEN:
                continue
            refused = operation.ask(nobody, tenant="acme", **ids)
            assert (refused.status_code, refused.json()["code"]) == (401, "token_missing"), operation.id
            assert refused.headers["www-authenticate"] == "Bearer"
            if operation.is_of_tenant:
                _assert_hidden(operation, eve, ids)
                if operation.id in ADMIN:
                    answer = operation.ask(member, tenant="acme", **ids)
                    assert (answer.status_code, answer.json()["code"]) == (403, "admin_required"), operation.id
            elif operation.id not in OWN:
                for asker in (eve, member):
                    answer = operation.ask(asker, **ids)
                    assert (answer.status_code, answer.json()["code"]) == (403, "operator_required"), operation.id
    assert state_of(door) == before


def _assert_hidden(operation: Operation, eve: httpx.Client, ids: dict[str, str]) -> None:
    """Another's tenant looks like one that never was; another's ids in her own tenant like ids that nobody has."""
    foreign = operation.ask(eve, tenant="acme", **ids)
    never = operation.ask(eve, tenant="never-was", **ids)
    assert (foreign.status_code, foreign.json()["code"]) == (404, "tenant_not_found"), operation.id
    told = [{**answer.json(), "request_id": "", "instance": ""} for answer in (foreign, never)]
    assert told[0] == told[1], operation.id
    for noun in ("document", "migration"):
        if f"{{{noun}}}" in operation.path:
            crossed = operation.ask(eve, tenant="globex", **ids)
            assert (crossed.status_code, crossed.json()["code"]) == (404, f"{noun}_not_found"), operation.id


def test_a_member_reads_and_writes_documents(door: Door, people: dict[str, Secret], tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_bytes(b"a")
    with door.connect(people["max"]) as client:
        document = client.upload_document("acme", file)
        client.upload_document("acme", file, document_id=document.id)
        client.delete_document("acme", document.id)
        client.restore_document("acme", document.id)
        assert client.list_replicas("acme", document.id)
        assert client.get_placement("acme").write == "disk-a"
        assert {store.name for store in client.list_granted_stores("acme")} == {"disk-a", "disk-b"}
        assert list(client.iter_migrations("acme")) == []
        assert client.list_members("acme")


def test_tokens_end_when_they_are_revoked(door: Door, people: dict[str, Secret]) -> None:
    with door.connect(people["max"]) as client:
        made = client.create_token("laptop")
        with door.connect(made.token) as laptop:
            laptop.list_tokens()
            client.revoke_token(made.id)
            answer = laptop.http.get("/api/v1/tokens")
            assert (answer.status_code, answer.json()["code"]) == (401, "token_invalid")
