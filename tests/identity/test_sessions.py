"""Sessions: a new secret at each sign-in and change of rights; over by the database's clock, by hand, by changes."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from simples3dms.audit.service import Audit
from simples3dms.context import HOST, Principal
from simples3dms.db.session import Database
from simples3dms.errors import Failure, Invalid, NotFound, Unauthenticated
from simples3dms.identity.service import Identity
from simples3dms.identity.sessions.service import Sessions, renew
from simples3dms.identity.sessions.values import NewSession, Visitor
from simples3dms.kit.ids import new_id
from simples3dms.kit.secret import Secret
from simples3dms.tenants.service import Tenants

pytestmark = pytest.mark.anyio
GOOD, BETTER = Secret("correct horse battery"), Secret("wronger horse battery")
LAPTOP = Visitor("192.0.2.1", "A browser\n of the\x00 kind" + "x" * 1000)


@pytest.fixture
def identity(database: Database) -> Identity:
    return Identity(database)


@pytest.fixture
def sessions(database: Database, identity: Identity) -> Sessions:
    return Sessions(database, identity.sign_in)


@pytest.fixture
async def anna(identity: Identity) -> Principal:
    user, _ = await identity.create_user(HOST, "anna@example.org", GOOD)
    return Principal(user.id, user.email)


async def _refused(failure: type[Failure], code: str, act: Any) -> None:
    with pytest.raises(failure) as caught:
        await act
    assert caught.value.problem_code == code


async def _begin(sessions: Sessions, **given: Any) -> NewSession:
    return await sessions.sign_in("anna@example.org", GOOD, LAPTOP, **given)


async def _over(sessions: Sessions, *made: NewSession) -> None:
    for one in made:
        await _refused(Unauthenticated, "session_invalid", sessions.authenticate(one.secret))


async def test_a_session_names_its_user_and_is_listed(sessions: Sessions, anna: Principal, database: Database) -> None:
    made = await _begin(sessions)
    principal = await sessions.authenticate(made.secret)
    assert (principal, principal.session_id) == (anna, made.id)
    assert len(made.secret.reveal()) == 43
    (found,) = await sessions.list_sessions(anna)
    assert (found.id, found.address, found.method) == (made.id, "192.0.2.1", "password")
    assert found.agent.startswith("A browser of the kindx")
    assert len(found.agent) < 300
    async with database.platform() as uow:
        dump = await uow.scalars("SELECT s::text FROM sessions s UNION ALL SELECT a::text FROM audit_events a")
    assert not any(made.secret.reveal() in row for row in dump)
    for wrong in ("", "x", made.secret.reveal()[:-1], "\0", "\ud800", "x" * 100_000):
        await _refused(Unauthenticated, "session_invalid", sessions.authenticate(Secret(wrong)))


async def test_s12_signing_in_gives_a_new_secret_and_ends_what_was_there(sessions: Sessions, anna: Principal) -> None:
    """Whoever planted a cookie before has nothing of it after."""
    planted = await _begin(sessions)
    mine = await _begin(sessions, replaces=planted.secret)
    assert mine.secret != planted.secret
    await _over(sessions, planted)
    made_up = Secret("A" * 43)
    again = await _begin(sessions, replaces=made_up)
    assert again.secret != made_up
    await _refused(Unauthenticated, "session_invalid", sessions.authenticate(made_up))
    await sessions.authenticate(mine.secret)


async def test_s12_a_new_password_ends_all_but_the_one_that_asks_and_gives_that_a_new_secret(
    sessions: Sessions, identity: Identity, anna: Principal
) -> None:
    mine, other = await _begin(sessions), await _begin(sessions)
    token = await identity.create_token(anna, "script")
    asking = await sessions.authenticate(mine.secret)
    await _refused(Invalid, "password_wrong", identity.change_password(asking, BETTER, BETTER))
    await sessions.authenticate(other.secret)
    renewed = await identity.change_password(asking, GOOD, BETTER)
    assert renewed is not None
    await _over(sessions, mine, other)
    assert (await sessions.authenticate(renewed.secret)).session_id == mine.id
    await _refused(Unauthenticated, "token_invalid", identity.authenticate(token.token))


async def test_s12_another_role_ends_the_sessions_of_whose_it_is(
    sessions: Sessions, identity: Identity, anna: Principal, database: Database
) -> None:
    tenant = await Tenants(database).create_tenant(HOST, "acme", "Acme")
    for act in (
        lambda: identity.set_member(HOST, tenant.id, anna.name, "viewer"),
        lambda: identity.set_member(HOST, tenant.id, anna.name, "owner"),
        lambda: identity.remove_member(HOST, tenant.id, anna.name),
    ):
        made = await _begin(sessions)
        await act()
        await _over(sessions, made)
    await identity.set_member(HOST, tenant.id, anna.name, "viewer")
    made = await _begin(sessions)
    await identity.set_member(HOST, tenant.id, anna.name, "viewer")
    await sessions.authenticate(made.secret)


@pytest.mark.parametrize(
    "end",
    [
        "expires_at = now()",
        "last_seen_at = now() - interval '2 hours'",
        "ended_at = now()",
    ],
)
async def test_s13_time_ends_a_session(sessions: Sessions, anna: Principal, database: Database, end: str) -> None:
    made = await _begin(sessions)
    async with database.platform() as uow:
        await uow.execute(f"UPDATE sessions SET {end}")  # type: ignore[arg-type]
    await _over(sessions, made)
    assert await sessions.list_sessions(anna) == []


async def test_s13_use_keeps_a_session_up_to_its_age(
    identity: Identity, anna: Principal, database: Database, eventually: Any
) -> None:
    sessions = Sessions(database, identity.sign_in, idle_seconds=4)
    made, idle = await _begin(sessions), await _begin(sessions)
    async with database.platform() as uow:
        await uow.execute("UPDATE sessions SET last_seen_at = now(), expires_at = now() + interval '9 s'")
    begun = asyncio.get_running_loop().time()
    while asyncio.get_running_loop().time() - begun < 5:
        await sessions.authenticate(made.secret)
        await asyncio.sleep(0.1)
    await _over(sessions, idle)

    async def is_over() -> bool:
        try:
            await sessions.authenticate(made.secret)
        except Unauthenticated:
            return True
        return False

    await eventually(is_over, seconds=10)


async def test_s13_who_is_disabled_is_out_at_once(sessions: Sessions, anna: Principal, database: Database) -> None:
    made = await _begin(sessions)
    async with database.platform() as uow:
        await uow.execute("UPDATE users SET disabled_at = now()")
    await _over(sessions, made)


async def test_s13_signed_out_is_out_also_for_what_is_under_way(
    sessions: Sessions, anna: Principal, database: Database
) -> None:
    """Of requests that race with the end, each is answered as before or refused; after it, all are refused."""
    made = await _begin(sessions)
    principal = await sessions.authenticate(made.secret)
    racing = [asyncio.create_task(sessions.authenticate(made.secret)) for _ in range(20)]
    await sessions.sign_out(principal)
    for outcome in await asyncio.gather(*racing, return_exceptions=True):
        assert outcome == anna or isinstance(outcome, Unauthenticated)
    await _over(sessions, made)
    async with database.platform() as uow:
        assert await renew(uow, principal) is None
    await _over(sessions, made)


async def test_s13_sessions_are_ended_by_whose_they_are(
    sessions: Sessions, identity: Identity, anna: Principal, database: Database
) -> None:
    made = [await _begin(sessions) for _ in range(4)]
    user, _ = await identity.create_user(HOST, "ben@example.org", GOOD)
    for other in (Principal(user.id, user.email), HOST):
        await _refused(NotFound, "session_not_found", sessions.end_session(other, made[0].id))
        assert await sessions.list_sessions(other) == []
        assert await sessions.end_others(other) == 0
    await _refused(NotFound, "session_not_found", sessions.end_session(anna, new_id()))
    asking = await sessions.authenticate(made[3].secret)
    await sessions.end_session(asking, made[0].id)
    await sessions.end_session(asking, made[0].id)
    await _over(sessions, made[0])
    assert await sessions.end_others(asking) == 2
    await _over(sessions, *made[:3])
    assert [one.id for one in await sessions.list_sessions(anna)] == [made[3].id]
    await _refused(NotFound, "session_not_found", sessions.sign_out(anna))
    actions = {event.action for event in await Audit(database).list_events(None)}
    assert {"session.started", "session.ended", "sessions.ended"} <= actions


async def test_a_sign_in_that_a_new_password_overtakes_begins_no_session(
    sessions: Sessions, identity: Identity, anna: Principal
) -> None:
    async def sign_in() -> NewSession | None:
        try:
            return await _begin(sessions)
        except Unauthenticated:
            return None

    attempts = [asyncio.create_task(sign_in()) for _ in range(6)]
    await asyncio.sleep(0.05)
    await identity.change_password(anna, GOOD, BETTER)
    for made in await asyncio.gather(*attempts):
        if made is not None:
            await _over(sessions, made)
