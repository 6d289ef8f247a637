"""Two real providers with an API for their keys, and a store on each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import httpx
import pytest

from simples3dms.bootstrap import Services
from simples3dms.context import HOST
from simples3dms.kit.ids import new_id
from simples3dms.sandbox.b2 import B2Sandbox
from simples3dms.sandbox.s3servers import Ministack
from simples3dms.storage.stores import repository as stores_repository
from simples3dms.storage.stores.values import Store

BUCKET = "rotation-documents"
_RIGHTS = ["listBuckets", "listFiles", "readFiles", "writeFiles", "deleteFiles", "shareFiles", "readBuckets"]


class Provider(Protocol):
    """What the operator of the provider sees."""

    kind: str
    settings: dict[str, Any]

    def new_credential(self) -> dict[str, str]:
        """A key for the store, entered by hand."""
        ...

    def manager(self) -> dict[str, str] | None:
        """A key that manages keys, where the store's own may not."""
        ...

    def key_ids(self) -> set[str]:
        """The keys that are there."""
        ...


@dataclass
class B2Side:
    server: B2Sandbox
    kind: str = "b2"

    @property
    def settings(self) -> dict[str, Any]:
        return {"bucket": BUCKET, "realm": self.server.url}

    def manager(self) -> dict[str, str]:
        return {
            "application_key_id": self.server.application_key_id,
            "application_key": self.server.application_key,
        }

    def _call(self, name: str, **given: Any) -> Any:
        basic = (self.server.application_key_id, self.server.application_key)
        with httpx.Client(trust_env=False) as http:
            allowed = http.get(f"{self.server.url}/b2api/v3/b2_authorize_account", auth=basic).json()
            headers = {"Authorization": allowed["authorizationToken"]}
            body = {"accountId": allowed["accountId"], **given}
            return http.post(f"{self.server.url}/b2api/v3/{name}", json=body, headers=headers).json()

    def new_credential(self) -> dict[str, str]:
        (bucket,) = self._call("b2_list_buckets", bucketName=BUCKET)["buckets"]
        made = self._call("b2_create_key", keyName="by-hand", capabilities=_RIGHTS, bucketId=bucket["bucketId"])
        return {"application_key_id": made["applicationKeyId"], "application_key": made["applicationKey"]}

    def list_keys(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._call("b2_list_keys", maxKeyCount=1000)["keys"]
        return found

    def key_ids(self) -> set[str]:
        return {key["applicationKeyId"] for key in self.list_keys()}


@dataclass
class IamSide:
    server: Ministack
    user: str
    kind: str = "s3"

    @property
    def settings(self) -> dict[str, Any]:
        return {**self.server.settings, "bucket": BUCKET, "iam_endpoint": self.server.endpoint}

    def manager(self) -> None:
        return None

    def _iam(self) -> Any:
        return self.server.client("iam", access_key="test", secret_key="test")

    def new_credential(self) -> dict[str, str]:
        made = self._iam().create_access_key(UserName=self.user)["AccessKey"]
        return {"access_key_id": made["AccessKeyId"], "secret_access_key": made["SecretAccessKey"]}

    def key_ids(self) -> set[str]:
        return {key["AccessKeyId"] for key in self._iam().list_access_keys(UserName=self.user)["AccessKeyMetadata"]}


@pytest.fixture(scope="session")
def b2_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[B2Sandbox]:
    with B2Sandbox(tmp_path_factory.mktemp("b2"), buckets=(BUCKET,)) as server:
        yield server


@pytest.fixture(scope="session")
def iam_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ministack]:
    with Ministack(tmp_path_factory.mktemp("ministack"), bucket=BUCKET) as server:
        yield server


def iam_side(server: Ministack, user: str) -> IamSide:
    """A user of its own for a store, who may do everything."""
    iam = server.client("iam", access_key="test", secret_key="test")
    iam.create_user(UserName=user)
    statement = '{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}'
    iam.put_user_policy(UserName=user, PolicyName="all", PolicyDocument=statement)
    return IamSide(server, user)


async def add_store(
    services: Services, name: str, kind: str, settings: dict[str, Any], credential: dict[str, str]
) -> Store:
    """As `Stores.add_store` does, past the probe: the one thing that ministack gets wrong, paging, is red."""
    if kind != "s3":
        return await services.stores.add_store(HOST, name, kind, settings, credential)
    store_id = new_id()
    sealed = await services.credentials.seal(store_id, credential, version=1)
    async with services.database.platform() as uow:
        await stores_repository.insert(uow, store_id, name, kind, settings, {})
        await stores_repository.save_probe(uow, store_id, "red", [])
        await services.credentials.insert(uow, store_id, sealed)
    return await services.stores.get_store(name)


@dataclass
class Rotated:
    """A store with a key of its own at a provider."""

    services: Services
    provider: Any
    store: Store
    first: dict[str, str]

    @property
    def first_id(self) -> str:
        return self.first.get("application_key_id") or self.first["access_key_id"]

    async def current_id(self) -> str:
        _, fields = await self.services.credentials.open(self.store.id)
        found = fields.get("application_key_id") or fields["access_key_id"]
        return found.reveal()


@pytest.fixture(params=["b2", "iam"])
async def rotated(
    request: pytest.FixtureRequest, services: Services, b2_server: B2Sandbox, iam_server: Ministack, tmp_path: Path
) -> Rotated:
    provider: Any = B2Side(b2_server) if request.param == "b2" else iam_side(iam_server, tmp_path.name)
    first = provider.new_credential()
    settings = provider.settings | {"prefix": tmp_path.name}
    store = await add_store(services, f"r-{request.param}", provider.kind, settings, first)
    if provider.manager() is not None:
        await services.rotations.set_schedule(HOST, store.name, every_days=None, manager=provider.manager())
    return Rotated(services, provider, store, first)
