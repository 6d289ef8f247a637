"""Placements with rules and drawn copies: what is refused, where uploads go, and how a migration turns them."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import pytest
from tests.support import Place, assert_clean, chunked, make_place, quiet, working

from simples3dms.bootstrap import Services
from simples3dms.context import HOST
from simples3dms.documents.values import UploadRequest, UploadResult
from simples3dms.errors import Conflict, Failure, Invalid
from simples3dms.storage.placement import repository
from simples3dms.storage.placement.router import wanted_stores
from simples3dms.storage.placement.values import Across, Match, Policy, RuleWords, SpreadWords

pytestmark = pytest.mark.anyio


@dataclass(frozen=True)
class Wide:
    """A place with further stores beside `a` and `b`."""

    place: Place
    names: tuple[str, ...]
    ids: tuple[UUID, ...]

    async def upload(self, body: bytes, content_type: str, *, announced: bool = True) -> UploadResult:
        request = UploadRequest("file", content_type, size_bytes=len(body) if announced else None)
        return await self.place.services.uploads.upload(HOST, self.place.tenant_id, request, chunked(body))

    async def set(self, **words: Any) -> Any:
        return await self.place.services.placements.set_placement(HOST, self.place.tenant_id, **words)

    async def policy(self) -> Policy:
        async with self.place.services.database.tenant(self.place.tenant_id) as uow:
            row = await repository.find(uow)
        assert row is not None
        return row.policy

    async def stores_of(self, done: UploadResult) -> set[str]:
        """Where the document's live replicas are, by name."""
        async with self.place.services.database.tenant(self.place.tenant_id) as uow:
            cursor = await uow.connection.execute(
                """SELECT r.store_id FROM replicas r JOIN versions v ON v.tenant_id = r.tenant_id
                   AND v.blob_id = r.blob_id WHERE v.document_id = %s AND r.state = 'live'""",
                [done.document.id],
            )
            found = {row[0] for row in await cursor.fetchall()}
        return {name for name, store_id in zip(self.names, self.ids, strict=True) if store_id in found}


@pytest.fixture
async def wide(services: Services) -> Wide:
    place = await make_place(services)
    names, ids = [place.a, place.b], [place.a_id, place.b_id]
    for letter in "cd":
        name = f"{letter}-{secrets.token_hex(4)}"
        store = await services.stores.add_store(HOST, name, "memory", {"name": name}, {})
        await services.stores.grant_store(HOST, place.tenant_id, name)
        names.append(name)
        ids.append(store.id)
    return Wide(place, tuple(names), tuple(ids))


async def refused(failure: type[Failure], code: str, act: Any) -> Failure:
    with pytest.raises(failure) as caught:
        await act
    assert caught.value.problem_code == code
    return caught.value


def images(write: str, *, copies: tuple[str, ...] = (), **more: Any) -> RuleWords:
    return RuleWords(write, copies, match=Match(("image/*",)), **more)


async def test_each_upload_follows_the_first_rule_that_matches(wide: Wide) -> None:
    a, b, c, d = wide.names
    rules = [
        RuleWords(b, match=Match(("image/*",), min_bytes=100)),
        images(c, copies=(d,)),
        RuleWords(d, match=Match(max_bytes=3)),
    ]
    placed = await wide.set(write=a, rules=rules)
    assert placed.rules == tuple(rules)
    assert await wide.place.services.placements.get_placement(wide.place.tenant_id) == placed
    async with working(wide.place.services):
        large = await wide.upload(b"x" * 100, "IMAGE/png; q=1")
        small = await wide.upload(b"x" * 99, "image/png")
        tiny = await wide.upload(b"abc", "text/plain")
        other = await wide.upload(b"x" * 500, "text/plain")
        # A size that is not announced is not known when the bytes have to go somewhere: the copy follows.
        unknown = await wide.upload(b"x" * 100, "image/gif", announced=False)
        await quiet(wide.place)
    assert await wide.stores_of(large) == {b}
    assert await wide.stores_of(small) == {c, d}
    assert await wide.stores_of(tiny) == {d}
    assert await wide.stores_of(other) == {a}
    assert await wide.stores_of(unknown) == {b, c}
    await assert_clean(wide.place.services)


