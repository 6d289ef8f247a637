"""How behaviours and the probe are run: nothing is left behind, nothing goes out by another way, nothing escapes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from tests.providers.layered import memory, stack

from simples3dms.providers.base import DeleteOutcome, ObjectRef, StorageProvider
from simples3dms.providers.conformance import BEHAVIOURS, Behaviour, run_behaviour
from simples3dms.providers.conformance.harness import Bench
from simples3dms.providers.errors import AccessDenied
from simples3dms.providers.layers.forwarding import Layer
from simples3dms.providers.probe import run_probe
from simples3dms.providers.registry import BuildOptions, get_kind
from simples3dms.providers.stack import StackSettings, build_stack
from simples3dms.sandbox.ports import listen
from simples3dms.sandbox.seaweedfs import SeaweedServer

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SeaweedServer]:
    with SeaweedServer(tmp_path_factory.mktemp("s3")) as server:
        yield server


def named(name: str) -> Behaviour:
    return next(one for one in BEHAVIOURS if one.name == name)


@pytest.mark.parametrize("name", ["signed_download", "signed_upload", "signed_download_tampered_with"])
async def test_k6_signed_requests_leave_by_the_way_of_the_store(server: SeaweedServer, name: str) -> None:
    """The address in a signed request is the store's choice: it is reached through the guard, or not at all."""
    provider = get_kind("s3").create(
        {"endpoint": server.endpoint, "bucket": "docs", "prefix": name},
        {"access_key_id": server.access_key, "secret_access_key": server.secret_key},
    )
    store = build_stack(provider, StackSettings())
    assert (await run_behaviour(store, named(name))).verdict == "ok"
    with listen() as closed:
        port = closed.getsockname()[1]
    outcome = await run_behaviour(store, named(name), BuildOptions(proxy_url=f"http://127.0.0.1:{port}"))
    assert outcome.detail.startswith("a signed request got no answer: ConnectError")
    await store.close()


async def test_what_a_plug_in_raises_beyond_the_contract_is_a_finding() -> None:
    class Careless(Layer):
        async def head(self, key: str, *, version_id: str | None = None) -> Any:
            raise LookupError(key)

    outcome = await run_behaviour(Careless(memory()), named("head_tells_the_size"))
    assert (outcome.verdict, outcome.detail) == ("failed", "raised LookupError instead of a ProviderError")


async def test_a_behaviour_that_is_cancelled_leaves_nothing() -> None:
    written, store = asyncio.Event(), stack()

    async def writes_and_hangs(bench: Bench) -> None:
        await bench.put("x", b"1")
        written.set()
        await asyncio.Event().wait()

    running = asyncio.create_task(run_behaviour(store, Behaviour("test", "hangs", "", (), writes_and_hangs)))
    await written.wait()
    assert len([info async for info in store.list()]) == 1
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert [info async for info in store.list()] == []


async def test_a_probe_that_can_not_clean_up_says_so() -> None:
    class Keeping(Layer):
        async def delete(self, refs: Sequence[ObjectRef]) -> list[DeleteOutcome]:
            return [DeleteOutcome(ref, AccessDenied("it may not be deleted")) for ref in refs]

        async def inspect(self, scratch: str) -> Any:
            await self.inner.put(f"{scratch}x", b"1")
            return []

        async def discard(self, key: str) -> None:
            raise AccessDenied("it may not be deleted")

    store: StorageProvider = Keeping(memory())
    report = await run_probe(stack(inner=store))
    row = next(finding for finding in report.findings if finding.name == "clean-up")
    assert row.verdict == "red"
    assert "it may not be deleted" in row.detail
