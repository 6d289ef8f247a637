"""What goes wrong between us and an S3 store: real SeaweedFS behind a proxy that cuts, flips, swallows and refuses."""

from __future__ import annotations

import base64
import hashlib
import secrets
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

import boto3
import pytest

from simples3dms.providers.base import Expected, ObjectRef, StorageProvider
from simples3dms.providers.errors import (
    BadCredential,
    BucketMissing,
    IntegrityError,
    ObjectNotFound,
    StoreTimedOut,
    StoreUnavailable,
)
from simples3dms.providers.kinds.s3 import versioning
from simples3dms.providers.layers.forwarding import Layer
from simples3dms.providers.layers.observe import Observations
from simples3dms.providers.registry import BuildOptions, get_kind
from simples3dms.providers.stack import StackSettings, build_stack
from simples3dms.sandbox.faultproxy import FaultProxy, Flow
from simples3dms.sandbox.httpfaults import Answer, HttpFaultProxy
from simples3dms.sandbox.seaweedfs import SeaweedServer

pytestmark = pytest.mark.anyio
BODY = secrets.token_bytes(3_000_000)
LARGE = secrets.token_bytes(18 * 2**20)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SeaweedServer]:
    with SeaweedServer(tmp_path_factory.mktemp("s3"), buckets=("docs", "versioned")) as server:
        yield server


@pytest.fixture
def proxy(server: SeaweedServer) -> Iterator[FaultProxy]:
    with FaultProxy(int(server.endpoint.rpartition(":")[2])) as proxy:
        yield proxy


@dataclass
class Stores:
    """Providers on the server: straight, and through the proxy."""

    server: SeaweedServer
    proxy: FaultProxy
    made: list[StorageProvider]

    def make(self, *, faulty: bool = True, tuning: dict[str, Any] | None = None, **changes: str) -> StorageProvider:
        endpoint = self.proxy.url if faulty else self.server.endpoint
        secret = changes.pop("secret", self.server.secret_key)
        settings = {"endpoint": endpoint, "region": self.server.region, "bucket": "docs", **changes}
        chosen = StackSettings(
            **{"retry_base_seconds": 0.01, "retry_longest_seconds": 0.1, "read_timeout_seconds": 3, **(tuning or {})}
        )
        provider = get_kind("s3").create(
            settings,
            {"access_key_id": self.server.access_key, "secret_access_key": secret},
            options=BuildOptions(connect_seconds=2, read_seconds=chosen.read_timeout_seconds),
        )
        self.made.append(build_stack(provider, chosen))
        return self.made[-1]


@pytest.fixture
async def stores(server: SeaweedServer, proxy: FaultProxy) -> AsyncIterator[Stores]:
    stores = Stores(server, proxy, [])
    yield stores
    for provider in stores.made:
        await provider.close()


def digested(body: bytes) -> Expected:
    return Expected(len(body), hashlib.sha256(body).digest())


async def chunks(body: bytes) -> AsyncIterator[bytes]:
    for offset in range(0, len(body), 500_000):
        yield body[offset : offset + 500_000]


async def read(provider: StorageProvider, key: str, **how: Any) -> bytes:
    async with provider.open(key, **how) as reader:
        return b"".join([chunk async for chunk in reader])


def observations(provider: Any) -> Observations:
    while isinstance(provider, Layer):
        if hasattr(provider, "observations"):
            found: Observations = provider.observations
            return found
        provider = provider.inner
    raise AssertionError("no observe layer")


@pytest.mark.parametrize("cut_with", ["fin", "rst"])
@pytest.mark.parametrize("after", [900, 1_500_000, 2_900_000])
async def test_f29_a_download_that_is_cut_goes_on_and_is_whole(stores: Stores, cut_with: Any, after: int) -> None:
    # A reset takes what was on its way with it: on a busy machine a try may gain nothing, and ten such rest the store.
    times = 8 if cut_with == "rst" and after > 1000 else None
    provider = stores.make(tuning={"retry_attempts": 20})
    await stores.make(faulty=False).put("cut", BODY)
    stores.proxy.down = Flow(cut_after=after, cut_with=cut_with, cut_times=times)
    if after < 1000:
        # Nothing ever comes: an error, and never a clean, short end.
        with pytest.raises((StoreUnavailable, IntegrityError)):
            await read(provider, "cut", expected=digested(BODY))
        return
    assert await read(provider, "cut", expected=digested(BODY)) == BODY
    assert stores.proxy.cut_count


