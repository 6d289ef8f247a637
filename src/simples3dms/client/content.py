"""Documents' bytes: uploads that may be repeated, downloads that go on after a cut."""

from __future__ import annotations

import base64
import hashlib
import mimetypes
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import UUID

import httpx

from simples3dms.client.errors import ServerUnreachable, to_problem
from simples3dms.client.transport import Transport
from simples3dms.schemas.documents import Document

Progress = Callable[[int], None]
_BLOCK = 256 * 1024
_REPEATED = frozenset({502, 503, 504})


def _ignore(_count: int) -> None:
    return


class ContentMixin(Transport):
    """Upload and download."""

    def upload_document(
        self,
        tenant: str,
        path: Path,
        *,
        name: str | None = None,
        document_id: UUID | None = None,
        content_type: str | None = None,
        idempotency_key: str | None = None,
        with_digest: bool = True,
        progress: Progress = _ignore,
    ) -> Document:
        """Upload a file as a document, or as the next version of one.

        Sent again after a broken connection or a passing failure, under the same idempotency key, so that it takes
        effect once. With `with_digest` the file is read twice, and the server refuses bytes that were hurt on the way.
        `progress` is called with the bytes sent since its last call.
        """
        size = path.stat().st_size
        headers = {
            "Content-Type": content_type or mimetypes.guess_type(path.name)[0] or "application/octet-stream",
            "Content-Length": str(size),
            "Idempotency-Key": idempotency_key or secrets.token_hex(16),
        }
        if with_digest:
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").digest()
            headers["Content-Digest"] = f"sha-256=:{base64.b64encode(digest).decode()}:"
        url = f"/api/v1/tenants/{tenant}/documents"
        params = {"name": name or path.name} if document_id is None else {}
        if document_id is not None:
            url += f"/{document_id}/versions"
        for attempt in range(1, self.tries + 1):
            sent = _Sent(path, progress)
            try:
                response = self.http.post(url, params=params, content=iter(sent), headers=headers)
            except httpx.TransportError as error:
                sent.take_back()
                if attempt == self.tries:
                    raise self.unreachable(error) from error
                self.pause(attempt)
                continue
            passing = response.status_code in _REPEATED or _code(response) in ("upload_in_progress", "body_incomplete")
            if passing and attempt < self.tries:
                sent.take_back()
                self.pause(attempt, response)
                continue
            if response.is_error:
                raise to_problem(response)
            return Document.model_validate_json(response.content)
        raise AssertionError("unreachable")

    @contextmanager
    def open_content(
        self, tenant: str, document_id: UUID, *, version: int | None = None, start: int = 0
    ) -> Iterator[Iterator[bytes]]:
        """The bytes of a version (the newest by default) from `start`, as chunks. A cut raises ServerUnreachable."""
        with self._stream(tenant, document_id, version, start) as response:
            yield self._chunks(response)

    @contextmanager
    def _stream(self, tenant: str, document_id: UUID, version: int | None, start: int) -> Iterator[httpx.Response]:
        place = f"/api/v1/tenants/{tenant}/documents/{document_id}"
        url = f"{place}/content" if version is None else f"{place}/versions/{version}/content"
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={start}-"} if start else {})
        try:
            with self.http.stream("GET", url, headers=headers) as response:
                if response.is_error:
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
        """Download a version to a file; its SHA-256. Goes on after a cut; the file appears only once it is right."""
        draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
        digest = hashlib.sha256()
        etag: str | None = None
        try:
            with draft.open("xb") as file:
                for attempt in range(1, self.tries + 1):
                    try:
                        with self._stream(tenant, document_id, version, file.tell()) as response:
                            if etag not in (None, response.headers["ETag"]):
                                raise ServerUnreachable("The document changed while it was downloaded; start again.")
                            etag = response.headers["ETag"]
                            for chunk in self._chunks(response):
                                file.write(chunk)
                                digest.update(chunk)
                                progress(len(chunk))
                        break
                    except ServerUnreachable:
                        if attempt == self.tries:
                            raise
                        self.pause(attempt)
            if f'"{digest.hexdigest()}"' != etag:
                raise ServerUnreachable("What arrived differs from what the server holds; download it again.")
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)
        return digest.hexdigest()


class _Sent:
    """A file on its way out, block by block."""

    def __init__(self, path: Path, progress: Progress) -> None:
        self._path = path
        self._progress = progress
        self._count = 0

    def __iter__(self) -> Iterator[bytes]:
        with self._path.open("rb") as file:
            while block := file.read(_BLOCK):
                yield block
                self._count += len(block)
                self._progress(len(block))

    def take_back(self) -> None:
        """What was sent in vain does not count as progress."""
        self._progress(-self._count)
        self._count = 0


def _code(response: httpx.Response) -> str | None:
    return to_problem(response).code if response.is_error else None
