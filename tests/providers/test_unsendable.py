"""What can't stand in a request is refused by the forms, and never escapes as a vendor's panic."""

from __future__ import annotations

import json
from typing import Any

import pytest

from simples3dms.errors import Invalid
from simples3dms.providers.errors import BadCredential, ProviderError
from simples3dms.providers.registry import get_kind

pytestmark = pytest.mark.anyio
S3 = {"endpoint": "http://127.0.0.1:9", "bucket": "docs"}
KEYS = {"access_key_id": "tenants-own", "secret_access_key": "made-up"}


@pytest.mark.parametrize("field", ["access_key_id", "session_token"])
@pytest.mark.parametrize("value", ["a\nb", "a b", "schlüssel", "a\x00b"])
def test_an_s3_key_that_no_header_can_hold_is_refused(field: str, value: str) -> None:
    with pytest.raises(Invalid) as caught:
        get_kind("s3").create(S3, {**KEYS, field: value})
    assert caught.value.problem_code == "credential_invalid"
    assert value not in str(caught.value.extra)


async def test_a_panic_of_obstore_is_an_error_of_the_contract() -> None:
    """What it raises then is no class of its own, and would pass as our own fault, with a backtrace."""
    provider: Any = get_kind("s3").create(S3, KEYS)
    with pytest.raises(ProviderError) as caught:
        await provider.put("x", b"1", content_type="text/plain\r\nx-amz-acl: public-read")
    assert caught.value.vendor_code == "RustPanic"
    await provider.close()


@pytest.mark.parametrize("name", ["elsewhere.example/", "a#b", "acme@elsewhere", "UPPER", "ab"])
def test_an_azure_account_is_a_name_and_no_piece_of_a_url(name: str) -> None:
    """It becomes the first part of a host's name: `elsewhere.example/` would be a host of its own."""
    with pytest.raises(Invalid) as caught:
        get_kind("azure").create({"container": "documents"}, {"account_name": name, "account_key": "YWJj"})
    assert caught.value.problem_code == "credential_invalid"


def test_a_gcs_key_that_can_not_be_read_is_a_bad_credential() -> None:
    file = json.dumps({"client_email": "a@b.example", "private_key": "made up"})
    with pytest.raises(BadCredential):
        get_kind("gcs").create({"bucket": "documents"}, {"service_account_key": file})
