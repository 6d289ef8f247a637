"""Who works while a soak goes on: one writer and some readers a tenant, who ask again until they are answered."""

from __future__ import annotations

import hashlib
import io
import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol, TypeVar
from uuid import UUID

from tests.faults.history import Act
from tests.faults.soaking import Process, Soak, Tenant

from simples3dms.client import ApiProblem, Client, ServerUnreachable

T = TypeVar("T")
#: Who was not answered for so long is not answered at all: no fault is half as long.
PATIENCE_SECONDS = 180.0
#: What says that it may well go next time.
_PASSING_STATUSES = (502, 503, 504, 507)
_PASSING_CODES = ("upload_in_progress", "body_incomplete")
#: Documents of a tenant that are not purged, at most: a migration is to end while the soak goes on.
_MOST_DOCUMENTS = 120
_PAUSE_SECONDS = 0.3


class GaveUp(Exception):
    """There was no answer in all that time."""


@dataclass
class Shelf:
    """What was acknowledged of a tenant's documents: written by its writer, read by its readers."""

    documents: dict[UUID, int] = field(default_factory=dict)
    """Each with the number of its versions; those that were deleted and purged as well."""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def put(self, document_id: UUID, versions: int) -> None:
        with self.lock:
            self.documents[document_id] = versions

    def listed(self) -> list[tuple[UUID, int]]:
        with self.lock:
            return list(self.documents.items())


class Caller:
    """Somebody who asks one server or the other."""

    def __init__(self, soak: Soak, tenant: Tenant, chance: random.Random) -> None:
        self.soak = soak
        self.tenant = tenant
        self.chance = chance

    def server(self) -> Process:
        return self.chance.choice(self.soak.servers)

    def until_done(self, act: Act, call: Callable[[Client], T], *, gone_is: T | None = None) -> T:
        """Ask again and again. After a try of which nobody knows what became of it, "not found" may be `gone_is`."""
        deadline, is_unclear = time.monotonic() + PATIENCE_SECONDS, False
        while True:
            server, begun = self.server(), time.time()
            try:
                return call(self.soak.client(server))
            except ServerUnreachable as error:
                is_unclear = True
                act.info(api=server.name, begun=begun, why=str(error))
            except ApiProblem as problem:
                if problem.status == 404 and is_unclear and gone_is is not None:
                    return gone_is
                if problem.status not in _PASSING_STATUSES and problem.code not in _PASSING_CODES:
                    raise
                act.info(api=server.name, begun=begun, why=f"{problem.status} {problem.code}")
            if time.monotonic() > deadline:
                raise GaveUp(f"after {PATIENCE_SECONDS} s")
            time.sleep(self.chance.uniform(0.1, 0.6))


class Writer(Caller):
    """Uploads, adds versions, deletes, restores, purges, and repeats requests that were answered already."""

    def __init__(self, soak: Soak, tenant: Tenant, chance: random.Random, shelf: Shelf) -> None:
        super().__init__(soak, tenant, chance)
        self._shelf = shelf
        self._live: dict[UUID, int] = {}
        self._trash: dict[UUID, int] = {}
        self._sent: list[tuple[int, dict[str, Any], bytes]] = []
        self._count = 0

    def run(self, stop: threading.Event) -> None:
        while not stop.wait(self.chance.uniform(0, 2 * _PAUSE_SECONDS)):
            self._step()

    def _step(self) -> None:
        is_full = len(self._live) + len(self._trash) >= _MOST_DOCUMENTS
        weights = {
            self._create: 0 if is_full else 10,
            self._revise: 5 if self._live else 0,
            self._delete: 4 if len(self._live) > 5 else 0,
            self._restore: 2 if self._trash else 0,
            self._purge: (6 if is_full else 1) if self._trash else 0,
            self._repeat: 1 if self._sent else 0,
        }
        step = self.chance.choices(list(weights), list(weights.values()))[0]
        step()

    def _body(self) -> bytes:
        """Mostly small ones; some are streamed, and a few are large enough to go in parts."""
        least, most = self.chance.choices([(1, 20_000), (200_000, 600_000), (5_000_000, 6_500_000)], [90, 9, 1])[0]
        return self.chance.randbytes(self.chance.randint(least, most))

    def _create(self) -> None:
        self._upload(None)

    def _revise(self) -> None:
        self._upload(self._one(self._live))

    def _one(self, of: dict[UUID, int]) -> UUID:
        return self.chance.choice(list(of))

    def _upload(self, document_id: UUID | None) -> None:
        self._count += 1
        body, name = self._body(), f"{self.tenant.name}-{self._count}.bin"
        how = {"name": name, "document_id": document_id, "idempotency_key": f"key-{name}"}
        act = self.soak.history.begin(
            "upload",
            tenant=self.tenant.name,
            document=str(document_id) if document_id else None,
            name=name,
            sha256=hashlib.sha256(body).hexdigest(),
            size=len(body),
        )
        found = self._ended(act, lambda client: self._send(client, how, body))
        if found is None:
            self._live.pop(document_id, None) if document_id else None
            return
        act.ok(document=str(found.id), version=found.version, sha256=found.sha256)
        self._live[found.id] = found.version
        self._shelf.put(found.id, found.version)
        self._sent = [*self._sent[-20:], (act.number, how, body)]

    def _send(self, client: Client, how: dict[str, Any], body: bytes) -> Any:
        return client.upload_document(
            self.tenant.name, io.BytesIO(body), content_type="application/octet-stream", **how
        )

    def _ended(self, act: Act, call: Callable[[Client], T], *, gone_is: T | None = None) -> T | None:
        """What it came to; None where it was refused or given up, which is noted."""
        try:
            return self.until_done(act, call, gone_is=gone_is)
        except GaveUp as error:
            act.fail(why=f"given up {error}")
        except ApiProblem as problem:
            act.fail(why=f"{problem.status} {problem.code}: {problem}")
        return None

    def _repeat(self) -> None:
        of, how, body = self.chance.choice(self._sent)
        act = self.soak.history.begin("replay", tenant=self.tenant.name, of=of)

        def send(client: Client) -> list[str | int] | None:
            try:
                found = self._send(client, how, body)
            except ApiProblem as problem:
                if problem.code != "document_not_found":
                    raise
                return None
            return [str(found.id), found.version]

        try:
            act.ok(answer=self.until_done(act, send))
        except (GaveUp, ApiProblem) as error:
            act.fail(why=f"{type(error).__name__}: {error}")

    def _delete(self) -> None:
        self._turn("delete", self._live, self._trash, lambda client, one: client.delete_document(self.tenant.name, one))

    def _restore(self) -> None:
        self._turn(
            "restore", self._trash, self._live, lambda client, one: client.restore_document(self.tenant.name, one)
        )

    def _purge(self) -> None:
        self._turn("purge", self._trash, None, lambda client, one: client.purge_document(self.tenant.name, one))

    def _turn(
        self,
        op: str,
        there: dict[UUID, int],
        here: dict[UUID, int] | None,
        call: Callable[[Client, UUID], object],
    ) -> None:
        document_id = self._one(there)
        versions = there.pop(document_id)
        act = self.soak.history.begin(op, tenant=self.tenant.name, document=str(document_id))

        def ask(client: Client) -> bool:
            call(client, document_id)
            return True

        if self._ended(act, ask, gone_is=True if op == "purge" else None):
            act.ok()
            if here is not None:
                here[document_id] = versions


