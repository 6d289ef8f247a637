"""One account's session, in a few threads: authorised at first use, and again when its token runs out."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from functools import partial
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

import requests
from b2sdk.v3 import B2Http, B2HttpApiConfig, B2Session, InMemoryAccountInfo, InMemoryCache
from requests.adapters import HTTPAdapter
from urllib3.exceptions import HTTPError

from simples3dms.providers.bounded import AnswerUnbounded, read_answer
from simples3dms.providers.errors import AccessDenied, BadCredential, BucketMissing, StoreTimedOut
from simples3dms.providers.kinds.b2.errors import VENDOR_ERRORS, from_vendor
from simples3dms.providers.registry import BuildOptions
from simples3dms.providers.threads import CallThreads, check_wanted

T = TypeVar("T")
_READING_THREADS: Final = 64
_OWN_DOMAIN: Final = "backblazeb2.com"
#: What a key must be allowed to do for us. `shareFiles` beside them, for signed downloads.
NEEDED_RIGHTS: Final = frozenset({"listBuckets", "listFiles", "readFiles", "writeFiles", "deleteFiles"})


class _BoundedSession(requests.Session):
    """requests' session, with an end to every answer that is not a file's bytes."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self._seconds = seconds

    def send(self, request: requests.PreparedRequest, **how: Any) -> requests.Response:
        wants_stream, how["stream"] = how.get("stream"), True
        response = super().send(request, **how)
        if not wants_stream or response.status_code >= 300:
            try:
                response._content = read_answer(response.raw, seconds=self._seconds, decode=True)
            except (HTTPError, AnswerUnbounded) as error:
                response.close()
                raise requests.ConnectionError(error) from error
            response._content_consumed = True
        return response


class _OneTryHttp(B2Http):  # type: ignore[misc]  # b2sdk is untyped
    """b2sdk's HTTP, with its own repeats off (ours count) and no host but the realm's own ever asked."""

    def __init__(self, config: Any, *, options: BuildOptions, realm_host: str | None) -> None:
        super().__init__(config)
        self.CONNECTION_TIMEOUT = options.connect_seconds
        self._read_seconds = options.read_seconds
        self._realm_host = realm_host
        self.session.trust_env = False
        self.session.max_redirects = 0
        if options.ca_file is not None:
            self.session.verify = options.ca_file
        if options.proxy_url is not None:
            self.session.proxies = {"http": options.proxy_url, "https": options.proxy_url}
        adapter = self.session.get_adapter("https://")
        if isinstance(adapter, HTTPAdapter):
            adapter.init_poolmanager(4, options.most_concurrent + _READING_THREADS)

    def request(self, method: Any, url: str, headers: Any, data: Any = None, *_: Any, **more: Any) -> Any:
        check_wanted()
        self._check_host(url)
        more["try_count"] = 1
        # Copies inside the service take as long as they take: the timeout layer bounds them by size.
        more["_timeout"] = max(self._read_seconds, more.get("_timeout") or 0) if "copy" in url else self._read_seconds
        return super().request(method, url, headers, data, **more)

    def _check_host(self, url: str) -> None:
        """A realm names the addresses to go on with: it must not lead us to somebody else's (S-36)."""
        host = (urlsplit(url).hostname or "").lower()
        own = self._realm_host
        if host != own if own is not None else not (host == _OWN_DOMAIN or host.endswith(f".{_OWN_DOMAIN}")):
            raise AccessDenied("the B2 realm names an address outside itself", vendor_code="foreign_host")


class Account:
    """Runs blocking calls on b2sdk's session in threads of its own. `realm` is a name of Backblaze's, or a URL."""

    def __init__(self, *, key_id: str, key: str, realm: str, bucket: str, options: BuildOptions) -> None:
        if not key_id.strip() or not key.strip():
            raise BadCredential("a B2 store needs an application key and its id")
        self._key_id, self._key, self._realm, self._bucket = key_id, key, realm, bucket
        self._options = options
        self._session: Any = None
        self._bucket_id: str | None = None
        self._lock = threading.Lock()
        self._threads = CallThreads(options.most_concurrent, "b2")
        self._readers = CallThreads(_READING_THREADS, "b2-read")
        # Its warnings hold raw answers of the service.
        logging.getLogger("b2sdk").setLevel(logging.CRITICAL)

    async def run(self, call: Callable[[Any, str], T], key: str | None = None) -> T:
        """`call(session, bucket_id)` in a thread; its errors as ours."""

        def work() -> T:
            session, bucket_id = self._ready()
            return call(session, bucket_id)

        try:
            return await self.run_plain(work, key)
        except BucketMissing:
            # A bucket that was made anew has the same name and another id: the next call asks for it.
            self._bucket_id = None
            raise

    async def run_account(self, call: Callable[[Any], T]) -> T:
        """`call(session)`, about the account: the key need not see the bucket."""

        def work() -> T:
            with self._lock:
                check_wanted()
                if self._session is None:
                    self._session = self._authorized()
                session = self._session
            return call(session)

        return await self.run_plain(work)

    async def run_plain(self, call: Callable[[], T], key: str | None = None) -> T:
        return await self._threads.run(call, VENDOR_ERRORS, partial(from_vendor, key=key))

    async def read(self, call: Callable[[], T], key: str | None = None) -> T:
        """A piece of a body: in other threads, as readers may be many and slow."""
        return await self._readers.run(call, VENDOR_ERRORS, partial(from_vendor, key=key))

    def later(self, call: Callable[[], object]) -> None:
        self._threads.later(call)

    def _ready(self) -> tuple[Any, str]:
        if not self._lock.acquire(timeout=self._options.connect_seconds + self._options.read_seconds):
            raise StoreTimedOut("the store did not answer in time")
        try:
            check_wanted()
            if self._session is None:
                self._session = self._authorized()
            if (bucket_id := self._bucket_id) is None:
                account_id = self._session.account_info.get_account_id()
                found = self._session.list_buckets(account_id, bucket_name=self._bucket)["buckets"]
                if not found:
                    raise BucketMissing("the bucket is not there, or the application key may not see it")
                bucket_id = self._bucket_id = str(found[0]["bucketId"])
            return self._session, bucket_id
        finally:
            self._lock.release()

    def _authorized(self) -> Any:
        realm_host = urlsplit(self._realm).hostname if "://" in self._realm else None
        options = self._options

        class OurSession(B2Session):  # type: ignore[misc]  # b2sdk is untyped
            @staticmethod
            def B2HTTP_CLASS(config: Any) -> Any:
                return _OneTryHttp(config, options=options, realm_host=realm_host)

        seconds = options.connect_seconds + options.read_seconds
        config = B2HttpApiConfig(http_session_factory=lambda: _BoundedSession(seconds))
        session = OurSession(InMemoryAccountInfo(), InMemoryCache(), config)
        session.authorize_account(self._realm, self._key_id, self._key)
        return session

    async def missing_rights(self) -> list[str]:
        """What the application key may not do and we need, in alphabetical order."""

        def work(session: Any, _: str) -> list[str]:
            allowed = session.account_info.get_allowed() or {}
            return sorted(NEEDED_RIGHTS - set(allowed.get("capabilities") or ()))

        return await self.run(work)

    def close(self) -> None:
        self._threads.close()
        self._readers.close()
