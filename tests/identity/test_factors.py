"""Second factors: each proof counts once; without one the right password is not enough; a lost one has a way out."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pyotp
import pytest
from tests.identity.authenticator import Authenticator

from simples3dms.bootstrap import Services
from simples3dms.context import HOST, Principal
from simples3dms.crypto.errors import SealBroken
from simples3dms.crypto.totp import find_step
from simples3dms.errors import Conflict, Failure, Forbidden, Invalid, NotFound, TooMany, Unauthenticated
from simples3dms.identity.factors.values import PasskeyAnswer, Proof
from simples3dms.identity.permissions import Permission
from simples3dms.identity.service import Identity
from simples3dms.identity.sessions.values import Visitor
from simples3dms.kit.ids import new_id
from simples3dms.kit.secret import Secret
from simples3dms.settings import Settings

pytestmark = pytest.mark.anyio
GOOD, WRONG = Secret("correct horse battery"), Secret("wronger horse battery")
PUBLIC = "https://documents.example.org"


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"public_url": PUBLIC})


@pytest.fixture
async def anna(services: Services) -> Principal:
    user, _ = await services.identity.create_user(HOST, "anna@example.org", GOOD)
    return Principal(user.id, user.email)


@pytest.fixture
def key() -> Authenticator:
    return Authenticator(PUBLIC, "documents.example.org")


async def _refused(failure: type[Failure], code: str, act: Any) -> Failure:
    with pytest.raises(failure) as caught:
        await act
    assert caught.value.problem_code == code
    return caught.value


async def _app(services: Services, who: Principal) -> tuple[Callable[[int], Secret], list[Secret]]:
    """Turn an app on: its codes by the step from now, and the recovery codes."""
    made = await services.factors.begin_totp(who, GOOD)
    totp = pyotp.TOTP(made.secret.reveal())

    def code(steps: int = 0) -> Secret:
        return Secret(totp.at(int(time.time()) + 30 * steps))

    codes, _ = await services.factors.confirm_totp(who, code(-1))
    return code, codes


async def _log_in(services: Services, code: Secret | None = None, **given: Any) -> Any:
    proof = Proof(code, **given) if code is not None or given else None
    return await services.identity.log_in("anna@example.org", GOOD, token_name="x", proof=proof)


async def test_with_an_app_the_password_is_not_enough_at_any_door(services: Services, anna: Principal) -> None:
    await _log_in(services)
    code, _ = await _app(services, anna)
    told = await _refused(Unauthenticated, "second_factor_required", _log_in(services))
    assert told.extra == {"factors": ["totp", "recovery_code"], "passkey": None}
    door = services.sessions.sign_in
    await _refused(Unauthenticated, "second_factor_required", door(anna.name, GOOD, Visitor()))
    for wrong in ("", "000000", "x", "٠٠٠٠٠٠", "\ud800", "1" * 1000):
        await _refused(Unauthenticated, "second_factor_wrong", _log_in(services, Secret(wrong)))
        async with services.database.platform() as uow:
            await uow.execute("DELETE FROM attempt_buckets")
    await _log_in(services, code())
    events = await services.audit.list_events(None)
    assert next(one.details["by"] for one in events if one.action == "token.created") == "password+code"
    assert {one.details["wrong"] for one in events if one.action == "sign_in.refused"} == {"second factor"}
    # Who does not know the password learns nothing of factors.
    act = services.identity.log_in(anna.name, WRONG, token_name="x", proof=Proof(code(1)))
    await _refused(Unauthenticated, "credentials_wrong", act)


async def test_a_code_counts_once_and_no_earlier_one_after_it(services: Services, anna: Principal) -> None:
    code, _ = await _app(services, anna)
    now = code()
    outcomes = await asyncio.gather(*(_log_in(services, now) for _ in range(4)), return_exceptions=True)
    assert sum(not isinstance(one, Failure) for one in outcomes) == 1
    await _refused(Unauthenticated, "second_factor_wrong", _log_in(services, code(-1)))


async def test_codes_are_not_guessed(services: Services, anna: Principal) -> None:
    code, _ = await _app(services, anna)
    outcomes = []
    for _ in range(7):
        with pytest.raises((Unauthenticated, TooMany)) as caught:
            await _log_in(services, Secret("000000"))
        outcomes.append(caught.value.problem_code)
    assert outcomes == ["second_factor_wrong"] * 5 + ["too_many_attempts"] * 2
    await _refused(TooMany, "too_many_attempts", _log_in(services, code()))
    await services.refusals.close()
    events = await services.audit.list_events(None)
    wrong = [one for one in events if (one.action, one.details.get("wrong")) == ("sign_in.refused", "second factor")]
    assert [one.details.get("repeated") for one in wrong] == [4, None]
    assert {(one.outcome, one.target_id) for one in wrong} == {("refused", str(anna.id))}


def test_the_steps_of_the_standard() -> None:
    """RFC 6238, appendix B, in six digits; a step of leeway either way, and no more."""
    secret = Secret("GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ")
    for now, code in ((1111111109, "081804"), (1234567890, "005924"), (20000000000, "353130")):
        assert find_step(secret, code, now_seconds=now) == now // 30
        assert find_step(secret, code, now_seconds=now + 30) == now // 30
        assert find_step(secret, code, now_seconds=now - 30) == now // 30
        assert find_step(secret, code, now_seconds=now + 90) is None
        assert find_step(secret, code, now_seconds=now - 60) is None


async def test_a_recovery_code_counts_once_however_it_is_typed(services: Services, anna: Principal) -> None:
    _, codes = await _app(services, anna)
    assert len({one.reveal() for one in codes}) == 10
    await _log_in(services, Secret(f" {codes[0].reveal().upper().replace('-', ' ')} "))
    await _refused(Unauthenticated, "second_factor_wrong", _log_in(services, codes[0]))
    assert (await services.factors.get_held(anna)).recovery_codes == 9
    fresh = await services.factors.create_recovery_codes(anna, GOOD)
    await _refused(Unauthenticated, "second_factor_wrong", _log_in(services, codes[1]))
    await _log_in(services, fresh[0])


async def test_an_app_counts_once_a_code_confirmed_it(services: Services, anna: Principal) -> None:
    await _refused(Invalid, "password_wrong", services.factors.begin_totp(anna, WRONG))
    first = await services.factors.begin_totp(anna, GOOD)
    made = await services.factors.begin_totp(anna, GOOD)
    assert made.uri.reveal().startswith("otpauth://totp/SimpleS3DMS:anna%40example.org?secret=")
    await _log_in(services)
    stale = Secret(pyotp.TOTP(first.secret.reveal()).now())
    await _refused(Invalid, "code_wrong", services.factors.confirm_totp(anna, stale))
    await services.factors.confirm_totp(anna, Secret(pyotp.TOTP(made.secret.reveal()).now()))
    await _refused(Conflict, "totp_exists", services.factors.begin_totp(anna, GOOD))
    await _refused(NotFound, "factor_not_found", services.factors.confirm_totp(anna, Secret("000000")))
    await _refused(Invalid, "password_wrong", services.factors.remove_totp(anna, WRONG))
    await services.factors.remove_totp(anna, GOOD)
    await _refused(NotFound, "factor_not_found", services.factors.remove_totp(anna, GOOD))
    await _refused(NotFound, "factor_not_found", services.factors.create_recovery_codes(anna, GOOD))
    assert (await services.factors.get_held(anna)).recovery_codes == 0
    await _log_in(services)


async def test_the_apps_secret_is_sealed_for_its_account(services: Services, anna: Principal) -> None:
    made = await services.factors.begin_totp(anna, GOOD)
    code = Secret(pyotp.TOTP(made.secret.reveal()).now())
    codes, _ = await services.factors.confirm_totp(anna, code)
    user, _ = await services.identity.create_user(HOST, "eve@example.org", GOOD)
    async with services.database.platform() as uow:
        dump = await uow.scalars(
            """SELECT t::text FROM totp_factors t UNION ALL SELECT r::text FROM recovery_codes r
               UNION ALL SELECT a::text FROM audit_events a"""
        )
        assert not any(secret in row for row in dump for secret in (made.secret.reveal(), codes[0].reveal()))
        assert not any(made.secret.reveal().encode().hex() in row for row in dump)
        # Moved to another account it opens nothing.
        await uow.execute("UPDATE totp_factors SET user_id = %s", [user.id])
    act = services.identity.log_in(user.email, GOOD, token_name="x", proof=Proof(code))
    with pytest.raises(SealBroken):
        await act
    await services.keys.check_start()
    async with services.database.platform() as uow:
        await uow.execute("UPDATE totp_factors SET key_id = 'k-gone'")
    with pytest.raises(Failure, match="k-gone") as caught:
        await services.keys.check_start()
    assert caught.value.problem_code == "keyring_incomplete"


async def test_s12_a_factor_turned_on_ends_what_did_not_give_one(services: Services, anna: Principal) -> None:
    mine, other = [await services.sessions.sign_in(anna.name, GOOD, Visitor()) for _ in range(2)]
    asking = await services.sessions.authenticate(mine.secret)
    made = await services.factors.begin_totp(asking, GOOD)
    _, renewed = await services.factors.confirm_totp(asking, Secret(pyotp.TOTP(made.secret.reveal()).now()))
    assert renewed is not None
    for dead in (mine, other):
        await _refused(Unauthenticated, "session_invalid", services.sessions.authenticate(dead.secret))
    again = await services.sessions.authenticate(renewed.secret)
    renewed = await services.factors.remove_totp(again, GOOD)
    assert renewed is not None
    await services.sessions.authenticate(renewed.secret)


async def _add(services: Services, who: Principal, key: Authenticator) -> list[Secret]:
    begun = await services.factors.begin_passkey(who, GOOD)
    _, (codes, _) = await services.factors.add_passkey(who, begun.id, key.create(dict(begun.options)), "laptop")
    return codes


async def _challenge(services: Services) -> tuple[Any, dict[str, Any]]:
    told = await _refused(Unauthenticated, "second_factor_required", _log_in(services))
    found: Any = told.extra["passkey"]
    return found["challenge_id"], found["options"]


async def test_a_passkey_signs_in_and_no_answer_counts_twice(
    services: Services, anna: Principal, key: Authenticator
) -> None:
    codes = await _add(services, anna, key)
    assert len(codes) == 10
    challenge_id, options = await _challenge(services)
    answer = PasskeyAnswer(challenge_id, key.get(options))
    await _log_in(services, passkey=answer)
    await _refused(Unauthenticated, "second_factor_wrong", _log_in(services, passkey=answer))
    held = await services.factors.get_held(anna)
    assert (held.kinds, held.passkeys[0].name) == (["passkey", "recovery_code"], "laptop")
    assert held.passkeys[0].last_used_at is not None
    challenge_id, options = await _challenge(services)
    proof = Proof(passkey=PasskeyAnswer(challenge_id, key.get(options)))
    await services.sessions.sign_in(anna.name, GOOD, Visitor(), proof=proof)
    begun = {"token.created": "by", "session.started": "method"}
    events = await services.audit.list_events(None)
    told = [(one.action, one.details[begun[one.action]]) for one in events if one.action in begun]
    assert told == [("session.started", "password+passkey"), ("token.created", "password+passkey")]


async def test_a_passkey_that_is_not_this_one_here_and_now_is_refused(
    services: Services, anna: Principal, key: Authenticator
) -> None:
    await _add(services, anna, key)
    challenge_id, options = await _challenge(services)
    other_id, _ = await _challenge(services)
    phished = Authenticator("https://documents.example.org.evil.example", key.host, 5, key.key, key.credential_id)
    foreign = Authenticator(PUBLIC, "evil.example", 5, key.key, key.credential_id)
    stolen_name = Authenticator(PUBLIC, key.host, 5, credential_id=key.credential_id)
    for wrong in (
        PasskeyAnswer(other_id, key.get(options)),
        PasskeyAnswer(new_id(), key.get(options)),
        PasskeyAnswer((await _challenge(services))[0], {}),
    ):
        await _refused(Unauthenticated, "second_factor_wrong", _log_in(services, passkey=wrong))
    async with services.database.platform() as uow:
        await uow.execute("DELETE FROM attempt_buckets")
    for forger in (phished, foreign, stolen_name, Authenticator(PUBLIC, key.host, 5)):
        challenge_id, options = await _challenge(services)
        answer = PasskeyAnswer(challenge_id, forger.get(options))
        await _refused(Unauthenticated, "second_factor_wrong", _log_in(services, passkey=answer))
    async with services.database.platform() as uow:
        await uow.execute("DELETE FROM attempt_buckets")
    challenge_id, options = await _challenge(services)
    async with services.database.platform() as uow:
        await uow.execute("UPDATE passkey_challenges SET expires_at = now()")
    late = PasskeyAnswer(challenge_id, key.get(options))
    await _refused(Unauthenticated, "second_factor_wrong", _log_in(services, passkey=late))
    key.count = 40
    challenge_id, options = await _challenge(services)
    await _log_in(services, passkey=PasskeyAnswer(challenge_id, key.get(options)))
    copy = Authenticator(PUBLIC, key.host, 3, key.key, key.credential_id)
    challenge_id, options = await _challenge(services)
    answer = PasskeyAnswer(challenge_id, copy.get(options))
    await _refused(Unauthenticated, "second_factor_wrong", _log_in(services, passkey=answer))


async def test_a_passkey_is_taken_once_for_whom_it_was_asked(
    services: Services, anna: Principal, key: Authenticator
) -> None:
    user, _ = await services.identity.create_user(HOST, "eve@example.org", GOOD)
    eve = Principal(user.id, user.email)
    begun = await services.factors.begin_passkey(anna, GOOD)
    add = services.factors.add_passkey
    made = key.create(dict(begun.options))
    await _refused(Invalid, "passkey_invalid", add(eve, begun.id, made, "x"))
    await _refused(Invalid, "passkey_name_invalid", add(anna, begun.id, made, "a\nb"))
    await add(anna, begun.id, made, "x")
    await _refused(Invalid, "passkey_invalid", add(anna, begun.id, made, "x"))
    for wrong in ({}, {"id": 1}, {**made, "response": {}}, {**made, "rawId": "AAAA"}):
        begun = await services.factors.begin_passkey(eve, GOOD)
        await _refused(Invalid, "passkey_invalid", add(eve, begun.id, wrong, "x"))
    # One that is Anna's is no other's.
    begun = await services.factors.begin_passkey(eve, GOOD)
    await _refused(Invalid, "passkey_invalid", add(eve, begun.id, key.create(dict(begun.options)), "x"))
    (passkey,) = (await services.factors.get_held(anna)).passkeys
    await _refused(NotFound, "factor_not_found", services.factors.remove_passkey(eve, passkey.id, GOOD))
    await services.factors.remove_passkey(anna, passkey.id, GOOD)
    await _log_in(services)


async def test_an_operator_helps_who_lost_all(services: Services, anna: Principal, key: Authenticator) -> None:
    await _app(services, anna)
    await _add(services, anna, key)
    session = await services.sessions.sign_in(
        anna.name, GOOD, Visitor(), proof=Proof((await services.factors.create_recovery_codes(anna, GOOD))[0])
    )
    assert anna.id is not None
    await _refused(Forbidden, "operator_required", services.factors.remove_all(anna, anna.id))
    await services.factors.remove_all(HOST, anna.id)
    await _refused(Unauthenticated, "session_invalid", services.sessions.authenticate(session.secret))
    await _log_in(services)
    await _refused(NotFound, "user_not_found", services.factors.remove_all(HOST, new_id()))
    user, _ = await services.identity.create_user(HOST, "root@example.org", GOOD, is_operator=True)
    root = Principal(user.id, user.email, is_operator=True)
    made = await services.identity.create_token(root, "x", scopes=[Permission.USERS_WRITE])
    weak = await services.identity.authenticate(made.token)
    await _refused(Forbidden, "rights_exceed_own", services.factors.remove_all(weak, user.id))
    await _refused(Forbidden, "user_required", services.factors.begin_totp(HOST, GOOD))


async def test_without_a_key_ring_no_factor_is_passed_over(services: Services, anna: Principal) -> None:
    code, _ = await _app(services, anna)
    bare = Identity(services.database)
    await _refused(Unauthenticated, "second_factor_required", bare.log_in(anna.name, GOOD, token_name="x"))
    act = bare.log_in(anna.name, GOOD, token_name="x", proof=Proof(code()))
    await _refused(Unauthenticated, "second_factor_wrong", act)


async def test_a_reset_password_does_not_pass_the_second_factor(services: Services, anna: Principal) -> None:
    code, _ = await _app(services, anna)
    assert anna.id is not None
    made = await services.resets.create(HOST, anna.id)
    await services.resets.use(made.token, GOOD, address="")
    await _refused(Unauthenticated, "second_factor_required", _log_in(services))
    await _log_in(services, code())
