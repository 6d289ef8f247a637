"""Documents' bytes: uploads that may be repeated, downloads that go on after a cut."""

from __future__ import annotations

import base64
import hashlib
import mimetypes
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import BinaryIO
from uuid import UUID

import httpx

from simples3dms.client.errors import ApiProblem, ServerUnreachable, to_problem
from simples3dms.client.transport import Transport, at, is_passing
from simples3dms.schemas.documents import Document

Progress = Callable[[int], None]
_BLOCK = 256 * 1024


def _ignore(_count: int) -> None:
    return


class ContentMixin(Transport):
    """Upload and download."""

    def upload_document(
        self,
        tenant: str,
        source: Path | BinaryIO,
        *,
        name: str | None = None,
        document_id: UUID | None = None,
        content_type: str | None = None,
        idempotency_key: str | None = None,
        original_created_at: datetime | None = None,
        with_digest: bool = True,
        progress: Progress = _ignore,
    ) -> Document:
        """Upload a file as a document, or as the next version of one.

        Sent again after a broken connection or a passing failure, under the same idempotency key, so that it takes
        effect once. With `with_digest` the file is read twice, and the server refuses bytes that were hurt on the way.
        An open file must be seekable and is read from where it stands; with no name of its own it needs `name`.
        `progress` is called with the bytes sent since its last call.
        """
        chosen = name or Path(source if isinstance(source, Path) else source.name).name
        # A file's name may be bytes that are no text.
        chosen = chosen.encode(errors="replace").decode()
        params = {"name": chosen} if document_id is None else {}
        if original_created_at is not None:
            params["original_created_at"] = original_created_at.isoformat()
        path = at("tenants", tenant, "documents", *((document_id, "versions") if document_id else ()))
        url = httpx.URL(path, params=params)
        with _opened(source) as file:
            body = _Body(file, progress)
            headers = {
                "Content-Type": content_type or mimetypes.guess_type(chosen)[0] or "application/octet-stream",
                "Content-Length": str(body.size_bytes),
                "Idempotency-Key": idempotency_key or secrets.token_hex(16),
            }
            if with_digest:
                headers["Content-Digest"] = f"sha-256=:{base64.b64encode(body.digest()).decode()}:"
            return self._send_body(url, headers, body)

    def _send_body(self, url: httpx.URL, headers: dict[str, str], body: _Body) -> Document:
        for attempt in range(1, self.tries + 1):
            try:
                response = self.http.post(
                    url, content=body.blocks(), headers=httpx.Headers(headers, encoding="latin-1")
                )
            except httpx.TransportError as error:
                if attempt == self.tries:
                    raise self.unreachable(error) from error
                response = None
            if response is not None and response.is_success:
                return self.parse(Document, response.content)
            if response is not None and (attempt == self.tries or not _may_be_sent_again(response)):
                raise to_problem(response)
            body.take_back()
            self.pause(attempt, response)
        raise AssertionError("unreachable")

    @contextmanager
    def open_content(
        self, tenant: str, document_id: UUID, *, version: int | None = None, start: int = 0
    ) -> Iterator[Iterator[bytes]]:
        """The bytes of a version (the newest by default) from `start`, as chunks. A cut raises ServerUnreachable."""
        with self._stream(_place(tenant, document_id, version), start, None) as response:
            yield self._chunks(response)

    @contextmanager
    def _stream(self, url: str, start: int, etag: str | None) -> Iterator[httpx.Response]:
        """An open answer from `start` on; the whole if the bytes are no longer those of `etag`."""
        headers = {"Accept-Encoding": "identity"}
        if start:
            headers |= {"Range": f"bytes={start}-"} | ({"If-Range": etag} if etag else {})
        try:
            with self.http.stream("GET", url, headers=headers) as response:
                if not response.is_success:
                    response.read()
                    raise to_problem(response)
                yield response
        except httpx.TransportError as error:
            raise self.unreachable(error) from error

    def _chunks(self, response: httpx.Response) -> Iterator[bytes]:
        try:
            yield from response.iter_raw(_BLOCK)
        except httpx.TransportError as error:
            raise self.unreachable(error) from error

    def download_document(
        self,
        tenant: str,
        document_id: UUID,
        path: Path,
        *,
        version: int | None = None,
        progress: Progress = _ignore,
    ) -> str:
        """Download a version to a file; its SHA-256. Goes on after a cut; the file appears only once it is right.

        Tries are counted from the last one that brought something. `progress` is called with the bytes that have come
        since its last call, or a negative number for those that had to be dropped.
        """
        draft = path.with_name(f".{secrets.token_hex(8)}.part")
        try:
            with draft.open("xb") as file:
                received = _Received(file, progress)
                self._receive(_place(tenant, document_id, version), received)
            if f'"{received.hexdigest}"' != received.etag:
                raise ServerUnreachable("What arrived differs from what the server holds; download it again.")
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)
        return received.hexdigest

    def fetch_version(
        self,
        tenant: str,
        document_id: UUID,
        version: int,
        path: Path,
        *,
        size_bytes: int,
        sha256: str,
        progress: Progress = _ignore,
    ) -> None:
        """Fetch a version whose digest is known to `path`, going on with what an earlier run left at `path`.part."""
        draft = path.with_name(f"{path.name}.part")
        with draft.open("a+b") as file:
            received = _Received(file, progress, etag=f'"{sha256}"')
            received.take_up()
            if received.count < size_bytes or not size_bytes:
                self._receive(_place(tenant, document_id, version), received)
            file.flush()
            os.fsync(file.fileno())
        if received.hexdigest != sha256:
            draft.unlink()
            raise ServerUnreachable("What arrived differs from what the manifest says; download it again.")
        draft.replace(path)

    def _receive(self, url: str, received: _Received) -> None:
        attempt = 0
        while True:
            attempt, count = attempt + 1, received.count
            try:
                with self._stream(url, received.count, received.etag) as response:
                    received.begin(response)
                    for chunk in self._chunks(response):
                        received.add(chunk)
                return
            except ServerUnreachable:
                attempt = 1 if received.count > count else attempt
                if attempt >= self.tries:
                    raise
            except ApiProblem as problem:
                if attempt >= self.tries or problem.status not in (503, 504):
                    raise
            self.pause(attempt)


