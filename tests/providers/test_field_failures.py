"""What others lost data to, and faults of a single store, that no other file of tests is about."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import secrets
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import boto3
import httpx
import psutil
import pytest
from b2sdk.v3 import B2Api, InMemoryAccountInfo

from simples3dms.providers.base import Expected, ObjectRef, StorageProvider
from simples3dms.providers.errors import AccessDenied, IntegrityError, ObjectNotFound, ProviderError
from simples3dms.providers.kinds.local import provider as local_provider
from simples3dms.providers.kinds.local import tree
from simples3dms.providers.registry import get_kind
from simples3dms.providers.stack import StackSettings, build_stack
from simples3dms.sandbox.b2 import B2Sandbox
from simples3dms.sandbox.faultproxy import FaultProxy, Flow
from simples3dms.sandbox.httpfaults import Answer, HttpFaultProxy
from simples3dms.sandbox.seaweedfs import SeaweedServer

pytestmark = pytest.mark.anyio
BODY = secrets.token_bytes(100_000)
WHOLE = Expected(len(BODY), hashlib.sha256(BODY).digest())


@pytest.fixture(scope="module")
def b2(tmp_path_factory: pytest.TempPathFactory) -> Iterator[B2Sandbox]:
    with B2Sandbox(tmp_path_factory.mktemp("b2"), buckets=("documents",)) as server:
        yield server


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SeaweedServer]:
    with SeaweedServer(tmp_path_factory.mktemp("s3")) as server:
        yield server


def make(kind: str, settings: dict[str, Any], credential: dict[str, str], **tuning: Any) -> StorageProvider:
    return build_stack(get_kind(kind).create(settings, credential), StackSettings(retry_base_seconds=0.01, **tuning))


async def read(provider: StorageProvider, key: str, **how: Any) -> bytes:
    async with provider.open(key, **how) as reader:
        return b"".join([chunk async for chunk in reader])


async def chunks(body: bytes) -> AsyncIterator[bytes]:
    for offset in range(0, len(body), 30_000):
        yield body[offset : offset + 30_000]


# --- F27: a slow store among fast ones ------------------------------------------------------------------------------


async def test_f27_a_slow_store_takes_nothing_from_the_others(s3: SeaweedServer) -> None:
    """Each store has its own limits and its own threads: what waits for one is in nobody else's way."""
    credential = {"access_key_id": s3.access_key, "secret_access_key": s3.secret_key}
    with FaultProxy(s3.port) as line:
        slow = make("s3", {"endpoint": line.url, "bucket": "docs", "prefix": "slow"}, credential, most_concurrent=4)
        fast = make("s3", {"endpoint": s3.endpoint, "bucket": "docs", "prefix": "fast"}, credential, most_concurrent=4)
        for store in (slow, fast):
            await store.put("x", BODY, expected=WHOLE)
        line.down = Flow(bytes_per_second=5_000)
        waiting = [asyncio.create_task(read(slow, "x", expected=WHOLE)) for _ in range(32)]
        waiting += [asyncio.create_task(slow.list_page()) for _ in range(32)]
        for _ in range(50):
            assert await read(fast, "x", expected=WHOLE) == BODY
            await fast.list_page()
        assert not all(task.done() for task in waiting)
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        line.heal()
        assert await read(slow, "x", expected=WHOLE) == BODY
        await slow.close()
        await fast.close()


# --- F32, F35: what lies at the store is not what was written -------------------------------------------------------


@pytest.mark.parametrize("fault", ["flipped", "replaced", "cut", "longer"])
async def test_f32_f35_other_bytes_at_rest_are_never_given_out_as_the_object(tmp_path: Path, fault: str) -> None:
    store = make("local", {"path": str(tmp_path)}, {})
    await store.put("x", BODY, expected=WHOLE)
    file = next(path for path in tmp_path.rglob("*") if path.is_file())
    other = bytearray(BODY)
    other[50_000] ^= 1
    file.write_bytes(
        {"flipped": other, "replaced": secrets.token_bytes(len(BODY)), "cut": BODY[:-1], "longer": BODY + b"1"}[fault]
    )
    with pytest.raises(IntegrityError):
        await read(store, "x", expected=WHOLE)
    await store.close()


# --- F43: a disk that fails -------------------------------------------------------------------------------------


class FailingSync(tree.FileOps):
    """The disk fails on the sync after `good` that work, and works again afterwards, as the kernel pretends."""

    def __init__(self, good: int) -> None:
        self.left = good
        self.failed = 0

    def fsync(self, fd: int) -> None:
        self.left -= 1
        if self.left == -1:
            self.failed += 1
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        super().fsync(fd)


