"""The store of `pytest --pyargs simples3dms.providers.conformance --store-config FILE`; the option is in `plugin`."""

from __future__ import annotations

import asyncio
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from simples3dms.errors import Failure
from simples3dms.providers.base import StorageProvider
from simples3dms.providers.errors import ProviderError
from simples3dms.providers.registry import get_kind
from simples3dms.providers.stack import StackSettings, build_stack


@pytest.fixture(scope="session")
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    """One loop for all behaviours: a store's connections live in it."""
    with asyncio.Runner() as runner:
        yield runner.get_loop()


@pytest.fixture(scope="session")
def store(request: pytest.FixtureRequest, loop: asyncio.AbstractEventLoop) -> Iterator[StorageProvider]:
    """The live store under test, in all its layers."""
    path = request.config.getoption("--store-config")
    if path is None:
        pytest.exit("say which store to test: --store-config FILE", returncode=4)
    try:
        with Path(path).open("rb") as file:
            given = tomllib.load(file)
        provider = get_kind(str(given.get("kind"))).create(given.get("settings", {}), given.get("credential", {}))
    except OSError as error:
        pytest.exit(f"{path} can't be read: {error.strerror}", returncode=4)
    except tomllib.TOMLDecodeError as error:
        pytest.exit(f"{path} is not TOML: {error}", returncode=4)
    except Failure as failure:
        fields = "; ".join(f"{one['field']}: {one['message']}" for one in failure.extra.get("fields", ()))  # type: ignore[attr-defined]
        pytest.exit(f"{path}: {failure.message} {fields}", returncode=4)
    stack = build_stack(provider, StackSettings())
    try:
        loop.run_until_complete(stack.check())
    except ProviderError as error:
        pytest.exit(f"the store can't be used: {error.message} ({error.vendor_code or error.kind})", returncode=4)
    yield stack
    loop.run_until_complete(stack.close())
