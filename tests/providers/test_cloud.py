"""The experimental kinds: their forms here; their conformance against whatever store a file describes."""

from __future__ import annotations

import base64
import json
import os
import secrets
import tomllib
from pathlib import Path

import pytest

from simples3dms.errors import Invalid
from simples3dms.providers.conformance import BEHAVIOURS, run_behaviour
from simples3dms.providers.errors import ProviderError
from simples3dms.providers.registry import get_kind
from simples3dms.providers.stack import StackSettings, build_stack

pytestmark = pytest.mark.anyio
#: A file as `--store-config` takes it, for a store of kind `gcs` or `azure`; the matrix declares them untested without.
CONFIG = os.environ.get("SIMPLES3DMS_TEST_CLOUD_STORE")


@pytest.mark.skipif(CONFIG is None, reason="declared: needs a store of that kind (SIMPLES3DMS_TEST_CLOUD_STORE=FILE)")
async def test_the_conformance_suite_on_the_store_that_is_given() -> None:
    assert CONFIG is not None
    given = tomllib.loads(Path(CONFIG).read_text())
    provider = build_stack(get_kind(given["kind"]).create(given["settings"], given["credential"]), StackSettings())
    outcomes = [await run_behaviour(provider, one) for one in BEHAVIOURS]
    await provider.close()
    assert [(one.behaviour.name, one.detail) for one in outcomes if one.verdict == "failed"] == []


@pytest.mark.parametrize("blank", ["", "   ", "{}", '{"client_email": "a@b", "private_key": " "}', "no json"])
def test_gcs_takes_only_a_whole_key_file(blank: str) -> None:
    with pytest.raises(Invalid):
        get_kind("gcs").create({"bucket": "documents"}, {"service_account_key": blank})
    with pytest.raises(Invalid):
        get_kind("gcs").create({"bucket": "documents"}, {})


@pytest.mark.parametrize("credential", [{}, {"account_name": "a"}, {"account_name": " ", "account_key": "x"}])
def test_azure_needs_account_and_key(credential: dict[str, str]) -> None:
    with pytest.raises(Invalid):
        get_kind("azure").create({"container": "documents"}, credential)


async def test_an_azure_store_that_can_not_be_reached_says_so_and_shows_no_secret() -> None:
    canary = base64.b64encode(secrets.token_bytes(32)).decode()
    credential = {"account_name": "acme", "account_key": canary}
    kind = get_kind("azure")
    provider = kind.create({"container": "documents", "endpoint": "http://127.0.0.1:9/acme"}, credential)
    with pytest.raises(ProviderError) as caught:
        await provider.check()
    assert canary not in f"{caught.value!r}{vars(caught.value)}{json.dumps(kind.credential_schema())}"