@pytest.mark.parametrize("good", [0, 1, 2])
@pytest.mark.parametrize("streamed", [False, True])
async def test_f43_a_failed_sync_fails_the_write_and_is_not_tried_again(
    tmp_path: Path, good: int, streamed: bool
) -> None:
    """The kernel may have dropped the pages: a second sync that succeeds would prove nothing."""
    ops = FailingSync(good)
    plain = local_provider.LocalProvider(local_provider.LocalSettings(path=str(tmp_path)), ops=ops)
    store = build_stack(plain, StackSettings(retry_attempts=5, retry_base_seconds=0.001))
    with pytest.raises(ProviderError) as caught:
        await store.put("folder/x", chunks(BODY) if streamed else BODY, expected=WHOLE)
    assert caught.value.vendor_code == "EIO"
    assert ops.failed == 1
    # A folder's sync comes after the rename, and what can't be proven to stay is taken away again.
    with pytest.raises(ObjectNotFound):
        await store.head("folder/x")
    await store.discard("folder/x")
    assert [info async for info in store.list()] == []
    await store.put("folder/y", BODY, expected=WHOLE)
    assert await read(store, "folder/y", expected=WHOLE) == BODY
    await store.close()


async def test_f43_a_file_system_that_turned_read_only_says_so_and_is_still_read(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("mounting needs root (try `unshare --user --map-root-user --mount make test`)")
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(disk)], check=True)
    try:
        store = make("local", {"path": str(disk)}, {}, retry_attempts=2)
        await store.put("x", BODY, expected=WHOLE)
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        for call in (store.put("y", BODY), store.discard("x")):
            with pytest.raises(ProviderError) as caught:
                await call
            assert caught.value.vendor_code == "EROFS"
        assert await read(store, "x", expected=WHOLE) == BODY
        await store.close()
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)


# --- F48: rights that were taken away -------------------------------------------------------------------------------


async def test_f48_a_key_that_may_not_delete_still_writes_and_says_what_it_may_not(b2: B2Sandbox) -> None:
    api = B2Api(InMemoryAccountInfo())
    api.authorize_account(b2.application_key_id, b2.application_key, realm=b2.url)
    key = api.create_key(capabilities=["listBuckets", "listFiles", "readFiles", "writeFiles"], key_name="no-delete")
    store = make(
        "b2",
        {"realm": b2.url, "bucket": "documents", "prefix": "f48"},
        {"application_key_id": key.id_, "application_key": key.application_key},
    )
    made = await store.put("x", BODY, expected=WHOLE)
    assert await read(store, "x", expected=WHOLE) == BODY
    (outcome,) = await store.delete([ObjectRef("x", made.version_id)])
    assert isinstance(outcome.error, AccessDenied)
    with pytest.raises(AccessDenied):
        await store.check()
    assert await read(store, "x", expected=WHOLE) == BODY
    await store.close()


# --- F50: a delete that is refused --------------------------------------------------------------------------------


async def test_f50_what_an_object_lock_holds_is_not_reported_as_deleted(s3: SeaweedServer) -> None:
    client = boto3.session.Session().client(
        "s3",
        endpoint_url=s3.endpoint,
        region_name=s3.region,
        aws_access_key_id=s3.access_key,
        aws_secret_access_key=s3.secret_key,
    )
    client.create_bucket(Bucket="locked", ObjectLockEnabledForBucket=True)
    credential = {"access_key_id": s3.access_key, "secret_access_key": s3.secret_key}
    store = make("s3", {"endpoint": s3.endpoint, "bucket": "locked"}, credential, retry_attempts=1)
    made = await store.put("x", BODY)
    client.put_object_legal_hold(Bucket="locked", Key="x", VersionId=made.version_id, LegalHold={"Status": "ON"})
    (outcome,) = await store.delete([ObjectRef("x", made.version_id)])
    assert outcome.error is not None
    with pytest.raises(ProviderError):
        await store.discard("x")
    async with store.open("x", version_id=made.version_id, expected=WHOLE) as reader:
        assert b"".join([chunk async for chunk in reader]) == BODY
    client.put_object_legal_hold(Bucket="locked", Key="x", VersionId=made.version_id, LegalHold={"Status": "OFF"})
    await store.discard("x")
    left = client.list_object_versions(Bucket="locked")
    assert (left.get("Versions", []), left.get("DeleteMarkers", [])) == ([], [])
    await store.close()


# --- failure modes by their number ----------------------------------------------------------------------------------


async def test_mode_10_a_store_that_keeps_the_framing_of_a_trailer_is_found_out(s3: SeaweedServer) -> None:
    """The bytes that come back are longer by the framing: never taken for the object."""
    credential = {"access_key_id": s3.access_key, "secret_access_key": s3.secret_key}
    with HttpFaultProxy(s3.port) as proxy:
        store = make("s3", {"endpoint": proxy.url, "bucket": "docs"}, credential, retry_attempts=1)
        await store.put("framed", BODY, expected=WHOLE)

        def framed(answer: Answer) -> Answer:
            content = b"%x\r\n%s\r\n0\r\nx-amz-checksum-crc32:AAAAAA==\r\n\r\n" % (len(BODY), BODY)
            return Answer(200, answer.without("content-range").headers, content)

        proxy.add("GET /docs/framed", change=framed)
        with pytest.raises(IntegrityError):
            await read(store, "framed", expected=WHOLE)
        await store.close()


