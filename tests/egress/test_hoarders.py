"""S-38: a store that holds connections costs the others none of theirs."""

from __future__ import annotations

import asyncio
import socket
import threading
from base64 import b64encode
from collections.abc import AsyncIterator, Callable, Iterator
from urllib.parse import urlsplit

import pytest

from simples3dms.egress import Destination, EgressGuard, EgressPolicy
from simples3dms.providers.errors import ProviderError
from simples3dms.providers.registry import BuildOptions, get_kind

pytestmark = pytest.mark.anyio
KEYS = {"access_key_id": "tenants-own", "secret_access_key": "made-up"}


class Hoarder:
    """Accepts, and neither reads nor answers."""

    def __init__(self) -> None:
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._server.getsockname()[1])
        self.held: list[socket.socket] = []
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        while True:
            try:
                self.held.append(self._server.accept()[0])
            except OSError:
                return

    def close(self) -> None:
        self._server.close()
        for one in self.held:
            one.close()


@pytest.fixture
def hoarder() -> Iterator[Hoarder]:
    hoarder = Hoarder()
    yield hoarder
    hoarder.close()


def basic(name: str, password: str) -> str:
    return f"Basic {b64encode(f'{name}:{password}'.encode()).decode()}"


async def until(holds: Callable[[], bool]) -> bool:
    for _ in range(100):
        if holds():
            return True
        await asyncio.sleep(0.05)
    return False


@pytest.fixture
async def tickets() -> AsyncIterator[list[socket.socket]]:
    sockets: list[socket.socket] = []
    yield sockets
    for one in sockets:
        one.close()


async def test_s38_a_server_that_never_reads_keeps_no_connection_of_the_guard(hoarder: Hoarder) -> None:
    """The client gave up long ago, but what it sent before waits in the guard, which hears nothing behind it."""
    url = f"http://127.0.0.1:{hoarder.port}"
    guard = EgressGuard(EgressPolicy.parse(allow=f"127.0.0.1:{hoarder.port}"), stall_seconds=0.5)
    options = BuildOptions(proxy_url=guard.proxy_url([Destination.of(url)]), connect_seconds=1, read_seconds=1)
    provider = get_kind("s3").create({"endpoint": url, "bucket": "docs"}, KEYS, options=options)

    async def give_up() -> None:
        with pytest.raises((ProviderError, TimeoutError)):
            async with asyncio.timeout(2):
                await provider.put("x", bytes(8 * 2**20))

    await asyncio.gather(*(give_up() for _ in range(5)))
    assert len(hoarder.held) == 5
    assert await until(lambda: guard._open_count == 0)
    await provider.close()
    guard.close()


async def test_s38_one_store_has_at_most_half_of_the_connections(
    hoarder: Hoarder, tickets: list[socket.socket]
) -> None:
    other = Hoarder()
    allowed = f"127.0.0.1:{hoarder.port},127.0.0.1:{other.port}"
    guard = EgressGuard(EgressPolicy.parse(allow=allowed), refusal_seconds=0.1, most_connections=4)

    def ask(port: int) -> bytes:
        proxy = urlsplit(guard.proxy_url([Destination.of(f"https://127.0.0.1:{port}")]))
        shown = basic(proxy.username or "", proxy.password or "")
        made = socket.create_connection(("127.0.0.1", proxy.port or 0), timeout=5)
        tickets.append(made)
        made.sendall(f"CONNECT 127.0.0.1:{port} HTTP/1.1\r\nProxy-Authorization: {shown}\r\n\r\n".encode())
        return made.recv(4096).split(b"\r\n")[0]

    established = b"HTTP/1.1 200 Connection established"
    answers = [await asyncio.to_thread(ask, hoarder.port) for _ in range(3)]
    assert answers == [established, established, b"HTTP/1.1 502 Bad Gateway"]
    assert await asyncio.to_thread(ask, other.port) == established
    # What is given back can be used again.
    tickets[0].close()
    assert await until(lambda: guard._open_count == 2)
    assert await asyncio.to_thread(ask, hoarder.port) == established
    guard.close()
    other.close()
