"""Holds and retention at the HTTP door: no header, parameter or role leads around them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.api.conftest import Door

from simples3dms.client import ApiProblem, Client
from simples3dms.kit.secret import Secret

LATER = datetime.now(UTC) + timedelta(days=365)
#: What other systems know, or might be thought to know, as a way around.
BYPASSES = [
    {"x-amz-bypass-governance-retention": "true"},
    {"x-minio-force-delete": "true"},
    {"X-Bz-Bypass-Governance": "true"},
    {"x-http-method-override": "PURGE"},
    {"If-Match": "*"},
]
PARAMETERS = ["bypass=true", "bypass_governance=true", "bypassGovernanceRetention=true", "force=true", "versionId=1"]


def refused(code: str, act: Callable[[], object]) -> None:
    with pytest.raises(ApiProblem) as caught:
        act()
    assert caught.value.code == code


def member(door: Door, role: str) -> Client:
    with door.connect() as operator:
        made = operator.create_user(f"{role}@example.org")
        operator.set_member("acme", f"{role}@example.org", role)
    assert made.password is not None
    with Client(door.url, tries=1) as client:
        return door.connect(client.log_in(f"{role}@example.org", Secret(made.password)).token)


def test_s56_no_header_or_parameter_leads_around_a_hold(door: Door, tmp_path: Path) -> None:
    file = tmp_path / "evidence.txt"
    file.write_bytes(b"evidence")
    with door.connect() as operator:
        live, trashed, retained = [operator.upload_document("acme", file) for _ in range(3)]
        operator.delete_document("acme", trashed.id)
        for document in (live, trashed):
            operator.place_hold("acme", document.id, name="case-1", reason="asked for")
        operator.set_retention("acme", retained.id, until=LATER, mode="compliance")
        doors = {
            live.id: ("DELETE", "", "document_held"),
            trashed.id: ("POST", "/purge", "document_held"),
            retained.id: ("DELETE", "", "document_retained"),
        }
        for document_id, (method, step, code) in doors.items():
            path = f"/api/v1/tenants/acme/documents/{document_id}{step}"
            asked = [{"url": path, "headers": headers} for headers in BYPASSES]
            asked += [{"url": f"{path}?{parameter}"} for parameter in PARAMETERS]
            for request in asked:
                answer = operator.http.request(method, **request)  # type: ignore[arg-type]
                assert (answer.status_code, answer.json()["code"]) == (409, code), request
        path = f"/api/v1/tenants/acme/documents/{retained.id}/retention/lift"
        answer = operator.http.post(path, json={"reason": "x", "bypass": True})
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid")
        refused("retention_locked", lambda: operator.lift_retention("acme", retained.id, reason="x"))
        refusals = [event for event in operator.iter_audit_events("acme") if event.outcome == "refused"]
        assert len(refusals) == 3 * (len(BYPASSES) + len(PARAMETERS)) + 1
        # Overwriting adds a version; the one that is held is still what it was.
        file.write_bytes(b"something else")
        operator.upload_document("acme", file, document_id=live.id)
        with operator.open_content("acme", live.id, version=1) as chunks:
            assert b"".join(chunks) == b"evidence"


def test_who_may_hold_and_who_may_lift(door: Door, tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_bytes(b"a")
    with door.connect() as operator:
        document = operator.upload_document("acme", file)
    with (
        member(door, "administrator") as administrator,
        member(door, "owner") as owner,
        member(door, "editor") as editor,
    ):
        hold = administrator.place_hold("acme", document.id, name="case-1", reason="asked for")
        administrator.set_retention("acme", document.id, until=LATER, mode="governance")
        refused("permission_required", lambda: administrator.lift_retention("acme", document.id, reason="x"))
        refused("permission_required", lambda: editor.list_holds("acme", document.id))
        assert owner.get_retention("acme", document.id).hold_count == 1
        assert owner.lift_retention("acme", document.id, reason="a mistake").retain_until is None
        assert [one.id for one in owner.iter_tenant_holds("acme")] == [hold.id]
        owner.release_hold("acme", document.id, hold.id, reason="over")
        editor.delete_document("acme", document.id)


def test_settings_and_limits_at_the_door(door: Door, tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_bytes(b"a")
    with door.connect() as operator, member(door, "administrator") as administrator:
        administrator.set_settings("acme", trash_days=3, allowed_jurisdictions=["DE"])
        with pytest.raises(ApiProblem) as caught:
            administrator.set_settings("acme", trash_days=-3, region="moon")
        assert [problem.field for problem in caught.value.problem.fields or []] == ["trash_days", "region"]
        refused("permission_required", lambda: administrator.set_limits("acme", most_documents=1))
        found = operator.set_limits("acme", most_documents=1)
        assert (found.trash_days, found.allowed_jurisdictions, found.most_documents) == (3, ["DE"], 1)
        operator.upload_document("acme", file, original_created_at=datetime(2001, 2, 3, tzinfo=UTC))
        refused("limit_reached", lambda: operator.upload_document("acme", file))
        (document,) = operator.iter_documents("acme")
        (version,) = operator.list_versions("acme", document.id)
        assert version.original_created_at == datetime(2001, 2, 3, tzinfo=UTC)
