"""Reading what clients ask of the proxy: heads of requests, and how long each body is."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from simples3dms.egress.addresses import normal_host
from simples3dms.egress.policy import Scheme

HEAD_BYTES: Final = 64 * 1024
_CHUNK_BYTES: Final = 256 * 1024
#: Headers between two neighbours, not between client and server.
_OWN: Final = frozenset({b"proxy-authorization", b"proxy-connection", b"connection", b"keep-alive", b"upgrade", b"te"})


class BadRequest(Exception):
    """Not a request that the guard passes on."""


@dataclass(frozen=True, slots=True)
class Head:
    """A request to the proxy: `CONNECT host:port` (then `onward` is empty), or one with an absolute URL."""

    scheme: Scheme
    host: str
    port: int
    authorization: str
    onward: bytes
    """The head as the server gets it."""
    body_bytes: int
    """Length of its body; -1: chunked."""

    def goes_with(self, other: Head) -> bool:
        """Whether it may use the connection that was made for the other one."""
        mine = (self.scheme, self.host, self.port, self.authorization, bool(self.onward))
        return mine == (other.scheme, other.host, other.port, other.authorization, bool(other.onward))


def parse(raw: bytes) -> Head:
    """Raises BadRequest. Two lengths, or a length beside chunks, are refused: readers disagree about them."""
    lines = raw.split(b"\r\n")
    try:
        method, target, version = lines[0].decode("ascii").split(" ")
    except (UnicodeDecodeError, ValueError):
        raise BadRequest("request line") from None
    # Python's own client asks for tunnels in HTTP/1.0.
    if version != "HTTP/1.1" and (method, version) != ("CONNECT", "HTTP/1.0"):
        raise BadRequest("version")
    headers = [_header(line) for line in lines[1:] if line]
    authorization = [value for name, value in headers if name.lower() == b"proxy-authorization"]
    try:
        shown = authorization[0].decode("ascii") if len(authorization) == 1 else ""
        if method == "CONNECT":
            host, _, port = target.rpartition(":")
            return Head("https", normal_host(host), int(port), shown, b"", 0)
        parts = urlsplit(target)
        if parts.scheme != "http" or parts.hostname is None or parts.username is not None:
            raise BadRequest("target")
        path = target[len("http://") + len(parts.netloc) :] or "/"
        path = path if path.startswith("/") else f"/{path}"
        host, port_number = normal_host(parts.hostname), parts.port or 80
    except (ValueError, UnicodeDecodeError):
        raise BadRequest("target") from None
    kept = [name + b": " + value for name, value in headers if name.lower() not in _OWN]
    onward = b"\r\n".join([f"{method} {path} HTTP/1.1".encode(), *kept, b"Connection: keep-alive", b"", b""])
    return Head("http", host, port_number, shown, onward, _body_bytes(headers))


def _header(line: bytes) -> tuple[bytes, bytes]:
    name, colon, value = line.partition(b":")
    if not colon or not name or name != name.strip() or any(byte < 32 for byte in value.replace(b"\t", b" ")):
        raise BadRequest("header")
    return name, value.strip()


def _body_bytes(headers: list[tuple[bytes, bytes]]) -> int:
    lengths = [value for name, value in headers if name.lower() == b"content-length"]
    codings = [value.lower() for name, value in headers if name.lower() == b"transfer-encoding"]
    if codings and (lengths or codings != [b"chunked"]):
        raise BadRequest("body")
    if codings:
        return -1
    if len(lengths) > 1 or (lengths and not lengths[0].isdigit()):
        raise BadRequest("body")
    return int(lengths[0]) if lengths else 0


async def pass_body(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, size: int, stall_seconds: float
) -> None:
    """Hand a body of `size` bytes on; -1: in chunks, up to and with the last one and its trailers.

    Raises TimeoutError if the other end takes nothing for so long.
    """
    if size >= 0:
        await _pass_bytes(reader, writer, size, stall_seconds)
        return
    while True:
        line = await reader.readuntil(b"\r\n")
        try:
            length = int(line.split(b";")[0].strip(), 16)
        except ValueError:
            raise BadRequest("chunk") from None
        writer.write(line)
        if length == 0:
            break
        await _pass_bytes(reader, writer, length + 2, stall_seconds)
    while (line := await reader.readuntil(b"\r\n")) != b"\r\n":
        writer.write(line)
    writer.write(line)
    await _drain(writer, stall_seconds)


async def _pass_bytes(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, size: int, stall_seconds: float
) -> None:
    while size > 0:
        block = await reader.read(min(size, _CHUNK_BYTES))
        if not block:
            raise asyncio.IncompleteReadError(b"", size)
        size -= len(block)
        writer.write(block)
        await _drain(writer, stall_seconds)


async def _drain(writer: asyncio.StreamWriter, stall_seconds: float) -> None:
    async with asyncio.timeout(stall_seconds):
        await writer.drain()
