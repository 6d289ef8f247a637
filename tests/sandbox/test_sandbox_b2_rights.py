"""The B2 sandbox refuses what B2 refuses: wrong keys, other buckets and prefixes, ended tokens; with B2's codes."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Callable
from typing import Any

import psutil
import pytest
from b2sdk.v3 import B2Api, Bucket
from b2sdk.v3.exception import B2Error, InvalidAuthToken, MaxRetriesExceeded, Unauthorized

from simples3dms.sandbox.b2 import B2Sandbox

LogIn = Callable[..., B2Api]


def call(server: B2Sandbox, path: str, *, token: str, method: str = "POST", body: object = None) -> tuple[int, str]:
    """A bare request; the answer's status and code."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    connection.request(method, path, json.dumps(body), {"Authorization": token})
    response = connection.getresponse()
    answer = json.loads(response.read() or b"{}")
    connection.close()
    return response.status, answer.get("code", "")


def get_range(server: B2Sandbox, path: str, wanted: str, *, token: str) -> tuple[int, bytes, str | None]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    connection.request("GET", path, headers={"Authorization": token, "Range": wanted})
    response = connection.getresponse()
    body = response.read()
    connection.close()
    return response.status, body, response.getheader("Content-Range")


def restricted(api: B2Api, log_in: LogIn, capabilities: list[str], **limits: Any) -> B2Api:
    key = api.create_key(capabilities=["listBuckets", *capabilities], key_name="test", **limits)
    return log_in(key.id_, key.application_key)


def token_of(api: B2Api) -> str:
    return str(api.account_info.get_account_auth_token())


def test_a_wrong_key_is_refused(b2: B2Sandbox, log_in: LogIn) -> None:
    with pytest.raises(Unauthorized):
        log_in(b2.application_key_id, "K005wrong")
    with pytest.raises(Unauthorized):
        log_in("005nobody", b2.application_key)


def test_a_key_of_one_bucket_does_nothing_in_another(b2: B2Sandbox, log_in: LogIn, bucket: Bucket) -> None:
    file = bucket.upload_bytes(b"secret", "file")
    b2.create_bucket("other-bucket")
    other = bucket.api.get_bucket_by_name("other-bucket")
    rights = ["listFiles", "readFiles", "writeFiles", "deleteFiles", "shareFiles"]
    api = restricted(bucket.api, log_in, rights, bucket_ids=[other.id_])
    api.get_bucket_by_name("other-bucket").upload_bytes(b"mine", "mine")
    raw, token = api.session.raw_api, token_of(api)
    attempts: list[Callable[[], object]] = [
        lambda: raw.get_upload_url(b2.url, token, bucket.id_),
        lambda: raw.list_file_names(b2.url, token, bucket.id_),
        lambda: raw.list_file_versions(b2.url, token, bucket.id_),
        lambda: raw.get_file_info_by_id(b2.url, token, file.id_),
        lambda: raw.hide_file(b2.url, token, bucket.id_, "file"),
        lambda: raw.delete_file_version(b2.url, token, file.id_, "file"),
        lambda: raw.start_large_file(b2.url, token, bucket.id_, "big", "text/plain", {}),
        lambda: raw.copy_file(b2.url, token, file.id_, "stolen", destination_bucket_id=other.id_),
        lambda: raw.get_download_authorization(b2.url, token, bucket.id_, "", 60),
        lambda: raw.list_buckets(b2.url, token, "account"),
    ]
    for attempt in attempts:
        with pytest.raises(Unauthorized):
            attempt()
    for path in (f"/file/{bucket.name}/file", f"/b2api/v4/b2_download_file_by_id?fileId={file.id_}"):
        assert call(b2, path, token=token, method="GET") == (401, "unauthorized")


