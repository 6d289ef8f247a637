"""The conformance suite over every kind, on real servers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from scripts.conformance_matrix import CANDIDATES, LAYERED, TARGET

from simples3dms.providers.base import StorageProvider
from simples3dms.providers.conformance import BEHAVIOURS, run_conformance
from simples3dms.providers.errors import AccessDenied, BadCredential, BucketMissing, ProviderError, StoreUnavailable
from simples3dms.providers.layers.breaker import BreakerLayer
from simples3dms.providers.layers.concurrency import ConcurrencyLayer
from simples3dms.providers.layers.forwarding import Layer
from simples3dms.providers.layers.integrity import IntegrityLayer
from simples3dms.providers.layers.lease import LeaseLayer
from simples3dms.providers.layers.meter import MeterLayer
from simples3dms.providers.layers.observe import ObserveLayer
from simples3dms.providers.layers.retry import RetryLayer
from simples3dms.providers.layers.timeout import TimeoutLayer
from simples3dms.providers.registry import get_kind
from simples3dms.providers.stack import StackSettings, build_stack
from simples3dms.sandbox.b2 import B2Sandbox
from simples3dms.sandbox.seaweedfs import SeaweedServer

pytestmark = pytest.mark.anyio
Config = tuple[str, dict[str, Any], dict[str, str]]


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SeaweedServer]:
    with SeaweedServer(tmp_path_factory.mktemp("s3"), buckets=("conformance",)) as server:
        yield server


@pytest.fixture(scope="module")
def b2(tmp_path_factory: pytest.TempPathFactory) -> Iterator[B2Sandbox]:
    with B2Sandbox(tmp_path_factory.mktemp("b2"), buckets=("conformance",)) as server:
        yield server


def s3_config(server: SeaweedServer) -> Config:
    settings = {"endpoint": server.endpoint, "bucket": "conformance", "prefix": "here"}
    return "s3", settings, {"access_key_id": server.access_key, "secret_access_key": server.secret_key}


def b2_config(server: B2Sandbox) -> Config:
    credential = {"application_key_id": server.application_key_id, "application_key": server.application_key}
    return "b2", {"realm": server.url, "bucket": "conformance", "prefix": "here"}, credential


def make(config: Config, **changes: str) -> StorageProvider:
    kind, settings, credential = config
    settings = {**settings, **{name: value for name, value in changes.items() if name in settings}}
    credential = {**credential, **{name: value for name, value in changes.items() if name in credential}}
    return build_stack(get_kind(kind).create(settings, credential), StackSettings(retry_attempts=1))


@pytest.mark.parametrize("name", [*CANDIDATES, *LAYERED])
async def test_every_store_here_does_as_it_must(name: str, tmp_path: Path) -> None:
    """All behaviours: each is kept, or declared by the store's capabilities; and nothing is left behind."""
    with (CANDIDATES | LAYERED)[name](tmp_path) as candidate:
        store = candidate.open_store()
        try:
            outcomes = await run_conformance(store, candidate.options)
            left = [info.key async for info in store.list("conformance/")]
        finally:
            await store.close()
    assert {one.behaviour.name: one.detail for one in outcomes if one.verdict == "failed"} == {}
    assert left == []
    kept = Counter(one.verdict for one in outcomes)
    assert kept["ok"] >= 70
    assert kept["ok"] + kept["declared"] == len(BEHAVIOURS)


def test_the_table_in_the_documentation_has_every_store_and_behaviour() -> None:
    """`make conformance` writes it."""
    text = TARGET.read_text()
    head = next(line for line in text.splitlines() if line.startswith("| behaviour |"))
    assert head.count("|") == len(CANDIDATES) + 2
    assert [one.name for one in BEHAVIOURS if f"**{one.group}**: {one.meaning} |" not in text] == []
    assert "**no**" not in text.split("## Behaviours")[1]


async def _error(provider: StorageProvider) -> type[ProviderError]:
    with pytest.raises(ProviderError) as caught:
        await provider.check()
    await provider.close()
    return caught.type


async def test_what_is_wrong_with_an_s3_store_is_told_apart(s3: SeaweedServer) -> None:
    config = s3_config(s3)
    assert await _error(make(config, secret_access_key="wrong" * 8)) is BadCredential
    assert await _error(make(config, access_key_id="nobody")) is BadCredential
    assert await _error(make(config, bucket="not-there")) is BucketMissing
    assert await _error(make(config, endpoint="http://127.0.0.1:9")) is StoreUnavailable
    reader = make(config, access_key_id=s3.readonly_access_key, secret_access_key=s3.readonly_secret_key)
    with pytest.raises(AccessDenied):
        await reader.put("x", b"x")
    await reader.close()


async def test_what_is_wrong_with_a_b2_store_is_told_apart(b2: B2Sandbox) -> None:
    config = b2_config(b2)
    assert await _error(make(config, application_key="wrong")) is BadCredential
    assert await _error(make(config, application_key_id="nobody")) is BadCredential
    assert await _error(make(config, bucket="not-there")) is BucketMissing


async def test_the_layers_are_nested_in_order_and_forward_in_writing(tmp_path: Path) -> None:
    stack: Any = make(("local", {"path": str(tmp_path)}, {}))
    found = []
    while isinstance(stack, Layer):
        found.append(type(stack))
        stack = stack.inner
    outer = [IntegrityLayer, MeterLayer, RetryLayer, ObserveLayer, BreakerLayer, ConcurrencyLayer]
    assert found == [*outer, LeaseLayer, TimeoutLayer]
    members = {name for name in vars(StorageProvider) if not name.startswith("_")}
    assert members <= set(vars(Layer))
