"""A byte-exact TCP proxy on the loopback interface that delays, throttles, cuts, corrupts or swallows what passes."""

from __future__ import annotations

import asyncio
import random
import socket
import ssl
import struct
import threading
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from simples3dms.sandbox.ports import LOOPBACK, listen

_CHUNK_BYTES = 64 * 1024
_HELD_SECONDS = 0.02


@dataclass(slots=True)
class Flow:
    """What happens to the bytes of one direction. Offsets count from the beginning of each connection."""

    latency_seconds: float = 0.0
    bytes_per_second: float | None = None
    flip_at: int | None = None
    cut_after: int | None = None
    cut_with: Literal["fin", "rst"] = "rst"
    cut_times: int | None = None
    """How many connections are cut; None: each."""
    cut_share: float = 0.0
    """Of the pieces that come by, so many (0 to 1) are lost, and their connections with them; by the proxy's seed."""
    is_held: bool = False
    """Nothing passes until this is undone: with one direction held, requests arrive and answers do not."""


@dataclass(slots=True)
class LostAnswer:
    """A request that the client hears nothing more of: its connection is reset in the place of an answer.

    `question` are the bytes on their way up that it is known by, which must come in one piece; `at` is which of these
    requests it is, of all connections, from 1. `is_delivered`: the target gets it, and acts on it; else it does not.
    """

    question: bytes
    at: int = 1
    is_delivered: bool = True
    seen_count: int = 0
    is_done: bool = False


class FaultProxy:
    """Forwards `port` to the target; `up` and `down` may be changed at any time, for connections that are open, too.

    It runs in a thread of its own, so it serves blocking and asyncio callers alike.
    """

    def __init__(self, target: int | Path, *, tls: ssl.SSLContext | None = None, seed: int = 0) -> None:
        """`target`: a port of the loopback interface, or a Unix socket.

        `tls`: speak TLS to clients, and plain TCP to the target. Offsets then count decrypted bytes.

        `seed`: what is lost by chance is the same each time, for the same pieces in the same order.
        """
        self._target = target
        self._tls = tls
        self.up, self.down = Flow(), Flow()
        self.is_blackhole = False
        self.lost_answer: LostAnswer | None = None
        self.accepted_count = 0
        self.cut_count = 0
        self._chance = random.Random(seed)  # noqa: S311 to be repeated, not to be secret
        self.port = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fault-proxy", daemon=True)
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    @property
    def url(self) -> str:
        return f"{'http' if self._tls is None else 'https'}://{LOOPBACK}:{self.port}"

    def __enter__(self) -> Self:
        self._thread.start()
        self._run(self._accept())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._run(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def __aenter__(self) -> Self:
        return await asyncio.to_thread(self.__enter__)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.to_thread(self.__exit__, kind, error, trace)

    def refuse(self) -> None:
        """Refuse new connections, as if nobody listened. Those that are open stay so."""
        self._run(self._stop_accepting())

    def accept(self) -> None:
        """Take connections again, on the same port, and behave."""
        self.heal()
        self._run(self._accept())

    def heal(self) -> None:
        """Forget the faults of both directions."""
        self.up, self.down, self.is_blackhole, self.cut_count = Flow(), Flow(), False, 0
        self.lost_answer = None

    def kill_all(self) -> None:
        """Reset every open connection."""
        self._run(self._reset_all())

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    async def _accept(self) -> None:
        if self._server is None:
            listener = listen(self.port)
            self.port = listener.getsockname()[1]
            self._server = await asyncio.start_server(self._serve, sock=listener, ssl=self._tls)

    async def _stop_accepting(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    async def _reset_all(self) -> None:
        for writer in list(self._writers):
            _reset(writer)

    async def _close(self) -> None:
        await self._stop_accepting()
        await self._reset_all()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection. Cancelled only when the proxy is closed, which ends it like a hung-up client."""
        with suppress(asyncio.CancelledError):
            await self._serve_until_cut(reader, writer)

    async def _serve_until_cut(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted_count += 1
        self._writers.add(writer)
        try:
            there_reader, there = await self._connect()
        except OSError:
            _reset(writer)
            self._writers.discard(writer)
            return
        self._writers.add(there)
        try:
            muted = asyncio.Event()
            await asyncio.gather(
                self._pump(reader, there, writer, "up", muted), self._pump(there_reader, writer, there, "down", muted)
            )
        except OSError:
            _reset(writer)
            _reset(there)
        finally:
            for end in (writer, there):
                self._writers.discard(end)
                end.close()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if isinstance(self._target, Path):
            return await asyncio.open_unix_connection(self._target)
        return await asyncio.open_connection(LOOPBACK, self._target)

    async def _pump(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        back: asyncio.StreamWriter,
        direction: Literal["up", "down"],
        muted: asyncio.Event,
    ) -> None:
        """Pass on one direction until it ends. `back` leads to where the bytes come from.

        Once `muted` is set, the answer that comes down next ends the connection instead of being passed on.
        """
        sent = 0
        while chunk := await reader.read(_CHUNK_BYTES):
            flow: Flow = getattr(self, direction)
            await asyncio.sleep(flow.latency_seconds)
            while self.is_blackhole or flow.is_held:
                await asyncio.sleep(_HELD_SECONDS)
                flow = getattr(self, direction)
            if muted.is_set() or (direction == "up" and self._is_lost(chunk, muted)):
                _reset(writer)
                _reset(back)
                return
            if self._chance.random() < flow.cut_share:
                self.cut_count += 1
                _reset(writer)
                _reset(back)
                return
            chunk = _flip(chunk, sent, flow.flip_at)
            is_cut = self._is_cut(flow, sent + len(chunk))
            writer.write(chunk[: flow.cut_after - sent] if is_cut and flow.cut_after is not None else chunk)
            await writer.drain()
            if is_cut:
                self.cut_count += 1
                end = _reset if flow.cut_with == "rst" else asyncio.StreamWriter.close
                end(writer)
                end(back)
                return
            sent += len(chunk)
            if flow.bytes_per_second is not None:
                await asyncio.sleep(len(chunk) / flow.bytes_per_second)
        if writer.can_write_eof() and not writer.is_closing():
            writer.write_eof()

    def _is_lost(self, chunk: bytes, muted: asyncio.Event) -> bool:
        """Whether this request is to get lost on its way; where only its answer is, the other direction is told."""
        lost = self.lost_answer
        if lost is None or lost.is_done or lost.question not in chunk:
            return False
        lost.seen_count += 1
        lost.is_done = lost.seen_count == lost.at
        if lost.is_done and lost.is_delivered:
            muted.set()
        return lost.is_done and not lost.is_delivered

    def _is_cut(self, flow: Flow, sent: int) -> bool:
        if flow.cut_after is None or sent < flow.cut_after:
            return False
        return flow.cut_times is None or self.cut_count < flow.cut_times


def _flip(chunk: bytes, start: int, at: int | None) -> bytes:
    if at is None or not start <= at < start + len(chunk):
        return chunk
    place = at - start
    return chunk[:place] + bytes([chunk[place] ^ 1]) + chunk[place + 1 :]


def _reset(writer: asyncio.StreamWriter) -> None:
    """End a connection with a reset instead of an orderly close."""
    if not writer.is_closing() and writer.get_extra_info("sslcontext") is None:
        link = writer.get_extra_info("socket")
        link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
