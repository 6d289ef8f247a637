"""Limits on attempts: counted for all processes together, for accounts that are there and that are not, and no lock."""

from __future__ import annotations

import asyncio
import statistics
import time

import psycopg
import pytest
from psycopg import sql

from simples3dms.audit.refusals import Refusals
from simples3dms.audit.service import Audit
from simples3dms.context import HOST
from simples3dms.db.provision import Provisioned
from simples3dms.db.session import Database
from simples3dms.errors import Failure, TooMany, Unauthenticated, Unavailable
from simples3dms.identity.limits.service import Limits
from simples3dms.identity.limits.values import Door, Rate, Rates, network_of
from simples3dms.identity.service import Identity
from simples3dms.kit.secret import Secret

pytestmark = pytest.mark.anyio
GOOD, WRONG = Secret("correct horse battery"), Secret("wronger horse battery")
HOME, ELSEWHERE = "192.0.2.1", "198.51.100.7"
ROOMY = Rate(100_000, 0.001)


def _identity(database: Database, *, account: Rate = ROOMY, network: Rate = ROOMY, everybody: Rate = ROOMY) -> Identity:
    return Identity(database, Limits(database, Rates(account, network, everybody)))


async def _outcome(identity: Identity, email: str, password: Secret = WRONG, address: str = ELSEWHERE) -> str:
    try:
        await identity.log_in(email, password, token_name="x", address=address)
    except Failure as failure:
        return failure.problem_code
    return "in"


async def test_s10_attempts_at_one_account_are_counted_for_all_processes(database: Database, urls: Provisioned) -> None:
    """Each process has a pool and a service of its own; a burst of 100 finds room for five, known account or not."""
    other = Database(urls.app_url, pool_max=8)
    await other.open()
    few = Rate(5, 60)
    processes = [_identity(database, account=few), _identity(other, account=few)]
    await processes[0].create_user(HOST, "anna@example.org", GOOD)
    for email in ("anna@example.org", "nobody@example.org", "no address"):
        # However the address is spelt, and wherever from.
        tries = (_outcome(processes[n % 2], f" {email.upper()} ", address=f"203.0.113.{n}") for n in range(100))
        outcomes = await asyncio.gather(*tries)
        assert (outcomes.count("credentials_wrong"), outcomes.count("too_many_attempts")) == (5, 95), email
    assert await _outcome(processes[0], "ben@example.org") == "credentials_wrong"
    await other.close()


async def test_s10_a_refusal_says_when_and_time_lets_through_again(database: Database) -> None:
    limits = Limits(database, Rates(Rate(2, 0.5), ROOMY, ROOMY))
    for _ in range(2):
        await limits.take(Door.SIGN_IN, HOME, "anna@example.org")
    with pytest.raises(TooMany) as caught:
        await limits.take(Door.SIGN_IN, HOME, "anna@example.org")
    assert caught.value.problem_code == "too_many_attempts"
    assert caught.value.extra == {"retry_after_seconds": 1.0}
    async with asyncio.timeout(10):
        while True:
            try:
                await limits.take(Door.SIGN_IN, HOME, "anna@example.org")
                break
            except TooMany:
                await asyncio.sleep(0.05)
    await limits.take(Door.RESET, HOME, "anna@example.org")


async def test_s10_strangers_keep_nobody_out_of_an_account(database: Database) -> None:
    """Where Anna signs in from is known; whatever is tried elsewhere, by whomever, she still comes in from there."""
    identity = _identity(database, account=Rate(3, 600), everybody=Rate(8, 600))
    await identity.create_user(HOST, "anna@example.org", GOOD)
    assert await _outcome(identity, "anna@example.org", GOOD, HOME) == "in"
    for _ in range(10):
        await _outcome(identity, "anna@example.org")
    for number in range(10):
        await _outcome(identity, f"user{number}@example.org")
    assert await _outcome(identity, "anna@example.org", GOOD, ELSEWHERE) == "too_many_attempts"
    for _ in range(5):
        assert await _outcome(identity, "anna@example.org", GOOD, HOME) == "in"
    # And from there, too, a password is not guessed.
    tries = [await _outcome(identity, "anna@example.org", WRONG, HOME) for _ in range(5)]
    assert tries == ["credentials_wrong"] * 3 + ["too_many_attempts"] * 2


