"""A cut-over is refused while the target has one copy that is unproven or in doubt, and the answer names what it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from tests.support import Place, assert_clean, make_place, quiet, working

from simples3dms.bootstrap import Services
from simples3dms.context import HOST
from simples3dms.errors import Conflict
from simples3dms.storage.migrations import service
from simples3dms.storage.migrations.values import Schedule

pytestmark = pytest.mark.anyio
_ONCE_MORE = 2


async def _place(services: Services, directory: Path) -> Place:
    """On disks; new versions are acknowledged when two of the three stores have them."""
    roots = [directory / name for name in "abc"]
    for root in roots:
        root.mkdir()
    place = await make_place(services, kind="local", settings=({"path": str(roots[0])}, {"path": str(roots[1])}))
    third = place.a.replace("a-", "c-")
    await services.stores.add_store(HOST, third, "local", {"path": str(roots[2])}, {})
    await services.stores.grant_store(HOST, place.tenant_id, third)
    await services.placements.set_placement(HOST, place.tenant_id, write=place.a, copies=[place.b, third], min_acks=2)
    return place


async def _ready(place: Place, *, schedule: Schedule = Schedule()) -> UUID:
    migrations = place.services.migrations
    planned = await migrations.plan_migration(HOST, place.tenant_id, target=place.b, schedule=schedule)
    await migrations.start_migration(HOST, place.tenant_id, planned.id)
    await place.until(planned.id, "ready")
    return planned.id


async def _file(place: Place, root: Path, document_id: UUID) -> Path:
    """Where the document's bytes are at the target."""
    async with place.services.database.tenant(place.tenant_id) as uow:
        key = await uow.scalar(
            """SELECT r.key FROM replicas r JOIN versions v ON v.tenant_id = r.tenant_id AND v.blob_id = r.blob_id
               WHERE v.document_id = %s AND r.store_id = %s""",
            [document_id, place.b_id],
        )
    (found,) = root.rglob(str(key).rpartition("/")[2])
    return found


async def _scrub(place: Place) -> None:
    """Read all of the target back; no worker is there to mend what that finds."""
    begun = await place.services.scrubs.start(HOST, place.tenant_id, store=place.b, level="deep")
    await place.services.scrubs.engine.run(place.tenant_id, begun.id)


async def _refused(place: Place, migration_id: UUID) -> tuple[str, dict[UUID, dict[str, Any]]]:
    """What a refused cut-over says, and what it names by document; nothing has changed then."""
    placements = place.services.placements
    before = await placements.get_placement(place.tenant_id)
    with pytest.raises(Conflict) as caught:
        await place.services.migrations.cut_over(HOST, place.tenant_id, migration_id)
    assert caught.value.problem_code == "migration_not_proven"
    after = await placements.get_placement(place.tenant_id)
    assert (after.write, after.version) == (before.write, before.version)
    named: Any = caught.value.extra["hindrances"]
    return caught.value.message, {one["document_id"]: one for one in named}


async def test_f59_suspect_missing_and_unverified_copies_are_named(
    services: Services, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = await _place(services, tmp_path)
    bodies = {(await place.upload(b"body %d" % number)).document.id: b"body %d" % number for number in range(5)}
    async with working(services):
        migration_id = await _ready(place)
        await quiet(place)
    flipped, gone, *_ = bodies
    path = await _file(place, tmp_path / "b", flipped)
    path.chmod(0o600)
    path.write_bytes(bytes([path.read_bytes()[0] ^ 1]) + path.read_bytes()[1:])
    (await _file(place, tmp_path / "b", gone)).unlink()
    await _scrub(place)
    # Its bytes are at the target since before it was acknowledged, and nobody has read them back there.
    unverified = (await place.upload(b"late")).document.id
    bodies[unverified] = b"late"
    monkeypatch.setattr(service, "_CUT_OVER_TRIES", _ONCE_MORE)
    said, named = await _refused(place, migration_id)
    assert "3 blobs have no proven copy at the target" in said
    assert {document_id: one["state"] for document_id, one in named.items()} == {
        flipped: "suspect",
        gone: "missing",
        unverified: "unverified",
    }
    assert {(one["version"], one["error"]) for one in named.values()} == {
        (1, "integrity"),
        (1, "object_not_found"),
        (1, None),
    }
    assert (await place.migration(migration_id)).state == "copying"
    # Workers mend it, and the proof is whole again.
    async with working(services):
        await place.until(migration_id, "ready")
        await quiet(place)
        await services.migrations.cut_over(HOST, place.tenant_id, migration_id)
        await quiet(place)
    assert {document_id: await place.read(document_id) for document_id in bodies} == bodies
    await assert_clean(services)


async def test_f59_a_copy_that_is_not_there_yet_is_named(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    place = await make_place(services)
    first = (await place.upload(b"first")).document.id
    async with working(services):
        migration_id = await _ready(place)
    await place.upload(b"second", document_id=first)
    monkeypatch.setattr(service, "_CUT_OVER_TRIES", _ONCE_MORE)
    _, named = await _refused(place, migration_id)
    assert named == {first: {"document_id": first, "version": 2, "state": "absent", "error": None}}


async def test_f59_nothing_turns_to_a_store_that_is_not_trusted(services: Services) -> None:
    """Not even where this tenant's own copies there are all good: another's were not."""
    place = await make_place(services)
    await place.upload(b"body")
    async with working(services):
        migration_id = await _ready(place)
    async with services.database.platform() as uow:
        await uow.execute(
            "UPDATE stores SET untrusted_at = now(), untrusted_reason = 'Much is bad.' WHERE id = %s", [place.b_id]
        )
    said, named = await _refused(place, migration_id)
    assert ("no operator trusts it" in said, named) == (True, {})
    assert (await place.migration(migration_id)).state == "ready"
    await services.scrubs.trust_store(HOST, place.b, reason="looked at it")
    assert (await services.migrations.cut_over(HOST, place.tenant_id, migration_id)).state == "soaking"
