"""Faults ordered at the B2 sandbox, and what b2sdk's unmodified client makes of each."""

from __future__ import annotations

import http.client
import io
import os
import time

import pytest
from b2sdk.v3 import Bucket, UploadSourceBytes
from b2sdk.v3.exception import StorageCapExceeded, TransactionCapExceeded

from simples3dms.sandbox.b2 import B2Sandbox

PART = 5_000_000


def download(bucket: Bucket, name: str) -> bytes:
    buffer = io.BytesIO()
    bucket.download_file_by_name(name).save(buffer)
    return buffer.getvalue()


def upload_large(bucket: Bucket, body: bytes) -> None:
    source = UploadSourceBytes(body)
    bucket.concatenate([source], "large", min_part_size=PART, recommended_upload_part_size=PART)


class Watch:
    """The calls since it was made."""

    def __init__(self, server: B2Sandbox) -> None:
        self._server = server
        self._start = len(server.calls())

    def statuses(self, name: str) -> list[int]:
        return [call.status for call in self._server.calls()[self._start :] if call.name == name]


@pytest.fixture
def watch(b2: B2Sandbox, bucket: Bucket) -> Watch:
    return Watch(b2)


def test_expired_tokens_are_renewed(b2: B2Sandbox, bucket: Bucket, watch: Watch) -> None:
    b2.expire_tokens()
    assert list(bucket.ls()) == []
    assert watch.statuses("b2_authorize_account") == [200]
    assert watch.statuses("b2_list_file_names") == [401, 200]


def test_a_busy_upload_url_is_swapped_without_waiting(b2: B2Sandbox, bucket: Bucket, watch: Watch) -> None:
    b2.inject("b2_upload_file", status=503, code="service_unavailable", times=2)
    bucket.upload_bytes(b"body", "file")
    assert watch.statuses("b2_upload_file") == [503, 503, 200]
    assert watch.statuses("b2_get_upload_url") == [200, 200, 200]


@pytest.mark.parametrize("fault", [{"status": 408, "code": "request_timeout"}, {"action": "reset"}])
def test_408_and_a_reset_lead_to_a_new_upload_url(
    b2: B2Sandbox, bucket: Bucket, watch: Watch, fault: dict[str, object]
) -> None:
    b2.inject("b2_upload_file", **fault)  # type: ignore[arg-type]
    bucket.upload_bytes(b"body" * 50_000, "file")
    assert watch.statuses("b2_get_upload_url") == [200, 200]
    assert download(bucket, "file") == b"body" * 50_000


def test_429_is_waited_for_as_told(b2: B2Sandbox, bucket: Bucket, watch: Watch) -> None:
    b2.inject("b2_list_file_names", status=429, code="too_many_requests", headers={"Retry-After": "1"})
    start = time.monotonic()
    assert list(bucket.ls()) == []
    assert time.monotonic() - start >= 1
    assert watch.statuses("b2_list_file_names") == [429, 200]


def test_caps_are_not_retried(b2: B2Sandbox, bucket: Bucket, watch: Watch) -> None:
    b2.inject("b2_upload_file", status=403, code="storage_cap_exceeded")
    with pytest.raises(StorageCapExceeded):
        bucket.upload_bytes(b"body", "file")
    b2.inject("b2_list_file_names", status=403, code="transaction_cap_exceeded")
    with pytest.raises(TransactionCapExceeded):
        list(bucket.ls())
    assert watch.statuses("b2_upload_file") == [403]


def test_a_lost_answer_leaves_two_versions(b2: B2Sandbox, bucket: Bucket, watch: Watch) -> None:
    b2.inject("b2_upload_file", action="lose_answer")
    bucket.upload_bytes(b"body", "file")
    assert watch.statuses("b2_upload_file") == [0, 200]
    assert len(list(bucket.ls(latest_only=False, recursive=True))) == 2


def test_a_download_cut_in_half_is_resumed(b2: B2Sandbox, bucket: Bucket, watch: Watch) -> None:
    body = os.urandom(900_000)
    bucket.upload_bytes(body, "file")
    b2.inject("b2_download_file_by_name", action="truncate")
    assert download(bucket, "file") == body
    assert len(watch.statuses("b2_download_file_by_name")) > 1


def test_faults_in_the_middle_of_a_large_file(b2: B2Sandbox, bucket: Bucket, watch: Watch) -> None:
    body = os.urandom(12_000_000)
    b2.inject("b2_upload_part", status=503, times=2, after=1)
    b2.inject("b2_finish_large_file", status=500, code="internal_error")
    upload_large(bucket, body)
    assert download(bucket, "large") == body
    assert sorted(watch.statuses("b2_upload_part")).count(503) == 2
    assert watch.statuses("b2_finish_large_file") == [500, 200]


def test_a_stall_delays_the_answer(b2: B2Sandbox, bucket: Bucket, watch: Watch) -> None:
    b2.inject("b2_list_file_names", action="stall", seconds=0.5)
    start = time.monotonic()
    list(bucket.ls())
    assert time.monotonic() - start >= 0.5
    assert watch.statuses("b2_list_file_names") == [200]


def test_a_stall_without_end_holds_one_request_only(b2: B2Sandbox, bucket: Bucket) -> None:
    b2.inject("b2_list_file_names", action="stall")
    held = http.client.HTTPConnection("127.0.0.1", b2.port, timeout=0.3)
    held.request("POST", "/b2api/v4/b2_list_file_names", b"{}")
    with pytest.raises(TimeoutError):
        held.getresponse()
    held.close()
    assert list(bucket.ls()) == []


def test_faults_can_be_cleared_and_meet_any_call(b2: B2Sandbox, bucket: Bucket, watch: Watch) -> None:
    b2.inject("*", status=403, code="transaction_cap_exceeded", times=100)
    with pytest.raises(TransactionCapExceeded):
        list(bucket.ls())
    with pytest.raises(TransactionCapExceeded):
        bucket.hide_file("x")
    b2.clear_faults()
    assert list(bucket.ls()) == []
