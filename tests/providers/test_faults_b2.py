"""What Backblaze B2 does on its bad days, on the sandbox: each with the number of calls that it may cost."""

from __future__ import annotations

import hashlib
import secrets
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from simples3dms.providers.base import Expected, StorageProvider
from simples3dms.providers.errors import AccessDenied, CapExceeded, StoreUnavailable
from simples3dms.providers.kinds.b2.calls import vouched_sha1
from simples3dms.providers.registry import BuildOptions, get_kind
from simples3dms.providers.stack import StackSettings, build_stack
from simples3dms.sandbox.b2 import B2Sandbox

pytestmark = pytest.mark.anyio
LARGE = secrets.token_bytes(12 * 2**20)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[B2Sandbox]:
    with B2Sandbox(tmp_path_factory.mktemp("b2"), buckets=("documents",)) as server:
        yield server


@pytest.fixture
async def provider(server: B2Sandbox) -> AsyncIterator[StorageProvider]:
    made = make(server)
    await made.check()
    yield made
    server.clear_faults()
    await made.close()


def make(server: B2Sandbox, **tuning: Any) -> StorageProvider:
    credential = {"application_key_id": server.application_key_id, "application_key": server.application_key}
    kind = get_kind("b2").create(
        {"realm": server.url, "bucket": "documents"}, credential, options=BuildOptions(read_seconds=5)
    )
    settings = {"retry_base_seconds": 0.01, "retry_longest_seconds": 5, **tuning}
    return build_stack(kind, StackSettings(**settings))


async def chunks(body: bytes) -> AsyncIterator[bytes]:
    for offset in range(0, len(body), 500_000):
        yield body[offset : offset + 500_000]


async def read(provider: StorageProvider, key: str, **how: Any) -> bytes:
    async with provider.open(key, **how) as reader:
        return b"".join([chunk async for chunk in reader])


class Calls:
    """The calls that came in since it was made, by name."""

    def __init__(self, server: B2Sandbox) -> None:
        self._server = server
        self._before = len(server.calls())

    def count(self) -> Counter[str]:
        return Counter(call.name for call in self._server.calls()[self._before :])


async def test_mode_16_a_broken_upload_url_is_swapped_at_once(server: B2Sandbox, provider: StorageProvider) -> None:
    await provider.put("warm", b"1")
    server.inject("b2_upload_file", status=503, times=1)
    calls, began = Calls(server), time.monotonic()
    await provider.put("swapped", b"body")
    assert await read(provider, "swapped") == b"body"
    assert calls.count()["b2_get_upload_url"] == 1
    assert time.monotonic() - began < 5


async def test_f25_an_expired_token_is_renewed_once(server: B2Sandbox, provider: StorageProvider) -> None:
    server.expire_tokens()
    calls = Calls(server)
    await provider.put("renewed", b"body")
    assert calls.count()["b2_authorize_account"] == 1


@pytest.mark.parametrize("code", ["storage_cap_exceeded", "transaction_cap_exceeded", "download_cap_exceeded"])
async def test_mode_17_a_cap_is_never_tried_again(server: B2Sandbox, provider: StorageProvider, code: str) -> None:
    await provider.put("capped", b"body")
    call = "b2_download_file_by_name" if code.startswith("download") else "b2_upload_file"
    server.inject(call, status=403, code=code, times=9)
    calls = Calls(server)
    with pytest.raises(CapExceeded) as caught:
        await (read(provider, "capped") if code.startswith("download") else provider.put("more", b"body"))
    assert not caught.value.retryable
    assert calls.count()[call] == 1


async def test_mode_18_the_time_that_b2_names_is_waited_out(server: B2Sandbox, provider: StorageProvider) -> None:
    server.inject("b2_list_file_versions", status=429, code="too_many_requests", headers={"Retry-After": "1"})
    began = time.monotonic()
    await provider.list_page()
    assert time.monotonic() - began >= 1


async def test_a_lost_answer_leaves_one_version_and_no_unfinished_file(
    server: B2Sandbox, provider: StorageProvider
) -> None:
    server.inject("b2_upload_file", action="lose_answer")
    result = await provider.put("lost/small", b"body")
    assert [info.version_id async for info in provider.list("lost/small")] == [result.version_id]
    server.inject("b2_start_large_file", action="lose_answer")
    await provider.put("lost/large", chunks(LARGE))
    assert [info async for info in provider.list_unfinished("lost/")] == []
    assert await read(provider, "lost/large") == LARGE


async def test_mode_15_parts_and_the_end_of_a_large_file_are_repeated_by_themselves(
    server: B2Sandbox, provider: StorageProvider
) -> None:
    server.inject("b2_upload_part", status=503, times=2)
    server.inject("b2_finish_large_file", status=500, times=1)
    await provider.put("parts", chunks(LARGE))
    assert await read(provider, "parts") == LARGE
    server.inject("b2_finish_large_file", action="lose_answer")
    await provider.put("finished-twice", chunks(LARGE))
    assert [info.key async for info in provider.list("finished-twice")] == ["finished-twice"]


async def test_f29_a_download_that_is_cut_goes_on(server: B2Sandbox, provider: StorageProvider) -> None:
    result = await provider.put("cut", chunks(LARGE))
    server.inject("b2_download_file_by_id", action="truncate")
    expected = Expected(len(LARGE), hashlib.sha256(LARGE).digest())
    assert await read(provider, "cut", version_id=result.version_id, expected=expected) == LARGE


async def test_a_server_that_answers_nothing_is_given_up_in_time(server: B2Sandbox) -> None:
    impatient = make(server, read_timeout_seconds=0.5, connect_timeout_seconds=0.5, retry_attempts=1)
    await impatient.check()
    server.inject("b2_list_file_versions", action="stall")
    began = time.monotonic()
    with pytest.raises(StoreUnavailable.__mro__[1]) as caught:
        await impatient.list_page()
    assert caught.value.retryable  # type: ignore[attr-defined]
    assert time.monotonic() - began < 10
    server.clear_faults()
    await impatient.close()


async def test_an_endpoint_that_is_not_there_is_told_at_once() -> None:
    """b2sdk would try on for a quarter of a minute by itself."""
    kind = get_kind("b2").create(
        {"realm": "http://127.0.0.1:9", "bucket": "documents"}, {"application_key_id": "k", "application_key": "s"}
    )
    provider = build_stack(kind, StackSettings(retry_attempts=1))
    began = time.monotonic()
    with pytest.raises(StoreUnavailable):
        await provider.check()
    assert time.monotonic() - began < 5
    await provider.close()


async def test_s36_a_realm_can_not_lead_us_elsewhere(server: B2Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """The realm's own answer names the addresses to go on with; they must be its own."""
    from b2sdk.v3 import InMemoryAccountInfo

    monkeypatch.setattr(InMemoryAccountInfo, "get_api_url", lambda _: "http://169.254.169.254")
    provider = make(server)
    with pytest.raises(AccessDenied) as caught:
        await provider.check()
    assert caught.value.vendor_code == "foreign_host"
    await provider.close()


def test_mode_20_only_a_sha1_that_b2_compared_is_evidence() -> None:
    digest = "a" * 40
    assert vouched_sha1({"contentSha1": digest}) == digest
    for other in (f"unverified:{digest}", "none", None, "", "short"):
        assert vouched_sha1({"contentSha1": other}) is None
    assert vouched_sha1({}) is None
