"""Two real providers with an API for their keys, and a store on each."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import httpx
import pytest

from simples3dms.bootstrap import Services
from simples3dms.context import HOST
from simples3dms.sandbox.b2 import B2Sandbox
from simples3dms.sandbox.seaweedfs import SeaweedServer
from simples3dms.storage.stores.values import Store

BUCKET = "rotation-documents"
_RIGHTS = ["listBuckets", "listFiles", "readFiles", "writeFiles", "deleteFiles", "shareFiles", "readBuckets"]


class Provider(Protocol):
    """What the operator of the provider sees."""

    kind: str

    @property
    def settings(self) -> dict[str, Any]: ...

    def new_credential(self) -> dict[str, str]:
        """A key for the store, entered by hand."""
        ...

    def manager(self) -> dict[str, str]:
        """A key that manages keys, as the store's own may not."""
        ...

    def key_ids(self) -> set[str]:
        """The keys that are there."""
        ...

    def delete_key(self, key_id: str) -> None: ...


@dataclass
class B2Side:
    server: B2Sandbox
    bucket: str = BUCKET
    kind: str = "b2"

    @property
    def settings(self) -> dict[str, Any]:
        return {"bucket": self.bucket, "realm": self.server.url}

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
        (bucket,) = self._call("b2_list_buckets", bucketName=self.bucket)["buckets"]
        made = self._call("b2_create_key", keyName="by-hand", capabilities=_RIGHTS, bucketId=bucket["bucketId"])
        return {"application_key_id": made["applicationKeyId"], "application_key": made["applicationKey"]}

    def list_keys(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._call("b2_list_keys", maxKeyCount=1000)["keys"]
        return found

    def key_ids(self) -> set[str]:
        return {key["applicationKeyId"] for key in self.list_keys()}

    def delete_key(self, key_id: str) -> None:
        self._call("b2_delete_key", applicationKeyId=key_id)


@dataclass
class IamSide:
    """A user of its own for the store. SeaweedFS compares signatures, and refuses a key as soon as it is gone."""

    server: SeaweedServer
    user: str
    bucket: str = BUCKET
    kind: str = "s3"

    def __post_init__(self) -> None:
        self._iam = self.server.client("iam")
        self._iam.create_user(UserName=self.user)
        statement = '{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["s3:*"],"Resource":["*"]}]}'
        self._iam.put_user_policy(UserName=self.user, PolicyName="all", PolicyDocument=statement)

    @property
    def settings(self) -> dict[str, Any]:
        return {
            "endpoint": self.server.endpoint,
            "bucket": self.bucket,
            "iam_endpoint": self.server.endpoint,
            "iam_user": self.user,
        }

    def manager(self) -> dict[str, str]:
        return {"access_key_id": self.server.access_key, "secret_access_key": self.server.secret_key}

    def new_credential(self) -> dict[str, str]:
        made = self._iam.create_access_key(UserName=self.user)["AccessKey"]
        return {"access_key_id": made["AccessKeyId"], "secret_access_key": made["SecretAccessKey"]}

    def key_ids(self) -> set[str]:
        return {key["AccessKeyId"] for key in self._iam.list_access_keys(UserName=self.user)["AccessKeyMetadata"]}

    def delete_key(self, key_id: str) -> None:
        self._iam.delete_access_key(UserName=self.user, AccessKeyId=key_id)


@pytest.fixture(scope="session")
def b2_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[B2Sandbox]:
    with B2Sandbox(tmp_path_factory.mktemp("b2"), buckets=(BUCKET,)) as server:
        yield server


@pytest.fixture(scope="session")
def weed_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SeaweedServer]:
    with SeaweedServer(tmp_path_factory.mktemp("weed"), buckets=(BUCKET,), iam=True) as server:
        yield server


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
    request: pytest.FixtureRequest, services: Services, b2_server: B2Sandbox, weed_server: SeaweedServer
) -> Rotated:
    mark = f"r-{secrets.token_hex(4)}"
    provider: Any = B2Side(b2_server) if request.param == "b2" else IamSide(weed_server, mark)
    first = provider.new_credential()
    store = await services.stores.add_store(HOST, mark, provider.kind, provider.settings | {"prefix": mark}, first)
    await services.rotations.set_schedule(HOST, store.name, every_days=None, manager=provider.manager())
    return Rotated(services, provider, store, first)