async def test_f29_a_large_download_over_a_line_that_breaks_now_and_then_is_whole(stores: Stores) -> None:
    """Each window is a request of its own; a connection that dies after 5 MB costs a window, not the download."""
    provider = stores.make(tuning={"retry_attempts": 6})
    await stores.make(faulty=False).put("large", chunks(LARGE), expected=digested(LARGE))
    stores.proxy.down = Flow(cut_after=5_000_000)
    assert await read(provider, "large", expected=digested(LARGE)) == LARGE


async def test_f31_a_bit_that_flips_on_the_way_down_is_noticed_and_gone_the_next_time(stores: Stores) -> None:
    provider = stores.make()
    await stores.make(faulty=False).put("flip", BODY)
    stores.proxy.down = Flow(flip_at=1_000_000)
    with pytest.raises(IntegrityError):
        await read(provider, "flip", expected=digested(BODY))
    stores.proxy.down = Flow()
    assert await read(stores.make(), "flip", expected=digested(BODY)) == BODY


async def test_f31_a_bit_that_flips_on_the_way_up_never_passes_for_the_real_thing(stores: Stores) -> None:
    """The store refuses it, or keeps other bytes: then reading back finds out, whatever its 200 said."""
    provider = stores.make()
    stores.proxy.up = Flow(flip_at=1_000_000)
    try:
        await provider.put("flipped", BODY)
    except IntegrityError:
        return
    stores.proxy.up = Flow()
    with pytest.raises(IntegrityError):
        await read(stores.make(faulty=False), "flipped", expected=digested(BODY))


async def test_f31_a_part_that_flips_on_the_way_up_is_refused_by_its_checksum(stores: Stores) -> None:
    """Parts carry Content-MD5: the store itself notices."""
    provider = stores.make()
    stores.proxy.up = Flow(flip_at=2_000_000)
    with pytest.raises(IntegrityError):
        await provider.put("parts", chunks(LARGE))
    clean = stores.make(faulty=False)
    assert [info async for info in clean.list_unfinished("parts")] == []
    with pytest.raises(ObjectNotFound):
        await clean.head("parts")