def _place(tenant: str, document_id: UUID, version: int | None) -> str:
    if version is None:
        return at("tenants", tenant, "documents", document_id, "content")
    return at("tenants", tenant, "documents", document_id, "versions", version, "content")


def _may_be_sent_again(response: httpx.Response) -> bool:
    """A moment later, or once the earlier try under the same key, which the server still sees running, has ended."""
    return is_passing(response) or to_problem(response).code in ("upload_in_progress", "body_incomplete")


@contextmanager
def _opened(source: Path | BinaryIO) -> Iterator[BinaryIO]:
    """Ours to close, or the caller's to keep."""
    if isinstance(source, Path):
        with source.open("rb") as file:
            yield file
    else:
        yield source


class _Body:
    """A file on its way out, from where it stands to its end, any number of times."""

    def __init__(self, file: BinaryIO, progress: Progress) -> None:
        self._file = file
        self._progress = progress
        self._begin = file.tell()
        self._sent = 0
        self.size_bytes = file.seek(0, os.SEEK_END) - self._begin

    def digest(self) -> bytes:
        self._file.seek(self._begin)
        digest = hashlib.sha256()
        while block := self._file.read(_BLOCK):
            digest.update(block)
        return digest.digest()

    def blocks(self) -> Iterator[bytes]:
        self._file.seek(self._begin)
        while block := self._file.read(_BLOCK):
            yield block
            self._sent += len(block)
            self._progress(len(block))

    def take_back(self) -> None:
        """What was sent in vain does not count as progress."""
        self._progress(-self._sent)
        self._sent = 0


class _Received:
    """A file on its way in, hashed as it comes."""

    def __init__(self, file: BinaryIO, progress: Progress, *, etag: str | None = None) -> None:
        self._file = file
        self._progress = progress
        self._digest = hashlib.sha256()
        self.count = 0
        self.etag = etag

    def take_up(self) -> None:
        """Count what is in the file already as received."""
        self._file.seek(0)
        while block := self._file.read(_BLOCK):
            self._digest.update(block)
            self.count += len(block)

    def begin(self, response: httpx.Response) -> None:
        """Go on where the last answer ended, or anew if this one is the whole."""
        if response.status_code != 206 and self.count:
            self._progress(-self.count)
            self._file.seek(0)
            self._file.truncate()
            self._digest = hashlib.sha256()
            self.count = 0
        self.etag = response.headers.get("ETag")

    def add(self, chunk: bytes) -> None:
        self._file.write(chunk)
        self._digest.update(chunk)
        self.count += len(chunk)
        self._progress(len(chunk))

    @property
    def hexdigest(self) -> str:
        return self._digest.hexdigest()