async def test_s10_one_network_is_one_however_it_hops(database: Database) -> None:
    identity = _identity(database, network=Rate(4, 600))
    hops = [f"2001:db8:0:7:{n:x}::{n:x}" for n in range(1, 9)]
    outcomes = [await _outcome(identity, f"user{n}@example.org", WRONG, hop) for n, hop in enumerate(hops)]
    assert outcomes == ["credentials_wrong"] * 4 + ["too_many_attempts"] * 4
    assert await _outcome(identity, "user@example.org", WRONG, "2001:db8:0:8::1") == "credentials_wrong"


async def test_s10_many_networks_and_many_accounts_meet_one_limit(database: Database) -> None:
    identity = _identity(database, everybody=Rate(6, 600))
    outcomes = [await _outcome(identity, f"u{n}@example.org", WRONG, f"203.0.113.{n}") for n in range(10)]
    assert outcomes == ["credentials_wrong"] * 6 + ["too_many_attempts"] * 4


async def test_s10_what_can_not_be_counted_is_refused(database: Database, urls: Provisioned) -> None:
    """Fail closed: the right password does not help where the limiter can't be asked."""
    identity = _identity(database)
    await identity.create_user(HOST, "anna@example.org", GOOD)
    with psycopg.connect(urls.owner_url, autocommit=True) as owner:
        owner.execute("REVOKE ALL ON attempt_buckets FROM simples3dms_platform")
    with pytest.raises(Unavailable) as caught:
        await identity.log_in("anna@example.org", GOOD, token_name="x")
    assert caught.value.problem_code == "attempts_uncounted"


async def test_s10_an_attack_fills_neither_table_nor_audit(database: Database) -> None:
    book = Refusals(database)
    identity = Identity(database, Limits(database, Rates(Rate(3, 600), Rate(6, 600))), refusals=book)
    for number in range(40):
        await _outcome(identity, f"user{number // 20}@example.org")
    await book.close()
    events = await Audit(database).list_events(None)
    told = [(event.action, event.outcome, event.details.get("limit") or event.details["wrong"]) for event in events]
    assert told.count(("sign_in.refused", "refused", "password")) == 4, "of each address: the first, and how many more"
    assert [event.details["repeated"] for event in events if "repeated" in event.details] == [2, 2]
    assert told.count(("attempts.limited", "refused", "account")) == 2
    assert len(told) == 6
    assert not any("user0" in str(event) for event in events), "what was typed is not kept"
    async with database.platform() as uow:
        await uow.execute("UPDATE attempt_buckets SET empty_at = now() - interval '2 hours'")
    await _outcome(identity, "else@example.org", address=HOME)
    async with database.platform() as uow:
        assert await uow.scalar("SELECT count(*) FROM attempt_buckets") == 3


async def test_s11_nobodys_account_answers_like_somebodys(database: Database) -> None:
    """The same answer, statements and hashing, whether the account is there, is disabled, or never was."""
    identity = _identity(database)
    await identity.create_user(HOST, "anna@example.org", GOOD)
    await identity.create_user(HOST, "gone@example.org", GOOD)
    async with database.platform() as uow:
        await uow.execute("UPDATE users SET disabled_at = now() WHERE email = 'gone@example.org'")
    kinds = {"wrong": ("anna@example.org", WRONG), "gone": ("gone@example.org", GOOD), "never": ("never@b", GOOD)}
    spent: dict[str, list[float]] = {kind: [] for kind in kinds}
    answers = set()
    await _outcome(identity, "warm@example.org")
    for _ in range(9):
        for kind, (email, password) in kinds.items():
            begun = time.process_time()
            with pytest.raises(Unauthenticated) as caught:
                await identity.log_in(email, password, token_name="x")
            spent[kind].append(time.process_time() - begun)
            answers.add((caught.value.problem_code, caught.value.message, tuple(caught.value.extra)))
    assert len(answers) == 1
    medians = [statistics.median(times) for times in spent.values()]
    assert max(medians) < 1.5 * min(medians), medians


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", "unknown"),
        ("/run/socket", "unknown"),
        ("192.0.2.1, 10.0.0.1", "unknown"),
    ],
)
async def test_s10_a_network(address: str, network: str) -> None:
    assert network_of(address) == network


async def test_a_changed_password_makes_all_networks_strange(database: Database) -> None:
    identity = _identity(database)
    await identity.create_user(HOST, "anna@example.org", GOOD)
    token = await identity.log_in("anna@example.org", GOOD, token_name="x", address=HOME)
    count = sql.SQL("SELECT count(*) FROM known_networks")
    async with database.platform() as uow:
        assert await uow.scalar(count) == 1
    await identity.change_password(await identity.authenticate(token.token), GOOD, WRONG)
    async with database.platform() as uow:
        assert await uow.scalar(count) == 0
