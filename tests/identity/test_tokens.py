"""API tokens: only hashes are kept; expiry, revocation and password changes end them by the database's clock."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from simples3dms.context import HOST, WORKER, Principal
from simples3dms.db.session import Database
from simples3dms.errors import Failure, Forbidden, Invalid, NotFound, Unauthenticated
from simples3dms.identity.service import Identity
from simples3dms.kit.ids import new_id
from simples3dms.kit.secret import Secret

pytestmark = pytest.mark.anyio
GOOD = Secret("correct horse battery")
BETTER = Secret("wronger horse battery")


@pytest.fixture
def identity(database: Database) -> Identity:
    return Identity(database)


@pytest.fixture
async def anna(identity: Identity) -> Principal:
    user, _ = await identity.create_user(HOST, "anna@example.org", GOOD)
    return Principal(user.id, user.email)


async def _refused(failure: type[Failure], code: str, act: Any) -> None:
    with pytest.raises(failure) as caught:
        await act
    assert caught.value.problem_code == code


async def _set(database: Database, assignment: str) -> None:
    async with database.platform() as uow:
        assert await uow.execute(f"UPDATE api_tokens SET {assignment}") > 0  # type: ignore[arg-type]


async def test_a_token_names_its_user(identity: Identity, anna: Principal) -> None:
    made = await identity.create_token(anna, "script", expires_in_days=2)
    assert await identity.authenticate(made.token) == anna
    assert "s3dms_" not in repr(made)
    assert made.expires_at is not None
    assert abs(made.expires_at - datetime.now(UTC) - timedelta(days=2)) < timedelta(minutes=1)
    assert (await identity.create_token(anna, "for ever")).expires_at is None


async def test_the_database_holds_nothing_that_signs_in(
    identity: Identity, anna: Principal, database: Database
) -> None:
    made = await identity.log_in("anna@example.org", GOOD, token_name="laptop")
    secret = made.token.reveal()
    async with database.platform() as uow:
        dump = await uow.scalars(
            """SELECT t::text FROM api_tokens t UNION ALL SELECT u::text FROM users u
               UNION ALL SELECT a::text FROM audit_events a"""
        )
    assert not any(part in row for row in dump for part in (secret, secret[6:30], secret.encode().hex(), GOOD.reveal()))


@pytest.mark.parametrize("end", ["expires_at = now()", "expires_at = now() - interval '1 s'", "revoked_at = now()"])
async def test_an_ended_token_is_refused(identity: Identity, anna: Principal, database: Database, end: str) -> None:
    made = await identity.create_token(anna, "script", expires_in_days=1)
    await _set(database, end)
    await _refused(Unauthenticated, "token_invalid", identity.authenticate(made.token))


async def test_a_disabled_users_token_is_refused(identity: Identity, anna: Principal, database: Database) -> None:
    made = await identity.create_token(anna, "script")
    async with database.platform() as uow:
        await uow.execute("UPDATE users SET disabled_at = now()")
    await _refused(Unauthenticated, "token_invalid", identity.authenticate(made.token))


async def test_what_is_no_token_is_refused(identity: Identity, anna: Principal) -> None:
    secret = (await identity.create_token(anna, "script")).token.reveal()
    for wrong in ("", " ", secret[:-1], secret + "A", secret.upper(), secret[6:], "\0", "\ud800", "x" * 100_000):
        await _refused(Unauthenticated, "token_invalid", identity.authenticate(Secret(wrong)))


async def test_a_use_is_noted_once_a_minute_and_waits_for_nobody(
    identity: Identity, anna: Principal, database: Database
) -> None:
    made = await identity.create_token(anna, "script")
    await identity.authenticate(made.token)
    (first,) = await identity.list_tokens(anna)
    await identity.authenticate(made.token)
    (second,) = await identity.list_tokens(anna)
    assert first.last_used_at == second.last_used_at is not None
    await _set(database, "last_used_at = now() - interval '61 s'")
    async with database.platform() as holder:
        await holder.execute("SELECT 1 FROM api_tokens FOR UPDATE")
        async with asyncio.timeout(5):
            await identity.authenticate(made.token)
    await identity.authenticate(made.token)
    (third,) = await identity.list_tokens(anna)
    assert third.last_used_at is not None
    assert third.last_used_at > second.last_used_at


async def test_a_token_is_revoked_by_its_user_only(identity: Identity, anna: Principal) -> None:
    made = await identity.create_token(anna, "script")
    user, _ = await identity.create_user(HOST, "ben@example.org", GOOD)
    for other in (Principal(user.id, user.email), HOST, WORKER):
        await _refused(NotFound, "token_not_found", identity.revoke_token(other, made.id))
        assert await identity.list_tokens(other) == []
    await _refused(NotFound, "token_not_found", identity.revoke_token(anna, new_id()))
    assert await identity.authenticate(made.token) == anna
    await identity.revoke_token(anna, made.id)
    (first,) = await identity.list_tokens(anna)
    await identity.revoke_token(anna, made.id)
    assert (await identity.list_tokens(anna)) == [first]
    await _refused(Unauthenticated, "token_invalid", identity.authenticate(made.token))


@pytest.mark.parametrize("days", [0, -1, 3651, float("inf"), float("nan"), 1e300])
async def test_a_bad_expiry_is_refused(identity: Identity, anna: Principal, days: float) -> None:
    await _refused(Invalid, "token_expiry_invalid", identity.create_token(anna, "script", days))


@pytest.mark.parametrize("name", ["", "  ", "x" * 101, "a\0b", "a\nb", "\ud800"])
async def test_a_bad_name_is_refused(identity: Identity, anna: Principal, name: str) -> None:
    await _refused(Invalid, "token_name_invalid", identity.create_token(anna, name))
    await _refused(Invalid, "token_name_invalid", identity.log_in(anna.name, GOOD, token_name=name))


async def test_only_users_have_tokens_and_passwords(identity: Identity) -> None:
    for principal in (HOST, WORKER):
        await _refused(Forbidden, "user_required", identity.create_token(principal, "script"))
        await _refused(Forbidden, "user_required", identity.change_password(principal, GOOD, BETTER))


async def test_a_new_password_ends_the_old_one_and_all_tokens(identity: Identity, anna: Principal) -> None:
    made = await identity.create_token(anna, "script")
    await _refused(Invalid, "password_wrong", identity.change_password(anna, BETTER, BETTER))
    await _refused(Invalid, "password_invalid", identity.change_password(anna, GOOD, Secret("short")))
    assert await identity.authenticate(made.token) == anna
    await identity.change_password(anna, GOOD, BETTER)
    await _refused(Unauthenticated, "token_invalid", identity.authenticate(made.token))
    await _refused(Unauthenticated, "credentials_wrong", identity.log_in(anna.name, GOOD, token_name="x"))
    again = await identity.log_in(anna.name, BETTER, token_name="x")
    assert await identity.authenticate(again.token) == anna


async def test_a_log_in_that_a_new_password_overtakes_gets_no_token(identity: Identity, anna: Principal) -> None:
    """However the two fall together, no token got with the old password outlives the change."""

    async def log_in() -> Secret | None:
        try:
            return (await identity.log_in(anna.name, GOOD, token_name="x")).token
        except Unauthenticated:
            return None

    attempts = [asyncio.create_task(log_in()) for _ in range(8)]
    await asyncio.sleep(0.05)
    await identity.change_password(anna, GOOD, BETTER)
    for token in await asyncio.gather(*attempts):
        if token is not None:
            await _refused(Unauthenticated, "token_invalid", identity.authenticate(token))
