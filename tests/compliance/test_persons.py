"""One person: what is held about them is told whole, and once they are erased nothing of it is left."""

from __future__ import annotations

import asyncio
import json
from typing import Any
from uuid import UUID

import psycopg
import pytest
from psycopg import sql
from tests.conftest import Cluster
from tests.support import Place, assert_clean, make_place, quiet, working

from simples3dms.bootstrap import Services
from simples3dms.compliance.persons.values import Erasure
from simples3dms.context import HOST, Principal
from simples3dms.db.provision import Provisioned
from simples3dms.documents.values import UploadRequest
from simples3dms.errors import Conflict, Failure, Forbidden, Invalid, NotFound, Unauthenticated
from simples3dms.identity.permissions import Permission
from simples3dms.identity.values import PlatformRole, User
from simples3dms.kit.ids import new_id
from simples3dms.kit.secret import Secret

pytestmark = pytest.mark.anyio
EMAIL = "olga@example.org"


@pytest.fixture
async def place(services: Services) -> Place:
    return await make_place(services)


async def make_olga(place: Place) -> tuple[User, Secret, Secret]:
    """With a role, a token, and her password."""
    identity = place.services.identity
    user, made = await identity.create_user(HOST, EMAIL)
    assert made is not None
    await identity.set_member(HOST, place.tenant_id, EMAIL, "owner")
    token = await identity.log_in(EMAIL, made.password, token_name="laptop")
    return user, made.password, token.token


async def upload(place: Place, principal: Principal, body: bytes) -> UUID:
    async def stream() -> Any:
        yield body

    request = UploadRequest("hers.txt", "text/plain", size_bytes=len(body))
    result = await place.services.uploads.upload(principal, place.tenant_id, request, stream())
    return result.document.id


async def refused(failure: type[Failure], code: str, act: object) -> None:
    with pytest.raises(failure) as caught:
        await act  # type: ignore[misc]
    assert caught.value.problem_code == code


async def done(place: Place, erasure: Erasure) -> Erasure:
    async with asyncio.timeout(20):
        while (found := await place.services.persons.get_erasure(erasure.id)).state != "done":
            await asyncio.sleep(0.05)
    return found


def scan(cluster: Cluster, urls: Provisioned, text: str) -> set[str]:
    name = str(psycopg.conninfo.conninfo_to_dict(urls.app_url)["dbname"])
    found = set()
    with psycopg.connect(cluster.server.superuser_dsn(name)) as connection:
        tables = connection.execute(
            "SELECT relname FROM pg_class WHERE relkind IN ('r', 'p') AND relnamespace = 'public'::regnamespace"
        ).fetchall()
        for (table,) in tables:
            query = sql.SQL("SELECT 1 FROM {} t WHERE t::text LIKE %s LIMIT 1").format(sql.Identifier(table))
            if connection.execute(query, [f"%{text}%"]).fetchone():
                found.add(table)
    return found


async def test_a_person_is_erased_and_what_is_kept_is_told(place: Place, cluster: Cluster, urls: Provisioned) -> None:
    services = place.services
    user, password, token = await make_olga(place)
    olga = Principal(user.id, EMAIL)
    gone, held, left = [await upload(place, olga, body) for body in (b"gone", b"held", b"left")]
    await services.holds.place_hold(HOST, place.tenant_id, held, name="case", reason="x")
    # Somebody else asked her in, and she never answered: her address stands there without her account.
    globex = await services.tenants.create_tenant(HOST, f"globex-{new_id().hex[-8:]}", "Globex")
    await services.invitations.invite(HOST, globex, EMAIL, "viewer")
    never = new_id()
    slug = (await services.tenants.get_tenant(str(place.tenant_id))).slug
    async with working(services):
        erasure = await services.persons.request_erasure(
            HOST, EMAIL, reason="request", documents=[(slug, gone), (slug, held), (slug, never)]
        )
        # The account is gone at once.
        await refused(Unauthenticated, "token_invalid", services.identity.authenticate(token))
        await refused(Unauthenticated, "credentials_wrong", services.identity.log_in(EMAIL, password, token_name="x"))
        found = await done(place, erasure)
        await quiet(place)
    assert found.certificate is not None
    outcomes = {one["document_id"]: one["outcome"] for one in found.certificate["documents"]}
    assert outcomes == {str(gone): "purged", str(held): "kept", str(never): "gone"}
    assert found.certificate["account"]["ownerless_tenants"] == [slug]
    assert found.certificate["account"]["removed"] == {
        "api_tokens": 1,
        "invitations": 1,
        "known_networks": 1,
        "members": 1,
    }
    # Her address stands in the audit only: as the name of who acted, which the certificate says.
    assert scan(cluster, urls, EMAIL) == {"audit_events"}
    documents = await services.documents.list_documents(place.tenant_id)
    assert {document.id for document in documents} == {held, left}
    assert await place.read(held) == b"held"
    events = await services.audit.list_events(None, limit=500)
    acts = [event.action for event in events if event.outcome == "done"]
    assert acts[:2] == ["erasure.finished", "user.erased"]
    assert len(await place.listing(place.a_id)) == 2
    # The address is free again, and whoever has it next has nothing of hers.
    again, _ = await services.identity.create_user(HOST, EMAIL)
    assert not await services.identity.get_rights(Principal(again.id, EMAIL), place.tenant_id)
    await assert_clean(services)


