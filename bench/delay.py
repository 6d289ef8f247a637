"""A line with latency in front of a server: `python -m bench.delay PORT SECONDS` prints the port that it listens at.

What clients send arrives so much later, in order, however much is under way; answers are passed on at once.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from simples3dms.sandbox.ports import LOOPBACK, listen


class _Client(asyncio.Protocol):
    """One client's connection: its bytes wait for their time, and for the connection to the server."""

    def __init__(self, port: int, seconds: float) -> None:
        self._port = port
        self._seconds = seconds
        self._loop = asyncio.get_running_loop()
        self._under_way: deque[tuple[float, bytes]] = deque()
        self._server: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self._connecting = self._loop.create_task(self._connect())

    async def _connect(self) -> None:
        try:
            self._server, _ = await self._loop.create_connection(lambda: _Server(self), LOOPBACK, self._port)
        except OSError:
            self.close()
            return
        self._deliver()

    def data_received(self, data: bytes) -> None:
        self._under_way.append((self._loop.time() + self._seconds, data))
        if self._timer is None and self._server is not None:
            self._timer = self._loop.call_later(self._seconds, self._deliver)

    def _deliver(self) -> None:
        self._timer = None
        now = self._loop.time()
        while self._server is not None and self._under_way and self._under_way[0][0] <= now:
            self._server.write(self._under_way.popleft()[1])
        if self._under_way:
            self._timer = self._loop.call_at(self._under_way[0][0], self._deliver)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 however it ended
        if self._server is not None:
            self._server.close()

    def close(self) -> None:
        if self.transport is not None:
            self.transport.close()


class _Server(asyncio.Protocol):
    def __init__(self, client: _Client) -> None:
        self._client = client

    def data_received(self, data: bytes) -> None:
        if self._client.transport is not None:
            self._client.transport.write(data)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 however it ended
        self._client.close()


@contextmanager
def delayed(port: int, seconds: float) -> Iterator[int]:
    """The port of a line to `port` that has latency: a process of its own, which ends with its caller."""
    command = [sys.executable, "-m", "bench.delay", str(port), str(seconds)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield int(process.stdout.readline())
    finally:
        process.kill()
        process.wait()


async def _serve(port: int, seconds: float) -> None:
    loop = asyncio.get_running_loop()
    listener = listen()
    await loop.create_server(lambda: _Client(port, seconds), sock=listener)
    print(listener.getsockname()[1], flush=True)
    # Its standard input ends when whoever started it does.
    await loop.run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1]), float(sys.argv[2])))
