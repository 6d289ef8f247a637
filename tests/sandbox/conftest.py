"""One B2 sandbox for the whole folder, a bucket of its own for each test, and b2sdk's unmodified client."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator

import pytest
from b2sdk.v3 import B2Api, Bucket, InMemoryAccountInfo

from simples3dms.sandbox.b2 import B2Sandbox


@pytest.fixture(scope="session")
def shared_b2(tmp_path_factory: pytest.TempPathFactory) -> Iterator[B2Sandbox]:
    with B2Sandbox(tmp_path_factory.mktemp("b2")) as server:
        yield server


@pytest.fixture
def b2(shared_b2: B2Sandbox) -> B2Sandbox:
    shared_b2.clear_faults()
    return shared_b2


@pytest.fixture
def log_in(b2: B2Sandbox) -> Callable[..., B2Api]:
    """An authorised client of its own, of the master key or another."""

    def authorise(key_id: str = b2.application_key_id, key: str = b2.application_key) -> B2Api:
        api = B2Api(InMemoryAccountInfo())
        api.authorize_account(key_id, key, realm=b2.url)
        return api

    return authorise


@pytest.fixture
def bucket_name(b2: B2Sandbox) -> str:
    name = f"test-{secrets.token_hex(6)}"
    b2.create_bucket(name)
    return name


@pytest.fixture
def bucket(log_in: Callable[..., B2Api], bucket_name: str) -> Bucket:
    return log_in().get_bucket_by_name(bucket_name)