async def test_an_erasure_whose_job_was_lost_is_finished(place: Place) -> None:
    services = place.services
    await make_olga(place)
    erasure = await services.persons.request_erasure(HOST, EMAIL, reason="request")
    async with services.database.platform() as uow, uow.as_queue() as connection:
        await connection.execute("DELETE FROM procrastinate_jobs")
    async with working(services):
        found = await done(place, erasure)
    await services.persons.run_erasure(erasure.id)
    assert (await services.persons.get_erasure(erasure.id)).finished_at == found.finished_at


async def test_bad_requests_erase_nobody(place: Place) -> None:
    persons = place.services.persons
    user, _, token = await make_olga(place)
    await refused(Forbidden, "operator_required", persons.request_erasure(Principal(user.id, EMAIL), EMAIL, reason="x"))
    itself = Principal(user.id, EMAIL, is_operator=True)
    await refused(Conflict, "erasure_of_oneself", persons.request_erasure(itself, EMAIL, reason="x"))
    await refused(Invalid, "erasure_reason_invalid", persons.request_erasure(HOST, EMAIL, reason=" "))
    for name in ("nobody@example.org", str(new_id()), "", "a\0b", "x" * 5000):
        await refused(NotFound, "user_not_found", persons.request_erasure(HOST, name, reason="x"))
    act = persons.request_erasure(HOST, EMAIL, reason="x", documents=[("never-was", new_id())])
    await refused(NotFound, "tenant_not_found", act)
    await place.services.identity.authenticate(token)
    assert await persons.list_erasures() == []


async def test_s14_a_token_bounded_to_erasing_erases_nobody_who_has_more_than_it(place: Place) -> None:
    identity, persons = place.services.identity, place.services.persons
    user, _ = await identity.create_user(HOST, "root@example.org", is_operator=True)
    root = Principal(user.id, user.email, is_operator=True)
    made = await identity.create_token(root, "erases", scopes=[Permission.PERSONS_ERASE])
    bounded = await identity.authenticate(made.token)
    kept = []
    for role in PlatformRole:
        other, _ = await identity.create_user(HOST, f"{role}@example.org")
        await identity.set_platform_role(HOST, other.id, role)
        kept.append(await identity.get_user(other.email))
        act = persons.request_erasure(bounded, other.email, reason="x")
        await refused(Forbidden, "rights_exceed_own", act)
    assert [await identity.get_user(one.email) for one in kept] == kept
    assert await persons.list_erasures() == []
    assert "user.erased" not in {event.action for event in await place.services.audit.list_events(None)}
    await make_olga(place)
    await persons.request_erasure(bounded, EMAIL, reason="x")
    await refused(NotFound, "user_not_found", identity.get_user(EMAIL))
    # The operator himself may.
    for one in kept:
        await persons.request_erasure(root, one.email, reason="x")


async def test_a_report_tells_all_that_is_held_and_no_secret(place: Place) -> None:
    services = place.services
    user, password, token = await make_olga(place)
    olga = Principal(user.id, EMAIL)
    document = await upload(place, olga, b"hers")
    other = await upload(place, Principal(new_id(), "other@example.org"), b"not hers")
    person = await services.persons.find_person(EMAIL)
    tenant = await services.tenants.create_tenant(HOST, "globex", "Globex")
    invited, _ = await services.invitations.invite(HOST, tenant, EMAIL, "viewer")
    pieces = [piece async for piece in services.persons.iter_report(HOST, person)]
    kinds = [piece["kind"] for piece in pieces]
    assert (kinds[0], kinds[-1]) == ("account", "end")
    assert {"membership", "row", "act_by", "act_about", "upload"} < set(kinds)
    tables = {piece["table"] for piece in pieces if piece["kind"] == "row"}
    assert tables == {"api_tokens", "known_networks", "members"}
    assert [piece["id"] for piece in pieces if piece["kind"] == "invitation"] == [str(invited.id)]
    uploads = [piece["document_id"] for piece in pieces if piece["kind"] == "upload"]
    assert uploads == [document]
    assert "document.uploaded" in {piece["action"] for piece in pieces if piece["kind"] == "act_by"}
    assert {"user.created", "member.set"} <= {piece["action"] for piece in pieces if piece["kind"] == "act_about"}
    text = json.dumps(pieces, default=str)
    for secret in (password.reveal(), token.reveal(), "argon2", "hash", str(other)):
        assert secret not in text
    told = [event.action for event in await services.audit.list_events(None)]
    assert told[0] == "report.made"
    own = [piece async for piece in services.persons.iter_report(olga, person, for_oneself=True)]
    actors = {piece["principal_name"] for piece in own if piece["kind"].startswith("act")}
    assert actors == {EMAIL, "somebody else"}
