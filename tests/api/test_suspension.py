"""A tenant that is suspended: its documents are kept and not served, to anybody, and served again as they were."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from tests.api.conftest import Door

from simples3dms.client import ApiProblem, Client
from simples3dms.kit.secret import Secret


def refused(code: str, act: Callable[[], object]) -> None:
    with pytest.raises(ApiProblem) as caught:
        act()
    assert caught.value.code == code


def test_a_suspended_tenant_is_kept_and_not_served(door: Door, tmp_path: Path) -> None:
    file, got = tmp_path / "a.txt", tmp_path / "b.txt"
    file.write_bytes(b"kept")
    with door.connect() as operator:
        made = operator.create_user("olga@example.org")
        operator.set_member("acme", "olga@example.org", "owner")
        assert made.password is not None
        with Client(door.url, tries=1) as client:
            token = Secret(client.log_in("olga@example.org", Secret(made.password)).token)
        document = operator.upload_document("acme", file)
        refused("suspension_reason_invalid", lambda: operator.suspend_tenant("acme", " "))
        for reason in ("unpaid", "unpaid", "asked for"):
            tenant = operator.suspend_tenant("acme", reason)
            assert (tenant.suspended_at is not None, tenant.suspension_reason) == (True, reason)
        with door.connect(token) as owner:
            acts: list[Callable[[Client], object]] = [
                lambda client: list(client.iter_documents("acme")),
                lambda client: client.get_document("acme", document.id),
                lambda client: client.download_document("acme", document.id, got),
                lambda client: client.upload_document("acme", file),
                lambda client: client.delete_document("acme", document.id),
                lambda client: client.set_placement("acme", write="disk-b"),
                lambda client: client.set_member("acme", "olga@example.org", "owner"),
                lambda client: client.plan_migration("acme", target="disk-b"),
            ]
            for client in (owner, operator):
                for act in acts:
                    refused("tenant_suspended", lambda act=act, client=client: act(client))  # type: ignore[misc]
            assert not got.exists()
            assert owner.get_tenant("acme").suspended_at is not None
            assert owner.list_replicas("acme", document.id)
            refused("permission_required", lambda: owner.resume_tenant("acme"))
            told = [event.details["reason"] for event in owner.iter_audit_events("acme") if "suspended" in event.action]
            assert told == ["asked for", "unpaid"]
            for _ in range(2):
                assert operator.resume_tenant("acme").suspended_at is None
            owner.download_document("acme", document.id, got)
            assert got.read_bytes() == b"kept"
            assert sum(event.action == "tenant.resumed" for event in owner.iter_audit_events("acme")) == 1