async def test_f31_a_parts_checksum_is_signed_and_its_bytes_are_not_hashed_again(
    server: SeaweedServer, stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So nobody on the way, who can make up a checksum but no signature, can exchange both."""
    with HttpFaultProxy(server.port) as between:
        real, seen = between._ask, []

        def ask(handler: Any, body: bytes) -> Answer:
            if "partNumber=" in handler.path:
                seen.append({name.lower(): value for name, value in handler.headers.items()})
                body = bytes([body[0] ^ 1]) + body[1:]
                handler.headers.replace_header("Content-MD5", _md5(body))
            return real(handler, body)

        monkeypatch.setattr(between, "_ask", ask)
        provider = stores.make(endpoint=between.url, tuning={"retry_attempts": 1})
        with pytest.raises(BadCredential) as caught:
            await provider.put("exchanged", chunks(LARGE))
    assert caught.value.vendor_code == "SignatureDoesNotMatch"
    part = 8 * 2**20
    sent = {headers["content-md5"]: headers for headers in seen}
    assert sent.keys() <= {_md5(LARGE[offset : offset + part]) for offset in range(0, len(LARGE), part)}
    for headers in sent.values():
        assert headers["x-amz-content-sha256"] == "UNSIGNED-PAYLOAD"
        assert "content-md5" in headers["authorization"].partition("SignedHeaders=")[2].partition(",")[0].split(";")
    with pytest.raises(ObjectNotFound):
        await stores.make(faulty=False).head("exchanged")


def _md5(body: bytes) -> str:
    return base64.b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode()


async def test_f26_a_line_that_swallows_everything_ends_in_time(stores: Stores) -> None:
    provider = stores.make(tuning={"read_timeout_seconds": 0.5, "connect_timeout_seconds": 0.5, "retry_attempts": 1})
    stores.proxy.is_blackhole = True
    began = time.monotonic()
    for act in (provider.head("x"), provider.put("x", b"1"), read(provider, "x"), provider.check()):
        with pytest.raises(StoreTimedOut):
            await act
    assert time.monotonic() - began < 20


async def test_f26_a_slow_line_is_no_dead_line(stores: Stores) -> None:
    """A body takes as long as it flows: longer than the limit for one answer."""
    provider = stores.make(tuning={"read_timeout_seconds": 1})
    await stores.make(faulty=False).put("slow", BODY)
    stores.proxy.down = Flow(bytes_per_second=1_000_000)
    assert await read(provider, "slow", expected=digested(BODY)) == BODY


async def test_f23_a_store_that_refuses_is_left_alone_after_a_while(stores: Stores) -> None:
    provider = stores.make(tuning={"breaker_failures": 3, "breaker_cool_seconds": 60, "retry_attempts": 1})
    stores.proxy.refuse()
    for _ in range(10):
        with pytest.raises(StoreUnavailable):
            await provider.head("x")
    assert observations(provider).calls["head", "store_unavailable"] == 3
    assert observations(provider).calls["head", "store_resting"] == 7


async def test_f47_a_wrong_secret_is_tried_once_and_named(stores: Stores) -> None:
    provider = stores.make(faulty=False, secret="wrong" * 8)
    for act in (provider.put("x", b"1"), read(provider, "x"), provider.check()):
        with pytest.raises(BadCredential):
            await act
    calls = observations(provider).calls
    assert sum(count for (operation, _), count in calls.items() if operation == "put") == 1


async def test_f49_a_bucket_that_is_gone_is_not_a_missing_object(stores: Stores) -> None:
    """Else a scrub would call every object missing and start a mass repair."""
    provider = stores.make(faulty=False, bucket="was-deleted")
    for act in (
        read(provider, "x"),
        provider.head("x"),
        provider.put("x", b"1"),
        provider.check(),
        provider.list_page(),
    ):
        with pytest.raises(BucketMissing):
            await act
    with pytest.raises(ObjectNotFound):
        await stores.make(faulty=False).head("missing")


async def test_f50_in_a_bucket_with_versions_a_delete_leaves_nothing_hidden(stores: Stores) -> None:
    """Failure mode 19, on S3: neither versions nor delete markers are left behind and billed."""
    s3 = boto3.session.Session().client(
        "s3",
        endpoint_url=stores.server.endpoint,
        region_name=stores.server.region,
        aws_access_key_id=stores.server.access_key,
        aws_secret_access_key=stores.server.secret_key,
    )
    s3.put_bucket_versioning(Bucket="versioned", VersioningConfiguration={"Status": "Enabled"})
    provider = stores.make(faulty=False, bucket="versioned")
    made = [await provider.put("x", bytes([number])) for number in range(3)]
    s3.delete_object(Bucket="versioned", Key="x")
    outcomes = await provider.delete([ObjectRef("x", made[0].version_id)])
    assert outcomes[0].error is None
    await provider.delete([ObjectRef("x")])
    left = s3.list_object_versions(Bucket="versioned")
    assert (left.get("Versions", []), left.get("DeleteMarkers", [])) == ([], [])


async def test_f51_a_store_never_sees_past_its_own_prefix(stores: Stores) -> None:
    one, other = stores.make(faulty=False, prefix="tenants/a"), stores.make(faulty=False, prefix="tenants/ab")
    await one.put("x", b"a's")
    await other.put("x", b"ab's")
    assert [info.key async for info in one.list()] == ["x"]
    assert await read(one, "x") == b"a's"
    await one.discard("x")
    assert await read(other, "x") == b"ab's"


async def test_a_second_read_of_an_object_that_was_replaced_in_between_is_noticed(stores: Stores) -> None:
    """F35: windows of two objects are never put together into one."""
    provider = stores.make(faulty=False)
    await provider.put("replaced", chunks(LARGE))

    async def read_while_it_is_replaced() -> None:
        async with provider.open("replaced", expected=Expected(len(LARGE))) as reader:
            async for _ in reader:
                await provider.put("replaced", chunks(bytes(len(LARGE))))

    with pytest.raises(IntegrityError):
        await read_while_it_is_replaced()


@pytest.mark.parametrize("told_by", ["an answer to a write", "the bucket, asked again"])
async def test_mode_19_versions_that_were_turned_on_later_are_noticed(
    stores: Stores, monkeypatch: pytest.MonkeyPatch, told_by: str
) -> None:
    """A store in use for weeks: else each purge from then on would leave the bytes behind a delete marker."""
    monkeypatch.setattr(versioning, "_NO_SECONDS", 60.0 if told_by == "an answer to a write" else 0.0, raising=False)
    bucket = f"later-{len(told_by)}"
    stores.server.create_bucket(bucket)
    one, other = (stores.make(faulty=False, bucket=bucket) for _ in range(2))
    await one.discard("x")  # it asks, and the bucket keeps none
    client = stores.server.client()
    client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    writer = one if told_by == "an answer to a write" else other
    for number in range(2):
        await writer.put("x", bytes([number]))
    await one.discard("x")
    left = client.list_object_versions(Bucket=bucket)
    assert (left.get("Versions", []), left.get("DeleteMarkers", [])) == ([], [])
