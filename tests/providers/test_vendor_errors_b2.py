"""Every error of b2sdk, and every code of Backblaze that it knows or not, has its place in our tree."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
import traceback
import warnings
from collections.abc import Iterator
from typing import Any, NoReturn

import b2sdk._internal
import pytest
import requests.exceptions
import urllib3.exceptions
from b2sdk._internal import exception as internal
from b2sdk.v3 import exception as b2

from simples3dms.providers import errors as ours
from simples3dms.providers.kinds.b2 import errors as table
from simples3dms.providers.kinds.b2.errors import from_vendor

#: What (status, code, message) must be: those that `interpret_b2_error` knows, and Backblaze's documented ones.
_ANSWERS: list[tuple[int, str | None, type[ours.ProviderError]]] = [
    (400, "already_hidden", ours.ObjectNotFound),
    (400, "auth_token_limit", ours.StoreUnavailable),
    (400, "bad_bucket_id", ours.BucketMissing),
    (400, "bad_json", ours.ProviderError),
    (400, "bad_request", ours.ProviderError),
    (400, "duplicate_bucket_name", ours.PreconditionFailed),
    (400, "event_type_categories", ours.ProviderError),
    (400, "event_type_invalid", ours.ProviderError),
    (400, "event_type_overlap", ours.ProviderError),
    (400, "event_types_empty", ours.ProviderError),
    (400, "file_lock_conflict", ours.ProviderError),
    (400, "file_not_present", ours.ObjectNotFound),
    (400, "missing_part", ours.IntegrityError),
    (400, "no_such_file", ours.ObjectNotFound),
    (400, "part_sha1_mismatch", ours.IntegrityError),
    (400, "restricted_bucket_conflict", ours.ProviderError),
    (400, "source_replication_conflict", ours.ProviderError),
    (400, "source_too_large", ours.Unsupported),
    # Not known to b2sdk: BadRequest.
    (400, "invalid_bucket_id", ours.BucketMissing),
    (400, "no_such_bucket", ours.BucketMissing),
    (400, "out_of_range", ours.Unsupported),
    (400, "too_many_buckets", ours.CapExceeded),
    (400, "unsupported", ours.Unsupported),
    (400, "file_too_large", ours.ObjectTooLarge),
    (400, "cap_exceeded", ours.CapExceeded),
    (400, None, ours.ProviderError),
    (401, "bad_auth_token", ours.BadCredential),
    (401, "expired_auth_token", ours.BadCredential),
    (401, "email_not_verified", ours.AccessDenied),
    (401, "no_payment_history", ours.AccessDenied),
    (401, "unauthorized", ours.BadCredential),
    (401, "unsupported", ours.Unsupported),
    (401, "access_denied", ours.AccessDenied),
    (401, "account_suspended", ours.AccessDenied),
    (401, None, ours.BadCredential),
    (403, "access_denied", ours.AccessDenied),
    (403, "storage_cap_exceeded", ours.CapExceeded),
    (403, "transaction_cap_exceeded", ours.CapExceeded),
    (403, "download_cap_exceeded", ours.CapExceeded),
    (403, "cap_exceeded", ours.CapExceeded),
    (403, "not_allowed", ours.AccessDenied),
    (403, "no_payment_history", ours.AccessDenied),
    (403, None, ours.AccessDenied),
    (404, "not_found", ours.ObjectNotFound),
    (404, "other", ours.ProviderError),
    (404, None, ours.ProviderError),
    (402, None, ours.CapExceeded),
    (405, "method_not_allowed", ours.Unsupported),
    (405, None, ours.Unsupported),
    (408, "request_timeout", ours.StoreTimedOut),
    (408, None, ours.StoreTimedOut),
    (409, "conflict", ours.PreconditionFailed),
    (413, None, ours.ObjectTooLarge),
    (416, "range_not_satisfiable", ours.Unsupported),
    (416, None, ours.Unsupported),
    (429, "too_many_requests", ours.Throttled),
    (429, None, ours.Throttled),
    (500, "internal_error", ours.StoreUnavailable),
    (502, "non_json_response", ours.StoreUnavailable),
    (502, "bad_gateway", ours.StoreUnavailable),
    (503, "service_unavailable", ours.StoreUnavailable),
    (503, "bad_request", ours.StoreUnavailable),
    (503, "unsupported", ours.StoreUnavailable),
    (503, None, ours.StoreUnavailable),
    (504, "gateway_timeout", ours.StoreTimedOut),
    (302, None, ours.ProviderError),
]

#: b2sdk reads something out of the message of these.
_MESSAGES = {
    "auth_token_limit": "more than one upload using auth token secret-token",
    "source_too_large": "Copy source too big: 7",
}

_KIND_OF_CLASS: dict[str, type[ours.ProviderError]] = {
    "b2sdk.FileNotPresent": ours.ObjectNotFound,
    "b2sdk.BucketIdNotFound": ours.BucketMissing,
    "b2sdk.ResourceNotFound": ours.ProviderError,
    "b2sdk.InvalidAuthToken": ours.BadCredential,
    "b2sdk.CapabilityNotAllowed": ours.AccessDenied,
    "b2sdk.ClockSkew": ours.ClockSkew,
    "b2sdk.StorageCapExceeded": ours.CapExceeded,
    "b2sdk.TransactionCapExceeded": ours.CapExceeded,
    "b2sdk.TooManyRequests": ours.Throttled,
    "b2sdk.ServiceError": ours.StoreUnavailable,
    "b2sdk.B2RequestTimeoutDuringUpload": ours.StoreTimedOut,
    "b2sdk.ChecksumMismatch": ours.IntegrityError,
    "b2sdk.MaxFileSizeExceeded": ours.ObjectTooLarge,
    "b2sdk.UnsatisfiableRange": ours.Unsupported,
    "requests.ConnectTimeout": ours.StoreTimedOut,
    "requests.SSLError": ours.StoreUnavailable,
    "requests.InvalidURL": ours.ProviderError,
    "urllib3.ReadTimeoutError": ours.StoreTimedOut,
    "urllib3.NewConnectionError": ours.StoreUnavailable,
    "urllib3.ProtocolError": ours.StoreUnavailable,
}


def _below(one: type[BaseException]) -> Iterator[type[BaseException]]:
    yield one
    for child in one.__subclasses__():
        yield from _below(child)


def _all_classes() -> dict[str, type[BaseException]]:
    for module in pkgutil.walk_packages(b2sdk._internal.__path__, "b2sdk._internal."):
        if "exception" in module.name:
            importlib.import_module(module.name)
    found = [one for one in _below(b2.B2Error) if one.__module__.startswith("b2sdk.")]
    for library in (requests.exceptions, urllib3.exceptions):
        classes = [one for one in vars(library).values() if isinstance(one, type) and issubclass(one, Exception)]
        found += [one for one in classes if one.__module__ == library.__name__ and not issubclass(one, Warning)]
    return {f"{one.__module__.partition('.')[0]}.{one.__name__}": one for one in found}


def _interpreted(status: int, code: str | None, message: str = "said so", headers: Any = None) -> b2.B2Error:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # b2sdk warns of the codes that it does not know
        return internal.interpret_b2_error(status, code, _MESSAGES.get(code or "", message), headers or {})


def test_every_class_of_b2sdk_and_what_it_stands_on_is_mapped_by_name() -> None:
    classes = _all_classes()

    assert len(classes) > 140
    assert sorted(set(classes) - set(table.BY_CLASS)) == [], "unmapped"
    gone = {name for name in set(table.BY_CLASS) - set(classes) if not name.startswith("builtins.")}
    assert gone == set(), "no such class (any more)"


@pytest.mark.parametrize("name", sorted(_all_classes()))
def test_an_error_of_each_class_is_the_one_in_the_table(name: str) -> None:
    vendor = _all_classes()[name]

    error = from_vendor(vendor.__new__(vendor), "k")

    assert type(error) is table.BY_CLASS[name]
    assert type(error) is _KIND_OF_CLASS.get(name, type(error))
    assert (error.key, error.vendor_code) == ("k", vendor.__name__)
    is_of_settings = name == "urllib3.ProxySchemeUnsupported"  # a ValueError, of a proxy that we don't set
    assert issubclass(vendor, table.VENDOR_ERRORS) or is_of_settings


def test_every_code_that_b2sdk_interprets_is_in_the_table() -> None:
    source = inspect.getsource(internal.interpret_b2_error)
    codes = {code for _, code in internal._error_handlers if code}
    codes |= set(re.findall(r"code == '(\w+)'", source))
    codes |= {code for group in re.findall(r"code in \(([^)]*)\)", source) for code in re.findall(r"'(\w+)'", group)}

    assert len(codes) >= 25
    assert sorted(codes - {code for _, code, _ in _ANSWERS if code}) == [], "no answer of this code is tested"
    assert sorted(codes - set(table.BY_CODE)) == [], "unmapped"
    assert sorted(set(table.BY_CODE) - {code for _, code, _ in _ANSWERS if code}) == [], "mapped, and not tested"
    assert set(internal._error_handlers) <= {(status, code) for status, code, _ in _ANSWERS}


@pytest.mark.parametrize(("status", "code", "kind"), _ANSWERS)
def test_an_answer_is_what_it_says(status: int, code: str | None, kind: type[ours.ProviderError]) -> None:
    error = from_vendor(_interpreted(status, code))

    assert (type(error), error.vendor_code is not None) == (kind, True)
    assert error.retryable == (kind in (ours.Throttled, ours.StoreUnavailable, ours.StoreTimedOut))


def test_any_server_error_may_be_repeated_and_no_other_unknown_status() -> None:
    for status in range(300, 600):
        error = from_vendor(_interpreted(status, "nobody_knows"))
        assert error.retryable == (status in (408, 429) or status >= 500), status


@pytest.mark.parametrize("code", ["download_cap_exceeded", "cap_exceeded", "storage_cap_exceeded"])
def test_a_cap_is_not_retryable(code: str) -> None:
    error = from_vendor(_interpreted(403, code))

    assert (type(error), error.retryable) == (ours.CapExceeded, False)


def test_the_stores_code_goes_on_where_b2sdk_keeps_it() -> None:
    assert from_vendor(_interpreted(403, "download_cap_exceeded")).vendor_code == "download_cap_exceeded"
    assert from_vendor(_interpreted(503, "service_unavailable")).vendor_code == "service_unavailable"
    assert from_vendor(_interpreted(401, "expired_auth_token")).vendor_code == "expired_auth_token"
    assert from_vendor(_interpreted(403, None)).vendor_code == "403"


def test_a_right_that_the_key_lacks_is_no_bad_key() -> None:
    said = "not entitled for application key with capabilities 'readFiles'"

    assert type(from_vendor(b2.Unauthorized(said, "unauthorized"))) is ours.AccessDenied
    assert type(from_vendor(b2.Unauthorized("", "unauthorized"))) is ours.BadCredential


def test_bytes_that_changed_on_the_way_are_an_integrity_error() -> None:
    assert (
        type(from_vendor(_interpreted(400, "bad_request", "Sha1 did not match data received"))) is ours.IntegrityError
    )


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("7", 7.0),
        ("-7", None),
        ("99999", 3600.0),
        ("soon", None),
        ("Wed, 21 Oct 2099 07:28:00 GMT", None),
    ],
)
@pytest.mark.parametrize("status", [429, 503])
def test_retry_after(status: int, header: str | None, seconds: float | None) -> None:
    headers = {} if header is None else {"retry-after": header}

    assert from_vendor(_interpreted(status, "too_busy", headers=headers)).retry_after == seconds


_CANARY = "K005c4n4ryWJalrXUtnFEMI"
_URL = f"https://f005.backblazeb2.com/file/b/o?Authorization={_CANARY}"
_TEXT = f"{_URL} Authorization: {_CANARY} more than one upload using auth token {_CANARY}"
_SECRETS = (_CANARY, "Authorization")


def _telling() -> Iterator[BaseException]:
    """Vendors' errors, each with a secret wherever it can hold one."""
    for vendor in _all_classes().values():
        raised = vendor.__new__(vendor)
        raised.args = (_TEXT,)
        for field in ("message", "code", "token", "bucket_id", "file_id_or_name", "exception_info_list", "url"):
            setattr(raised, field, _TEXT)
        yield raised
    for status, known, _ in _ANSWERS:
        for code in (known, "nobody_knows", _CANARY, _TEXT):
            if code not in _MESSAGES:
                yield _interpreted(status, code, _TEXT, {"retry-after": _TEXT})
    yield internal.interpret_b2_error(400, "auth_token_limit", f"more than one upload using auth token {_CANARY}", {})
    yield OSError(5, _TEXT, _URL)


def _translate(raised: BaseException) -> NoReturn:
    try:
        raise raised
    except Exception as error:
        raise from_vendor(error, "reports/may.pdf") from None


def _printed(raised: BaseException) -> tuple[ours.ProviderError, list[str]]:
    """The error that a provider raises of this one, and all that a log could show of it."""
    with pytest.raises(ours.ProviderError) as caught:
        _translate(raised)
    error = caught.value
    assert error.__cause__ is None
    return error, [str(error), repr(error), repr(vars(error)), "".join(traceback.format_exception(error))]


def test_no_vendors_text_is_in_what_a_log_would_print() -> None:
    every = list(_telling())

    assert len(every) > 300
    for raised in every:
        error, shown = _printed(raised)
        assert not [(raised, text) for text in shown for secret in _SECRETS if secret in text]
        assert len(error.vendor_code or "") <= 64
