"""Access keys of an IAM user, by the API of AWS and of what speaks it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Final, TypeVar

from botocore.exceptions import ClientError

from simples3dms.providers.errors import CapExceeded
from simples3dms.providers.keys import HeldKey, MadeKey
from simples3dms.providers.kinds.s3.config import S3Credential, S3Settings, blind_session, boto_config, bounded, checked
from simples3dms.providers.kinds.s3.errors import VENDOR_ERRORS, from_vendor
from simples3dms.providers.registry import BuildOptions
from simples3dms.providers.threads import CallThreads

T = TypeVar("T")
_THREADS: Final = 4
#: IAM gives a user two keys and no more.
_PAGE: Final = 100


class IamKeys:
    """`signing` may list, create, update and delete the access keys of the user whom `own`, the store's key, is of.

    Keys have no names here: give the store a user of its own, so that a key which is not ours is nobody else's.
    """

    def __init__(self, settings: S3Settings, signing: S3Credential, own: S3Credential, options: BuildOptions) -> None:
        self._settings, self._signing, self._own, self._options = settings, checked(signing), own, options
        self._threads = CallThreads(_THREADS, "iam")
        self._client: Any = None
        self._user = settings.iam_user

    async def list_keys(self) -> list[HeldKey]:
        def work(iam: Any, user: str) -> list[HeldKey]:
            answer = iam.list_access_keys(UserName=user, MaxItems=_PAGE)
            return [HeldKey(str(key["AccessKeyId"])) for key in answer["AccessKeyMetadata"]]

        return await self._run(work)

    async def make_key(self, name: str) -> MadeKey:  # noqa: ARG002  (keys have no names here)
        def work(iam: Any, user: str) -> MadeKey:
            try:
                made = iam.create_access_key(UserName=user)["AccessKey"]
            except ClientError as error:
                if error.response["Error"].get("Code") == "LimitExceeded":
                    raise CapExceeded("the user has as many keys as it may", vendor_code="LimitExceeded") from None
                raise
            key_id = str(made["AccessKeyId"])
            return MadeKey(key_id, {"access_key_id": key_id, "secret_access_key": str(made["SecretAccessKey"])})

        return await self._run(work)

    async def disable_key(self, key_id: str) -> None:
        await self._run(
            _unless_gone(lambda iam, user: iam.update_access_key(UserName=user, AccessKeyId=key_id, Status="Inactive"))
        )

    async def delete_key(self, key_id: str) -> None:
        await self._run(_unless_gone(lambda iam, user: iam.delete_access_key(UserName=user, AccessKeyId=key_id)))

    async def close(self) -> None:
        self._threads.close()

    async def _run(self, call: Callable[[Any, str], T]) -> T:
        return await self._threads.run(lambda: call(*self._ready()), VENDOR_ERRORS, partial(from_vendor, key=None))

    def _ready(self) -> tuple[Any, str]:
        if self._client is None:
            token = self._signing.session_token
            made: Any = blind_session().create_client(
                "iam",
                region_name=self._settings.region,
                endpoint_url=self._settings.iam_url,
                aws_access_key_id=self._signing.access_key_id,
                aws_secret_access_key=self._signing.secret_access_key.reveal(),
                aws_session_token=None if token is None else token.reveal(),
                verify=self._options.ca_file,
                config=boto_config(self._settings, self._options),
            )
            self._client = bounded(made, self._options)
        if self._user is None:
            used = self._client.get_access_key_last_used(AccessKeyId=self._own.access_key_id)
            self._user = str(used["UserName"])
        return self._client, self._user


def _unless_gone(call: Callable[[Any, str], object]) -> Callable[[Any, str], None]:
    def work(iam: Any, user: str) -> None:
        try:
            call(iam, user)
        except ClientError as error:
            if error.response["Error"].get("Code") != "NoSuchEntity":
                raise

    return work
