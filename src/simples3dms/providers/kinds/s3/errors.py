"""What obstore and botocore raise, as our errors: tables by S3 code, by HTTP status and by exception class.

Their messages hold full URIs and server text, so none of it goes on: the message is ours, the code is the store's.
"""

from __future__ import annotations

import re
from typing import Any, Final

import obstore.exceptions as obstore_errors
from botocore import exceptions as boto
from botocore.parsers import ResponseParserError

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
    StoreFull,
    StoreTimedOut,
    StoreUnavailable,
    Throttled,
    Unsupported,
)

_MESSAGES: Final[dict[type[ProviderError], str]] = {
    ObjectNotFound: "no such object",
    AccessDenied: "the store refuses this to the credential",
    BadCredential: "the store does not accept the credential",
    BucketMissing: "the bucket is not there",
    Throttled: "the store asks to slow down",
    StoreUnavailable: "the store does not answer, or failed",
    StoreTimedOut: "the store did not answer in time",
    IntegrityError: "the store received other bytes than were sent",
    PreconditionFailed: "the object is in another state than expected",
    CapExceeded: "a cap of the store's account is reached",
    StoreFull: "the store has no space left",
    ObjectTooLarge: "the object is larger than the store takes",
    Unsupported: "the store can't do this",
    ProviderError: "the store refused the request",
}

_BY_CODE: Final[dict[str, type[ProviderError]]] = {
    **dict.fromkeys(("NoSuchKey", "NoSuchVersion", "NoSuchUpload"), ObjectNotFound),
    "NoSuchBucket": BucketMissing,
    **dict.fromkeys(
        (
            "InvalidAccessKeyId",
            "SignatureDoesNotMatch",
            "ExpiredToken",
            "InvalidToken",
            "TokenRefreshRequired",
            "InvalidSecurity",
            "NotSignedUp",
            "UnrecognizedClientException",
            "AuthorizationHeaderMalformed",
        ),
        BadCredential,
    ),
    **dict.fromkeys(
        ("AccessDenied", "AllAccessDisabled", "AccountProblem", "InvalidObjectState", "RequestTimeTooSkewed"),
        AccessDenied,
    ),
    **dict.fromkeys(
        (
            "SlowDown",
            "TooManyRequests",
            "Throttling",
            "ThrottlingException",
            "RequestLimitExceeded",
            "RequestRateLimitExceeded",
            "BandwidthLimitExceeded",
        ),
        Throttled,
    ),
    **dict.fromkeys(("InternalError", "ServiceUnavailable", "OperationAborted", "BadGateway"), StoreUnavailable),
    **dict.fromkeys(("RequestTimeout", "GatewayTimeout"), StoreTimedOut),
    **dict.fromkeys(("BadDigest", "InvalidDigest", "XAmzContentSHA256Mismatch", "IncompleteBody"), IntegrityError),
    **dict.fromkeys(("PreconditionFailed", "ConditionalRequestConflict", "NotModified"), PreconditionFailed),
    "EntityTooLarge": ObjectTooLarge,
    **dict.fromkeys(("InsufficientStorage", "XMinioStorageFull", "QuotaExceeded", "StorageQuotaExceeded"), StoreFull),
    **dict.fromkeys(("NotImplemented", "MethodNotAllowed", "KeyTooLongError", "UnsupportedOperation"), Unsupported),
}

_BY_STATUS: Final[dict[int, type[ProviderError]]] = {
    401: BadCredential,
    403: AccessDenied,
    404: ObjectNotFound,
    405: Unsupported,
    408: StoreTimedOut,
    409: PreconditionFailed,
    412: PreconditionFailed,
    413: ObjectTooLarge,
    429: Throttled,
    501: Unsupported,
    504: StoreTimedOut,
    507: StoreFull,
}

