"""In which order a scrub goes, how fast, and how much that is bad it has mended by itself."""

from __future__ import annotations

import asyncio
import time
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simples3dms.storage.blobs.looking import Pace
from simples3dms.storage.scrubs import values


@pytest.mark.anyio
async def test_reading_is_held_to_the_pace() -> None:
    begun, pace = time.monotonic(), Pace(1000)
    await asyncio.gather(*(pace.spend(100) for _ in range(3)))
    assert time.monotonic() - begun >= 0.29
    await Pace(0).spend(10**15)


@given(low=st.integers(1, 2**127), span=st.integers(0, 2**100), parts=st.integers(1, 1024))
def test_the_parts_cover_every_id_once(low: int, span: int, parts: int) -> None:
    bounds = [values.bounds_of(part, parts, UUID(int=low), UUID(int=low + span)) for part in range(parts)]
    expected = low
    for begin, end in bounds:
        assert begin.int == expected
        expected = end.int + 1
    assert expected == low + span + 1


def test_the_order_is_another_each_time() -> None:
    orders = {tuple(values.order_of_parts(seed, 64)) for seed in range(20)}
    assert len(orders) == 20
    assert all(sorted(order) == list(range(64)) for order in orders)


@pytest.mark.parametrize(
    ("checked", "bad", "too_much"), [(100, 4, False), (500, 5, False), (499, 5, True), (5, 5, True)]
)
def test_f36_the_cap(checked: int, bad: int, too_much: bool) -> None:
    assert values.is_too_much(checked, bad) is too_much
