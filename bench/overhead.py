"""`overhead`: our whole stack of layers against the bare libraries, on the same servers in the same run.

Small objects (16 KiB) at 1, 16 and 64 at a time, and one of 256 MiB, against bare obstore on SeaweedFS; small ones
against boto3's transfer manager in threads; and, on the B2 sandbox, against bare b2sdk in threads. The contenders take
turns, the one that goes first changes from round to round, and every ratio is a median of rounds: theirs / ours in
seconds, so that 1 is as fast and more is faster. Ours hashes every byte and compares it; the others compare nothing.
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import secrets
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import boto3
import obstore
import psutil
from b2sdk.v3 import B2Api, InMemoryAccountInfo
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from obstore.store import S3Store

from simples3dms.providers.base import Expected, StorageProvider
from simples3dms.providers.registry import get_kind
from simples3dms.providers.stack import StackSettings, build_stack
from simples3dms.sandbox.b2 import B2Sandbox
from simples3dms.sandbox.seaweedfs import SeaweedServer

SMALL_BYTES = 16 * 1024
LARGE_BYTES = 256 * 1024 * 1024
#: At a time -> how many small objects a round has.
SMALL_COUNTS = {1: 300, 16: 2000, 64: 2000}
SMALL_TURNS = 4
_CHUNK_BYTES = 1024 * 1024
Act = Callable[[int], Awaitable[None]]


@dataclass
class Contest:
    """One point: the seconds of each contender, round by round."""

    ours: list[float] = field(default_factory=list)
    theirs: list[float] = field(default_factory=list)

    def ratio(self) -> float:
        return round(statistics.median(b / a for a, b in zip(self.ours, self.theirs, strict=True)), 3)


def run(*, rounds: int) -> dict[str, Any]:
    return asyncio.run(_run(rounds))


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


async def _run(rounds: int) -> dict[str, Any]:
    contests: dict[str, Contest] = {}
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="simples3dms-bench-")))
        directory.chmod(0o755)
        s3 = stack.enter_context(SeaweedServer(directory / "s3", buckets=("ours", "theirs")))
        b2 = stack.enter_context(B2Sandbox(directory / "b2", buckets=("ours-bench", "theirs-bench")))
        threads = stack.enter_context(ThreadPoolExecutor(64))
        ours, bare, grown = _ours_s3(s3), _Obstore(s3), 0.0
        try:
            # Connections, clients and imports are made at first use: that is not what is measured.
            for _ in range(3):
                await _many(_warmed(ours, bare), 16, 32)
            for number in range(rounds):
                _say(f"round {number + 1}")
                turn = _Turns(contests, first_ours=number % 2 == 0)
                for again in range(SMALL_TURNS):
                    # Short contests are at the mercy of whatever else the machine does: more of them, turn about.
                    small_turn = _Turns(contests, first_ours=(number + again) % 2 == 0)
                    await _small(small_turn, ours, bare, "", number * SMALL_TURNS + again)
                process = psutil.Process()
                before = process.memory_info().rss
                await _large(turn, ours, bare, number)
                grown = max(grown, (process.memory_info().rss - before) / 2**20)
                await _small(turn, ours, _Boto3(s3, threads), "vs_boto3_", number, only=16)
                ours_b2 = _ours_b2(b2)
                await _small(turn, ours_b2, _B2Sdk(b2, threads), "b2_", number, only=16)
                await ours_b2.close()
        finally:
            await ours.close()
    summary: dict[str, Any] = {"rounds": rounds, "memory_grown_mib": round(grown, 1)}
    for name, contest in contests.items():
        summary[name] = contest.ratio()
        summary[f"{name}_seconds"] = [
            round(statistics.median(contest.ours), 4),
            round(statistics.median(contest.theirs), 4),
        ]
    return summary


@dataclass
class _Turns:
    """Lets two contenders do the same, one after the other."""

    contests: dict[str, Contest]
    first_ours: bool

    async def contend(
        self, name: str, ours: Callable[[], Awaitable[None]], theirs: Callable[[], Awaitable[None]]
    ) -> None:
        contest = self.contests.setdefault(name, Contest())
        for is_ours in (self.first_ours, not self.first_ours):
            began = time.perf_counter()
            await (ours if is_ours else theirs)()
            (contest.ours if is_ours else contest.theirs).append(time.perf_counter() - began)
        _say(f"  {name}: ours {contest.ours[-1]:.3f} s, theirs {contest.theirs[-1]:.3f} s")


async def _small(turn: _Turns, ours: StorageProvider, theirs: _Bare, prefix: str, number: int, only: int = 0) -> None:
    body = secrets.token_bytes(SMALL_BYTES)
    expected = Expected(len(body), hashlib.sha256(body).digest())
    versions: dict[int, str | None] = {}

    async def put(index: int) -> None:
        versions[index] = (await ours.put(f"{place}/{index}", body, expected=expected)).version_id

    async def get(index: int) -> None:
        await ours.get(f"{place}/{index}", version_id=versions.get(index), expected=expected)

    for at_a_time, count in SMALL_COUNTS.items():
        if only not in (0, at_a_time):
            continue
        place = f"{number}/{prefix}{at_a_time}"
        where = place

        async def their_put(index: int, where: str = where) -> None:
            await theirs.put(f"{where}/{index}", body)

        async def their_get(index: int, where: str = where) -> None:
            await theirs.get(f"{where}/{index}")

        for name, mine, other in (("put", put, their_put), ("get", get, their_get)):
            await turn.contend(
                f"{prefix}{name}_16k_c{at_a_time}",
                lambda act=mine, n=at_a_time, c=count: _many(act, n, c),  # type: ignore[misc]
                lambda act=other, n=at_a_time, c=count: _many(act, n, c),  # type: ignore[misc]
            )


def _warmed(ours: StorageProvider, theirs: _Bare) -> Act:
    async def act(index: int) -> None:
        await ours.put(f"warm/{index}", b"x" * SMALL_BYTES)
        async with ours.open(f"warm/{index}") as reader:
            async for _ in reader:
                pass
        await theirs.put(f"warm/{index}", b"x" * SMALL_BYTES)
        await theirs.get(f"warm/{index}")

    return act


async def _many(act: Act, at_a_time: int, count: int) -> None:
    indexes = iter(range(count))

    async def worker() -> None:
        for index in indexes:
            await act(index)

    await asyncio.gather(*(worker() for _ in range(at_a_time)))


async def _large(turn: _Turns, ours: StorageProvider, theirs: _Obstore, number: int) -> None:
    piece = secrets.token_bytes(_CHUNK_BYTES)
    digest = hashlib.sha256()
    for _ in range(LARGE_BYTES // _CHUNK_BYTES):
        digest.update(piece)
    expected = Expected(LARGE_BYTES, digest.digest())

    async def body() -> AsyncIterator[bytes]:
        for _ in range(LARGE_BYTES // _CHUNK_BYTES):
            yield piece

    async def put() -> None:
        await ours.put(f"{number}/large", body(), expected=expected)

    async def get() -> None:
        async with ours.open(f"{number}/large", expected=expected) as reader:
            async for _ in reader:
                pass

    await turn.contend("put_256m", put, lambda: theirs.put_stream(f"{number}/large", body()))
    await turn.contend("get_256m", get, lambda: theirs.get(f"{number}/large"))


def _ours_s3(server: SeaweedServer) -> StorageProvider:
    provider = get_kind("s3").create(
        {"endpoint": server.endpoint, "region": server.region, "bucket": "ours"},
        {"access_key_id": server.access_key, "secret_access_key": server.secret_key},
    )
    return build_stack(provider, StackSettings())


def _ours_b2(server: B2Sandbox) -> StorageProvider:
    provider = get_kind("b2").create(
        {"realm": server.url, "bucket": "ours-bench"},
        {"application_key_id": server.application_key_id, "application_key": server.application_key},
    )
    return build_stack(provider, StackSettings())


class _Bare:
    """A library without us."""

    async def put(self, key: str, body: bytes) -> None: ...

    async def get(self, key: str) -> None: ...


class _Obstore(_Bare):
    def __init__(self, server: SeaweedServer) -> None:
        self._store = S3Store(
            "theirs",
            endpoint=server.endpoint,
            region=server.region,
            access_key_id=server.access_key,
            secret_access_key=server.secret_key,
            client_options={"allow_http": True, "timeout": timedelta(hours=1)},
        )

    async def put(self, key: str, body: bytes) -> None:
        await obstore.put_async(self._store, key, body, use_multipart=False)

    async def put_stream(self, key: str, body: AsyncIterator[bytes]) -> None:
        await obstore.put_async(self._store, key, body)

    async def get(self, key: str) -> None:
        result = await obstore.get_async(self._store, key)
        if result.meta["size"] <= SMALL_BYTES:
            await result.bytes_async()
            return
        async for _ in result.stream(min_chunk_size=_CHUNK_BYTES):
            pass


class _Boto3(_Bare):
    def __init__(self, server: SeaweedServer, threads: ThreadPoolExecutor) -> None:
        self._threads = threads
        self._client = boto3.session.Session().client(
            "s3",
            endpoint_url=server.endpoint,
            region_name=server.region,
            aws_access_key_id=server.access_key,
            aws_secret_access_key=server.secret_key,
            config=Config(max_pool_connections=64, s3={"addressing_style": "path"}),
        )
        self._transfer = TransferConfig(use_threads=False)

    async def put(self, key: str, body: bytes) -> None:
        def work() -> None:
            self._client.upload_fileobj(io.BytesIO(body), "theirs", key, Config=self._transfer)

        await asyncio.get_running_loop().run_in_executor(self._threads, work)

    async def get(self, key: str) -> None:
        def work() -> None:
            self._client.download_fileobj("theirs", key, io.BytesIO(), Config=self._transfer)

        await asyncio.get_running_loop().run_in_executor(self._threads, work)


class _B2Sdk(_Bare):
    def __init__(self, server: B2Sandbox, threads: ThreadPoolExecutor) -> None:
        self._threads = threads
        self._api = B2Api(InMemoryAccountInfo())
        self._api.authorize_account(
            realm=server.url,
            application_key_id=server.application_key_id,
            application_key=server.application_key,
        )
        self._bucket = self._api.get_bucket_by_name("theirs-bench")
        self._ids: dict[str, str] = {}

    async def put(self, key: str, body: bytes) -> None:
        def work() -> None:
            self._ids[key] = self._bucket.upload_bytes(body, key).id_

        await asyncio.get_running_loop().run_in_executor(self._threads, work)

    async def get(self, key: str) -> None:
        def work() -> None:
            self._bucket.download_file_by_id(self._ids[key]).save(io.BytesIO())

        await asyncio.get_running_loop().run_in_executor(self._threads, work)
