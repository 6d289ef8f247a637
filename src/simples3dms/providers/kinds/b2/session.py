"""One account's session, in a few threads: authorised at first use, and again when its token runs out."""

from __future__ import annotations

import asyncio
import hashlib
import io
import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar

from b2sdk.v3 import B2HttpApiConfig, B2Session, InMemoryAccountInfo, InMemoryCache
from b2sdk.v3.exception import B2Error

from simples3dms.providers.errors import BadCredential, BucketMissing
from simples3dms.providers.kinds.b2.errors import VENDOR_ERRORS, from_vendor, is_worth_another_url

T = TypeVar("T")
_THREADS: Final = 16
_UPLOAD_TRIES: Final = 5


class Account:
    """Runs blocking calls on b2sdk's session in threads of its own. `realm` is a name of Backblaze's, or a URL."""

    def __init__(self, *, key_id: str, key: str, realm: str, bucket: str) -> None:
        if not key_id.strip() or not key.strip():
            raise BadCredential("a B2 store needs an application key and its id")
        self._key_id, self._key, self._realm, self._bucket = key_id, key, realm, bucket
        self._session: Any = None
        self._bucket_id: str | None = None
        self._lock = threading.Lock()
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="b2")
        logging.getLogger("b2sdk").setLevel(logging.WARNING)

    async def run(self, call: Callable[[Any, str], T], key: str | None = None) -> T:
        """`call(session, bucket_id)` in a thread; its errors as ours."""

        def work() -> T:
            session, bucket_id = self._ready()
            return call(session, bucket_id)

        return await self.run_plain(work, key)

    async def run_plain(self, call: Callable[[], T], key: str | None = None) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, call)
        except VENDOR_ERRORS as error:
            raise from_vendor(error, key) from None

    def _ready(self) -> tuple[Any, str]:
        with self._lock:
            if self._session is None:
                session = B2Session(InMemoryAccountInfo(), InMemoryCache(), B2HttpApiConfig())
                session.authorize_account(self._realm, self._key_id, self._key)
                self._session = session
            if self._bucket_id is None:
                account_id = self._session.account_info.get_account_id()
                found = self._session.list_buckets(account_id, bucket_name=self._bucket)["buckets"]
                if not found:
                    raise BucketMissing("the bucket is not there, or the application key may not see it")
                self._bucket_id = found[0]["bucketId"]
            return self._session, self._bucket_id

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)


def repeat_upload(call: Callable[[], T]) -> T:
    """Call again after failures that only mean "take another upload URL": b2sdk takes a fresh one each time."""
    for _ in range(_UPLOAD_TRIES - 1):
        try:
            return call()
        except B2Error as error:
            if not is_worth_another_url(error):
                raise
    return call()


def upload_small(session: Any, bucket_id: str, path: str, body: bytes, content_type: str) -> Any:
    """One request; B2 compares the SHA-1 that we send."""
    digest = hashlib.sha1(body, usedforsecurity=False).hexdigest()
    # Of a stream without bytes, requests would make a chunked body beside the Content-Length.
    return repeat_upload(
        lambda: session.upload_file(
            bucket_id, path, len(body), content_type, digest, {}, io.BytesIO(body) if body else b""
        )
    )


def upload_part(session: Any, file_id: str, number: int, body: bytes) -> str:
    """One part; its SHA-1, which finishing the file needs."""
    digest = hashlib.sha1(body, usedforsecurity=False).hexdigest()
    repeat_upload(lambda: session.upload_part(file_id, number, len(body), digest, io.BytesIO(body)))
    return digest
