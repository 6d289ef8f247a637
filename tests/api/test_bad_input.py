"""Bad input at the HTTP door: a problem with a stable code, the records unchanged, nothing left in a store."""

from __future__ import annotations

import base64
import json
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import httpx
import pytest
from tests.api.conftest import Door

from simples3dms.client import ApiProblem, Client
from simples3dms.kit.secret import Secret


def refused(code: str, status: int, act: Callable[[], object]) -> ApiProblem:
    with pytest.raises(ApiProblem) as caught:
        act()
    assert (caught.value.code, caught.value.status) == (code, status)
    return caught.value


def objects(door: Door) -> list[Path]:
    return [path for root in door.roots.values() for path in root.rglob("[!.]*") if path.is_file()]


def assert_nothing_left(door: Door) -> None:
    """No document, and soon no object: what a failed upload left is removed by the worker."""
    with door.connect() as client:
        assert list(client.iter_documents("acme")) == []
    deadline = time.monotonic() + 120
    while objects(door):
        assert time.monotonic() < deadline, objects(door)
        time.sleep(0.05)


def raw(door: Door, head: str, body: bytes, *, shut: bool) -> bytes:
    """Send bytes as they are, and read the answer to its end."""
    with socket.create_connection((door.host, door.port), timeout=20) as connection:
        head += f"Host: x\r\nAuthorization: Bearer {door.token.reveal()}\r\nConnection: close\r\n\r\n"
        connection.sendall(head.encode() + body)
        if shut:
            connection.shutdown(socket.SHUT_WR)
        answer = b""
        while chunk := connection.recv(65_536):
            answer += chunk
        return answer


def test_who_is_not_signed_in_gets_nothing(door: Door) -> None:
    with Client(door.url, tries=1) as nobody:
        refused("token_missing", 401, lambda: list(nobody.iter_tenants()))
        refused("credentials_wrong", 401, lambda: nobody.log_in("admin@localhost", Secret("wrong password")))
        refused("credentials_wrong", 401, lambda: nobody.log_in("nobody@example.org", Secret("wrong password")))
    with door.connect("s3dms_not-a-token") as stranger:
        refused("token_invalid", 401, lambda: list(stranger.iter_tenants()))


def test_a_body_shorter_than_announced(door: Door) -> None:
    raw(
        door,
        "POST /api/v1/tenants/acme/documents?name=x HTTP/1.1\r\nContent-Length: 500000\r\n",
        b"a" * 1000,
        shut=True,
    )
    assert_nothing_left(door)


def test_a_body_longer_than_announced(door: Door) -> None:
    """What goes beyond the announced length is no part of the request: never taken into the document."""
    answer = raw(
        door, "POST /api/v1/tenants/acme/documents?name=x HTTP/1.1\r\nContent-Length: 4\r\n", b"abcdEFGH", shut=False
    )
    assert answer.startswith(b"HTTP/1.1 201")
    with door.connect() as client:
        (document,) = client.iter_documents("acme")
        assert document.size_bytes == 4
        with client.open_content("acme", document.id) as chunks:
            assert b"".join(chunks) == b"abcd"


def test_a_wrong_or_malformed_digest(door: Door) -> None:
    url = f"{door.url}/api/v1/tenants/acme/documents?name=x"
    bearer = {"Authorization": f"Bearer {door.token.reveal()}"}
    wrong = base64.b64encode(bytes(32)).decode()
    for value, status, code in (
        (f"sha-256=:{wrong}:", 422, "digest_mismatch"),
        ("sha-256=:AAAA:", 400, "digest_malformed"),
        ("md5=:AAAA:", 400, "digest_malformed"),
    ):
        answer = httpx.post(url, content=b"body", headers={**bearer, "Content-Digest": value}, trust_env=False)
        assert (answer.status_code, answer.json()["code"]) == (status, code)
        assert answer.headers["content-type"] == "application/problem+json"
    assert_nothing_left(door)


def test_unknown_tenants_and_documents(door: Door) -> None:
    with door.connect() as client:
        refused("tenant_not_found", 404, lambda: list(client.iter_documents("nowhere")))
        refused("document_not_found", 404, lambda: client.get_document("acme", uuid4()))
        refused("document_not_found", 404, lambda: client.delete_document("acme", uuid4()))
        answer = client.http.get("/api/v1/tenants/acme/documents/not-an-id")
        assert (answer.status_code, answer.json()["code"]) == (404, "document_not_found")
        refused("migration_not_found", 404, lambda: client.start_migration("acme", uuid4()))


def test_another_tenants_ids_do_not_exist(door: Door, tmp_path: Path) -> None:
    file = tmp_path / "mine.txt"
    file.write_bytes(b"mine")
    with door.connect() as operator:
        document = operator.upload_document("acme", file)
        operator.create_tenant("globex", "Globex")
        operator.grant_store("globex", "disk-a")
        operator.set_placement("globex", write="disk-a")
        made = operator.create_user("eve@globex.example")
        operator.set_member("globex", "eve@globex.example", "owner")
    assert made.password is not None
    with Client(door.url, tries=1) as client:
        token = client.log_in("eve@globex.example", Secret(made.password)).token
    with door.connect(token) as eve:
        # Her own tenant with a foreign id, the foreign tenant itself, and a tenant that never was: all the same.
        refused("document_not_found", 404, lambda: eve.get_document("globex", document.id))
        refused("document_not_found", 404, lambda: eve.upload_document("globex", file, document_id=document.id))
        foreign = refused("tenant_not_found", 404, lambda: eve.get_document("acme", document.id))
        never = refused("tenant_not_found", 404, lambda: eve.get_document("never-was", document.id))
        assert foreign.problem.detail == never.problem.detail
        refused("permission_required", 403, lambda: eve.create_tenant("mine", "Mine"))
        refused("permission_required", 403, lambda: list(eve.iter_tenants()))
        refused("permission_required", 403, eve.list_stores)


