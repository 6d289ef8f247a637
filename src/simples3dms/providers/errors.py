"""What a store can do wrong, as one tree. Vendor errors are mapped to it once, by table, at each kind's edge.

ProviderError
├── ObjectNotFound          the key (or that version of it) is not there
├── AccessDenied            the credential is known, and may not do this
│   └── ClockSkew           our clock and the store's differ too much for a signature: no word against the credential
├── BadCredential           the store does not know the credential, or its signature is wrong
├── BucketMissing           the bucket itself is not there: says nothing about its objects
├── Throttled               slow down (429, 503 SlowDown); honour `retry_after`
├── StoreUnavailable        refused, reset, 5xx: the store, not the object
│   └── StoreResting        our circuit breaker keeps calls from it for a while; nothing was sent
├── StoreTimedOut           no answer, or no further bytes, in time
├── IntegrityError          the bytes are not the bytes: length or digest differ
├── PreconditionFailed      a conditional request found another state
├── CapExceeded             an account's spending or transaction cap: retrying burns money or nothing
├── StoreFull               no space left (ENOSPC, EDQUOT)
├── StoreBroken             the disk failed (EIO): what was written may be lost, and repeating it would hide that
├── ObjectTooLarge          over the store's declared largest object
└── Unsupported             this kind of store can't do it; ask `capabilities` first
"""

from __future__ import annotations

from typing import ClassVar, Final


class ProviderError(Exception):
    """A store failed. Never holds a secret or a signed URL: the message is ours, not the vendor's.

    `kind` is stable; `retryable` says whether the same call may succeed if repeated; `retry_after` is in
    seconds where the store named a time; `vendor_code` is the store's own short code, for operators.
    """

    kind: ClassVar[str] = "provider_error"
    retryable: ClassVar[bool] = False

    def __init__(
        self, message: str, *, vendor_code: str | None = None, retry_after: float | None = None, key: str | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.vendor_code = vendor_code
        self.retry_after = retry_after
        self.key = key


class ObjectNotFound(ProviderError):
    kind = "object_not_found"


class AccessDenied(ProviderError):
    kind = "access_denied"


class ClockSkew(AccessDenied):
    kind = "clock_skew"


class BadCredential(ProviderError):
    kind = "bad_credential"


class BucketMissing(ProviderError):
    kind = "bucket_missing"


class Throttled(ProviderError):
    kind = "throttled"
    retryable = True


class StoreUnavailable(ProviderError):
    kind = "store_unavailable"
    retryable = True


class StoreResting(StoreUnavailable):
    """Nothing was sent. Later it may be: `retry_after` says when; the retry layer does not wait for it."""

    kind = "store_resting"


class StoreTimedOut(ProviderError):
    kind = "store_timed_out"
    retryable = True


class IntegrityError(ProviderError):
    kind = "integrity"


class PreconditionFailed(ProviderError):
    kind = "precondition_failed"


class CapExceeded(ProviderError):
    kind = "cap_exceeded"


class StoreFull(ProviderError):
    kind = "store_full"


class StoreBroken(ProviderError):
    kind = "store_broken"


class ObjectTooLarge(ProviderError):
    kind = "object_too_large"


class Unsupported(ProviderError):
    kind = "unsupported"


#: `vendor_code` of a BucketMissing where whoever answers does not speak the kind's language at all.
NOT_THIS_KIND: Final = "not_this_kind"

#: Errors that say something about the store as a whole and nothing about one object.
STORE_FAULTS = (
    StoreUnavailable,
    StoreTimedOut,
    Throttled,
    BadCredential,
    BucketMissing,
    CapExceeded,
    StoreFull,
    StoreBroken,
)
