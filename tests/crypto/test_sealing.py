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
from simples3dms.crypto.sealing import SealContext, Sealed, rewrap, seal, unseal

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
def test_s40_another_place_fails(here: SealContext, there: SealContext) -> None:
    value = seal(KEYRING, b"secret", context=here)
    if here != there:
        with pytest.raises(SealBroken):
            unseal(KEYRING, value, context=there)


#: The value's place, but for one part of it.
ELSEWHERE = [
    replace(CONTEXT, owner="0190a"),
    replace(CONTEXT, table="stores"),
    replace(CONTEXT, column="wrapped_key"),
    replace(CONTEXT, row_id="row-2"),
    replace(CONTEXT, version=2),
    # The same letters, cut elsewhere.
    replace(CONTEXT, owner="platformc", table="redentials"),
]


@pytest.mark.parametrize("other", ELSEWHERE)
def test_s40_each_part_of_the_place_is_bound(other: SealContext) -> None:
    value = seal(KEYRING, b"secret", context=CONTEXT)
    with pytest.raises(SealBroken):
        unseal(KEYRING, value, context=other)
    with pytest.raises(SealBroken):
        rewrap(KEYRING, replace(value, key_id="k-old"), context=other)


@given(CONTEXTS, st.integers(0, 2**63 - 1))
def test_s40_an_older_version_does_not_come_back(context: SealContext, newer: int) -> None:
    """What was sealed as one version does not open as another, under the newer one's wrapped key or its own."""
    if newer == context.version:
        return
    old = seal(KEYRING, b"old", context=context)
    new = seal(KEYRING, b"new", context=replace(context, version=newer))
    for replayed in (old, replace(old, wrapped_key=new.wrapped_key), replace(new, sealed=old.sealed)):
        with pytest.raises(SealBroken):
            unseal(KEYRING, replayed, context=replace(context, version=newer))


def flip(data: bytes, bit: int) -> bytes:
    return bytes(byte ^ (1 << bit % 8) if index == bit // 8 else byte for index, byte in enumerate(data))


def test_s40_every_single_changed_bit_is_noticed() -> None:
    value = seal(KEYRING, b"secret", context=CONTEXT)
    changed = [replace(value, sealed=flip(value.sealed, bit)) for bit in range(len(value.sealed) * 8)]
    changed += [replace(value, wrapped_key=flip(value.wrapped_key, bit)) for bit in range(len(value.wrapped_key) * 8)]
    for forged in changed:
        with pytest.raises(SealBroken):
            unseal(KEYRING, forged, context=CONTEXT)


@given(st.integers(0, 200), st.integers(0, 200), st.binary(max_size=3))
def test_s40_cut_or_lengthened_values_are_noticed(wrapped: int, sealed: int, tail: bytes) -> None:
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
def test_s40_halves_of_two_values_make_none(swap: Callable[[Sealed, Sealed], Sealed]) -> None:
    one, two = (seal(KEYRING, text, context=CONTEXT) for text in (b"one", b"two"))
    with pytest.raises(SealBroken):
        unseal(KEYRING, swap(one, two), context=CONTEXT)


def test_s40_old_keys_open_what_they_sealed_and_no_other_key_does() -> None:
    value = seal(Keyring({"k-old": OLD}, "k-old"), b"secret", context=CONTEXT)
    assert unseal(KEYRING, value, context=CONTEXT) == b"secret"
    with pytest.raises(SealKeyUnknown) as caught:
        unseal(Keyring({"k-new": NEW}, "k-new"), value, context=CONTEXT)
    assert caught.value.extra == {"key_id": "k-old"}
    with pytest.raises(SealBroken):
        unseal(KEYRING, replace(value, key_id="k-new"), context=CONTEXT)


def test_s40_no_nonce_and_no_data_key_is_used_twice() -> None:
    """Over 100,000 nonces; a repeated data key would show in equal texts."""
    values = [seal(KEYRING, b"the same", context=CONTEXT) for _ in range(50_000)]
    nonces = {value.sealed[8:20] for value in values} | {value.wrapped_key[:12] for value in values}
    assert len(nonces) == 100_000
    assert len({value.sealed[20:] for value in values}) == len(values)


def test_what_format_1_sealed_still_opens_and_becomes_format_2() -> None:
    """Sealed by the first version of the program, before a line of format 2 was written."""
    ring = Keyring({"k-1": b"1" * 32, "k-new": NEW}, "k-new")
    old = Sealed(
        "k-1",
        bytes.fromhex(
            "3e201bf8d1c5e9a71b4402b5c75970482858bd4cf1c6c62a558419afdfd8947c6d71aa823df23599484d373fab18a4ce18d6810fee0010b0"
            "c0bc7d5a"
        ),
        bytes.fromhex("d73b42d3a688a13530111b92a9eb107c2e50bd5de8c7c27d78df7169478ed9d5e418d58ddcafca1ce573e99a"),
    )
    assert unseal(ring, old, context=CONTEXT) == b"made by format 1"
    new = rewrap(ring, old, context=CONTEXT)
    assert (new.key_id, new.sealed[:8]) == ("k-new", b"s3dms\x00v2")
    assert unseal(ring, new, context=CONTEXT) == b"made by format 1"
    for forged in (replace(old, sealed=flip(old.sealed, 300)), replace(old, key_id="k-new")):
        with pytest.raises(SealBroken):
            unseal(ring, forged, context=CONTEXT)
    with pytest.raises(SealBroken):
        unseal(ring, old, context=replace(CONTEXT, version=2))


@given(st.binary(max_size=200), CONTEXTS)
def test_a_new_wrapping_key_leaves_the_sealed_bytes_alone(plaintext: bytes, context: SealContext) -> None:
    value = seal(Keyring({"k-old": OLD}, "k-old"), plaintext, context=context)
    moved = rewrap(KEYRING, value, context=context)
    assert (moved.key_id, moved.sealed) == ("k-new", value.sealed)
    assert moved.wrapped_key != value.wrapped_key
    assert unseal(Keyring({"k-new": NEW}, "k-new"), moved, context=context) == plaintext


def test_neither_keys_nor_values_are_printed() -> None:
    value = seal(KEYRING, b"secret", context=CONTEXT)
    assert "k-new" in repr(KEYRING)
    assert repr(NEW)[2:12] not in repr(KEYRING)
    assert repr(value.sealed)[2:12] not in repr(value)
