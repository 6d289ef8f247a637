"""The fault proxy: byte-exact when it behaves, and wrong in exactly the way that was asked for."""

from __future__ import annotations

import asyncio
import os
import socket
import socketserver
import threading
import time
from collections.abc import Iterator

import pytest

from simples3dms.sandbox.faultproxy import FaultProxy, Flow

BODY = os.urandom(300_000)


class Echo(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        try:
            while data := self.request.recv(65536):
                self.request.sendall(data)
        except OSError:
            pass


class Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    block_on_close = False


@pytest.fixture
def proxy() -> Iterator[FaultProxy]:
    with Server(("127.0.0.1", 0), Echo) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        with FaultProxy(server.server_address[1]) as proxy:
            yield proxy
        server.shutdown()
        thread.join()


def connect(proxy: FaultProxy) -> socket.socket:
    return socket.create_connection(("127.0.0.1", proxy.port), timeout=5)


def exchange(proxy: FaultProxy, body: bytes) -> bytes:
    """Send all and read until the end."""
    with connect(proxy) as link:
        sender = threading.Thread(target=_send, args=(link, body))
        sender.start()
        received = bytearray()
        try:
            while data := link.recv(65536):
                received += data
        finally:
            sender.join()
        return bytes(received)


def _send(link: socket.socket, body: bytes) -> None:
    try:
        link.sendall(body)
        link.shutdown(socket.SHUT_WR)
    except OSError:
        pass


def test_it_passes_every_byte_and_half_closes(proxy: FaultProxy) -> None:
    assert exchange(proxy, BODY) == BODY
    assert proxy.accepted_count == 1


def test_flip(proxy: FaultProxy) -> None:
    proxy.up = Flow(flip_at=200_001)
    found = exchange(proxy, BODY)
    assert [at for at, (a, b) in enumerate(zip(BODY, found, strict=True)) if a != b] == [200_001]
    proxy.heal()
    proxy.down = Flow(flip_at=0)
    assert exchange(proxy, b"\x00\x00") == b"\x01\x00"


def test_cut_with_fin_and_with_reset(proxy: FaultProxy) -> None:
    proxy.down = Flow(cut_after=70_000, cut_with="fin")
    assert exchange(proxy, BODY) == BODY[:70_000]
    proxy.down = Flow(cut_after=70_000, cut_with="rst")
    with pytest.raises(ConnectionResetError):
        exchange(proxy, BODY)


def test_latency_and_rate(proxy: FaultProxy) -> None:
    proxy.up = Flow(latency_seconds=0.3)
    start = time.monotonic()
    assert exchange(proxy, b"x") == b"x"
    assert time.monotonic() - start >= 0.3
    proxy.up = Flow(bytes_per_second=1_000_000)
    start = time.monotonic()
    assert exchange(proxy, BODY) == BODY
    assert time.monotonic() - start >= 0.3


def test_refuse_and_accept_on_the_same_port(proxy: FaultProxy) -> None:
    port = proxy.port
    with connect(proxy) as open_before:
        open_before.sendall(b"1")
        assert open_before.recv(1) == b"1"
        proxy.refuse()
        with pytest.raises(ConnectionRefusedError):
            connect(proxy)
        open_before.sendall(b"2")
        assert open_before.recv(1) == b"2"
    proxy.accept()
    assert proxy.port == port
    assert exchange(proxy, b"again") == b"again"


def test_blackhole_swallows_until_it_heals(proxy: FaultProxy) -> None:
    proxy.is_blackhole = True
    with connect(proxy) as link:
        link.sendall(b"held")
        link.settimeout(0.2)
        with pytest.raises(TimeoutError):
            link.recv(1)
        proxy.heal()
        link.settimeout(5)
        assert link.recv(4) == b"held"


def test_kill_all_resets_what_is_open(proxy: FaultProxy) -> None:
    with connect(proxy) as link:
        link.sendall(b"x")
        assert link.recv(1) == b"x"
        proxy.kill_all()
        with pytest.raises(ConnectionResetError):
            link.recv(1)


def test_nobody_behind_it_is_a_reset() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        # It may come before the client has seen that it is connected.
        with FaultProxy(free.getsockname()[1]) as proxy, pytest.raises(ConnectionResetError), connect(proxy) as link:
            link.recv(1)


def test_it_can_be_used_from_asyncio(proxy: FaultProxy) -> None:
    async def talk() -> bytes:
        async with FaultProxy(proxy.port) as second:
            reader, writer = await asyncio.open_connection("127.0.0.1", second.port)
            writer.write(b"hello")
            answer = await reader.readexactly(5)
            writer.close()
            return answer

    assert asyncio.run(talk()) == b"hello"
