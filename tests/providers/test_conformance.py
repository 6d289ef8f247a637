"""The conformance suite over every kind, on real servers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from simples3dms.providers.base import StorageProvider
from simples3dms.providers.conformance import BEHAVIOURS, Behaviour, run_behaviour
from simples3dms.providers.errors import AccessDenied, BadCredential, BucketMissing, ProviderError, StoreUnavailable
from simples3dms.providers.layers.base import Layer
from simples3dms.providers.layers.breaker import BreakerLayer
from simples3dms.providers.layers.concurrency import ConcurrencyLayer
from simples3dms.providers.layers.integrity import IntegrityLayer
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


@pytest.fixture(params=["memory", "memory-versions", "local", "s3", "b2"])
def config(request: pytest.FixtureRequest, tmp_path: Path) -> Config:
    """A store of each kind: its settings and credential are all that differs."""
    match request.param:
        case "memory" | "memory-versions":
            return "memory", {"name": request.node.name, "versions": request.param == "memory-versions"}, {}
        case "local":
            return "local", {"path": str(tmp_path)}, {}
        case "s3":
            return s3_config(request.getfixturevalue("s3"))
        case _:
            return b2_config(request.getfixturevalue("b2"))


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


@pytest.fixture
async def provider(config: Config) -> AsyncIterator[StorageProvider]:
    provider = make(config)
    yield provider
    await provider.close()


@pytest.mark.parametrize("one", BEHAVIOURS, ids=lambda one: one.name)
async def test_the_kind_does_as_it_must(provider: StorageProvider, one: Behaviour) -> None:
    outcome = await run_behaviour(provider, one)
    assert outcome.verdict in ("ok", "declared"), outcome.detail
    assert [info async for info in provider.list("conformance/")] == []


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
    assert found == [IntegrityLayer, MeterLayer, RetryLayer, ObserveLayer, BreakerLayer, ConcurrencyLayer, TimeoutLayer]
    members = {name for name in vars(StorageProvider) if not name.startswith("_")}
    assert members <= set(vars(Layer))
