"""The judge of the soak finds what is wrong in a history, and nothing in one that is right."""

from __future__ import annotations

from typing import Any

import pytest
from tests.faults.history import Event
from tests.faults.judging import SETTLE_SECONDS, judge

ONE, TWO = "1" * 64, "2" * 64


class Story:
    """A history that is told second by second."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.now = 0.0

    def tell(self, number: int, op: str, kind: str, **fields: Any) -> None:
        self.now += 1.0
        self.events.append({"t": self.now, "n": number, "op": op, "type": kind, **fields})

    def upload(self, number: int, digest: str, *, document: str | None = None, version: int = 1) -> None:
        asked = {"tenant": "ada", "document": document, "name": f"file-{number}", "sha256": digest}
        self.tell(number, "upload", "invoke", **asked)
        self.tell(number, "upload", "ok", document="d", version=version, sha256=digest)

    def turn(self, number: int, op: str) -> None:
        self.tell(number, op, "invoke", tenant="ada", document="d")
        self.tell(number, op, "ok")

    def ask(self, number: int, version: int | None = None) -> None:
        self.tell(number, "read", "invoke", tenant="ada", document="d", version=version)

    def answer(self, number: int, found: str, digest: str | None = None) -> None:
        what = {"found": found} | ({} if digest is None else {"sha256": digest})
        self.tell(number, "read", "ok", api="api:0", begun=self.now + 0.5, **what)

    def fail(self, number: int, *stores: str, status: int | None = 503, code: str | None = "store_unreachable") -> None:
        """A try that failed while the records had live copies in these stores."""
        replicas = [{"store": store, "state": "live", "since": 0.0} for store in stores]
        told = {"api": "api:0", "begun": self.now + 0.5, "status": status, "code": code, "why": "so"}
        self.tell(number, "read", "info", **told, replicas=replicas)

    def final(self, number: int, *documents: tuple[str, str, str, list[str]]) -> None:
        self.tell(number, "final", "invoke", tenant="ada")
        names = ("document", "name", "place", "digests")
        self.tell(number, "final", "ok", documents=[dict(zip(names, one, strict=True)) for one in documents])


@pytest.fixture
def story() -> Story:
    """One document with two versions."""
    story = Story()
    story.upload(1, ONE)
    story.upload(2, TWO, document="d", version=2)
    return story


def test_a_right_history_is_found_right(story: Story) -> None:
    story.ask(3)
    story.answer(3, "content", TWO)
    story.ask(4, 1)
    story.answer(4, "content", ONE)
    story.tell(5, "replay", "invoke", tenant="ada", of=1)
    story.tell(5, "replay", "ok", answer=["d", 1])
    story.turn(6, "delete")
    story.ask(7)
    story.answer(7, "trash")
    story.turn(8, "restore")
    story.final(9, ("d", "file-1", "live", [ONE, TWO]))
    story.turn(10, "delete")
    story.turn(11, "purge")
    story.ask(12, 2)
    story.answer(12, "absent")
    story.tell(13, "replay", "invoke", tenant="ada", of=2)
    story.tell(13, "replay", "ok", answer=None)
    story.final(14)
    assert judge(story.events) == []


def test_while_something_is_asked_for_both_are_right(story: Story) -> None:
    story.tell(3, "delete", "invoke", tenant="ada", document="d")
    for number, (found, digest) in enumerate((("trash", None), ("content", TWO)), start=4):
        story.ask(number)
        story.answer(number, found, digest)
    assert judge(story.events) == []
    story.tell(3, "delete", "ok")
    story.ask(6)
    story.answer(6, "content", TWO)
    assert len(judge(story.events)) == 1


@pytest.mark.parametrize(
    ("version", "found", "digest"),
    [
        (None, "content", ONE),
        (1, "content", TWO),
        (3, "content", TWO),
        (None, "content", "3" * 64),
        (None, "absent", None),
        (2, "trash", None),
    ],
)
def test_a_wrong_answer_is_found(story: Story, version: int | None, found: str, digest: str | None) -> None:
    story.ask(3, version)
    story.answer(3, found, digest)
    (finding,) = judge(story.events)
    assert finding.startswith("read 3 (tenant ada, document d")


def test_what_was_purged_and_comes_back_is_found(story: Story) -> None:
    story.turn(3, "delete")
    story.turn(4, "purge")
    story.ask(5, 1)
    story.answer(5, "content", ONE)
    story.tell(6, "replay", "invoke", tenant="ada", of=1)
    story.tell(6, "replay", "ok", answer=["d", 1])
    story.final(7, ("d", "file-1", "live", [ONE, TWO]))
    assert [finding.split()[0] for finding in judge(story.events)] == ["read", "replay", "final"]


def test_a_failed_read_is_excused_by_the_store_that_is_hurt_and_by_no_other(story: Story) -> None:
    story.tell(3, "fault", "invoke", target="store:s3", what="away")
    story.ask(4)
    story.fail(4, "s3")
    assert judge(story.events) == []
    story.fail(4, "s3", "disk")
    assert len(judge(story.events)) == 1
    story.fail(4, "disk")
    assert len(judge(story.events)) == 2
    for status, code in ((500, "internal"), (502, "no_readable_replica"), (401, "unauthenticated")):
        story.fail(4, "s3", status=status, code=code)
    assert len(judge(story.events)) == 5
    story.tell(3, "fault", "ok")
    story.now += SETTLE_SECONDS + 1
    story.fail(4, "s3")
    assert len(judge(story.events)) == 6


def test_a_broken_connection_is_excused_by_the_server_that_was_killed_and_by_no_other(story: Story) -> None:
    story.tell(3, "fault", "invoke", target="api:0", what="kill")
    story.ask(4)
    story.fail(4, "s3", status=None)
    assert judge(story.events) == []
    story.fail(4, "s3", status=503)
    assert len(judge(story.events)) == 1
    story.tell(3, "fault", "ok")
    story.tell(5, "fault", "invoke", target="api:1", what="kill")
    story.now += 2
    story.fail(4, "s3", status=None)
    assert len(judge(story.events)) == 2


def test_what_was_given_up_or_refused_is_found(story: Story) -> None:
    story.ask(3)
    story.tell(3, "read", "fail", why="given up")
    story.tell(4, "delete", "invoke", tenant="ada", document="d")
    story.tell(4, "delete", "fail", why="409")
    story.tell(5, "replay", "invoke", tenant="ada", of=1)
    story.tell(5, "replay", "fail", why="409")
    story.tell(6, "migrate", "invoke", tenant="ada", step="finalize")
    story.tell(6, "migrate", "fail", why="still copying")
    assert len(judge(story.events)) == 4


def test_a_replay_with_another_answer_is_found(story: Story) -> None:
    for number, answer in enumerate((["d", 2], ["e", 1], None), start=3):
        story.tell(number, "replay", "invoke", tenant="ada", of=1)
        story.tell(number, "replay", "ok", answer=answer)
    assert len(judge(story.events)) == 3


def test_an_acknowledgement_of_other_bytes_or_another_version_is_found(story: Story) -> None:
    story.upload(3, ONE, document="d", version=4)
    assert len(judge(story.events)) == 1


@pytest.mark.parametrize(
    "documents",
    [
        [],
        [("d", "file-1", "live", [ONE])],
        [("d", "file-1", "live", [ONE, ONE])],
        [("d", "file-1", "trash", [ONE, TWO])],
        [("d", "file-1", "live", [ONE, TWO]), ("e", "file-1", "live", [ONE])],
    ],
)
def test_what_is_lost_or_there_twice_at_the_end_is_found(
    story: Story, documents: list[tuple[str, str, str, list[str]]]
) -> None:
    story.final(3, *documents)
    assert len(judge(story.events)) == 1


def test_an_upload_without_an_end_may_be_there_once(story: Story) -> None:
    story.tell(3, "upload", "invoke", tenant="ada", document=None, name="file-3", sha256=ONE)
    known, new = ("d", "file-1", "live", [ONE, TWO]), ("e", "file-3", "live", [ONE])
    story.final(4, known)
    assert judge(story.events) == []
    story.final(5, known, new, ("f", "file-3", "live", [ONE]))
    assert len(judge(story.events)) == 1