async def test_an_older_blob_is_asked_for_its_first_versions_type(wide: Wide) -> None:
    done = await wide.upload(b"old", "image/png")
    async with wide.place.services.database.tenant(wide.place.tenant_id) as uow:
        await uow.execute("UPDATE blobs SET content_type = NULL", [])
        found = await uow.scalar("SELECT blob_id FROM versions WHERE document_id = %s", [done.document.id])
        assert isinstance(found, UUID)
        subject = await repository.find_subject(uow, found)
    assert subject is not None
    assert (subject.content_type, subject.size_bytes) == ("image/png", 3)
    assert 0 <= subject.age_seconds < 3600


async def test_what_is_wrong_is_said_field_by_field(wide: Wide) -> None:
    a, b, *_ = wide.names
    rules = [
        RuleWords("nobodys", copies=("neither",), match=Match(("image",))),
        RuleWords(a, match=Match()),
        RuleWords(a, shares={a: 0, b: 1}, match=Match(min_bytes=2, max_bytes=1), min_acks=2),
    ]
    failure = await refused(Invalid, "placement_invalid", wide.set(write=a, copies=[a], read=["none"], rules=rules))
    fields = [one["field"] for one in failure.extra["fields"]]  # type: ignore[attr-defined]
    assert fields == [
        "copies",
        "rules.0.match.content_types",
        "rules.0.copies",
        "rules.0.write",
        "rules.1.match",
        "rules.2.match.max_bytes",
        "rules.2.shares",
        "rules.2.min_acks",
        "read",
    ]
    many = [RuleWords(a, match=Match(max_bytes=n)) for n in range(21)]
    failure = await refused(Invalid, "placement_invalid", wide.set(write=a, rules=many))
    assert (await wide.place.services.placements.get_placement(wide.place.tenant_id)).version == 1


async def test_a_store_that_only_a_rule_names_is_in_use(services: Services, wide: Wide) -> None:
    a, b, c, _ = wide.names
    await wide.set(write=a, rules=[images(b)], spread=None)
    for name in (a, b):
        await refused(Conflict, "store_in_use", services.stores.disable(HOST, name))
        await refused(Conflict, "store_grant_in_use", services.stores.revoke_grant(HOST, wide.place.tenant_id, name))
    await services.stores.revoke_grant(HOST, wide.place.tenant_id, c)


async def test_further_copies_are_drawn_and_stay_drawn(services: Services, wide: Wide) -> None:
    a, b, c, d = wide.names
    await services.stores.set_jurisdiction(HOST, a, "DE")
    await services.stores.set_jurisdiction(HOST, b, "DE")
    await services.stores.set_jurisdiction(HOST, c, "FR")
    across = Across.JURISDICTIONS
    failure = await refused(Invalid, "placement_invalid", wide.set(write=a, spread=SpreadWords(2, across)))
    assert "there is 1 among" in failure.message, "nobody has said where d lies, and b is in a's country"
    failure = await refused(Invalid, "placement_invalid", wide.set(write=d, spread=SpreadWords(1, across)))
    assert "Nobody has said where" in failure.message
    failure = await refused(Invalid, "placement_invalid", wide.set(write=a, spread=SpreadWords(1, Across.PROVIDERS)))
    assert "there are 0 among" in failure.message, "all are of one provider"
    await wide.set(write=a, spread=SpreadWords(1, across))
    await refused(Conflict, "store_grant_in_use", services.stores.revoke_grant(HOST, wide.place.tenant_id, c))
    async with working(services):
        done = await wide.upload(b"kept apart", "text/plain")
        await quiet(wide.place)
        assert await wide.stores_of(done) == {a, c}
        await wide.set(write=a, spread=SpreadWords(2))
        many = [await wide.upload(f"{n}".encode(), "text/plain") for n in range(12)]
        await quiet(wide.place)
    seen = [frozenset(await wide.stores_of(one)) for one in many]
    assert all(a in stores and len(stores) == 3 for stores in seen)
    assert len(set(seen)) > 1, "not the same for all"
    await refused(
        Conflict,
        "placement_spread",
        services.migrations.plan_migration(HOST, wide.place.tenant_id, target=b),
    )
    await assert_clean(services)


