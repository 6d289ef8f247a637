"""Sealed values: any changed bit and any other place is noticed, and nothing is ever used twice."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simples3dms.crypto.errors import SealBroken, SealKeyUnknown
from simples3dms.crypto.keyring import Keyring
from simples3dms.crypto.sealing import SealContext, Sealed, seal, unseal

OLD, NEW = secrets.token_bytes(32), secrets.token_bytes(32)
KEYRING = Keyring({"k-old": OLD, "k-new": NEW}, "k-new")
CONTEXT = SealContext("platform", "credentials", "sealed", "row-1", 1)
TEXT = st.text(max_size=12)
CONTEXTS = st.builds(SealContext, TEXT, TEXT, TEXT, TEXT, st.integers(0, 2**63 - 1))


@given(st.binary(max_size=500), CONTEXTS)
def test_what_was_sealed_is_unsealed_in_its_own_place(plaintext: bytes, context: SealContext) -> None:
    value = seal(KEYRING, plaintext, context=context)
    assert value.key_id == "k-new"
    assert unseal(KEYRING, value, context=context) == plaintext
    assert len(plaintext) < 8 or plaintext not in value.sealed


@given(CONTEXTS, CONTEXTS)
def test_another_place_fails(here: SealContext, there: SealContext) -> None:
    value = seal(KEYRING, b"secret", context=here)
    if here != there:
        with pytest.raises(SealBroken):
            unseal(KEYRING, value, context=there)


@pytest.mark.parametrize(
    "other",
    [
        replace(CONTEXT, owner="0190a"),
        replace(CONTEXT, table="stores"),
        replace(CONTEXT, column="wrapped_key"),
        replace(CONTEXT, row_id="row-2"),
        replace(CONTEXT, version=2),
        # The same letters, cut elsewhere.
        replace(CONTEXT, owner="platformc", table="redentials"),
    ],
)
def test_each_part_of_the_place_is_bound(other: SealContext) -> None:
    value = seal(KEYRING, b"secret", context=CONTEXT)
    with pytest.raises(SealBroken):
        unseal(KEYRING, value, context=other)


def _flip(data: bytes, bit: int) -> bytes:
    return bytes(byte ^ (1 << bit % 8) if index == bit // 8 else byte for index, byte in enumerate(data))


def test_every_single_changed_bit_is_noticed() -> None:
    value = seal(KEYRING, b"secret", context=CONTEXT)
    changed = [replace(value, sealed=_flip(value.sealed, bit)) for bit in range(len(value.sealed) * 8)]
    changed += [replace(value, wrapped_key=_flip(value.wrapped_key, bit)) for bit in range(len(value.wrapped_key) * 8)]
    for forged in changed:
        with pytest.raises(SealBroken):
            unseal(KEYRING, forged, context=CONTEXT)


@given(st.integers(0, 200), st.integers(0, 200), st.binary(max_size=3))
def test_cut_or_lengthened_values_are_noticed(wrapped: int, sealed: int, tail: bytes) -> None:
    value = seal(KEYRING, b"secret", context=CONTEXT)
    forged = Sealed(value.key_id, value.wrapped_key[:wrapped] + tail, value.sealed[:sealed] + tail)
    if forged.wrapped_key != value.wrapped_key or forged.sealed != value.sealed:
        with pytest.raises(SealBroken):
            unseal(KEYRING, forged, context=CONTEXT)


SWAPS: list[Callable[[Sealed, Sealed], Sealed]] = [
    lambda one, two: replace(one, sealed=two.sealed),
    lambda one, two: replace(one, wrapped_key=two.wrapped_key),
]


@pytest.mark.parametrize("swap", SWAPS)
def test_halves_of_two_values_make_none(swap: Callable[[Sealed, Sealed], Sealed]) -> None:
    one, two = (seal(KEYRING, text, context=CONTEXT) for text in (b"one", b"two"))
    with pytest.raises(SealBroken):
        unseal(KEYRING, swap(one, two), context=CONTEXT)


def test_old_keys_open_what_they_sealed_and_no_other_key_does() -> None:
    value = seal(Keyring({"k-old": OLD}, "k-old"), b"secret", context=CONTEXT)
    assert unseal(KEYRING, value, context=CONTEXT) == b"secret"
    with pytest.raises(SealKeyUnknown) as caught:
        unseal(Keyring({"k-new": NEW}, "k-new"), value, context=CONTEXT)
    assert caught.value.extra == {"key_id": "k-old"}
    with pytest.raises(SealBroken):
        unseal(KEYRING, replace(value, key_id="k-new"), context=CONTEXT)


def test_no_nonce_and_no_data_key_is_used_twice() -> None:
    values = [seal(KEYRING, b"the same", context=CONTEXT) for _ in range(20_000)]
    nonces = {part[:12] for value in values for part in (value.sealed, value.wrapped_key)}
    assert len(nonces) == 2 * len(values)
    assert len({value.sealed[12:] for value in values}) == len(values)


def test_neither_keys_nor_values_are_printed() -> None:
    value = seal(KEYRING, b"secret", context=CONTEXT)
    assert "k-new" in repr(KEYRING)
    assert repr(NEW)[2:12] not in repr(KEYRING)
    assert repr(value.sealed)[2:12] not in repr(value)
