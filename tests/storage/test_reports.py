"""Reports of migrations: evidence for each item, and whatever is done to one is found at its line."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Any

import pytest
from tests.support import Place, make_place, working

from simples3dms.audit import chain
from simples3dms.bootstrap import Services
from simples3dms.context import HOST
from simples3dms.errors import Conflict
from simples3dms.storage.migrations import reports
from simples3dms.storage.migrations.evidence import FORMAT, Tally, verify_report
from simples3dms.storage.migrations.values import Schedule

pytestmark = pytest.mark.anyio


@pytest.fixture
async def place(services: Services) -> Place:
    return await make_place(services)


async def moved(place: Place, *, count: int = 5) -> tuple[Any, dict[str, bytes]]:
    bodies = {}
    for number in range(count):
        body = b"%d" % number * 100
        bodies[str((await place.upload(body)).document.id)] = body
    m = place.services.migrations
    schedule = Schedule(automatic_cutover=True, finalize_after_seconds=0)
    planned = await m.plan_migration(HOST, place.tenant_id, target=place.b, schedule=schedule)
    with pytest.raises(Conflict):
        await place.services.reports.open_report(place.tenant_id, planned.id)
    await m.start_migration(HOST, place.tenant_id, planned.id)
    return planned.id, bodies


async def report(place: Place, migration_id: Any) -> list[bytes]:
    return [line async for line in await place.services.reports.open_report(place.tenant_id, migration_id)]


async def keys(place: Place) -> dict[str, bytes]:
    return {key.key_id: key.public_key for key in await place.services.audit.list_keys()}


async def test_a_report_holds_the_evidence_of_each_item_also_when_the_source_is_empty(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reports, "_PAGE", 2)
    migration_id, bodies = await moved(place)
    before = {info.key for info in await place.listing(place.a_id)}
    async with working(place.services):
        await place.until(migration_id, "done")
    lines = await report(place, migration_id)
    verdict = verify_report(lines, keys=await keys(place))
    assert (verdict.breach, verdict.is_signed) == (None, True)
    assert (verdict.items, verdict.proven, verdict.waived, verdict.unproven) == (5, 5, 0, 0)
    assert verdict.size_bytes == sum(map(len, bodies.values()))
    assert verdict.migration_id == str(migration_id)
    after = {info.key for info in await place.listing(place.b_id)}
    items = [json.loads(line)["item"] for line in lines[1:-1]]
    for item in items:
        ((document_id, version),) = [(one["document_id"], one["version"]) for one in item["documents"]]
        body = bodies.pop(document_id)
        assert (version, item["size_bytes"]) == (1, len(body))
        assert item["sha256"] == hashlib.sha256(body).hexdigest()
        assert (item["proof"]["kind"], item["waived"]) == ("read-back", None)
        assert (item["source"]["store"], item["source"]["state"]) == (place.a, "removed")
        assert (item["target"]["store"], item["target"]["state"]) == (place.b, "live")
    assert bodies == {}
    assert {item["source"]["key"] for item in items} == before
    assert {item["target"]["key"] for item in items} == after


async def test_what_is_not_proven_is_told(place: Place) -> None:
    migration_id, _ = await moved(place, count=3)
    verdict = verify_report(await report(place, migration_id), keys=await keys(place))
    assert (verdict.breach, verdict.items, verdict.proven, verdict.unproven) == (None, 3, 0, 3)


def edited(lines: list[bytes]) -> list[bytes]:
    return [*lines[:2], lines[2].replace(b'"size_bytes":100', b'"size_bytes":101'), *lines[3:]]


def forged(lines: list[bytes]) -> list[bytes]:
    """The hashes are computed anew from the line that was changed; nobody but the key's owner can sign the trailer."""
    tally, made = Tally(), []
    for line in lines[:-1]:
        document = chain.parse(line[:-1])
        del document["hash"]
        if document.get("n") == "2":
            document["item"]["sha256"] = "00" * 32
        made.append(chain.canonical(tally.link(document)).encode() + b"\n")
    trailer = chain.parse(lines[-1][:-1])
    trailer["trailer"]["digest"] = tally.hash.hex()
    return [*made, chain.canonical(trailer).encode() + b"\n"]


@pytest.mark.parametrize(
    ("tamper", "bad_line", "code"),
    [
        (edited, 3, "hash_wrong"),
        (lambda lines: [*lines[:2], *lines[3:]], 3, "item_misplaced"),
        (lambda lines: lines[1:], 1, "line_malformed"),
        (lambda lines: lines[:-1], 7, "tail_missing"),
        (lambda lines: lines[:3], 4, "tail_missing"),
        (lambda lines: [*lines[:3], lines[3][:20]], 4, "line_broken"),
        (lambda lines: [*lines[:3], lines[-1]], 4, "totals_differ"),
        (lambda lines: [*lines[:2], lines[3], lines[2], *lines[4:]], 3, "item_misplaced"),
        (lambda lines: [*lines[:3], lines[2], *lines[3:]], 4, "item_misplaced"),
        (lambda lines: [*lines, lines[2]], 8, "line_unexpected"),
        (lambda lines: [*lines[:2], lines[2].replace(b'"n":2', b'"n": 2'), *lines[3:]], 3, "line_malformed"),
        (lambda lines: [*lines[:-1], lines[-1].replace(b'"proven":5', b'"proven":4')], 7, "totals_differ"),
        (lambda lines: [*lines[:-1], lines[-1].replace(b'"signature":"', b'"signature":"00')], 7, "signature_wrong"),
        (forged, 7, "signature_wrong"),
        (lambda _lines: [], 1, "tail_missing"),
    ],
)
async def test_whatever_is_done_to_a_report_is_found_at_its_line(
    place: Place, tamper: Callable[[list[bytes]], list[bytes]], bad_line: int, code: str
) -> None:
    migration_id, _ = await moved(place)
    async with working(place.services):
        await place.until(migration_id, "soaking", "finalizing", "done")
    lines = await report(place, migration_id)
    assert len(lines) == 7
    breach = verify_report(tamper(lines), keys=await keys(place)).breach
    assert breach is not None
    assert (breach.line, breach.code) == (bad_line, code)


async def test_a_key_that_was_not_given_vouches_for_nothing(place: Place) -> None:
    migration_id, _ = await moved(place)
    lines = await report(place, migration_id)
    breach = verify_report(lines, keys={"0" * 32: bytes(32)}).breach
    assert breach is not None
    assert (breach.line, breach.code) == (7, "key_unknown")
    assert verify_report(lines).is_signed is False


@pytest.mark.parametrize("blob_id", [[], {}, None, "no id"])
def test_an_item_of_odd_values_is_a_breach_and_no_crash(blob_id: object) -> None:
    """Anybody can make a file whose hashes are right."""
    item = {"blob_id": blob_id, "proof": {"kind": "read-back"}, "size_bytes": "1", "waived": None}
    tally = Tally()
    lines = [tally.link({"report": {"format": FORMAT}}), tally.link({"item": item, "n": "1"})]
    breach = verify_report([chain.canonical(line).encode("ascii") + b"\n" for line in lines]).breach
    assert breach is not None
    assert (breach.code, breach.line) == ("line_malformed", 2)