async def test_copies_are_drawn_only_where_the_documents_may_lie(services: Services, wide: Wide) -> None:
    a, b, c, d = wide.names
    for name, code in ((a, "DE"), (b, "FR"), (c, "US")):
        await services.stores.set_jurisdiction(HOST, name, code)
    await services.placements.set_residency(HOST, wide.place.tenant_id, ["EU"])
    await refused(Invalid, "placement_invalid", wide.set(write=a, spread=SpreadWords(2)))
    await wide.set(write=a, spread=SpreadWords(1))
    policy = await wide.policy()
    assert set(policy.wanted_store_ids) == {wide.ids[0], wide.ids[1]}
    await refused(Conflict, "residency_violated", wide.set(write=a, rules=[images(d)]))


async def test_a_migration_turns_the_rules_and_back(services: Services, wide: Wide) -> None:
    a, b, c, d = wide.names
    await wide.set(write=a, read=[d, a], rules=[images(a, copies=(c,)), RuleWords(d, match=Match(("text/*",)))])
    before = await wide.policy()
    bodies = {kind: kind.encode() * 20 for kind in ("image/png", "text/plain", "application/pdf")}
    async with working(services):
        for kind, body in bodies.items():
            await wide.upload(body, kind)
        for back in (True, False):
            migration = await services.migrations.plan_migration(HOST, wide.place.tenant_id, target=b)
            await services.migrations.start_migration(HOST, wide.place.tenant_id, migration.id)
            done = [await wide.upload(body + b"1", kind) for kind, body in bodies.items()]
            await wide.place.until(migration.id, "ready")
            await services.migrations.cut_over(HOST, wide.place.tenant_id, migration.id)
            placed = await services.placements.get_placement(wide.place.tenant_id)
            assert (placed.write, placed.rules[0].write, placed.rules[1].write) == (b, b, d)
            assert placed.rules[0].copies == (c, a)
            after = [await wide.upload(body + b"2", kind) for kind, body in bodies.items()]
            await quiet(wide.place)
            assert [await wide.stores_of(one) for one in after] == [{a, b, c}, {d}, {a, b}]
            if back:
                await services.migrations.roll_back(HOST, wide.place.tenant_id, migration.id)
                await wide.place.until(migration.id, "rolled_back")
                assert await wide.policy() == before
                assert await wide.place.listing(wide.place.b_id) == []
            else:
                await services.migrations.finalize(HOST, wide.place.tenant_id, migration.id)
                await wide.place.until(migration.id, "done")
                assert await wide.place.listing(wide.place.a_id) == []
            for one in (*done, *after):
                assert await wide.place.read(one.document.id)
            await quiet(wide.place)
    policy = await wide.policy()
    assert wide.ids[0] not in policy.wanted_store_ids
    assert len(policy.rules) == 2
    assert wanted_stores(policy, (await _subject(wide, after[0]))) == [wide.ids[1], wide.ids[2]]
    await assert_clean(services)


async def test_a_migration_that_leaves_too_few_stores_is_refused(services: Services, wide: Wide) -> None:
    a, b, *_ = wide.names
    await wide.set(write=a, copies=[b], min_acks=2)
    act = services.migrations.plan_migration(HOST, wide.place.tenant_id, target=b)
    await refused(Conflict, "placement_min_acks", act)


async def _subject(wide: Wide, done: UploadResult) -> Any:
    async with wide.place.services.database.tenant(wide.place.tenant_id) as uow:
        found = await uow.scalar("SELECT blob_id FROM versions WHERE document_id = %s", [done.document.id])
        assert isinstance(found, UUID)
        return await repository.find_subject(uow, found)
