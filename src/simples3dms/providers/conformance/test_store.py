"""Every behaviour against the store that `--store-config` names. What it declares not to offer shows as skipped."""

from __future__ import annotations

import asyncio

import pytest

from simples3dms.providers.base import StorageProvider
from simples3dms.providers.conformance import BEHAVIOURS, Behaviour, run_behaviour


@pytest.mark.parametrize("one", BEHAVIOURS, ids=lambda one: f"{one.group}-{one.name}")
def test_behaviour(store: StorageProvider, loop: asyncio.AbstractEventLoop, one: Behaviour) -> None:
    outcome = loop.run_until_complete(run_behaviour(store, one))
    if outcome.verdict == "declared":
        pytest.skip(outcome.detail)
    if outcome.verdict == "failed":
        pytest.fail(f"{one.meaning} {outcome.detail}", pytrace=False)
