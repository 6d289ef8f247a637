"""The guard itself: a forward proxy on the loopback interface, in a thread of the process whose traffic it takes.

Libraries that talk to stores follow redirects and look names up as often as they like, so checking an address before
a call proves nothing. Each connection therefore passes here: the client shows a ticket that names its store's own
hosts, the name is looked up once, every address found is checked, and the connection goes to what was checked.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from ipaddress import ip_address
from typing import Final
from urllib.parse import quote

import structlog

from simples3dms.egress import heads
from simples3dms.egress.addresses import Address
from simples3dms.egress.policy import Destination, EgressPolicy
from simples3dms.egress.tickets import Tickets
from simples3dms.errors import Invalid

log = structlog.get_logger(__name__)

Resolver = Callable[[str, int], Awaitable[list[str]]]
_LOOPBACK: Final = "127.0.0.1"
_BLOCK_BYTES: Final = 256 * 1024
_ANSWER: Final = b"The address can't be reached from here, or is not allowed.\n"
_REFUSAL: Final = (
    b"HTTP/1.1 502 Bad Gateway\r\nContent-Type: text/plain\r\nConnection: close\r\n"
    b"Content-Length: " + str(len(_ANSWER)).encode() + b"\r\n\r\n" + _ANSWER
)


class Refused(Exception):
    """The connection is not made. The reason is for our log only: clients get one answer for all."""


class EgressGuard:
    """One for each process; it starts when the first store needs it. Times in seconds.

    One store has at most half of `most_connections`, and what it does not take within `stall_seconds` ends its
    connection: a server that accepts and never reads must cost the others nothing, and its client is gone by then.

    Every refusal, and every failure to look a name up or to connect, gets the same answer, no sooner than
    `refusal_seconds` after the question: whoever chooses an address learns nothing about our network from it.
    """

    def __init__(
        self,
        policy: EgressPolicy,
        *,
        resolve: Resolver | None = None,
        refusal_seconds: float = 1.0,
        connect_seconds: float = 10.0,
        idle_seconds: float = 900.0,
        stall_seconds: float = 120.0,
        most_connections: int = 1024,
    ) -> None:
        self.policy = policy
        self._resolve = resolve or _look_up
        self._refusal_seconds, self._connect_seconds = refusal_seconds, connect_seconds
        self._idle_seconds, self._stall_seconds = idle_seconds, stall_seconds
        self._most_connections = most_connections
        self._tickets = Tickets()
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._port = 0
        self._open_count = 0
        self._open_of: Counter[str] = Counter()

    def proxy_url(self, destinations: Sequence[Destination]) -> str:
        """The proxy's address with a ticket for these destinations. Starts the guard; blocks for a moment then."""
        with self._lock:
            if self._loop is None:
                self._start()
        name, password = self._tickets.issue(destinations)
        return f"http://{quote(name)}:{password}@{_LOOPBACK}:{self._port}"

    async def check(self, destinations: Sequence[Destination]) -> None:
        """Say at once whether these may be used. Raises Invalid (`endpoint_refused`), one text for every reason."""
        began = asyncio.get_running_loop().time()
        try:
            for destination in destinations:
                if not destination.is_wildcard:
                    await self._addresses(destination.host, destination.port)
        except Refused as error:
            log.warning("egress.refused", reason=str(error))
            await self._wait_out(began)
            raise Invalid(
                "The endpoint can't be reached from here, or is not allowed: it must be a public address on port "
                f"{', '.join(map(str, sorted(self.policy.ports)))}, or one that the operator allows.",
                code="endpoint_refused",
            ) from None

    def close(self) -> None:
        """Cut what is open and stop. Idempotent."""
        with self._lock:
            loop, thread, self._loop = self._loop, self._thread, None
        if loop is None or thread is None:
            return
        asyncio.run_coroutine_threadsafe(_cancel_others(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()

    def _start(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="egress-guard", daemon=True)
        self._thread.start()
        self._port = asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(10)

    async def _listen(self) -> int:
        server = await asyncio.start_server(self._serve, _LOOPBACK, 0, limit=heads.HEAD_BYTES)
        port = server.sockets[0].getsockname()[1]
        assert isinstance(port, int)
        return port

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection. Cancelled only when the guard is closed, which ends it as a hung-up client would."""
        with suppress(asyncio.CancelledError):
            await self._serve_until_cut(reader, writer)

    async def _serve_until_cut(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        began = asyncio.get_running_loop().time()
        self._open_count += 1
        try:
            if self._open_count > self._most_connections:
                raise Refused("too many connections")
            async with asyncio.timeout(self._connect_seconds):
                head = await _read_head(reader)
            while head is not None:
                began = asyncio.get_running_loop().time()
                with self._counted(head.authorization):
                    there_reader, there = await self._connected(head)
                    try:
                        head = await self._pass_on(head, (reader, writer), (there_reader, there))
                    finally:
                        _hang_up(there)
        except (Refused, heads.BadRequest) as error:
            log.warning("egress.refused", reason=str(error) or type(error).__name__)
            await self._wait_out(began)
            with suppress(OSError):
                writer.write(_REFUSAL)
                await writer.drain()
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # an end of the line is gone, or said nothing for too long: closing tells the other one
        finally:
            self._open_count -= 1
            writer.close()

    @contextmanager
    def _counted(self, ticket: str) -> Iterator[None]:
        if self._open_of[ticket] >= self._most_connections // 2:
            raise Refused("too many connections of one store")
        self._open_of[ticket] += 1
        try:
            yield
        finally:
            self._open_of[ticket] -= 1
            self._open_of += Counter()  # forgets those at nought

    async def _connected(self, head: heads.Head) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection to a checked address of the head's destination. Raises Refused."""
        places = self._tickets.read(head.authorization)
        if places is None:
            raise Refused("no ticket of ours")
        if not any(place.covers(head.scheme, head.host, head.port) for place in places):
            raise Refused(f"{head.scheme}://{head.host}:{head.port} is not of this store")
        for address in await self._addresses(head.host, head.port):
            with suppress(OSError, TimeoutError):
                async with asyncio.timeout(self._connect_seconds):
                    return await asyncio.open_connection(str(address), head.port, limit=_BLOCK_BYTES)
        raise Refused(f"{head.host}:{head.port} does not answer")

    async def _addresses(self, host: str, port: int) -> list[Address]:
        """What the name leads to, looked up once. Raises Refused unless all of it may be reached."""
        try:
            found = [ip_address(host)]
        except ValueError:
            try:
                async with asyncio.timeout(self._connect_seconds):
                    found = [ip_address(text.partition("%")[0]) for text in await self._resolve(host, port)]
            except (OSError, TimeoutError, ValueError):
                raise Refused(f"{host} can't be looked up") from None
        if not self.policy.admits(host, port, found):
            raise Refused(f"{host}:{port} leads to {', '.join(map(str, found))}")
        return found

    async def _pass_on(
        self,
        head: heads.Head,
        here: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        there: tuple[asyncio.StreamReader, asyncio.StreamWriter],
    ) -> heads.Head | None:
        """Until one end hangs up; or, over plain HTTP, until the client asks for another server: then its head."""
        if head.onward:
            there[1].write(head.onward)
            forth = asyncio.ensure_future(self._requests(head, here, there[1]))
        else:
            here[1].write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            forth = asyncio.ensure_future(self._tunnel(here[0], there[1], self._stall_seconds, came_from=here[1]))
        # Whoever reads a document may pause for long, and this process's client with them.
        back = asyncio.ensure_future(self._tunnel(there[0], here[1], self._idle_seconds))
        try:
            # Whichever way ends first ends the other: neither HTTP nor TLS goes on over half a connection.
            await asyncio.wait((forth, back), return_when=asyncio.FIRST_COMPLETED)
            return forth.result() if forth.done() else None
        finally:
            for way in (forth, back):
                way.cancel()
            await asyncio.gather(forth, back, return_exceptions=True)

    async def _tunnel(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        stall_seconds: float,
        *,
        came_from: asyncio.StreamWriter | None = None,
    ) -> None:
        while True:
            async with asyncio.timeout(self._idle_seconds):
                block = await reader.read(_BLOCK_BYTES)
            if not block:
                break
            if came_from is not None:
                _acknowledge(came_from)
            writer.write(block)
            async with asyncio.timeout(stall_seconds):
                await writer.drain()

    async def _requests(
        self, head: heads.Head, here: tuple[asyncio.StreamReader, asyncio.StreamWriter], writer: asyncio.StreamWriter
    ) -> heads.Head | None:
        """Plain HTTP: pass on bodies, and further requests for the same server. The first one for another."""
        reader, following = here[0], head
        while True:
            if following is not head:
                if not following.goes_with(head):
                    return following
                writer.write(following.onward)
            _acknowledge(here[1])
            await heads.pass_body(reader, writer, following.body_bytes, self._stall_seconds)
            async with asyncio.timeout(self._idle_seconds):
                next_head = await _read_head(reader)
            if next_head is None:
                return None
            following = next_head

    async def _wait_out(self, began: float) -> None:
        await asyncio.sleep(max(0.0, began + self._refusal_seconds - asyncio.get_running_loop().time()))


async def _read_head(reader: asyncio.StreamReader) -> heads.Head | None:
    """The next request; None if the client has hung up instead."""
    try:
        raw = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as error:
        if error.partial:
            raise heads.BadRequest("half a head") from None
        return None
    except asyncio.LimitOverrunError:
        raise heads.BadRequest("head too large") from None
    return heads.parse(raw)


def _hang_up(writer: asyncio.StreamWriter) -> None:
    """What the other end did not take is dropped: `close` would wait for ever to be rid of it."""
    if writer.transport.get_write_buffer_size():
        writer.transport.abort()
    else:
        writer.close()


def _acknowledge(writer: asyncio.StreamWriter) -> None:
    """Tell the client at once that its bytes came. urllib3 leaves Nagle's algorithm on towards proxies, so it sends a
    request's body only then: without this each request with a body would take 40 ms longer."""
    option = getattr(socket, "TCP_QUICKACK", None)  # Linux has it
    if option is not None:
        with suppress(OSError):
            writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, option, 1)


async def _look_up(host: str, port: int) -> list[str]:
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(item[4][0]) for item in found]


async def _cancel_others() -> None:
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