def test_a_key_is_held_to_its_prefix_and_capabilities(log_in: LogIn, bucket: Bucket) -> None:
    bucket.upload_bytes(b"x", "theirs/x")
    api = restricted(bucket.api, log_in, ["writeFiles", "listFiles"], bucket_ids=[bucket.id_], name_prefix="mine/")
    mine = api.get_bucket_by_name(bucket.name)
    mine.upload_bytes(b"y", "mine/y")
    assert [version.file_name for version, _ in mine.ls("mine/")] == ["mine/y"]
    raw, token, url = api.session.raw_api, token_of(api), api.account_info.get_api_url()
    with pytest.raises(MaxRetriesExceeded, match="not entitled"):
        mine.upload_bytes(b"y", "theirs/y")
    with pytest.raises(Unauthorized):
        raw.list_file_names(url, token, bucket.id_, prefix="theirs/")
    with pytest.raises(Unauthorized):
        raw.get_download_authorization(url, token, bucket.id_, "mine/", 60)


def test_an_ended_key_ends_its_tokens(b2: B2Sandbox, log_in: LogIn, bucket: Bucket) -> None:
    key = bucket.api.create_key(["listBuckets", "listFiles"], "deleted")
    token = token_of(log_in(key.id_, key.application_key))
    bucket.api.delete_key_by_id(key.id_)
    body = {"bucketId": bucket.id_}
    assert call(b2, "/b2api/v4/b2_list_file_names", token=token, body=body) == (401, "bad_auth_token")

    short = bucket.api.create_key(["listBuckets", "listFiles"], "short", valid_duration_seconds=1)
    token = token_of(log_in(short.id_, short.application_key))
    deadline = time.monotonic() + 30
    while (found := call(b2, "/b2api/v4/b2_list_file_names", token=token, body=body))[0] == 200:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert found == (401, "expired_auth_token")
    with pytest.raises(Unauthorized):
        log_in(short.id_, short.application_key)


def test_expired_and_invented_tokens(b2: B2Sandbox, bucket: Bucket) -> None:
    token, body = token_of(bucket.api), {"bucketId": bucket.id_}
    assert call(b2, "/b2api/v4/b2_list_file_names", token=token, body=body)[0] == 200
    b2.expire_tokens()
    assert call(b2, "/b2api/v4/b2_list_file_names", token=token, body=body) == (401, "expired_auth_token")
    assert call(b2, "/file/x/y", token=token, method="GET") == (401, "expired_auth_token")
    for invented in ("", "4_x_y", token[:-1] + ("0" if token[-1] != "0" else "1")):
        assert call(b2, "/b2api/v4/b2_list_file_names", token=invented, body=body) == (401, "bad_auth_token")


def test_a_download_authorization_is_for_its_prefix_and_time(b2: B2Sandbox, bucket: Bucket) -> None:
    for name in ("a/1", "b/1"):
        bucket.upload_bytes(b"x", name)
    token = bucket.get_download_authorization("a/", 60)
    assert call(b2, f"/file/{bucket.name}/a/1?Authorization={token}", token="", method="HEAD") == (200, "")
    assert call(b2, f"/file/{bucket.name}/b/1", token=token, method="GET") == (401, "unauthorized")
    assert call(b2, "/b2api/v4/b2_list_file_names", token=token, body={})[0] in (400, 401)
    assert call(b2, f"/file/{bucket.name}/a/1", token="", method="GET") == (401, "bad_auth_token")


@pytest.mark.parametrize(
    ("wanted", "body", "header"),
    [
        ("bytes=0-0", b"0", "bytes 0-0/10"),
        ("bytes=8-99", b"89", "bytes 8-9/10"),
        ("bytes=7-", b"789", "bytes 7-9/10"),
        ("bytes=-2", b"89", "bytes 8-9/10"),
        ("bytes=-99", b"0123456789", "bytes 0-9/10"),
    ],
)
def test_ranges(b2: B2Sandbox, bucket: Bucket, wanted: str, body: bytes, header: str) -> None:
    bucket.upload_bytes(b"0123456789", "digits")
    path, token = f"/file/{bucket.name}/digits", token_of(bucket.api)
    assert get_range(b2, path, wanted, token=token) == (206, body, header)
    assert get_range(b2, path, "bytes=10-", token=token)[0] == 416
    assert get_range(b2, path, "bytes=x", token=token)[0] == 400