class Reader(Caller):
    """Reads what was acknowledged, the newest version or one by its number, and looks where copies are if it can't."""

    def __init__(self, soak: Soak, tenant: Tenant, chance: random.Random, shelf: Shelf) -> None:
        super().__init__(soak, tenant, chance)
        self._shelf = shelf

    def run(self, stop: threading.Event) -> None:
        while not stop.wait(self.chance.uniform(0, 2 * _PAUSE_SECONDS)):
            listed = self._shelf.listed()
            if listed:
                # What was written last is what most is going on with.
                document_id, versions = self.chance.choice(listed[-20:] if self.chance.random() < 0.5 else listed)
                self.read(document_id, self.chance.choice([None, self.chance.randint(1, versions)]))

    def read(self, document_id: UUID, version: int | None) -> None:
        act = self.soak.history.begin("read", tenant=self.tenant.name, document=str(document_id), version=version)
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline:
            if self._try(act, document_id, version):
                return
            time.sleep(self.chance.uniform(0.1, 0.6))
        act.fail(why=f"given up after {PATIENCE_SECONDS} s")

    def _try(self, act: Act, document_id: UUID, version: int | None) -> bool:
        server, begun = self.server(), time.time()
        how = {"api": server.name, "begun": begun}
        try:
            digest = hashlib.sha256()
            with self.soak.client(server).open_content(self.tenant.name, document_id, version=version) as chunks:
                for chunk in chunks:
                    digest.update(chunk)
            act.ok(**how, found="content", sha256=digest.hexdigest())
        except ServerUnreachable as error:
            self._note(act, document_id, version, {**how, "status": None, "code": None, "why": str(error)})
            return False
        except ApiProblem as problem:
            found = {"document_not_found": "absent", "document_deleted": "trash"}.get(problem.code)
            if found is None:
                told = {"status": problem.status, "code": problem.code, "why": str(problem)}
                self._note(act, document_id, version, {**how, **told})
                return False
            act.ok(**how, found=found)
        return True

    def _note(self, act: Act, document_id: UUID, version: int | None, told: dict[str, Any]) -> None:
        act.info(**told, ended=time.time(), replicas=self._replicas(document_id, version))

    def _replicas(self, document_id: UUID, version: int | None) -> list[dict[str, Any]] | None:
        """Where the records say that copies are; None if nobody can tell now."""
        for server in self.soak.servers:
            try:
                found = self.soak.client(server).list_replicas(self.tenant.name, document_id)
            except (ServerUnreachable, ApiProblem):
                continue
            number = version or max((one.version_number for one in found), default=0)
            return [
                {"store": one.store, "state": one.state, "since": _seconds(one.evidence_at)}
                for one in found
                if one.version_number == number
            ]
        return None


def _seconds(at: datetime | None) -> float:
    return at.timestamp() if at is not None else float("inf")


class Worker(Protocol):
    """What runs in a thread of its own until it is told to stop."""

    def run(self, stop: threading.Event) -> None: ...


class Crew:
    """Workers, each in a thread of its own, who are told to stop together."""

    def __init__(self, workers: Sequence[Worker]) -> None:
        self._stop = threading.Event()
        self._failed: list[BaseException] = []
        self._threads = [threading.Thread(target=self._run, args=(one,), daemon=True) for one in workers]
        for thread in self._threads:
            thread.start()

    def _run(self, worker: Worker) -> None:
        try:
            worker.run(self._stop)
        except BaseException as error:
            self._failed.append(error)

    def check(self) -> None:
        """Raise what one of them died of."""
        if self._failed:
            raise AssertionError("a part of the soak itself failed") from self._failed[0]

    def end(self) -> None:
        """Have them stop, and wait for what they have begun."""
        self._stop.set()
        for thread in self._threads:
            thread.join()
        self.check()
