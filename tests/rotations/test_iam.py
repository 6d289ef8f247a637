"""IAM where a user's own key manages the user's keys, and the user is found by the key: ministack's."""

from __future__ import annotations

from pathlib import Path

import pytest

from simples3dms.providers.keys import KeyManagement
from simples3dms.providers.kinds.s3 import KIND
from simples3dms.providers.registry import BuildOptions
from simples3dms.sandbox.s3servers import Ministack

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(120)]


async def test_the_user_is_found_by_its_key(tmp_path: Path) -> None:
    with Ministack(tmp_path / "ministack") as server:
        settings = KIND.validate_settings({**server.settings, "iam_endpoint": server.endpoint})
        own = KIND.validate_credential(server.credential)
        assert KIND.manage_keys is not None
        keys: KeyManagement | None = KIND.manage_keys(settings, own, own, BuildOptions())
        assert keys is not None
        before = {key.key_id for key in await keys.list_keys()}
        made = await keys.make_key("unnamed")
        assert {key.key_id for key in await keys.list_keys()} == before | {made.key_id}
        assert made.credential["secret_access_key"] not in repr(made)
        for _ in range(2):
            await keys.disable_key(made.key_id)
            await keys.delete_key(made.key_id)
        assert {key.key_id for key in await keys.list_keys()} == before
        await keys.close()


def test_a_service_without_an_api_for_keys_has_none() -> None:
    settings = KIND.validate_settings({"endpoint": "https://s3.example.org", "bucket": "docs"})
    own = KIND.validate_credential({"access_key_id": "a", "secret_access_key": "b"})
    assert KIND.manage_keys is not None
    assert KIND.manage_keys(settings, own, own, BuildOptions()) is None
    aws = KIND.validate_settings({"region": "eu-central-1", "bucket": "docs"})
    assert KIND.manage_keys(aws, own, own, BuildOptions()) is not None
    assert KIND.destinations is not None
    assert "https://iam.amazonaws.com" in KIND.destinations(aws)