def test_ids_and_names_that_do_not_exist(b2: B2Sandbox, bucket: Bucket) -> None:
    token = token_of(bucket.api)
    cases: list[tuple[str, dict[str, Any], tuple[int, str]]] = [
        ("b2_get_file_info", {"fileId": "nonsense"}, (400, "bad_request")),
        ("b2_get_file_info", {"fileId": "4_zx_f0_t1_u2"}, (404, "not_found")),
        ("b2_get_file_info", {}, (400, "bad_request")),
        ("b2_list_file_names", {"bucketId": "0" * 24}, (400, "bad_bucket_id")),
        ("b2_list_file_names", {"bucketId": bucket.id_, "maxFileCount": 20_000}, (400, "bad_request")),
        ("b2_hide_file", {"bucketId": bucket.id_, "fileName": "none"}, (400, "no_such_file")),
        ("b2_delete_file_version", {"fileId": "4_z", "fileName": "x"}, (400, "file_not_present")),
        ("b2_cancel_large_file", {"fileId": "4_z"}, (400, "bad_request")),
        ("b2_create_bucket", {"bucketName": bucket.name}, (400, "duplicate_bucket_name")),
    ]
    for name, body, expected in cases:
        assert call(b2, f"/b2api/v4/{name}", token=token, body=body) == expected, name
    assert call(b2, f"/file/{bucket.name}/none", token=token, method="GET") == (404, "not_found")
    assert call(b2, f"/file/{bucket.name}/none", token=token, method="HEAD") == (404, "")


@pytest.mark.filterwarnings("ignore:bad request exception with an unknown `code`")
def test_a_bucket_goes_only_when_it_is_empty(bucket: Bucket) -> None:
    file = bucket.upload_bytes(b"x", "x")
    with pytest.raises(B2Error, match="non-empty"):
        bucket.api.delete_bucket(bucket)
    bucket.api.delete_file_version(file.id_, "x")
    bucket.api.delete_bucket(bucket)
    assert bucket.name not in [found.name for found in bucket.api.list_buckets()]


def test_an_upload_url_is_for_one_upload_at_a_time_and_for_its_token(b2: B2Sandbox, bucket: Bucket) -> None:
    raw, token = bucket.api.session.raw_api, token_of(bucket.api)
    first, second = (raw.get_upload_url(b2.url, token, bucket.id_) for _ in range(2))
    path = first["uploadUrl"].removeprefix(b2.url)
    headers = {
        "Authorization": first["authorizationToken"],
        "X-Bz-File-Name": "slow",
        "X-Bz-Content-Sha1": "do_not_verify",
        "Content-Type": "text/plain",
    }
    assert call(b2, path, token=second["authorizationToken"]) == (401, "bad_auth_token")
    slow = http.client.HTTPConnection("127.0.0.1", b2.port, timeout=10)
    slow.putrequest("POST", path)
    for name, value in {**headers, "Content-Length": "4"}.items():
        slow.putheader(name, value)
    slow.endheaders()
    slow.send(b"12")
    deadline = time.monotonic() + 30
    while True:  # until the server has seen the first half
        connection = http.client.HTTPConnection("127.0.0.1", b2.port, timeout=10)
        connection.request("POST", path, b"1234", headers)
        answer = json.loads(connection.getresponse().read())
        connection.close()
        if answer.get("code") == "auth_token_limit":
            break
        assert time.monotonic() < deadline
    slow.send(b"34")
    assert slow.getresponse().status == 200
    slow.close()


def test_the_control_needs_its_token_and_only_the_loopback_is_served(b2: B2Sandbox) -> None:
    for what in ("inject", "clear", "calls", "expire", "bucket", "ready"):
        assert call(b2, f"/sandbox/{what}", token="Bearer wrong", body={}) == (401, "unauthorized")
    listening = [c.laddr.ip for c in psutil.Process(b2.pid).net_connections() if c.status == psutil.CONN_LISTEN]
    assert listening == ["127.0.0.1"]


def test_clients_of_expired_tokens_authorise_again_but_not_with_a_dead_key(
    b2: B2Sandbox, log_in: LogIn, bucket: Bucket
) -> None:
    key = bucket.api.create_key(["listBuckets", "listFiles"], "gone", bucket_ids=[bucket.id_])
    limited = log_in(key.id_, key.application_key).get_bucket_by_name(bucket.name)
    bucket.api.delete_key_by_id(key.id_)
    with pytest.raises((InvalidAuthToken, Unauthorized)):
        list(limited.ls())
