"""What b2sdk raises, as our errors: tables by class, and by code and status where one class stands for many errors.

Its messages may name files, keys and tokens, so none goes on. The tables name everything there is;
`tests/providers/test_vendor_errors_b2.py` enumerates it and turns red when b2sdk learns a new error. Names rather than
classes, because some are b2sdk's own matter and not public.
"""

from __future__ import annotations

import re
from typing import Final

import requests
from b2sdk.v3 import exception as b2
from urllib3.exceptions import HTTPError

from simples3dms.providers.errors import (
    AccessDenied,
    BadCredential,
    BucketMissing,
    CapExceeded,
    ClockSkew,
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
    ClockSkew: "the clocks of this machine and of the store differ too much",
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


def _table(groups: dict[type[ProviderError], str]) -> dict[str, type[ProviderError]]:
    pairs = [(name, kind) for kind, names in groups.items() for name in names.split()]
    if len(table := dict(pairs)) < len(pairs):
        raise ValueError("a name is there twice")
    return table


#: By library and class; the nearest ancestor counts.
BY_CLASS: Final[dict[str, type[ProviderError]]] = _table(
    {
        ObjectNotFound: "b2sdk.FileNotPresent b2sdk.FileAlreadyHidden b2sdk.FileDeleted",
        BucketMissing: "b2sdk.NonExistentBucket b2sdk.BucketIdNotFound b2sdk.RestrictedBucketMissing",
        BadCredential: "b2sdk.Unauthorized b2sdk.InvalidAuthToken",
        # No reason to doubt the application key.
        ClockSkew: "b2sdk.ClockSkew",
        AccessDenied: """
            b2sdk.RestrictedBucket b2sdk.NotAllowedByAppKeyError b2sdk.BucketNotAllowed b2sdk.CapabilityNotAllowed
            b2sdk.FileNameNotAllowed b2sdk.AccessDenied b2sdk.SSECKeyError b2sdk.RetentionWriteError
            b2sdk.EmailNotVerified b2sdk.NoPaymentHistory""",
        CapExceeded: "b2sdk.CapExceeded b2sdk.StorageCapExceeded b2sdk.TransactionCapExceeded",
        Throttled: "b2sdk.TooManyRequests",
        StoreTimedOut: """
            b2sdk.B2RequestTimeout b2sdk.B2RequestTimeoutDuringUpload b2sdk.RequestTimeout
            b2sdk.UnboundStreamBufferTimeout requests.Timeout requests.ConnectTimeout requests.ReadTimeout
            urllib3.TimeoutError urllib3.ReadTimeoutError urllib3.ConnectTimeoutError builtins.TimeoutError""",
        # An upload token that is in use elsewhere: another upload URL helps, as for `BadUploadUrl`.
        StoreUnavailable: """
            b2sdk.ServiceError b2sdk.B2ConnectionError b2sdk.ConnectionReset b2sdk.BrokenPipe b2sdk.UnknownHost
            b2sdk.BadUploadUrl b2sdk.UploadTokenUsedConcurrently b2sdk.MaxRetriesExceeded b2sdk.TruncatedOutput
            b2sdk.InvalidJsonResponse requests.RequestException requests.InvalidJSONError requests.JSONDecodeError
            requests.HTTPError requests.ConnectionError requests.ProxyError requests.SSLError
            requests.ChunkedEncodingError requests.ContentDecodingError requests.RetryError
            requests.UnrewindableBodyError urllib3.HTTPError urllib3.PoolError urllib3.RequestError
            urllib3.MaxRetryError urllib3.EmptyPoolError urllib3.FullPoolError urllib3.ClosedPoolError urllib3.SSLError
            urllib3.ProxyError urllib3.DecodeError urllib3.ProtocolError urllib3.ResponseNotChunked
            urllib3.NewConnectionError urllib3.NameResolutionError urllib3.ResponseError
            urllib3.BodyNotHttplibCompatible urllib3.IncompleteRead urllib3.InvalidChunkLength urllib3.InvalidHeader
            urllib3.HeaderParsingError urllib3.UnrewindableBodyError builtins.OSError""",
        IntegrityError: "b2sdk.ChecksumMismatch b2sdk.FileSha1Mismatch b2sdk.PartSha1Mismatch b2sdk.MissingPart",
        PreconditionFailed: "b2sdk.Conflict b2sdk.DuplicateBucketName b2sdk.FileNotHidden",
        ObjectTooLarge: "b2sdk.MaxFileSizeExceeded",
        Unsupported: """
            b2sdk.UnsatisfiableRange b2sdk.InvalidRange b2sdk.UnusableFileName b2sdk.UnsupportedFilename
            b2sdk.CopySourceTooBig""",
        # Our request or our settings are wrong, or it is a part of b2sdk that we don't use (sync, local folders).
        # `ResourceNotFound` is a 404 without "not_found": of a wrong address, and so of no object.
        ProviderError: """
            b2sdk.B2Error b2sdk.B2SimpleError b2sdk.UnknownError b2sdk.BadRequest b2sdk.BadJson b2sdk.BadDateFormat
            b2sdk.BadFileInfo b2sdk.ResourceNotFound b2sdk.FileOrBucketNotFound b2sdk.AccountInfoError
            b2sdk.CorruptAccountInfo b2sdk.MissingAccountData b2sdk.AlreadyFailed b2sdk.B2HttpCallbackException
            b2sdk.B2HttpCallbackPostRequestException b2sdk.B2HttpCallbackPreRequestException b2sdk.CopyArgumentsMismatch
            b2sdk.DestFileNewer b2sdk.DestinationError b2sdk.DestinationDirectoryError
            b2sdk.DestinationDirectoryDoesntAllowOperation b2sdk.DestinationDirectoryDoesntExist
            b2sdk.DestinationIsADirectory b2sdk.DestinationParentIsNotADirectory b2sdk.DisablingFileLockNotSupported
            b2sdk.EnablingFileLockOnRestrictedBucket b2sdk.EventTypeError b2sdk.EventTypeCategoriesError
            b2sdk.EventTypeInvalidError b2sdk.EventTypeOverlapError b2sdk.EventTypesEmptyError
            b2sdk.InvalidMetadataDirective b2sdk.InvalidUploadSource b2sdk.InvalidUserInput
            b2sdk.PotentialS3EndpointPassedAsRealm b2sdk.SourceReplicationConflict b2sdk.SSECKeyIdMismatchInCopy
            b2sdk.UnexpectedCloudBehaviour b2sdk.UnexpectedFileVersionAction b2sdk.UnrecognizedBucketType
            b2sdk.WrongEncryptionModeForBucketDefault b2sdk.WrongEncryptionSettingForFileWrite
            b2sdk.BaseDirectoryError b2sdk.EmptyDirectory b2sdk.NotADirectory b2sdk.UnableToCreateDirectory
            b2sdk.EnvironmentEncodingError b2sdk.InvalidArgument b2sdk.IncompleteSync
            requests.URLRequired requests.TooManyRedirects requests.MissingSchema requests.InvalidSchema
            requests.InvalidURL requests.InvalidProxyURL requests.InvalidHeader requests.StreamConsumedError
            urllib3.HostChangedError urllib3.TimeoutStateError urllib3.LocationValueError urllib3.LocationParseError
            urllib3.URLSchemeUnknown urllib3.ProxySchemeUnknown urllib3.ProxySchemeUnsupported""",
    }
)

#: The classes that stand for any code: what they say is in the code, or else in the status.
_BY_CODE_CLASSES: Final = frozenset({"BadRequest", "UnknownError", "Unauthorized", "ServiceError"})

#: Backblaze's documented codes, wherever b2sdk has no class for them.
BY_CODE: Final[dict[str, type[ProviderError]]] = _table(
    {
        ObjectNotFound: "no_such_file file_not_present",
        BucketMissing: "bad_bucket_id no_such_bucket invalid_bucket_id",
        BadCredential: "bad_auth_token expired_auth_token unauthorized",
        AccessDenied: "access_denied not_allowed email_not_verified no_payment_history account_suspended",
        CapExceeded: """
            cap_exceeded storage_cap_exceeded transaction_cap_exceeded download_cap_exceeded too_many_buckets""",
        Throttled: "too_many_requests",
        StoreTimedOut: "request_timeout gateway_timeout",
        StoreUnavailable: "service_unavailable internal_error bad_gateway auth_token_limit",
        IntegrityError: "missing_part part_sha1_mismatch",
        PreconditionFailed: "conflict duplicate_bucket_name",
        ObjectTooLarge: "file_too_large",
        Unsupported: "unsupported method_not_allowed out_of_range range_not_satisfiable source_too_large",
        ProviderError: """
            bad_request bad_json not_found already_hidden file_lock_conflict source_replication_conflict
            restricted_bucket_conflict event_type_categories event_type_overlap event_types_empty event_type_invalid
            non_json_response""",
    }
)

#: For the codes that nobody documented.
BY_STATUS: Final[dict[int, type[ProviderError]]] = {
    402: CapExceeded,
    403: AccessDenied,
    405: Unsupported,
    413: ObjectTooLarge,
    416: Unsupported,
}

_STATUS_AND_CODE: Final = re.compile(r"(\d{3}) (\S{1,64})")  # how b2sdk begins what it has no class for
_OTHER_BYTES: Final = re.compile(r"did not match data received", re.IGNORECASE)  # an upload's SHA-1: "bad_request"
_LACKS_RIGHT: Final = " for application key "  # b2sdk adds this to a 401 of a token that the store knows
#: A code we don't know goes on if it is words, as codes are: a store that echoes a token there is not repeated.
_READS_AS_CODE: Final = re.compile(r"[a-z]+(?:_[a-z]+)*")
_CODE_CHARACTERS: Final = 48
_LONGEST_WAIT_SECONDS: Final = 3600.0

#: Every class that b2sdk, or what it stands on, may raise at us.
VENDOR_ERRORS: Final = (b2.B2Error, requests.exceptions.RequestException, HTTPError, OSError)


def from_vendor(error: BaseException, key: str | None = None) -> ProviderError:
    """Our error for theirs."""
    status, code = _status_and_code(error)
    kind = _nearest(type(error))
    if type(error).__name__ in _BY_CODE_CLASSES:
        kind = _by_code(status, code or "", kind)
        kind = _by_words(str(getattr(error, "message", None) or ""), kind)
    return kind(
        _MESSAGES[kind],
        vendor_code=code or (str(status) if status else type(error).__name__),
        retry_after=_seconds(getattr(error, "retry_after_seconds", None)),
        key=key,
    )


def _status_and_code(error: BaseException) -> tuple[int, str | None]:
    """The store's, as far as b2sdk keeps them; a code only if it reads as one."""
    status, code = 0, getattr(error, "code", None)
    if code is None and error.args and (found := _STATUS_AND_CODE.match(str(error.args[0]))):
        status, code = int(found[1]), found[2]
    code = str(code or "")
    is_code = code in BY_CODE or (len(code) <= _CODE_CHARACTERS and _READS_AS_CODE.fullmatch(code))
    return status, code if is_code else None


def _nearest(raised: type[BaseException]) -> type[ProviderError]:
    named = (f"{base.__module__.partition('.')[0]}.{base.__name__}" for base in raised.__mro__)
    return next((BY_CLASS[name] for name in named if name in BY_CLASS), ProviderError)


def _by_code(status: int, code: str, otherwise: type[ProviderError]) -> type[ProviderError]:
    """The code's kind, if it has one. What a server's failure (5xx) is called may tell how to repeat, not whether."""
    kind = BY_CODE.get(code, ProviderError)
    if kind is ProviderError or (otherwise is StoreUnavailable and not kind.retryable):
        return BY_STATUS.get(status, otherwise)
    return kind


def _by_words(message: str, kind: type[ProviderError]) -> type[ProviderError]:
    """What a code means two things for, told apart by the words that come with it."""
    if kind is BadCredential and _LACKS_RIGHT in message:
        return AccessDenied
    if kind is ProviderError and _OTHER_BYTES.search(message):
        return IntegrityError
    return kind


def _seconds(wait: object) -> float | None:
    """b2sdk reads the header as whole seconds, and drops a date."""
    if not isinstance(wait, int | float) or wait < 0:
        return None
    return min(float(wait), _LONGEST_WAIT_SECONDS)


def is_worth_another_url(error: BaseException) -> bool:
    """Whether an upload that failed like this should be sent again, to a fresh upload URL."""
    return isinstance(error, b2.B2Error) and bool(error.should_retry_upload())
