"""The least that a move can be: bare obstore gets, hashes and puts, in a process of its own, and records nothing.

`python -m bench.bare` reads JSON from its standard input: `source` and `target` (what obstore's S3Store takes),
`prefix`, `concurrency` and `whole_bytes`; it prints the seconds that the move took and how many objects it moved.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import sys
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import obstore
from obstore.store import S3Store

_CHUNK_BYTES = 1024 * 1024


def _store(settings: dict[str, Any]) -> S3Store:
    bucket = settings.pop("bucket")
    return S3Store(bucket, client_options={"allow_http": True, "timeout": timedelta(hours=1)}, **settings)


async def _move(order: dict[str, Any]) -> dict[str, float]:
    source, target = _store(order["source"]), _store(order["target"])
    slots = asyncio.Semaphore(order["concurrency"])
    began = time.monotonic()

    async def whole(key: str) -> None:
        async with slots:
            body = await (await obstore.get_async(source, key)).bytes_async()
            hashlib.sha256(body).digest()
            await obstore.put_async(target, key, body, use_multipart=False)

    async def streamed(key: str) -> None:
        async def chunks() -> AsyncIterator[bytes]:
            digest = hashlib.sha256()
            async for chunk in (await obstore.get_async(source, key)).stream(min_chunk_size=_CHUNK_BYTES):
                await asyncio.to_thread(digest.update, chunk)
                yield bytes(chunk)

        async with slots:
            await obstore.put_async(target, key, chunks())

    count = 0
    async with asyncio.TaskGroup() as group:
        async for page in obstore.list(source, order["prefix"], chunk_size=1000):
            for found in page:
                move = whole if found["size"] <= order["whole_bytes"] else streamed
                group.create_task(move(found["path"]))
                count += 1
    return {"seconds": time.monotonic() - began, "count": count}


if __name__ == "__main__":
    print(json.dumps(asyncio.run(_move(json.load(sys.stdin)))), flush=True)
    # Not the orderly way: obstore's threads sometimes abort the process while Python takes itself apart.
    os._exit(0)
