"""A tenant's life under any order of acts, workers' steps, faults, crashes and hours, against a plain model.

Every act is a process of its own (processes.py): it may run to its end, be killed or frozen at any of its steps, or be
one of two or three whose steps are drawn one by one. What was acknowledged must hold from then on; what was killed may
have happened or not, and which of both is looked up, or asked by the same idempotency key.
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import random
import secrets
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, ClassVar, Literal, get_args

import psycopg
from hypothesis.stateful import initialize, invariant
from tests.db import catalogue
from tests.states.playing import Act, Document, Halt, Players, State
from tests.states.processes import BREAKER_CLOCK, Fault, Process, Verdict
from tests.states.world import make_world

from simples3dms.context import HOST
from simples3dms.documents.values import UploadRequest, UploadResult
from simples3dms.errors import Failure
from simples3dms.providers.errors import IntegrityError

PERSONS = ("upload", "replace", "replace", "delete", "purge", "restore", "ask again")
STEERS = (
    "start",
    "start",
    "cut_over",
    "cut_over",
    "roll_back",
    "finalize",
    "pause_migration",
    "resume_migration",
    "policy",
)
STEPS = ("advance", "chunks", "chunks", "transfers", "transfers", "sweep", "repair", "survey")
NEMESES = ("fault", "fault", "damage", "damage", "thaw", "late write", "late removal", "later", "crowd")
TOGETHER = ("upload", "replace", "replace", "delete", "turn", "steer", "steer", "steer", "step", "step")
Depth = Literal["nothing", "copies", "ready", "soaking", "finalizing"]
DEPTHS: tuple[Depth, ...] = get_args(Depth)
_CHUNK_BYTES = 65_536


class TenantLife(Players):
    """The model, and what its rules do (alphabets.py makes them).

    None has a precondition: what there is may differ from run to run by the order in which tasks happen to end, and
    Hypothesis wants the same draws for the same beginning. A rule that finds nothing to do does nothing.
    """

    superuser: ClassVar[str]
    owner_url: ClassVar[str]
    log: ClassVar[io.StringIO]
    depth: ClassVar[Depth] = "nothing"
    """How far things have come when an example begins."""
    reach: ClassVar[Counter[str]] = Counter()

    @initialize()
    def begin(self) -> None:
        self.world = self.run(make_world(self.services, self.superuser))
        TenantLife.stage = self.world.stage
        self.documents: list[Document] = []
        self.unsure: list[tuple[UploadRequest, bytes, Document | None]] = []
        self.frozen = []
        self.turned = [1, 1]
        self.canary = secrets.token_hex(20)
        self.said = f"Authorization: Bearer {self.canary}"
        self.chance = random.Random(0)
        self.count = self.untold = 0
        self._deepen(DEPTHS.index(self.depth))

    def _deepen(self, depth: int) -> None:
        if depth == 0:
            return
        a, b, c = self.world.stores
        self._set_policy(write=a, copies=[b] if depth == 1 else [], acks=1)
        for size in (1, 500, 20_000):
            self.perform(self._upload(size, None))
        self.run(self.world.drain())
        if depth >= 2:
            self._plan_and_start(c)
            self.run(self.world.drain())
        if depth >= 3:
            self.perform(self._steer("cut_over"))
        if depth >= 4:
            self.perform(self._steer("finalize"))

    # --- acts -------------------------------------------------------------------------------------------------------

    def _in(self, *states: State) -> list[Document]:
        return [one for one in self.documents if one.state in states]

    def _upload(self, size: int, document: Document | None) -> Act:
        self.count += 1
        body = self._body(size)
        name = f"file-{self.count}.bin"
        request = UploadRequest(
            name, "application/octet-stream", document.id if document else None, idempotency_key=f"key-{self.count}"
        )
        return Act(
            f"upload-{self.count}",
            lambda: self._send(request, body),
            done=lambda result: self._acknowledge(result, body),
            killed=lambda: self.unsure.append((request, body, document)),
        )

    def _body(self, size: int) -> bytes:
        mark = f"{self.count}:".encode() if size else b""
        body = (mark * size)[: max(size, len(mark))]
        self.world.sent.add(hashlib.sha256(body).digest())
        return body

    async def _send(self, request: UploadRequest, body: bytes) -> UploadResult:
        async def chunks() -> Any:
            for offset in range(0, len(body), _CHUNK_BYTES):
                yield body[offset : offset + _CHUNK_BYTES]

        return await self.services.uploads.upload(HOST, self.world.tenant_id, request, chunks())

    def _acknowledge(self, result: UploadResult, body: bytes) -> None:
        document = next((one for one in self.documents if one.id == result.document.id), None)
        if document is None:
            document = Document(result.document.id)
            self.documents.append(document)
        assert result.version.number not in document.versions
        document.versions[result.version.number] = body

    def _turn(self, document: Document, target: State) -> Act:
        documents, tenant_id = self.services.documents, self.world.tenant_id
        act = {"live": documents.restore_document, "trash": documents.delete_document}.get(target)
        work = act or documents.purge_document
        return Act(
            f"{target}-{document.id}",
            lambda: work(HOST, tenant_id, document.id),  # type: ignore[arg-type, return-value]
            document=document,
            target=target,
        )

    def _steer(self, action: str) -> Act:
        migrations, tenant_id, migration_id = self.services.migrations, self.world.tenant_id, self.world.migration_id
        turns = 1 if action in ("cut_over", "roll_back", "finalize") else 0
        if action in ("roll_back", "finalize"):
            # What turned bad unseen may be all that is left in the end: no records can help that, but scrubs do.
            self.run(self._find_damage())
        return Act(action, lambda: getattr(migrations, action)(HOST, tenant_id, migration_id), turns=turns)

    def _step(self, what: str, times: int) -> Act:
        world = self.world
        work: dict[str, Callable[[], Coroutine[Any, Any, Any]]] = {
            "advance": world.advance,
            "chunks": lambda: world.run_chunks(2, times),
            "transfers": lambda: world.run_transfers(3, times),
            "sweep": world.sweep,
            "repair": world.repair,
            "survey": world.survey,
        }
        return Act(what, work[what])

    def _fitting(self, pick: int) -> str:
        """What somebody would do with the migration as it stands; sometimes anything else."""
        assert self.world.migration_id is not None
        state = self.run(self.world.place.migration(self.world.migration_id)).state
        fitting = {"ready": ("cut_over",), "soaking": ("roll_back", "finalize")}.get(state, ())
        chosen = fitting if fitting and pick % 4 else STEERS[2:-1]
        return chosen[pick // 4 % len(chosen)]

    def _draw(self, what: str, pick: int, size: int) -> Act:
        """One act, for those that run together."""
        world = self.world
        live, trash = self._in("live"), self._in("trash")
        match what:
            case "upload":
                return self._upload(size, None)
            case "replace" if live:
                return self._upload(size, live[pick % len(live)])
            case "delete" if live:
                return self._turn(live[pick % len(live)], "trash")
            case "turn" if trash:
                return self._turn(trash[pick % len(trash)], "purged" if pick % 2 else "live")
            case "steer" if world.migration_id is not None:
                return self._steer(self._fitting(pick))
            case _:
                return self._step(STEPS[pick % len(STEPS)], 1)

    # --- what rules do ----------------------------------------------------------------------------------------------

    def person(self, what: str, size: int, pick: int, halt: Halt) -> None:
        """Somebody works with documents; without one of that kind, a new one is made."""
        live, trash = self._in("live"), self._in("trash")
        if what == "ask again" and self.unsure:
            self.ask_again()
        elif what == "replace" and live:
            self.perform(self._upload(size, live[pick % len(live)]), halt)
        elif what == "delete" and live:
            self.perform(self._turn(live[pick % len(live)], "trash"))
        elif what in ("purge", "restore") and trash:
            target: State = "purged" if what == "purge" else "live"
            self.perform(self._turn(trash[pick % len(trash)], target), halt)
        else:
            self.perform(self._upload(size, None), halt)

    def ask_again(self) -> None:
        """The client whose request was cut off repeats it by its key: one effect, and the answer."""
        request, body, document = self.unsure.pop()
        self.world.later()
        act = Act("again", lambda: self._send(request, body), done=lambda result: self._acknowledge(result, body))
        if self.perform(act) is not None:
            return
        if self.world.stage.faults:
            self.unsure.insert(0, (request, body, document))
        elif document is not None and document.state == "purged":
            # Whether it came before the end of its document, nobody can tell any more.
            self.untold += 1
        else:
            assert document is not None
            assert document.state == "trash"

    def administrator(self, action: str, pick: int, others: int, halt: Halt) -> None:
        """Somebody turns the placement: by a policy, or by a migration and its steps."""
        first, *rest = self.world.stores[pick % 3 :] + self.world.stores[: pick % 3]
        if action == "policy":
            copies = [one for number, one in enumerate(rest) if others & (1 << number)]
            self._set_policy(first, copies, min(1 + others // 4 % 2, len(copies) + 1))
        elif action == "start" or self.world.migration_id is None:
            self._plan_and_start(first)
        else:
            self.perform(self._steer(action), halt)

    def _set_policy(self, write: str, copies: Sequence[str], acks: int) -> None:
        placements, tenant_id = self.services.placements, self.world.tenant_id
        act = Act(
            "policy",
            lambda: placements.set_placement(HOST, tenant_id, write=write, copies=copies, min_acks=acks),
            turns=1,
        )
        self.perform(act)

    def _plan_and_start(self, target: str) -> None:
        migrations, tenant_id = self.services.migrations, self.world.tenant_id
        planned = self.perform(Act("plan", lambda: migrations.plan_migration(HOST, tenant_id, target=target)))
        if planned is not None:
            self.world.migration_id = planned.id
            self.perform(Act("start", lambda: migrations.start_migration(HOST, tenant_id, planned.id), turns=1))

    def work(self, what: str, times: int, halt: Halt) -> None:
        """A worker does a step, perhaps twice at once."""
        self.perform(self._step(what, times), halt)

    def together(self, drawn: list[tuple[str, int]], same: bool, size: int, moves: list[tuple[int, Verdict]]) -> None:
        """Two or three at once, step by step; often all the same."""
        chosen = drawn[:1] * len(drawn) if same else drawn
        self.interleave([self._draw(what, pick, size) for what, pick in chosen], moves)

    def nemesis(self, what: str, pick: int, size: int) -> None:
        """Time, stores, or what was thought dead. Without anything of that kind, an hour passes."""
        if what == "fault":
            # A store fails at its next calls, and says more than it should.
            way = ("refused", "answer_lost", "cut")[pick // 6 % 3]
            self.world.stage.faults[self.world.stores[pick % 3]] = Fault(way, 1 + pick // 3 % 2, self.said)  # type: ignore[arg-type]
            self.perform(self._upload(size, None))
        elif what == "damage":
            self._damage(pick)
        elif what == "thaw" and self.frozen:
            self._thaw(*self.frozen[pick % len(self.frozen)], kill=pick % 4 == 0)
        elif what == "late write":
            self._write_late(size, pick)
        elif what == "late removal":
            self._remove_late(is_mended=pick % 2 == 1)
        elif what == "crowd":
            self.run(self._crowd(room=pick % 3, more=1 + pick % 4))
        else:
            self.world.stage.faults.clear()
            self.world.later()

    def _damage(self, pick: int) -> None:
        """A copy turns bad; sometimes one that others are about to be made from."""
        found = self.run(self.world.redundant())
        if not found:
            return
        self.world.damage(found[pick % len(found)], ("flipped", "flipped", "gone", "shorter")[pick // 100 % 4])
        if self.run(self.world.is_emptying()):
            self.run(self._find_damage())
        if pick % 3:
            a, b, c = self.world.stores
            self._set_policy(a, [b, c], 1)
            for what in ("survey", "transfers"):
                self.perform(self._step(what, 1))

    def _write_late(self, size: int, pick: int) -> None:
        """A write freezes; it is taken for dead, and who cleans up after it dies too; and it wakes up."""
        process, act = Process("late write", plan=[*["go"] * (1 + pick % 5), "freeze"]), self._upload(size, None)
        self.run(self._alone(process, act))
        self._learn([(process, act)], {})
        for halt in ((0, "go"), (1 + pick // 5 % 4, "kill")):
            # It is given up first, and removed a while later.
            self.world.later()
            self.perform(self._step("sweep", 1), halt)
        if (process, act) in self.frozen:
            self._thaw(process, act, kill=False)

    def _remove_late(self, *, is_mended: bool) -> None:
        """A removal freezes; what justified it turns out bad; others take over, may mend that; and it wakes up."""
        self.world.later()
        for what in ("advance", "chunks"):
            self.perform(self._step(what, 1))
        process, act = Process("late removal", plan=["freeze"]), self._step("sweep", 1)
        self.run(self._alone(process, act))
        self._learn([(process, act)], {})
        for copy in self.run(self.world.justifying()):
            self.world.damage(copy, "flipped")
        self.run(self._find_damage())
        self.world.later()
        for what in ("sweep", "repair", "transfers")[: 3 if is_mended else 1]:
            self.perform(self._step(what, 1))
        if (process, act) in self.frozen:
            self._thaw(process, act, kill=False)

    async def _crowd(self, room: int, more: int) -> None:
        """More uploads at once than the tenant has room for."""
        tenants, tenant_id = self.services.tenants, self.world.tenant_id
        used = await self.world.count_documents()
        await tenants.change_settings(HOST, tenant_id, {"most_documents": used + room})
        acts = [self._upload(1, None) for _ in range(room + more)]
        results = await asyncio.gather(*(act.work() for act in acts), return_exceptions=True)
        await tenants.change_settings(HOST, tenant_id, {"most_documents": None})
        taken = 0
        for act, result in zip(acts, results, strict=True):
            if isinstance(result, UploadResult):
                act.done(result)
                taken += 1
            elif not isinstance(result, Failure):
                raise result
        assert taken <= room, f"{taken} documents came where there was room for {room}"

    # --- promises ---------------------------------------------------------------------------------------------------

    @invariant()
    def what_was_acknowledged_reads_back(self) -> None:
        live = self._in("live") if hasattr(self, "world") else []
        for document in self.chance.sample(live, min(2, len(live))):
            for number, body in document.versions.items():
                assert self.run(self._read(document, number)) == body

    async def _read(self, document: Document, number: int) -> bytes:
        faults, self.world.stage.faults = self.world.stage.faults, {}
        # A store that has failed too often is asked again after a while.
        BREAKER_CLOCK.ahead_seconds += 3600
        try:
            return await self.world.place.read(document.id, number=number)
        finally:
            self.world.stage.faults = faults

    @invariant()
    def records_tell_the_truth(self) -> None:
        if hasattr(self, "world"):
            version = self.run(self.world.check())
            assert self.turned[0] <= version <= self.turned[1]
            assert self.canary not in self.log.getvalue()

    def teardown(self) -> None:
        if hasattr(self, "world"):
            TenantLife.reach.update(self.world.stage.reach)
            self._end()
        TenantLife.stage = None
        self.log.seek(0)
        self.log.truncate()

    def _end(self) -> None:
        """Faults over, workers busy until nothing is left to do: everything must have converged."""
        self.world.stage.faults.clear()
        self.world.later()
        self.run(self.world.clean_up())
        while self.frozen:
            self._thaw(*self.frozen[0], kill=len(self.frozen) % 3 == 0)
        while self.unsure:
            self.ask_again()
        if self.world.migration_id is not None:
            self.perform(self._steer("resume_migration"))
        self.run(self._converge())
        for document in self._in("live"):
            for number, body in document.versions.items():
                assert self.run(self._read(document, number)) == body

    async def _converge(self) -> None:
        world, tenant_id = self.world, self.world.tenant_id
        await world.drain()
        await self._find_damage()
        await world.drain()
        await world.check()
        listed = await self.services.documents.list_documents(tenant_id, limit=1000)
        assert {one.id for one in listed} == {one.id for one in self._in("live")}
        for document in self._in("live", "trash"):
            versions = await self.services.documents.list_versions(tenant_id, document.id)
            assert sorted(one.number for one in versions) == sorted(document.versions)
        told = sum(len(one.versions) for one in self.documents)
        assert told <= await world.count_events("document.uploaded") <= told + self.untold
        await world.require_clean()
        with psycopg.connect(self.owner_url, autocommit=True) as connection:
            assert catalogue.findings(connection) == []

    async def _find_damage(self) -> None:
        """What a scrub of every copy does: look, and say what is bad."""
        for replica in await self.world.damaged_replicas():
            error = IntegrityError("other bytes than were recorded", key=replica.key)
            await self.services.blobs.report_bad(self.world.tenant_id, replica, error)
