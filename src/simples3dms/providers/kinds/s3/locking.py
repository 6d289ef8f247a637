"""S3's Object Lock: the legal hold and the retention of one version, where the store's settings say that it is used."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any, Final

from botocore.exceptions import ClientError

from simples3dms.providers.base import LockMode, ObjectLock, ObjectRef, check_key
from simples3dms.providers.errors import Unsupported
from simples3dms.providers.kinds.s3.config import S3Settings

_LOCK_MODES: Final[dict[str, LockMode]] = {"GOVERNANCE": "governance", "COMPLIANCE": "compliance"}
#: Of a version without a hold or a retention: AWS says the first of both.
_NO_LOCK: Final = frozenset(
    {
        "NoSuchObjectLockConfiguration",
        "ObjectLockConfigurationNotFoundError",
        "NoSuchObjectLegalHold",
        "NoSuchObjectRetention",
    }
)


class Locks:
    """One bucket's. `control` runs a call on the client about a key and raises our errors."""

    def __init__(
        self, settings: S3Settings, control: Callable[[str, Callable[[Any], ObjectLock]], Awaitable[ObjectLock]]
    ) -> None:
        self._settings, self._control = settings, control

    async def get(self, ref: ObjectRef) -> ObjectLock:
        asked = self._version(ref)
        return await self._control(ref.key, lambda s3: _get_lock(s3, asked))

    async def hold(self, ref: ObjectRef, *, on: bool) -> None:
        wanted = {"Status": "ON" if on else "OFF"}
        await self._set(ref, "put_object_legal_hold", LegalHold=wanted)

    async def retain(self, ref: ObjectRef, *, mode: LockMode, until: datetime, bypass: bool) -> None:
        wanted = {"Mode": mode.upper(), "RetainUntilDate": until}
        asking = {"BypassGovernanceRetention": True} if bypass else {}
        await self._set(ref, "put_object_retention", Retention=wanted, **asking)

    async def _set(self, ref: ObjectRef, operation: str, **wanted: object) -> None:
        asked = self._version(ref)

        def work(s3: Any) -> ObjectLock:
            getattr(s3, operation)(**asked, **wanted)
            return ObjectLock()

        await self._control(ref.key, work)

    def _version(self, ref: ObjectRef) -> dict[str, str]:
        """The version as the calls about locks name it."""
        if self._settings.object_lock is None:
            raise Unsupported("the store's settings do not name its object lock", key=ref.key)
        version = {} if ref.version_id is None else {"VersionId": ref.version_id}
        return {"Bucket": self._settings.bucket, "Key": f"{self._settings.prefix}{check_key(ref.key)}", **version}


def _get_lock(s3: Any, asked: dict[str, str]) -> ObjectLock:
    """The hold and the retention of one version: two questions, and services differ in how they say "none"."""
    held = _told_of_lock(lambda: s3.get_object_legal_hold(**asked)["LegalHold"]).get("Status") == "ON"
    retention = _told_of_lock(lambda: s3.get_object_retention(**asked)["Retention"])
    mode, until = retention.get("Mode"), retention.get("RetainUntilDate")
    if mode not in _LOCK_MODES or until is None:
        return ObjectLock(held)
    return ObjectLock(held, _LOCK_MODES[mode], until.astimezone(UTC))


def _told_of_lock(ask: Callable[[], Any]) -> Any:
    try:
        return ask() or {}
    except ClientError as error:
        if error.response["Error"].get("Code") not in _NO_LOCK:
            raise
        return {}
