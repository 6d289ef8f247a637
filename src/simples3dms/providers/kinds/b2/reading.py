"""Downloads from B2, read in threads piece by piece, each compared with what was asked for."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from functools import partial
from typing import Any, Final
from urllib.parse import unquote_plus

from simples3dms.providers.base import ObjectInfo
from simples3dms.providers.errors import IntegrityError, ObjectNotFound, StoreUnavailable
from simples3dms.providers.kinds.b2.session import Account

_PIECE_BYTES: Final = 1024 * 1024
_PIECE_SECONDS: Final = 0.5
_RANGE: Final = re.compile(r"bytes (\d+)-(\d+)/(\d+)")


class Reader:
    """One answer. `wanted`: the first and the last byte that were asked for, and the object's size; None: all."""

    def __init__(
        self,
        account: Account,
        key: str,
        path: str,
        version_id: str | None,
        response: Any,
        wanted: tuple[int, int, int] | None,
    ) -> None:
        told = response.headers.get("x-bz-file-name")
        if told is not None and unquote_plus(told) != path:
            # A download by id is of any file of the account: one that is not ours under this key is not there.
            raise ObjectNotFound("no such object", key=key)
        self.is_whole = False
        self._account, self._response = account, response
        size, self._due = _sizes(key, response, wanted)
        self.info = ObjectInfo(key, size, version_id or response.headers.get("x-bz-file-id"), None, None)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        raw, came = self._response.raw, 0
        while came < self._due:
            piece = await self._account.read(partial(_read_piece, raw, self._due - came), self.info.key)
            if not piece:
                raise StoreUnavailable("the body ended before its end", key=self.info.key)
            came += len(piece)
            yield piece
        self.is_whole = True


def _read_piece(raw: Any, left: int) -> bytes:
    """What comes within a moment, up to a megabyte: few hops between threads on a fast line."""
    ends_at = time.monotonic() + _PIECE_SECONDS
    most = min(left, _PIECE_BYTES)
    # Never decoded: a file's own Content-Encoding is the reader's affair, and our digest is of the bytes.
    parts = [raw.read1(most, decode_content=False)]
    most -= len(parts[0])
    while parts[-1] and most > 0 and time.monotonic() < ends_at:
        parts.append(raw.read1(most, decode_content=False))
        most -= len(parts[-1])
    return b"".join(parts)


class EmptyReader:
    """Nothing to read."""

    def __init__(self, info: ObjectInfo) -> None:
        self.info = info

    async def __aiter__(self) -> AsyncIterator[bytes]:
        nothing: tuple[bytes, ...] = ()
        for piece in nothing:
            yield piece


def _sizes(key: str, response: Any, wanted: tuple[int, int, int] | None) -> tuple[int, int]:
    """The object's size, and how many bytes are to come. Raises IntegrityError for another range than was asked for."""
    try:
        if wanted is None:
            if response.status_code != 200:
                raise IntegrityError("a part came where the whole was asked for", key=key)
            size = int(response.headers["Content-Length"])
            return size, size
        told = _RANGE.fullmatch(response.headers.get("Content-Range", ""))
        if response.status_code != 206 or told is None or tuple(map(int, told.groups())) != wanted:
            raise IntegrityError("another range came than was asked for", key=key)
        return wanted[2], wanted[1] - wanted[0] + 1
    except (KeyError, ValueError):
        raise StoreUnavailable("the store's answer makes no sense", vendor_code="malformed_answer", key=key) from None


def let_go(account: Account, response: Any, *, is_whole: bool) -> None:
    """Give the connection back, or end it. Never waits: a thread may still be reading, and holds the reader's lock."""
    if not is_whole:
        connection = getattr(response.raw, "connection", None)
        link = getattr(connection, "sock", None)
        if link is not None:
            with suppress(OSError):
                link.shutdown(socket.SHUT_RDWR)  # wakes whoever reads
    account.later(response.close)
