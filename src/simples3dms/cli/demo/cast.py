"""The demo's people: readers who read every document all the time, and a writer who adds, replaces and deletes."""

from __future__ import annotations

import hashlib
import os
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self
from uuid import UUID

from simples3dms.client import ApiProblem, Client

#: Documents over this size are read now and then rather than in turn: each read moves all of it.
_LARGE_BYTES = 32 * 1024 * 1024
_LARGE_EVERY = 400


@dataclass(frozen=True, slots=True)
class Expectation:
    """What a version of a document must read as."""

    document_id: UUID
    number: int
    sha256: str
    size_bytes: int


@dataclass
class Ledger:
    """What should be true, as the people know it: every acknowledged version, and what was deleted."""

    live: dict[UUID, list[Expectation]] = field(default_factory=dict)
    trashed: dict[UUID, list[Expectation]] = field(default_factory=dict)
    purged: set[UUID] = field(default_factory=set)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def expectations(self) -> list[Expectation]:
        with self.lock:
            return [version for versions in self.live.values() for version in versions]

    def is_live(self, document_id: UUID) -> bool:
        with self.lock:
            return document_id in self.live


@dataclass
class Counts:
    """What happened so far."""

    reads: int = 0
    failed_reads: int = 0
    writes: int = 0
    deletes: int = 0
    failures: list[str] = field(default_factory=list)


class People:
    """Threads that use the product the whole time. Leaving the block stops them and waits for them."""

    def __init__(self, connect: Callable[[], Client], tenant: str, ledger: Ledger, scratch: Path) -> None:
        self._connect = connect
        self._tenant = tenant
        self._ledger = ledger
        self._scratch = scratch
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self.counts = Counts()
        self._threads = [
            *(threading.Thread(target=self._read, args=(seed,), daemon=True) for seed in range(3)),
            threading.Thread(target=self._write, daemon=True),
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _note(self, *, reads: int = 0, writes: int = 0, deletes: int = 0, failure: str | None = None) -> None:
        with self._lock:
            self.counts.reads += reads
            self.counts.writes += writes
            self.counts.deletes += deletes
            if failure is not None:
                self.counts.failed_reads += 1
                self.counts.failures.append(failure)

    def _read(self, seed: int) -> None:
        """Go through all versions again and again, in an order of this reader's own."""
        chance = random.Random(seed)  # noqa: S311 an order of reading, no secret
        done = 0
        with self._connect() as client:
            while not self._stop.is_set():
                versions = self._ledger.expectations()
                chance.shuffle(versions)
                for version in versions:
                    if self._stop.is_set():
                        return
                    done += 1
                    if version.size_bytes > _LARGE_BYTES and (done + seed) % _LARGE_EVERY:
                        continue
                    self._check(client, version)

    def _check(self, client: Client, version: Expectation) -> None:
        try:
            found = read_digest(client, self._tenant, version)
        except Exception as error:  # noqa: BLE001 whatever it is, a reader was let down
            if self._ledger.is_live(version.document_id):
                self._note(failure=f"{version.document_id}/{version.number}: {error}")
            return
        if found != version.sha256 and self._ledger.is_live(version.document_id):
            self._note(failure=f"{version.document_id}/{version.number}: other bytes")
            return
        self._note(reads=1)

    def _write(self) -> None:
        """Add, replace, delete, purge, in turn, at the pace of a busy office."""
        chance = random.Random(7)  # noqa: S311 a choice of documents, no secret
        with self._connect() as client:
            turn = 0
            while not self._stop.is_set():
                turn += 1
                try:
                    self._act(client, chance, turn)
                except ApiProblem as problem:
                    self._note(failure=f"write: {problem}")
                time.sleep(0.05)

    def _act(self, client: Client, chance: random.Random, turn: int) -> None:
        if turn % 8 == 0:
            self._delete(client, chance, purge=turn % 16 == 0)
            return
        path = self._scratch / "written-while-moving.bin"
        path.write_bytes(os.urandom(chance.choice([200, 4_000, 90_000])))
        replaced = None
        if turn % 3 == 0:
            with self._ledger.lock:
                replaced = chance.choice(list(self._ledger.live))
        upload(client, self._tenant, path, self._ledger, document_id=replaced)
        self._note(writes=1)

    def _delete(self, client: Client, chance: random.Random, *, purge: bool) -> None:
        with self._ledger.lock:
            victim = chance.choice([d for d, versions in self._ledger.live.items() if _is_small(versions)])
            versions = self._ledger.live.pop(victim)
        client.delete_document(self._tenant, victim)
        if purge:
            client.purge_document(self._tenant, victim)
        with self._ledger.lock:
            if purge:
                self._ledger.purged.add(victim)
            else:
                self._ledger.trashed[victim] = versions
        self._note(deletes=1)


def _is_small(versions: list[Expectation]) -> bool:
    return all(version.size_bytes <= _LARGE_BYTES for version in versions)


def upload(
    client: Client,
    tenant: str,
    path: Path,
    ledger: Ledger,
    *,
    document_id: UUID | None = None,
    content_type: str = "application/octet-stream",
) -> None:
    """Upload a file and enter what was acknowledged into the ledger."""
    document = client.upload_document(tenant, path, document_id=document_id, content_type=content_type)
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    version = Expectation(document.id, document.version, digest, path.stat().st_size)
    with ledger.lock:
        ledger.live.setdefault(document.id, []).append(version)


def read_digest(client: Client, tenant: str, version: Expectation) -> str:
    """The SHA-256 of what the product hands out for a version, streamed."""
    digest = hashlib.sha256()
    with client.open_content(tenant, version.document_id, version=version.number) as chunks:
        for chunk in chunks:
            digest.update(chunk)
    return digest.hexdigest()
