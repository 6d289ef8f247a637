"""The B2 sandbox through b2sdk's own client: files, large files, ranges, listings, versions, copies."""

from __future__ import annotations

import hashlib
import io
import os
from pathlib import Path

import pytest
from b2sdk.v3 import (
    B2Api,
    Bucket,
    CopySource,
    InMemoryAccountInfo,
    UploadSourceBytes,
)
from b2sdk.v3.exception import BadRequest, FileNotPresent, UnsatisfiableRange

from simples3dms.sandbox.b2 import B2Sandbox

PART = 5_000_000
LARGE = os.urandom(12_000_000)


def read(bucket: Bucket, name: str, range_: tuple[int, int] | None = None) -> bytes:
    buffer = io.BytesIO()
    bucket.download_file_by_name(name, range_=range_).save(buffer)
    return buffer.getvalue()


def names(bucket: Bucket, folder: str = "", **options: object) -> list[str]:
    found = bucket.ls(folder, fetch_count=2, **options)
    return [inside or version.file_name for version, inside in found]


def upload_large(bucket: Bucket, name: str, body: bytes = LARGE) -> str:
    source = UploadSourceBytes(body)
    file = bucket.concatenate([source], name, min_part_size=PART, recommended_upload_part_size=PART)
    return str(file.id_)


def test_a_small_file_comes_back_with_all_that_was_said_about_it(bucket: Bucket) -> None:
    body = os.urandom(10_000)
    file = bucket.upload_bytes(body, "a/b.pdf", content_type="application/pdf", file_info={"who": "Zoë & co + 1"})
    assert read(bucket, "a/b.pdf") == body
    found = bucket.api.get_file_info(file.id_)
    assert found.content_sha1 == hashlib.sha1(body).hexdigest()
    assert (found.content_type, found.size) == ("application/pdf", len(body))
    assert found.file_info == {"who": "Zoë & co + 1"}
    by_name = bucket.get_file_info_by_name("a/b.pdf")
    assert (by_name.id_, by_name.size, by_name.file_info) == (file.id_, len(body), {"who": "Zoë & co + 1"})


def test_an_empty_file_is_a_file(bucket: Bucket) -> None:
    bucket.upload_bytes(b"", "empty")
    assert read(bucket, "empty") == b""


@pytest.mark.parametrize(
    "name", ["ü/ß 𝄞.txt", "a+b c%20d&e?f#g", "x'y\"z:|*", "~!$()=;@,[]{}", "a" * 250, ".hidden/..x"]
)
def test_names_come_back_as_they_went(bucket: Bucket, name: str) -> None:
    bucket.upload_bytes(name.encode(), name)
    assert read(bucket, name) == name.encode()
    assert names(bucket, recursive=True) == [name]


def test_a_large_file_is_the_sum_of_its_parts(bucket: Bucket) -> None:
    file_id = upload_large(bucket, "large.bin")
    assert read(bucket, "large.bin") == LARGE
    across = (2 * PART - 7, 2 * PART + 6)
    assert read(bucket, "large.bin", across) == LARGE[across[0] : across[1] + 1]
    found = bucket.api.get_file_info(file_id)
    assert (found.size, found.content_sha1) == (len(LARGE), "none")


def test_ranges(bucket: Bucket) -> None:
    bucket.upload_bytes(b"0123456789", "digits")
    assert read(bucket, "digits", (3, 5)) == b"345"
    with pytest.raises(UnsatisfiableRange):
        read(bucket, "digits", (10, 12))


def test_listing_pages_folders_and_prefixes(bucket: Bucket) -> None:
    for name in ("b/1", "a", "b/2", "b/c/3", "é", "z", "b0", "Z"):
        bucket.upload_bytes(b".", name)
    assert names(bucket, recursive=True) == ["Z", "a", "b/1", "b/2", "b/c/3", "b0", "z", "é"]
    assert names(bucket) == ["Z", "a", "b/", "b0", "z", "é"]
    assert names(bucket, "b") == ["b/1", "b/2", "b/c/"]
    assert names(bucket, "b", recursive=True) == ["b/1", "b/2", "b/c/3"]


def test_versions_hiding_and_deleting_by_id(bucket: Bucket) -> None:
    first = bucket.upload_bytes(b"one", "doc")
    second = bucket.upload_bytes(b"two", "doc")
    marker = bucket.hide_file("doc")
    with pytest.raises(FileNotPresent):
        read(bucket, "doc")
    assert names(bucket) == []
    versions = [version.id_ for version, _ in bucket.ls(latest_only=False, recursive=True, fetch_count=1)]
    assert versions == [marker.id_, second.id_, first.id_]
    bucket.api.delete_file_version(marker.id_, "doc")
    assert read(bucket, "doc") == b"two"
    bucket.api.delete_file_version(second.id_, "doc")
    assert read(bucket, "doc") == b"one"
    with pytest.raises(FileNotPresent):
        bucket.api.delete_file_version(second.id_, "doc")
    with pytest.raises(FileNotPresent):
        bucket.api.get_file_info(second.id_)


