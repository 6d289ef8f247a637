"""What b2sdk raises, as our errors: one table by class. Its messages may name files and keys, so none goes on."""

from __future__ import annotations

from typing import Final

import requests
from b2sdk.v3 import exception as b2
from urllib3.exceptions import HTTPError

from simples3dms.providers.errors import (
    AccessDenied,
    BadCredential,
    BucketMissing,
    CapExceeded,
    IntegrityError,
    ObjectNotFound,
    ObjectTooLarge,
    PreconditionFailed,
    ProviderError,
    StoreTimedOut,
    StoreUnavailable,
    Throttled,
    Unsupported,
)

_MESSAGES: Final[dict[type[ProviderError], str]] = {
    ObjectNotFound: "no such object",
    AccessDenied: "the store refuses this to the application key",
    BadCredential: "the store does not accept the application key",
    BucketMissing: "the bucket is not there, or the application key may not see it",
    Throttled: "the store asks to slow down",
    StoreUnavailable: "the store does not answer, or failed",
    StoreTimedOut: "the store did not answer in time",
    IntegrityError: "the store received or sent other bytes than expected",
    PreconditionFailed: "the object is in another state than expected",
    CapExceeded: "a cap of the store's account is reached",
    ObjectTooLarge: "the object is larger than the store takes",
    Unsupported: "the store can't do this",
    ProviderError: "the store refused the request",
}

#: By class; the nearest ancestor counts.
_BY_CLASS: Final[dict[type[BaseException], type[ProviderError]]] = {
    b2.FileNotPresent: ObjectNotFound,
    b2.FileAlreadyHidden: ObjectNotFound,
    b2.NonExistentBucket: BucketMissing,
    b2.BucketIdNotFound: BucketMissing,
    b2.RestrictedBucketMissing: BucketMissing,
    b2.RestrictedBucket: AccessDenied,
    b2.InvalidAuthToken: BadCredential,
    b2.Unauthorized: BadCredential,
    b2.NotAllowedByAppKeyError: AccessDenied,
    b2.AccessDenied: AccessDenied,
    b2.CapExceeded: CapExceeded,
    b2.TooManyRequests: Throttled,
    b2.B2RequestTimeout: StoreTimedOut,
    b2.RequestTimeout: StoreTimedOut,
    b2.ServiceError: StoreUnavailable,
    b2.B2ConnectionError: StoreUnavailable,
    b2.ConnectionReset: StoreUnavailable,
    b2.BrokenPipe: StoreUnavailable,
    b2.UnknownHost: StoreUnavailable,
    b2.BadUploadUrl: StoreUnavailable,
    b2.MaxRetriesExceeded: StoreUnavailable,
    b2.TruncatedOutput: StoreUnavailable,
    b2.InvalidJsonResponse: StoreUnavailable,
    b2.ClockSkew: AccessDenied,
    b2.ChecksumMismatch: IntegrityError,
    b2.FileSha1Mismatch: IntegrityError,
    b2.PartSha1Mismatch: IntegrityError,
    b2.MissingPart: IntegrityError,
    b2.Conflict: PreconditionFailed,
    b2.MaxFileSizeExceeded: ObjectTooLarge,
    b2.UnsatisfiableRange: Unsupported,
    b2.UnusableFileName: Unsupported,
    b2.B2Error: ProviderError,
    requests.exceptions.Timeout: StoreTimedOut,
    requests.exceptions.RequestException: StoreUnavailable,
    HTTPError: StoreUnavailable,
    TimeoutError: StoreTimedOut,
    OSError: StoreUnavailable,
}

#: Every class that b2sdk, or what it stands on, may raise at us.
VENDOR_ERRORS: Final = (b2.B2Error, requests.exceptions.RequestException, HTTPError, OSError)


def from_vendor(error: BaseException, key: str | None = None) -> ProviderError:
    """Our error for theirs."""
    kind = next((_BY_CLASS[base] for base in type(error).__mro__ if base in _BY_CLASS), ProviderError)
    if isinstance(error, b2.BadRequest) and getattr(error, "code", "") in ("bad_bucket_id", "no_such_bucket"):
        kind = BucketMissing
    if isinstance(error, b2.UnknownError) and "cap_exceeded" in str(error):  # downloads' cap has no class of its own
        kind = CapExceeded
    wait = getattr(error, "retry_after_seconds", None)
    return kind(
        _MESSAGES[kind],
        vendor_code=str(getattr(error, "code", None) or type(error).__name__)[:64],
        retry_after=float(wait) if wait is not None and str(wait).isdigit() else None,
        key=key,
    )


def is_worth_another_url(error: BaseException) -> bool:
    """Whether an upload that failed like this should be sent again, to a fresh upload URL."""
    return isinstance(error, b2.B2Error) and bool(error.should_retry_upload())
