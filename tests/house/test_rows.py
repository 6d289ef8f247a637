"""Faults and attacks that the product promises to stand: each has a test that bears its number in its name."""

from __future__ import annotations

import pytest
from scripts.proofs import ATTACKS, FAULTS, MODES, named_tests

ROWS = [*ATTACKS, *FAULTS, *MODES]


@pytest.mark.parametrize("row", ROWS)
def test_each_row_has_a_test_of_its_name(row: str) -> None:
    assert named_tests().get(row), f"no test is named after {row}"


def test_no_test_is_named_after_a_row_that_is_not_listed() -> None:
    assert set(named_tests()) <= set(ROWS), "list it in scripts/proofs.py"
