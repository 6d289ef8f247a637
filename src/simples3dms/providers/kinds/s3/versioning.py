"""Whether a bucket keeps versions: then a delete without a version id would only hide the bytes."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

from simples3dms.providers.errors import NOT_THIS_KIND, AccessDenied, BucketMissing, Unsupported
from simples3dms.providers.kinds.s3.config import S3Settings

_MAY_NOT_ASK: Final = frozenset({"AccessDenied", "NotImplemented", "MethodNotAllowed", "403", "405", "501"})
#: How long "no" is believed: an owner may turn versions on at any time, and can never turn them off for good.
_NO_SECONDS: Final = 60.0


def not_the_store() -> BucketMissing:
    """For a 404 to a question about no object: whoever says that is not the store, and knows nothing of its objects."""
    return BucketMissing("the endpoint does not answer as S3 does", vendor_code=NOT_THIS_KIND)


class Versioning:
    """One bucket's. `control` runs a call on the client and raises our errors."""

    def __init__(self, settings: S3Settings, control: Callable[[Callable[[Any], Any]], Awaitable[Any]]) -> None:
        self._settings, self._control = settings, control
        self._is_on = False
        self._off_until = 0.0

    def note(self, version_id: str | None) -> None:
        """The service gave what was written an id, so it keeps versions, whatever it said before."""
        if version_id is not None:
            self._is_on = True

    async def is_on(self) -> bool:
        """Whether deletes need version ids. The service's word is kept ("no" for a minute); a guess never is."""
        if not self._is_on and time.monotonic() >= self._off_until:
            try:
                found = await self._control(lambda s3: s3.get_bucket_versioning(Bucket=self._settings.bucket))
            except (AccessDenied, Unsupported) as error:
                if error.vendor_code not in _MAY_NOT_ASK:
                    raise
                return await self._lists_versions()
            self._is_on = found.get("Status") in ("Enabled", "Suspended")
            self._off_until = time.monotonic() + _NO_SECONDS
        return self._is_on

    async def _lists_versions(self) -> bool:
        """For keys that may not ask, and services that don't know the question: whoever lists versions deletes by id,
        which is right without versions, too. B2 keeps versions always."""
        asked = {"Bucket": self._settings.bucket, "Prefix": self._settings.prefix, "MaxKeys": 1}
        try:
            await self._control(lambda s3: s3.list_object_versions(**asked))
        except (AccessDenied, Unsupported) as error:
            if error.vendor_code not in _MAY_NOT_ASK:
                raise
            return self._settings.service == "b2"
        return True