#: By class, the nearest ancestor first; used when neither a code nor a status is known.
_BY_CLASS: Final[dict[type[BaseException], type[ProviderError]]] = {
    obstore_errors.NotFoundError: ObjectNotFound,
    FileNotFoundError: ObjectNotFound,  # what obstore really raises for a missing object
    obstore_errors.PermissionDeniedError: AccessDenied,
    obstore_errors.UnauthenticatedError: BadCredential,
    obstore_errors.PreconditionError: PreconditionFailed,
    obstore_errors.NotModifiedError: PreconditionFailed,
    obstore_errors.AlreadyExistsError: PreconditionFailed,
    obstore_errors.NotSupportedError: Unsupported,
    obstore_errors.InvalidPathError: Unsupported,
    obstore_errors.UnknownConfigurationKeyError: ProviderError,
    obstore_errors.GenericError: StoreUnavailable,
    obstore_errors.JoinError: StoreUnavailable,
    obstore_errors.BaseError: StoreUnavailable,
    boto.ConnectTimeoutError: StoreTimedOut,
    boto.ReadTimeoutError: StoreTimedOut,
    boto.HTTPClientError: StoreUnavailable,
    boto.ConnectionError: StoreUnavailable,
    ResponseParserError: StoreUnavailable,
    boto.IncompleteReadError: StoreUnavailable,
    boto.ParamValidationError: Unsupported,
    boto.NoCredentialsError: BadCredential,
    boto.PartialCredentialsError: BadCredential,
    boto.CredentialRetrievalError: BadCredential,
    boto.ChecksumError: IntegrityError,
    boto.FlexibleChecksumError: IntegrityError,
    boto.BotoCoreError: ProviderError,
    boto.ClientError: ProviderError,
    TimeoutError: StoreTimedOut,
    OSError: StoreUnavailable,
}

_CODE: Final = re.compile(r"<Code>\s*([A-Za-z0-9.]{1,64})\s*</Code>")
_STATUS: Final = re.compile(r"status code: (\d{3})")
_TIMED_OUT: Final = re.compile(r"kind: Timeout|TimedOut|operation timed out")
_CAP: Final = re.compile(r"\bcap exceeded\b", re.IGNORECASE)
_LOOKED_AT: Final = 6000

#: Every class that a vendor's library may raise at us.
VENDOR_ERRORS: Final = (obstore_errors.BaseError, boto.BotoCoreError, boto.ClientError, OSError)


def from_vendor(error: BaseException, key: str | None = None) -> ProviderError:
    """Our error for theirs."""
    if isinstance(error, boto.ClientError):
        return _from_response(error.response, key)
    text = str(error)[:_LOOKED_AT]
    code, status = _CODE.search(text), _STATUS.search(text)
    if code or status:
        return _make(code[1] if code else None, int(status[1]) if status else 0, text, key)
    kind = _nearest(type(error))
    if kind is StoreUnavailable and _TIMED_OUT.search(text):
        kind = StoreTimedOut
    return kind(_MESSAGES[kind], vendor_code=type(error).__name__, key=key)


def _from_response(response: Any, key: str | None) -> ProviderError:
    problem = response.get("Error", {})
    metadata = response.get("ResponseMetadata", {})
    code, status = str(problem.get("Code", "")), int(metadata.get("HTTPStatusCode", 0) or 0)
    made = _make(None if code.isdigit() else code, status or _number(code), str(problem.get("Message", "")), key)
    made.retry_after = retry_after(metadata.get("HTTPHeaders", {}).get("retry-after"))
    return made


def _make(code: str | None, status: int, text: str, key: str | None) -> ProviderError:
    kind = _BY_CODE.get(code or "")
    if kind is None:
        kind = _BY_STATUS.get(status) or (StoreUnavailable if status >= 500 else ProviderError)
    if kind is AccessDenied and _CAP.search(text):  # how B2's S3 door says it
        kind = CapExceeded
    return kind(_MESSAGES[kind], vendor_code=code or (str(status) if status else None), key=key)


def _nearest(raised: type[BaseException]) -> type[ProviderError]:
    return next((_BY_CLASS[base] for base in raised.__mro__ if base in _BY_CLASS), ProviderError)


def _number(text: str) -> int:
    return int(text) if text.isdigit() else 0


def retry_after(header: str | None) -> float | None:
    """The header's seconds; None when absent or given as a date."""
    return float(header) if header is not None and header.strip().isdigit() else None


def says_nothing_of_the_bucket(error: ProviderError) -> bool:
    """Whether this is an answer without a body (HEAD): object or bucket missing, key wrong or right missing."""
    return type(error) in (ObjectNotFound, AccessDenied) and (error.vendor_code or "").isdigit()
