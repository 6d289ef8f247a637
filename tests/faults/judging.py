"""The judge of a history: a plain model of documents, and what it says against what was answered.

A document has one writer, who begins nothing before the last thing has ended. So its states follow each other, and
each is possible from when it was asked for until the next one was acknowledged. A read must fit one that was possible
while it ran. A read that failed is excused only if a store was hurt meanwhile and no other had a live copy, or if the
server that it asked was killed meanwhile.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

from tests.faults.history import Event

#: A store is not called well again before its breakers have closed; no other store is hurt before that.
SETTLE_SECONDS = 8.0
#: Who connects while a server comes up may still meet the old one's end.
_API_SETTLE_SECONDS = 1.0
#: Answers about a store that are excused while one is hurt: never a 500, never "there is no good copy".
_STATUSES = (502, 503, 504)
_CHANGES = ("upload", "delete", "restore", "purge")


@dataclass(frozen=True)
class State:
    """A document as it may have been `since` - `until`."""

    place: str
    digests: tuple[str, ...]
    since: float
    until: float = math.inf

    def fits(self, version: int | None, answer: Event) -> bool:
        """Whether a read of this state may be answered so; `version` None: the newest."""
        if answer["found"] != "content":
            return bool(answer["found"] == self.place)
        if self.place != "live" or (version or 1) > len(self.digests):
            return False
        return bool(answer["sha256"] == self.digests[(version or 0) - 1])


@dataclass
class Document:
    """What is known of one document: its states, the last of which may still be open."""

    tenant: str
    name: str
    states: list[State] = field(default_factory=list)

    def change(self, asked_at: float, done_at: float, place: str, digest: str | None = None) -> None:
        digests = self.states[-1].digests if self.states else ()
        if self.states:
            self.states[-1] = replace(self.states[-1], until=done_at)
        self.states.append(State(place, digests if digest is None else (*digests, digest), asked_at))

    def possible(self, begun_at: float, ended_at: float) -> Iterator[State]:
        return (state for state in self.states if state.since <= ended_at and state.until >= begun_at)


@dataclass(frozen=True)
class Span:
    """A time in which a store was hurt, or a server away."""

    target: str
    since: float
    until: float


class Judge:
    """One look over a history. `findings` says what can't be; nothing is said of what has not ended yet."""

    def __init__(self, events: Iterable[Event]) -> None:
        self._acts: dict[int, list[Event]] = defaultdict(list)
        for event in events:
            self._acts[event["n"]].append(event)
        self.documents: dict[str, Document] = {}
        self.findings: list[str] = []
        self._unclear: set[tuple[str, str]] = set()
        self._uploads: dict[int, tuple[str, int]] = {}
        self.spans = list(self._spans())
        for acts in self._acts.values():
            if acts[0]["op"] in _CHANGES:
                self._change(acts[0], acts[-1])
        for acts in self._acts.values():
            look = getattr(self, f"_see_{acts[0]['op']}", None)
            if look is not None:
                look(acts)

    def _say(self, act: Event, text: str) -> None:
        known = ("tenant", "document", "version", "name", "step")
        about = ", ".join(f"{name} {act[name]}" for name in known if act.get(name) is not None)
        self.findings.append(f"{act['op']} {act['n']} ({about}): {text}")

    def _spans(self) -> Iterator[Span]:
        for acts in self._acts.values():
            if acts[0]["op"] == "fault":
                settle = SETTLE_SECONDS if acts[0]["target"].startswith("store:") else _API_SETTLE_SECONDS
                until = acts[-1]["t"] + settle if acts[-1]["type"] == "ok" else math.inf
                yield Span(acts[0]["target"], acts[0]["t"], until)

    def _change(self, asked: Event, last: Event) -> None:
        """What is not acknowledged is possible from when it was asked for, and so is what was before."""
        done_at = last["t"] if last["type"] == "ok" else math.inf
        if last["type"] == "fail":
            self._say(asked, f"not done: {last['why']}")
        if asked["op"] == "upload" and asked["document"] is None:
            if done_at == math.inf:
                self._unclear.add((asked["tenant"], asked["name"]))
                return
            self.documents[last["document"]] = Document(asked["tenant"], asked["name"])
        document_id = asked["document"] or last["document"]
        document = self.documents[document_id]
        place = {"delete": "trash", "purge": "absent"}.get(asked["op"], "live")
        document.change(asked["t"], done_at, place, asked.get("sha256"))
        if asked["op"] == "upload" and done_at < math.inf:
            self._uploads[asked["n"]] = (document_id, len(document.states[-1].digests))
            told = (last["document"], last["version"], last["sha256"])
            if told != (*self._uploads[asked["n"]], asked["sha256"]):
                self._say(asked, f"acknowledged as {told}")

    def _see_replay(self, acts: list[Event]) -> None:
        """A request under a key that was acknowledged: the same answer, and no other effect (see `_see_final`).

        Of a document that was purged since, it says that there is none, and brings nothing back.
        """
        asked, answer = acts[0], acts[-1]
        if answer["type"] == "fail":
            self._say(asked, f"not done: {answer['why']}")
        elif answer["type"] == "ok":
            document_id, number = self._uploads[asked["of"]]
            possible = [
                None if state.place == "absent" else [document_id, number]
                for state in self.documents[document_id].possible(asked["t"], answer["t"])
            ]
            if answer["answer"] not in possible:
                self._say(asked, f"answered {answer['answer']}, possible were {possible}")

    def _see_migrate(self, acts: list[Event]) -> None:
        if acts[-1]["type"] == "fail":
            self._say(acts[0], f"not done: {acts[-1]['why']}")

    def _see_read(self, acts: list[Event]) -> None:
        asked, *rest = acts
        for answer in rest:
            if answer["type"] == "ok":
                self._check_answer(asked, answer)
            elif answer["type"] == "fail":
                self._say(asked, f"not readable: {answer['why']}")
            elif not self._is_excused(answer):
                self._say(asked, f"failed while it could be read: {answer}")

    def _check_answer(self, asked: Event, answer: Event) -> None:
        possible = list(self.documents[asked["document"]].possible(answer["begun"], answer["t"]))
        if not any(state.fits(asked["version"], answer) for state in possible):
            told = {name: answer[name] for name in ("found", "sha256") if name in answer}
            self._say(asked, f"answered {told}, possible were {possible}")

    def _is_excused(self, answer: Event) -> bool:
        begun, ended = answer["begun"], answer["t"]
        met = {span.target for span in self.spans if span.since <= ended and span.until >= begun}
        is_cut = answer["status"] is None
        if is_cut and answer["api"] in met:
            return True
        hurt = {target.removeprefix("store:") for target in met if target.startswith("store:")}
        if not hurt or answer["code"] == "no_readable_replica" or not (is_cut or answer["status"] in _STATUSES):
            return False
        return not any(
            one["state"] == "live" and one["since"] <= begun and one["store"] not in hurt
            for one in answer["replicas"] or ()
        )

    def _see_final(self, acts: list[Event]) -> None:
        """What a tenant has at the end is what was acknowledged: each once, with all its versions, and nothing else."""
        asked, listed = acts[0], acts[-1]
        seen = {one["document"]: one for one in listed["documents"]}
        for document_id, document in self.documents.items():
            if document.tenant == asked["tenant"]:
                self._check_final(asked, document_id, document, seen.pop(document_id, None), listed["t"])
        for document_id, one in seen.items():
            if (asked["tenant"], one["name"]) in self._unclear:
                self._unclear.discard((asked["tenant"], one["name"]))
            else:
                self._say(asked, f"{document_id} ({one['name']}) was never acknowledged, or made twice")

    def _check_final(self, asked: Event, document_id: str, document: Document, one: Event | None, at: float) -> None:
        found = ("absent", ()) if one is None else (one["place"], tuple(one["digests"]))
        possible = [
            (state.place, () if state.place == "absent" else state.digests) for state in document.possible(at, at)
        ]
        if found not in possible:
            self._say(asked, f"{document_id} is {found}, possible were {possible}")


def judge(events: Iterable[Event]) -> list[str]:
    """What in a history breaks a promise; empty if nothing does."""
    return Judge(events).findings