def test_stores_that_do_not_work_are_not_saved(door: Door, tmp_path: Path) -> None:
    with door.connect() as client:
        good = {"access_key_id": "key", "secret_access_key": "secret"}
        place = {"endpoint": "http://127.0.0.1:9", "bucket": "documents"}

        def add(kind: str, settings: dict[str, object], credential: dict[str, str]) -> Callable[[], object]:
            return lambda: client.add_store("bad", kind=kind, settings=settings, credential=credential)

        refused("store_unreachable", 503, add("s3", place, good))
        # A server that is there and speaks something else: our own.
        refused("store_endpoint_wrong", 422, add("s3", {**place, "endpoint": door.url}, good))
        blank = refused("credential_invalid", 422, add("s3", place, {**good, "secret_access_key": "  "}))
        assert [field.field for field in blank.problem.fields or []] == ["secret_access_key"]
        refused("credential_invalid", 422, add("s3", place, {}))
        refused("store_settings_invalid", 422, add("s3", {"endpoint": "ftp://x", "bucket": "documents"}, good))
        refused("store_kind_unknown", 422, add("floppy", {}, {}))
        assert {store.name for store in client.list_stores()} == {"disk-a", "disk-b"}


def test_migrating_onto_itself_and_cutting_over_out_of_turn(door: Door, tmp_path: Path) -> None:
    file = tmp_path / "a.bin"
    file.write_bytes(os.urandom(2000))
    with door.connect() as client:
        client.upload_document("acme", file)
        refused("migration_same_store", 422, lambda: client.plan_migration("acme", target="disk-a"))
        planned = client.plan_migration("acme", target="disk-b")
        refused("migration_wrong_state", 409, lambda: client.cut_over_migration("acme", planned.id))
        client.start_migration("acme", planned.id)
        deadline = time.monotonic() + 120
        while client.get_migration("acme", planned.id).state != "ready":
            assert time.monotonic() < deadline
            time.sleep(0.05)
        client.cut_over_migration("acme", planned.id)
        refused("migration_already_cut_over", 409, lambda: client.cut_over_migration("acme", planned.id))


def test_unknown_fields_and_nonsense_are_named(door: Door) -> None:
    bearer = {"Authorization": f"Bearer {door.token.reveal()}"}
    with httpx.Client(base_url=door.url, headers=bearer, trust_env=False) as client:
        answer = client.post("/api/v1/tenants", json={"slug": "x", "name": "X", "is_admin": True})
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid")
        assert answer.json()["fields"][0]["field"] == "is_admin"
        for body in (b"{", b"[]", b"\xff", json.dumps("x" * 2_000_000).encode()):
            answer = client.post("/api/v1/tenants", content=body, headers={"Content-Type": "application/json"})
            assert answer.status_code in (400, 413, 422)
            assert answer.headers["content-type"] == "application/problem+json"
        assert client.get("/api/v1/tenants/acme/documents?limit=100000").status_code == 422
        assert client.get("/api/v1/tenants/acme/documents?after=zero").status_code == 422


def test_downloads_by_range_and_tag(door: Door, tmp_path: Path) -> None:
    body = os.urandom(50_000)
    file = tmp_path / 'ré"su\u202emé – 漢字.txt'
    file.write_bytes(body)
    with door.connect() as client:
        document = client.upload_document("acme", file, content_type="text/html")
        url = f"/api/v1/tenants/acme/documents/{document.id}/content"
        whole = client.http.get(url)
        assert whole.content == body
        assert whole.headers["content-type"] == "application/octet-stream"
        assert whole.headers["content-disposition"].startswith("attachment; filename=")
        assert client.http.get(url, headers={"If-None-Match": whole.headers["etag"]}).status_code == 304
        for given, expected in (
            ("bytes=0-0", body[:1]),
            ("bytes=10-19", body[10:20]),
            ("bytes=-5", body[-5:]),
            ("bytes=49990-", body[49_990:]),
            ("bytes=49990-999999", body[49_990:]),
        ):
            part = client.http.get(url, headers={"Range": given})
            assert (part.status_code, part.content) == (206, expected)
        beyond = client.http.get(url, headers={"Range": "bytes=50000-"})
        assert (beyond.status_code, beyond.headers["content-range"]) == (416, "bytes */50000")
        assert client.http.get(url, headers={"Range": "bytes=0-1,3-4"}).status_code == 200
        assert client.http.head(url).headers["content-length"] == "50000"


def test_a_damaged_object_is_never_served_as_whole(door: Door, tmp_path: Path) -> None:
    """Its only copy is damaged on disk: small ones are refused, and a large one breaks off instead of ending."""
    small, large = tmp_path / "small", tmp_path / "large"
    small.write_bytes(os.urandom(1000))
    large.write_bytes(os.urandom(3_000_000))
    with door.connect() as client:
        ids = [client.upload_document("acme", file).id for file in (small, large)]
        for path in objects(door):
            damaged = bytearray(path.read_bytes())
            damaged[len(damaged) // 2] ^= 1
            path.write_bytes(damaged)
        refused("no_readable_replica", 502, lambda: client.download_document("acme", ids[0], tmp_path / "out"))
        with pytest.raises(httpx.HTTPError):
            client.http.get(f"/api/v1/tenants/acme/documents/{ids[1]}/content")
    assert not (tmp_path / "out").exists()
