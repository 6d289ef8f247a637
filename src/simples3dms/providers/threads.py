"""Blocking calls of vendors' clients, in threads of one store: what nobody waits for any more is not begun.

A caller that was cancelled, or whose time ran out, leaves its thread behind: a vendor's client can't be interrupted.
So each request asks `check_wanted` first. Without it a write that was told as failed would reach the store minutes
later, when it is well again, and leave an object that no row knows of.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TypeVar

from simples3dms.providers.errors import ProviderError, StoreUnavailable

T = TypeVar("T")
_current = threading.local()
#: What reading an answer that makes no sense ends with.
_SENSELESS = (KeyError, ValueError, TypeError, IndexError, AttributeError)


class AbandonedError(OSError):
    """Raised in the thread: whoever asked has gone."""


def check_wanted() -> None:
    """Raise AbandonedError if the caller of this thread's work has gone. For the moment before a request is sent."""
    gone = getattr(_current, "gone", None)
    if gone is not None and gone.is_set():
        raise AbandonedError("nobody waits for this any more")


class CallThreads:
    """A pool with an end: after `close`, calls raise StoreUnavailable; those that run go on to their own end."""

    def __init__(self, count: int, name: str) -> None:
        self._pool = ThreadPoolExecutor(count, thread_name_prefix=name)

    async def run(
        self,
        call: Callable[[], T],
        vendor_errors: tuple[type[Exception], ...],
        mapped: Callable[[BaseException], ProviderError],
    ) -> T:
        """The call's result; `mapped` makes our error of a vendor's."""
        gone = threading.Event()

        def work() -> T:
            _current.gone = gone
            try:
                check_wanted()
                return call()
            finally:
                _current.gone = None

        try:
            running = asyncio.get_running_loop().run_in_executor(self._pool, work)
        except RuntimeError:
            raise StoreUnavailable("the connection to the store was closed", vendor_code="closed") from None
        try:
            return await running
        except asyncio.CancelledError:
            gone.set()
            raise
        except vendor_errors as error:
            raise mapped(error) from None
        except _SENSELESS:
            raise StoreUnavailable("the store's answer makes no sense", vendor_code="malformed_answer") from None

    def later(self, call: Callable[[], object]) -> None:
        """Do it some time; nobody waits, and what it raises is nobody's concern."""

        def work() -> None:
            with suppress(Exception):
                call()

        with suppress(RuntimeError):
            self._pool.submit(work)

    def close(self) -> None:
        """Take no more calls."""
        self._pool.shutdown(wait=False)
