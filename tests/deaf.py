"""A way to PostgreSQL on which every notification is lost, as behind a pooler that hands connections around."""

from __future__ import annotations

import asyncio
import tempfile
import threading
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from psycopg.conninfo import conninfo_to_dict, make_conninfo

_NOTIFICATION: Final = b"A"
#: A message's type, and its length without the type.
_HEAD_BYTES: Final = 5
_CHUNK_BYTES: Final = 64 * 1024


class DeafProxy:
    """Passes everything on between clients and the server of `url` (on a Unix socket), but no NotificationResponse."""

    def __init__(self, url: str) -> None:
        there = conninfo_to_dict(url)
        self._socket = f"{there['host']}/.s.PGSQL.{there['port']}"
        self._directory = tempfile.TemporaryDirectory(prefix="simples3dms-deaf-")
        self._port = str(there["port"])
        self.dropped_count = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="deaf-proxy", daemon=True)
        self._server: asyncio.Server | None = None

    def around(self, url: str) -> str:
        """The same database as the same role, by this way."""
        return make_conninfo(url, host=self._directory.name, port=self._port)

    def __enter__(self) -> Self:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._accept(), self._loop).result(10)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._directory.cleanup()

    async def _accept(self) -> None:
        self._server = await asyncio.start_unix_server(
            self._serve, Path(self._directory.name) / f".s.PGSQL.{self._port}"
        )

    async def _close(self) -> None:
        assert self._server is not None
        self._server.close()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there = await asyncio.open_unix_connection(self._socket)
        try:
            with suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
                async with asyncio.TaskGroup() as group:
                    group.create_task(_pass_on(reader, there))
                    group.create_task(self._pass_on_but_notifications(there_reader, writer))
        except* OSError:
            pass
        finally:
            writer.close()
            there.close()

    async def _pass_on_but_notifications(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # On a Unix socket nothing is negotiated first: what the server sends are messages from the first byte on.
        with suppress(asyncio.IncompleteReadError):
            while True:
                head = await reader.readexactly(_HEAD_BYTES)
                body = await reader.readexactly(int.from_bytes(head[1:], "big") - 4)
                if head[:1] == _NOTIFICATION:
                    self.dropped_count += 1
                    continue
                writer.write(head + body)
                await writer.drain()
        writer.close()


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while chunk := await reader.read(_CHUNK_BYTES):
        writer.write(chunk)
        await writer.drain()
    writer.close()