def test_an_unfinished_large_file_can_be_seen_and_cancelled(bucket: Bucket, b2: B2Sandbox) -> None:
    session = bucket.api.session
    started = session.start_large_file(bucket.id_, "big", "text/plain", {"k": "v"})
    for number in (1, 2):
        body = bytes([number]) * 1000
        sent = session.upload_part(
            started["fileId"], number, len(body), hashlib.sha1(body).hexdigest(), io.BytesIO(body)
        )
        assert sent["contentLength"] == len(body)
    assert [part.part_number for part in bucket.api.list_parts(started["fileId"])] == [1, 2]
    assert [file.file_id for file in bucket.list_unfinished_large_files()] == [started["fileId"]]
    assert names(bucket) == []
    bucket.api.cancel_large_file(started["fileId"])
    assert list(bucket.list_unfinished_large_files()) == []


def test_bytes_leave_the_disk_with_their_last_owner(tmp_path: Path) -> None:
    with B2Sandbox(tmp_path) as server:
        api = B2Api(InMemoryAccountInfo())
        api.authorize_account(server.application_key_id, server.application_key, realm=server.url)
        bucket = api.get_bucket_by_name("docs")
        original = bucket.upload_bytes(b"shared", "original")
        copy = bucket.copy(original.id_, "copy")
        api.delete_file_version(original.id_, "original")
        assert read(bucket, "copy") == b"shared"
        api.delete_file_version(copy.id_, "copy")
        assert [path for path in (tmp_path / "blobs").rglob("*") if path.is_file()] == []


def test_copies_whole_in_part_and_as_parts(bucket: Bucket) -> None:
    file_id = upload_large(bucket, "large.bin")
    whole = bucket.copy(file_id, "whole", content_type="text/plain", file_info={"new": "yes"})
    assert (whole.size, whole.file_info) == (len(LARGE), {"new": "yes"})
    assert read(bucket, "whole") == LARGE
    part = bucket.copy(file_id, "part", offset=PART - 3, length=6)
    assert read(bucket, "part") == LARGE[PART - 3 : PART + 3]
    assert part.content_sha1 == hashlib.sha1(LARGE[PART - 3 : PART + 3]).hexdigest()
    sources = [CopySource(file_id, offset=0, length=PART + 5), UploadSourceBytes(b"tail" * 10)]
    bucket.concatenate(sources, "mixed", min_part_size=PART, recommended_upload_part_size=PART)
    assert read(bucket, "mixed") == LARGE[: PART + 5] + b"tail" * 10


def test_an_upload_is_kept_only_if_its_sha1_is_right(bucket: Bucket) -> None:
    session = bucket.api.session

    def upload(announced: str, body: bytes) -> dict[str, str]:
        answer: dict[str, str] = session.upload_file(
            bucket.id_, "x", len(body), "text/plain", announced, {}, io.BytesIO(body)
        )
        return answer

    digest = hashlib.sha1(b"right").hexdigest()
    with pytest.raises(BadRequest, match="Sha1 did not match"):
        upload(digest, b"wrong")
    with pytest.raises(BadRequest, match="Sha1 did not match"):
        upload("hex_digits_at_end", b"wrong" + digest.encode())
    assert names(bucket) == []
    assert upload("hex_digits_at_end", b"right" + digest.encode())["contentSha1"] == digest
    assert upload("do_not_verify", b"right")["contentSha1"] == f"unverified:{digest}"
    assert read(bucket, "x") == b"right"


def test_a_part_below_five_megabytes_is_only_good_as_the_last(bucket: Bucket) -> None:
    session = bucket.api.session
    file_id = session.start_large_file(bucket.id_, "big", "text/plain", {})["fileId"]
    digests = [hashlib.sha1(b"tiny").hexdigest()] * 2
    for number in (1, 2):
        session.upload_part(file_id, number, 4, digests[0], io.BytesIO(b"tiny"))
    with pytest.raises(BadRequest, match="smaller than 5000000"):
        session.finish_large_file(file_id, digests)
    bucket.api.cancel_large_file(file_id)


def test_kill_and_restart_keep_files_tokens_and_address(tmp_path: Path) -> None:
    with B2Sandbox(tmp_path) as server:
        api = B2Api(InMemoryAccountInfo())
        api.authorize_account(server.application_key_id, server.application_key, realm=server.url)
        bucket = api.get_bucket_by_name("docs")
        bucket.upload_bytes(b"kept", "file")
        started = api.session.start_large_file(bucket.id_, "big", "text/plain", {})["fileId"]
        url = server.url
        server.kill()
        server.start()
        assert server.url == url
        assert read(bucket, "file") == b"kept"
        bucket.upload_bytes(b"newer", "file")
        assert [file.file_id for file in bucket.list_unfinished_large_files()] == [started]
        assert "b2_authorize_account" not in [call.name for call in server.calls()]
    with B2Sandbox(tmp_path) as again:
        assert (again.application_key_id, again.application_key) == (server.application_key_id, server.application_key)
        api.authorize_account(again.application_key_id, again.application_key, realm=again.url)
        assert read(api.get_bucket_by_name("docs"), "file") == b"newer"