@pytest.mark.parametrize("checksum", ["none", "crc32c", "crc64nvme", "sha256"])
async def test_mode_12_a_signed_upload_holds_no_checksum_of_an_empty_body(s3: SeaweedServer, checksum: str) -> None:
    """Whatever the store's own uploads carry, and the signed one works."""
    credential = {"access_key_id": s3.access_key, "secret_access_key": s3.secret_key}
    settings = {"endpoint": s3.endpoint, "bucket": "docs", "checksum": checksum}
    store = make("s3", settings, credential)
    signed = await store.sign_upload("signed", size_bytes=len(BODY), content_type="text/plain", expires_seconds=60)
    assert "checksum" not in signed.url.reveal().lower()
    assert not [name for name in signed.headers if "checksum" in name.lower()]
    async with httpx.AsyncClient(trust_env=False) as client:
        answer = await client.request(signed.method, signed.url.reveal(), content=BODY, headers=dict(signed.headers))
    assert answer.status_code == 200
    assert await read(store, "signed", expected=WHOLE) == BODY
    await store.close()


async def test_mode_14_a_listing_of_two_hundred_thousand_keys_is_flat(s3: SeaweedServer) -> None:
    """Page by page, and no page is kept; the work can begin with the first one."""
    pages = 200
    credential = {"access_key_id": s3.access_key, "secret_access_key": s3.secret_key}
    with HttpFaultProxy(s3.port) as proxy:
        for number in range(pages):
            more = "true" if number < pages - 1 else "false"
            listed = "".join(
                f"<Contents><Key>{number:04}/{'k' * 200}{n:04}</Key><Size>1</Size><ETag>e</ETag></Contents>"
                for n in range(1000 if more == "true" else 999)
            )
            text = (
                f"<ListBucketResult><IsTruncated>{more}</IsTruncated><NextContinuationToken>page{number + 1}-"
                f"</NextContinuationToken>{listed}</ListBucketResult>"
            )
            asked = f"page{number}-" if number else "GET /docs?list-type=2&prefix=&max-keys=1000&encoding-type=url"
            proxy.add(asked, instead=Answer(200, {"Content-Type": "application/xml"}, text.encode()))
        proxy.faults.reverse()
        store = make("s3", {"endpoint": proxy.url, "bucket": "docs"}, credential)
        before, count, seen_at_first = psutil.Process().memory_info().rss, 0, 0
        async for _ in store.list():
            count += 1
            seen_at_first = seen_at_first or len(proxy.requests)
        assert count == pages * 1000 - 1
        assert seen_at_first <= 3
        assert psutil.Process().memory_info().rss - before < 64 * 2**20
        await store.close()


async def test_mode_19_no_hidden_version_is_left_to_be_billed(b2: B2Sandbox) -> None:
    credential = {"application_key_id": b2.application_key_id, "application_key": b2.application_key}
    store = make("b2", {"realm": b2.url, "bucket": "documents", "prefix": "mode19"}, credential)
    for _ in range(3):
        await store.put("x", BODY)
    api = B2Api(InMemoryAccountInfo())
    api.authorize_account(b2.application_key_id, b2.application_key, realm=b2.url)
    bucket = api.get_bucket_by_name("documents")
    bucket.hide_file("mode19/x")
    assert len(list(bucket.list_file_versions("mode19/x"))) == 4
    await store.discard("x")
    assert list(bucket.list_file_versions("mode19/x")) == []
    await store.close()


async def test_mode_21_a_store_is_written_and_looked_at_through_one_api(b2: B2Sandbox) -> None:
    """What was written is there in the very next call, every time: no second API that may be behind."""
    credential = {"application_key_id": b2.application_key_id, "application_key": b2.application_key}
    store = make("b2", {"realm": b2.url, "bucket": "documents", "prefix": "mode21"}, credential)
    before = len(b2.calls())
    for number in range(20):
        made = await store.put(f"{number}", BODY)
        assert (await store.head(f"{number}", version_id=made.version_id)).size_bytes == len(BODY)
    paths = {call.name for call in b2.calls()[before:]}
    assert paths <= {"b2_authorize_account", "b2_list_buckets", "b2_get_upload_url", "b2_upload_file"} | {
        "b2_get_file_info",
        "b2_download_file_by_id",
        "b2_download_file_by_name",
    }
    await store.close()


async def test_a_poison_object_does_not_close_the_store_for_others() -> None:
    """Failure mode 22, for the layers: an object's own fault never opens the breaker."""
    store = make("memory", {"name": secrets.token_hex(8)}, {}, breaker_failures=2, retry_attempts=1)
    await store.put("good", BODY)
    for _ in range(10):
        with pytest.raises(IntegrityError):
            await read(store, "good", expected=Expected(len(BODY), b"0" * 32))
    assert await read(store, "good", expected=WHOLE) == BODY
    await store.close()
