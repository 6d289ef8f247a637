"""What obstore raises of Google's and Microsoft's storage, as our errors: by the service's code, by status, by class.

obstore's text has four pieces: a sentence that quotes the key as it is; the request, its URL percent-encoded; the
answer; and its own view of things, which quotes all of it again. Only the answer is read, or a key that reads like a
code would be one: of a refusal "no such object" would be made, and a delete would have succeeded.
"""

from __future__ import annotations

import re
from typing import Final

from obstore import exceptions as theirs

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
    StoreFull,
    StoreTimedOut,
    StoreUnavailable,
    Throttled,
    Unsupported,
)


def _table(groups: dict[type[ProviderError], str]) -> dict[str, type[ProviderError]]:
    return {name: kind for kind, names in groups.items() for name in names.split()}


#: By obstore's class (and Python's own), the nearest ancestor first; used when the service said nothing.
BY_CLASS: Final = _table(
    {
        # `FileNotFoundError` is what obstore really raises for a missing object.
        ObjectNotFound: "FileNotFoundError NotFoundError",
        AccessDenied: "PermissionDeniedError",
        BadCredential: "UnauthenticatedError",
        PreconditionFailed: "PreconditionError AlreadyExistsError NotModifiedError",
        Unsupported: "NotSupportedError InvalidPathError ValueError",
        StoreTimedOut: "TimeoutError",
        StoreUnavailable: "BaseError GenericError JoinError OSError",
        ProviderError: "UnknownConfigurationKeyError",
    }
)
#: Codes of Google's XML API and of Azure's blob service that say more than their status does.
BY_CODE: Final = _table(
    {
        ObjectNotFound: "NoSuchKey BlobNotFound",
        BucketMissing: "NoSuchBucket InvalidBucketName ContainerNotFound ContainerBeingDeleted ContainerDisabled",
        BadCredential: """
            AuthenticationFailed AuthenticationRequired InvalidAuthenticationInfo NoAuthenticationInformation
            SignatureDoesNotMatch ExpiredToken TokenRefreshRequired InvalidAccessKeyId InvalidSecurity""",
        ClockSkew: "RequestTimeTooSkewed",
        # Held by a policy, or in the archive: the object is there.
        AccessDenied: """
            AccessDenied AccountProblem AccountIsDisabled AuthorizationFailure AuthorizationPermissionMismatch
            InsufficientAccountPermissions UserProjectMissing BlobArchived
            BlobImmutableDueToPolicy BlobImmutableDueToLegalHold""",
        Throttled: "SlowDown ServerBusy TooManyRequests RateLimitExceeded",
        StoreTimedOut: "OperationTimedOut RequestTimeout",
        IntegrityError: "BadDigest InvalidDigest IncompleteBody Md5Mismatch InvalidMd5",
        ObjectTooLarge: "EntityTooLarge RequestBodyTooLarge",
    }
)
#: Each of 300 to 599, as obstore has no class for most. A redirect leads to somebody else: whatever is asked for, it
#: is not here.
BY_STATUS: Final[dict[int, type[ProviderError]]] = {
    **dict.fromkeys(range(300, 400), BucketMissing),
    **dict.fromkeys(range(400, 500), ProviderError),
    **dict.fromkeys(range(500, 600), StoreUnavailable),
    **dict.fromkeys((304, 409, 412), PreconditionFailed),
    **dict.fromkeys((405, 414, 415, 416, 501, 505), Unsupported),
    **dict.fromkeys((407, 425, 499), StoreUnavailable),  # a proxy before the service; too early; a cut connection
    **dict.fromkeys((408, 504, 522, 524), StoreTimedOut),
    **dict.fromkeys((429, 509), Throttled),
    401: BadCredential,
    402: CapExceeded,
    403: AccessDenied,
    404: ObjectNotFound,
    413: ObjectTooLarge,
    451: AccessDenied,
    507: StoreFull,
}

#: The greedy beginning leaves a quoted key behind, whatever it reads like.
_ANSWER: Final = re.compile(r".*Error performing [A-Z]+ \S+ in \S+ - (.*)", re.DOTALL)
_STATUS: Final = re.compile(r"Server returned non-2xx status code: (\d{3})\b")
_REDIRECTED: Final = "Received redirect without LOCATION"
#: One blob of Azure's bulk delete, which is how obstore deletes there: the whole text, its status at the end.
_OF_BULK: Final = re.compile(
    r"(?:Generic \w+ error|Object at location .* not found): Bulk delete request failed for key .* \(code: (\d{3})\)",
    re.DOTALL,
)
_CODE: Final = re.compile(r"<Code>\s*([A-Za-z]{1,48})\s*</Code>")
_TIMED_OUT: Final = re.compile(r"HttpError \{\s+kind: Timeout\b")
_OWN_VIEW: Final = "\n\nDebug source"
_LOOKED_AT: Final = 6000

#: Every class that obstore may raise at us.
VENDOR_ERRORS: Final = (theirs.BaseError, OSError, ValueError)


def from_vendor(error: BaseException, key: str | None = None) -> ProviderError:
    """Our error for theirs. `vendor_code` is the service's code, else the status, else the class."""
    status, code = _answer(str(error)[:_LOOKED_AT].partition(_OWN_VIEW)[0])
    kind = BY_CODE.get(code or "") or BY_STATUS.get(status) or _by_class(error)
    said = code or (str(status) if status else type(error).__name__)
    return kind("the store refused the request, or failed", vendor_code=said, key=key)


def _answer(text: str) -> tuple[int, str | None]:
    """Status and code; 0 and None where the service said none, or none that we know."""
    if of_bulk := _OF_BULK.fullmatch(text):
        return int(of_bulk[1]), None
    if (answer := _ANSWER.match(text)) is None:
        return 0, None
    code, status = _CODE.search(answer[1]), _STATUS.match(answer[1])
    if status is None:
        return (301 if answer[1].startswith(_REDIRECTED) else 0), None
    return int(status[1]), (code[1] if code and code[1] in BY_CODE else None)


def _by_class(error: BaseException) -> type[ProviderError]:
    kind = next((BY_CLASS[base.__name__] for base in type(error).__mro__ if base.__name__ in BY_CLASS), ProviderError)
    return StoreTimedOut if kind is StoreUnavailable and _TIMED_OUT.search(str(error)) else kind


def leaves_open(error: ProviderError) -> bool:
    """Whether the answer had no code that says what is missing or refused: HEAD, a bulk delete, a gateway."""
    return type(error) in (ObjectNotFound, AccessDenied) and error.vendor_code not in BY_CODE
