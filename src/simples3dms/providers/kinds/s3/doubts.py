"""Answers that don't say enough: what is missing, and how long to wait. The bucket is asked, and its answer counts."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final

from simples3dms.providers.errors import ObjectNotFound, ProviderError, StoreUnavailable, Throttled
from simples3dms.providers.kinds.s3.errors import says_nothing_of_the_bucket

#: Codes by which a service itself says that something is missing. A bare 404 may come from whoever stands before it.
_SAID_MISSING: Final = frozenset({"NoSuchKey", "NoSuchUpload", "NoSuchVersion"})
#: Beside Throttled: answers that may name a time. obstore keeps their headers to itself.
_MAY_NAME_A_TIME: Final = frozenset({"503", "ServiceUnavailable"})
_ANSWER_SECONDS: Final = 1.0
#: obstore's word for "the keys to sign with could not be had", whatever kept them: nobody has refused anything yet.
_NO_KEYS: Final = "UnauthenticatedError"


class Doubts:
    """One bucket's. `check` asks it the cheapest question, through the client that hands on headers."""

    def __init__(self, check: Callable[[], Awaitable[None]]) -> None:
        self._check = check
        self._asking: asyncio.Task[float | None] | None = None
        self._asked_at = 0.0

    async def resolve(self, error: ProviderError) -> ProviderError:
        """What an error of obstore's means, as far as the bucket can tell."""
        if says_nothing_of_the_bucket(error) or (type(error) is ObjectNotFound and error.vendor_code is None):
            return await self.ask_again(error)
        if error.vendor_code == _NO_KEYS:
            found = await self.ask_again(error)
            return found if found is not error else StoreUnavailable(error.message, vendor_code=_NO_KEYS, key=error.key)
        if isinstance(error, Throttled) or error.vendor_code in _MAY_NAME_A_TIME:
            error.retry_after = await self._pause()
        return error

    async def ask_again(self, error: ProviderError) -> ProviderError:
        """An answer without a body does not say whether the object or the bucket is missing: the bucket knows.

        If it can't be asked, that is the answer: a gateway without the store behind it says 404 to everything.
        """
        try:
            await self._check()
        except ProviderError as found:
            return found
        return error

    async def believe(self, error: ObjectNotFound) -> None:
        """Return if the object or upload is known to be missing; raise what is wrong with the store otherwise."""
        if error.vendor_code not in _SAID_MISSING:
            await self._check()

    async def _pause(self) -> float | None:
        """How long the store asks us to wait, in seconds; None if it does not. All calls of a second share an answer:
        who is told to slow down does not ask much more."""
        if self._asking is None or (self._asking.done() and time.monotonic() - self._asked_at > _ANSWER_SECONDS):
            self._asking, self._asked_at = asyncio.create_task(self._ask_for_pause()), time.monotonic()
        return await asyncio.shield(self._asking)

    async def _ask_for_pause(self) -> float | None:
        try:
            await self._check()
        except ProviderError as error:
            return error.retry_after
        return None
