"""Passwords and tokens: what is stored, and that an unknown user costs what a known one does."""

from __future__ import annotations

import statistics
import time

import pytest

from simples3dms.crypto.passwords import Passwords, new_password
from simples3dms.crypto.tokens import hash_token, new_token
from simples3dms.kit.secret import Secret

pytestmark = pytest.mark.anyio


async def test_a_hash_is_argon2id_salted_and_verifies_only_its_password() -> None:
    passwords = Passwords()
    one, two = [await passwords.hash(Secret("correct horse battery")) for _ in range(2)]
    assert one != two
    assert one.startswith("$argon2id$v=19$m=65536,t=3,p=4$")
    assert await passwords.verify(Secret("correct horse battery"), one)
    for wrong in ("", "correct horse batterY", "correct horse battery ", "\ud800", "x" * 100_000, "\0"):
        assert not await passwords.verify(Secret(wrong), one)
    assert not await passwords.verify(Secret("anything"), "no hash at all")
    assert not await passwords.verify(Secret("anything"), None)


async def test_nobody_takes_as_long_as_somebody() -> None:
    passwords = Passwords()
    hashed = await passwords.hash(Secret("correct horse battery"))

    async def measure(against: str | None) -> float:
        begun = time.process_time()
        await passwords.verify(Secret("wrong horse battery"), against)
        return time.process_time() - begun

    await measure(None)
    pairs = [(await measure(hashed), await measure(None)) for _ in range(7)]
    known, unknown = (statistics.median(column) for column in zip(*pairs, strict=True))
    assert 0.5 < unknown / known < 2


def test_generated_passwords_and_tokens_are_long_and_new() -> None:
    assert len({new_password().reveal() for _ in range(200)}) == 200
    assert len(new_password().reveal()) == 27
    tokens = [new_token() for _ in range(200)]
    assert len({token.reveal() for token in tokens}) == 200
    assert all(token.reveal().startswith("s3dms_") and len(token.reveal()) == 49 for token in tokens)
    assert len({hash_token(token) for token in tokens}) == 200
    assert all(len(hash_token(token)) == 32 for token in tokens)
