"""Lag, health and metrics through the door: numbers for who may see them, in JSON, in words and for Prometheus."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import httpx
import psycopg
import pytest
import typer
from tests.api.conftest import Door

from simples3dms.cli.main import app as cli
from simples3dms.client import ApiProblem
from simples3dms.db.provision import Provisioned

Run = Callable[..., str]


@pytest.fixture
def run(door: Door, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """A command as the operator; what it printed."""
    monkeypatch.setenv("SIMPLES3DMS_URL", door.url)
    monkeypatch.setenv("SIMPLES3DMS_TOKEN", door.token.reveal())

    def run(*words: str) -> str:
        capsys.readouterr()
        try:
            cli([*words], standalone_mode=False)
        finally:
            printed.append(capsys.readouterr().out)
        return printed[-1]

    printed: list[str] = []
    return run


@pytest.fixture
def behind(door: Door, urls: Provisioned, tmp_path: Path) -> Door:
    """`disk-b` is owed a copy of a document of acme's, for two days already, and not to be made for now."""
    document = tmp_path / "a.txt"
    document.write_bytes(b"12345")
    with door.connect() as client:
        client.upload_document("acme", document)
        with psycopg.connect(urls.app_url, autocommit=True) as connection:
            connection.execute("SET ROLE simples3dms_platform")
            connection.execute(
                """INSERT INTO transfers (tenant_id, id, blob_id, target_store_id, state, created_at, due_at)
                   SELECT b.tenant_id, b.id, b.id, s.id, 'pending', now() - interval '2 days', 'infinity'
                   FROM blobs b, stores s WHERE s.name = 'disk-b'"""
            )
    return door


def test_lag_is_shown_to_a_tenant_and_to_operators(behind: Door, run: Run) -> None:
    with behind.connect() as client:
        of_tenant = client.get_tenant_replication("acme")
        assert [(lag.store, lag.pending_count, lag.pending_bytes, lag.is_late) for lag in of_tenant.stores] == [
            ("disk-b", 1, 5, True),
            ("disk-a", 0, 0, False),
        ]
        assert of_tenant.late_seconds == 3600
        assert client.get_replication().stores[0].store == "disk-b"
        of_store = client.get_store_replication("disk-b")
        assert [(lag.tenant, lag.pending_count) for lag in of_store.tenants] == [("acme", 1)]
        with pytest.raises(ApiProblem) as caught:
            client.get_store_replication("nowhere")
        assert caught.value.code == "store_not_found"
    assert "2.0 d late" in run("replication", "lag", "--tenant", "acme")
    assert "2.0 d late" in run("replication", "stores")
    assert "acme" in run("replication", "stores", "disk-b")
    assert json.loads(run("replication", "lag", "--tenant", "acme", "--json"))["stores"][0]["pending_bytes"] == 5
    assert json.loads(run("replication", "stores", "--json"))["stores"][0]["is_late"]
    assert json.loads(run("replication", "stores", "disk-b", "--json"))["tenants"][0]["tenant"] == "acme"


def test_health_names_what_is_wrong_and_the_command_ends_with_1(behind: Door, run: Run) -> None:
    with behind.connect() as client:
        health = client.get_health()
    assert (health.status, [(one.code, one.store) for one in health.degradations]) == (
        "degraded",
        [("replication_late", "disk-b")],
    )
    assert cli(["upkeep", "health", "--json"], standalone_mode=False) == 1
    assert "replication_late" in run("upkeep", "health")
    # It harms no request, and so takes no server out of service.
    assert httpx.get(f"{behind.url}/readyz").status_code == 200


def test_copies_that_failed_are_listed_and_tried_again(
    behind: Door, urls: Provisioned, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    failures, retry = (("replication", act, "disk-b", "--tenant", "acme") for act in ("failures", "retry"))
    assert json.loads(run(*failures, "--json")) == [], "what is pending has not failed"
    with psycopg.connect(urls.app_url, autocommit=True) as connection:
        connection.execute("SET ROLE simples3dms_platform")
        connection.execute("UPDATE transfers SET state = 'failed', error_message = 'it is full', attempt = 8")
    with behind.connect() as client:
        (failure,) = client.iter_failed_copies("acme", "disk-b")
        assert (failure.document_name, failure.error_message) == ("a.txt", "it is full")
        assert list(client.iter_failed_copies("acme", "disk-a")) == []
        assert client.retry_failed_copies("acme", "disk-a") == 0
        with pytest.raises(ApiProblem) as caught:
            client.retry_failed_copies("acme", "nowhere")
        assert caught.value.code == "store_not_found"
        assert "it is full" in run(*failures)
        # To a store that is to hold it: what no placement wants any more is not copied.
        client.set_placement("acme", write="disk-a", copies=["disk-b"])
        assert json.loads(run(*retry, "--json")) == {"count": 1}
        deadline = time.monotonic() + 60
        while len(client.list_replicas("acme", failure.document_id)) < 2:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert list(client.iter_failed_copies("acme", "disk-b")) == []
        events = [one.details for one in client.iter_audit_events("acme") if one.action == "replication.retried"]
    assert events == [{"count": 1}, {"count": 0}]


def test_an_installation_without_a_fault_is_well(door: Door, run: Run) -> None:
    assert json.loads(run("upkeep", "health", "--json")) == {"status": "ok", "degradations": []}


def test_prometheus_reads_the_numbers_with_a_token_and_nobody_without(behind: Door, run: Run) -> None:
    answer = httpx.get(f"{behind.url}/api/v1/metrics", headers={"Authorization": f"Bearer {behind.token.reveal()}"})
    assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    lines = answer.text.splitlines()
    assert 'simples3dms_replication_pending_copies{owner="platform",store="disk-b"} 1.0' in lines
    assert 'simples3dms_degradations{code="replication_late"} 1.0' in lines
    assert "acme" not in answer.text
    assert httpx.get(f"{behind.url}/api/v1/metrics").status_code == 401
    assert 'simples3dms_replication_pending_bytes{owner="platform",store="disk-b"} 5.0' in run("upkeep", "metrics")


def test_the_version_is_told(run: Run) -> None:
    assert run("--version").strip() == f"simples3dms {version('simples3dms')}"


def test_a_schedule_of_reconciles_is_set_shown_and_taken_back(door: Door, run: Run) -> None:
    asked = ("reconcile", "schedule", "disk-b")
    assert json.loads(run(*asked, "--json"))["schedule"] is None
    found = json.loads(run(*asked, "--every-days", "30", "--older-than-days", "1", "--json"))
    assert (found["schedule"]["every_days"], found["schedule"]["older_than_days"]) == (30, 1)
    assert found["places"] == {"place_count": 1, "due_count": 0, "running_count": 0}
    with door.connect() as client:
        client.start_reconcile("acme", store="disk-b")
        deadline = time.monotonic() + 60
        while not (results := client.get_reconcile_schedule("disk-b").results):
            assert time.monotonic() < deadline
            time.sleep(0.05)
    assert [(one.tenant, one.is_scheduled, one.state) for one in results] == [("acme", False, "done")]
    words = run(*asked)
    assert "every 30 days" in words
    assert "acme" in words
    assert "only by hand" in run(*asked, "--off")
    with pytest.raises(typer.BadParameter):
        run(*asked, "--off", "--every-days", "1")
