"""Faults and failures that the product promises to stand: each has a test that bears its number in its name."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
#: Faults of one store, failure modes of the storage layer, and attacks by way of a store's endpoint.
FAULTS = [*range(23, 33), 35, 43, *range(47, 52)]
MODES = [4, *range(8, 14), *range(15, 22)]
ATTACKS = range(34, 39)
ROWS = [f"f{n}" for n in FAULTS] + [f"mode_{n}" for n in MODES] + [f"s{n}" for n in ATTACKS]
#: Exports, deletion of tenants, holds and retention.
ROWS += ["s54", "s55", "s56"]


@pytest.mark.parametrize("row", ROWS)
def test_each_row_has_a_test_of_its_name(row: str) -> None:
    named = re.compile(rf"def test_(?:\w+_)?{row}_")
    assert any(named.search(path.read_text()) for path in TESTS.rglob("test_*.py")), f"no test is named after {row}"
