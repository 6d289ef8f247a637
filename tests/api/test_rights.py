"""Who may do what: every operation of the OpenAPI document, asked as every role, of one's own tenant and another's."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from fastapi import APIRouter
from tests.api.conftest import Door

from simples3dms.api.app import OPEN, create_app, permissions_of
from simples3dms.client import Client
from simples3dms.identity.permissions import OF_ONESELF, OF_TENANT, PLATFORM_ROLES, TENANT_ROLES, Permission
from simples3dms.identity.values import PlatformRole, Role
from simples3dms.kit.secret import Secret


@dataclass(frozen=True)
class Operation:
    id: str
    method: str
    path: str
    body: dict[str, Any] | None
    permission: Permission | None

    @property
    def is_of_tenant(self) -> bool:
        return self.permission in OF_TENANT

    def ask(self, client: httpx.Client, **ids: str) -> httpx.Response:
        path = re.sub(r"{(\w+)}", lambda found: ids.get(found.group(1), str(uuid4())), self.path)
        params = {"name": "x"} if self.id == "upload_document" else {}
        return client.request(self.method, path, json=self.body, params=params)


#: Bodies that are well-formed, so that only the caller's rights are in question.
BODIES: dict[str, dict[str, Any]] = {
    "change_password": {"password": "x", "new_password": "correct horse battery"},
    "add_provider": {"name": "x", "issuer": "https://x.example", "client_id": "x"},
    "add_tenant_provider": {"name": "x", "issuer": "https://x.example", "client_id": "x"},
    "add_passkey": {"challenge_id": str(uuid4()), "credential": {}, "name": "x"},
    "add_own_store": {"name": "x", "kind": "local"},
    "add_store": {"name": "x", "kind": "local"},
    # Another short name: nobody deletes the tenant that the test stands on.
    "confirm_deletion": {"short_name": "x"},
    "declare_restore": {"reason": "x"},
    "create_tenant": {"slug": "x", "name": "x"},
    "create_platform_service": {"name": "x"},
    "create_platform_service_token": {"name": "x"},
    "begin_passkey": {"password": "x"},
    "begin_totp": {"password": "x"},
    "confirm_totp": {"code": "x"},
    "create_recovery_codes": {"password": "x"},
    "remove_passkey": {"password": "x"},
    "remove_totp": {"password": "x"},
    "create_service": {"name": "x", "role": "viewer"},
    "create_service_token": {"name": "x"},
    "create_token": {"name": "x"},
    "create_user": {"email": "x@example.org"},
    "grant_store": {"tenant": "acme"},
    "lift_retention": {"reason": "x"},
    "place_hold": {"name": "x", "reason": "x"},
    "create_invitation": {"email": "x@example.org", "role": "viewer"},
    "join_tenant": {"token": "x"},
    "plan_migration": {"target": "disk-b"},
    "plan_residency": {"allowed": ["DE"]},
    "plan_rollout": {"reach": "off"},
    "preview_placement": {"write": "disk-b"},
    "probe_config": {"kind": "local"},
    "release_hold": {"reason": "x"},
    "request_deletion": {"short_name": "x", "reason": "x"},
    "request_erasure": {"reason": "x"},
    "set_cache_size": {"max_bytes": 1},
    "retry_failures": {},
    "set_audit_retention": {"days": None},
    "set_credential": {"credential": {}},
    "set_platform_retention": {"days": None},
    "set_jurisdiction": {"jurisdiction": "DE"},
    "set_own_credential": {"credential": {}},
    "set_own_store_rule": {"hosts": ["*"]},
    "set_own_tuning": {"tuning": {}},
    "set_residency": {"allowed": ["DE"]},
    "set_rollout": {"reach": "everyone"},
    "set_schedule": {},
    "set_tuning": {"tuning": {}},
    "set_limits": {},
    "set_member": {"role": "viewer"},
    "set_rotation_schedule": {"every_days": 30},
    "start_rotation": {"credential": {}},
    "start_own_rotation": {"credential": {}},
    "start_drain": {"target": "disk-b"},
    "start_reconcile": {"store": "disk-b"},
    "repair_replicas": {},
    "remove_unexplained": {"count": 1},
    "set_reconcile_schedule": {"every_days": 7},
    "set_price": {"price_per_gib_month": "0.01"},
    "start_scrub": {"store": "disk-b"},
    "trust_store": {"reason": "x"},
    "set_platform_role": {"platform_role": "auditor"},
    "set_place": {"settings": {}, "credential": {}},
    "set_placement": {"write": "disk-b"},
    "set_retention": {"until": "2999-01-01T00:00:00Z", "mode": "governance"},
    "set_settings": {},
    "suspend_tenant": {"reason": "x"},
    "waive_failures": {"failure_ids": [str(UUID(int=7))], "reason": "x"},
}


def operations() -> Iterator[Operation]:
    for path, methods in create_app(None).openapi()["paths"].items():
        for method, found in methods.items():
            name, needed = found["operationId"], found.get("x-permission")
            yield Operation(name, method, path, BODIES.get(name), Permission(needed) if needed else None)


def test_every_body_is_known() -> None:
    """A new operation with a body gets a row above."""
    document = create_app(None).openapi()
    with_body = {
        operation["operationId"]
        for methods in document["paths"].values()
        for operation in methods.values()
        if "application/json" in operation.get("requestBody", {}).get("content", {})
    }
    assert with_body - OPEN == set(BODIES)


#: Who they are: a tenant and a role in it, or a role of the platform.
PEOPLE: dict[str, tuple[str | None, Role | PlatformRole | None]] = {
    **{f"acme-{role}": ("acme", role) for role in Role},
    "globex-owner": ("globex", Role.OWNER),
    "nobodys": (None, None),
    **{f"platform-{role}": (None, role) for role in PlatformRole},
}


def may(person: str, permission: Permission) -> bool:
    """Whether the tables say so, of the tenant acme and of the platform."""
    tenant, role = PEOPLE[person]
    if isinstance(role, PlatformRole):
        return permission in PLATFORM_ROLES[role] | OF_ONESELF
    rights = TENANT_ROLES[role] if role is not None and tenant == "acme" else frozenset()
    return permission in rights | OF_ONESELF


@pytest.fixture
def people(door: Door) -> dict[str, Secret]:
    tokens = {}
    with door.connect() as operator:
        operator.create_tenant("globex", "Globex")
        operator.grant_store("globex", "disk-a")
        operator.set_placement("globex", write="disk-a")
        for name, (tenant, role) in PEOPLE.items():
            platform_role = str(role) if isinstance(role, PlatformRole) else None
            made = operator.create_user(f"{name}@example.org", platform_role=platform_role)
            if tenant is not None:
                operator.set_member(tenant, f"{name}@example.org", str(role))
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
        tenants = list(client.iter_tenants())
        return placement, members, documents, list(client.iter_migrations("acme")), client.list_stores(), tenants


def test_s01_s05_every_operation_as_every_role(door: Door, people: dict[str, Secret], tmp_path: Path) -> None:
    """Refused with the right ids, and nothing changes; allowed with ids that nobody has, and nothing happens."""
    file = tmp_path / "mine.txt"
    file.write_bytes(b"mine")
    with door.connect() as operator:
        ids = {
            "document": str(operator.upload_document("acme", file).id),
            "migration": str(operator.plan_migration("acme", target="disk-b").id),
            "token": str(operator.list_tokens()[0].id),
            "user": str(next(operator.iter_users()).id),
            "invitation": str(operator.create_invitation("acme", "y@example.org", "viewer").invitation.id),
            "service": str(operator.create_service("acme", "scanner", "viewer").id),
            "store": "disk-a",
            "email": "acme-viewer@example.org",
            "number": "1",
        }
    before = state_of(door)
    asked = [operation for operation in operations() if operation.id not in OPEN]
    with ExitStack() as stack:
        nobody = stack.enter_context(signed_in(door, None))
        doors = {name: stack.enter_context(signed_in(door, token)) for name, token in people.items()}
        for operation in asked:
            refused = operation.ask(nobody, tenant="acme", **ids)
            assert (refused.status_code, refused.json()["code"]) == (401, "token_missing"), operation.id
            assert refused.headers["www-authenticate"] == "Bearer"
            if operation.is_of_tenant:
                for stranger in ("globex-owner", "nobodys"):
                    _assert_hidden(operation, doors[stranger], ids, has_tenant=stranger == "globex-owner")
            assert operation.permission is not None
            for name, asker in doors.items():
                is_stranger = operation.is_of_tenant and name in ("globex-owner", "nobodys")
                if not is_stranger and not may(name, operation.permission):
                    answer = operation.ask(asker, tenant="acme", **ids).json()
                    told = (answer["status"], answer["code"], answer["permission"])
                    assert told == (403, "permission_required", operation.permission), (operation.id, name)
        assert state_of(door) == before
        unknown = {name: str(uuid4()) for name in ids} | {"number": "1"}
        for operation in asked:
            assert operation.permission is not None
            for name, asker in doors.items():
                if may(name, operation.permission):
                    tenant = "acme" if operation.is_of_tenant else "never-was"
                    answer = operation.ask(asker, tenant=tenant, **unknown)
                    code = "" if answer.is_success else answer.json()["code"]
                    assert answer.status_code not in (401, 403, 500), (operation.id, name, code)
                    assert tenant != "acme" or code != "tenant_not_found", (operation.id, name)


def _assert_hidden(operation: Operation, eve: httpx.Client, ids: dict[str, str], *, has_tenant: bool) -> None:
    """Another's tenant looks like one that never was; another's ids in her own tenant like ids that nobody has."""
    foreign = operation.ask(eve, tenant="acme", **ids)
    never = operation.ask(eve, tenant="never-was", **ids)
    assert (foreign.status_code, foreign.json()["code"]) == (404, "tenant_not_found"), operation.id
    told = [{**answer.json(), "request_id": "", "instance": ""} for answer in (foreign, never)]
    assert told[0] == told[1], operation.id
    for noun in ("document", "migration"):
        if has_tenant and f"{{{noun}}}" in operation.path:
            crossed = operation.ask(eve, tenant="globex", **ids)
            assert (crossed.status_code, crossed.json()["code"]) == (404, f"{noun}_not_found"), operation.id


def test_an_editor_reads_and_writes_documents(door: Door, people: dict[str, Secret], tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_bytes(b"a")
    with door.connect(people["acme-editor"]) as client:
        document = client.upload_document("acme", file)
        client.upload_document("acme", file, document_id=document.id)
        client.delete_document("acme", document.id)
        client.restore_document("acme", document.id)
        assert client.list_replicas("acme", document.id)
        assert [one.verdict for one in client.explain_placement("acme", document.id).stores] == ["there"]
        assert client.get_placement("acme").write == "disk-a"
        assert {store.name for store in client.list_granted_stores("acme")} == {"disk-a", "disk-b"}
        assert list(client.iter_migrations("acme")) == []
        assert client.list_members("acme")


def test_tokens_end_when_they_are_revoked(door: Door, people: dict[str, Secret]) -> None:
    with door.connect(people["acme-editor"]) as client:
        made = client.create_token("laptop")
        with door.connect(made.token) as laptop:
            laptop.list_tokens()
            client.revoke_token(made.id)
            answer = laptop.http.get("/api/v1/tokens")
            assert (answer.status_code, answer.json()["code"]) == (401, "token_invalid")


def test_s05_a_route_that_names_no_permission_stops_the_start() -> None:
    """Default deny: nothing is open by oversight."""
    router = APIRouter()

    @router.get("/api/v1/secrets", operation_id="list_secrets")
    async def list_secrets() -> list[str]:
        return []

    with pytest.raises(RuntimeError, match="one permission"):
        permissions_of(router.routes)


def test_every_operation_but_the_open_ones_takes_a_permission() -> None:
    assert {operation.id for operation in operations() if operation.permission is None} == OPEN
    assert {operation.permission for operation in operations()} - {None} == set(Permission) - {Permission.OWNERS_WRITE}
