"""A provider's errors as something that the store's owner can act on."""

from __future__ import annotations

from simples3dms.errors import Conflict, Failure, Invalid, NotFound, StorageFailed, Unavailable
from simples3dms.providers.errors import ProviderError

#: Error kind -> (class, code, sentence). One row a kind; a test walks the tree of provider errors over it.
_EXPLANATIONS: dict[str, tuple[type[Failure], str, str]] = {
    "object_not_found": (StorageFailed, "store_object_missing", "The store no longer has this object."),
    "access_denied": (
        Invalid,
        "store_access_denied",
        "The store knows the credential, but it may not do this: give it rights to read, write, list and delete.",
    ),
    "bad_credential": (
        Invalid,
        "store_credential_refused",
        "The store refuses the credential: check the key and its secret.",
    ),
    "bucket_missing": (Invalid, "store_bucket_missing", "There is no such bucket at the store: check its name."),
    "throttled": (Unavailable, "store_throttled", "The store asks for fewer requests; try again shortly."),
    "store_unavailable": (Unavailable, "store_unreachable", "The store can't be reached: check the endpoint, or wait."),
    "store_timed_out": (Unavailable, "store_timed_out", "The store did not answer in time; try again."),
    "integrity": (StorageFailed, "store_integrity", "What the store holds or received differs from what was sent."),
    "precondition_failed": (Conflict, "store_precondition_failed", "The object at the store has changed meanwhile."),
    "cap_exceeded": (
        StorageFailed,
        "store_cap_exceeded",
        "The store's account has reached a spending or transaction cap: raise it with the provider.",
    ),
    "store_full": (StorageFailed, "store_full", "The store has no space left: make room, nothing was stored."),
    "object_too_large": (StorageFailed, "store_object_too_large", "The store does not take objects of this size."),
    "unsupported": (Invalid, "store_unsupported", "This kind of store can't do that."),
}


def explain(error: ProviderError) -> Failure:
    """The failure to show for a store's error: stable code, our sentence, never the vendor's."""
    failure, code, sentence = _EXPLANATIONS.get(
        error.kind, (StorageFailed, "storage_failed", "The store failed in a way that it did not explain.")
    )
    extra: dict[str, object] = {}
    if error.vendor_code:
        extra["vendor_code"] = error.vendor_code
    if error.retry_after:
        extra["retry_after_seconds"] = error.retry_after
    return failure(sentence, code=code, **extra)


def not_found() -> NotFound:
    return NotFound("There is no such store.", code="store_not_found")


def exists(name: str) -> Conflict:
    return Conflict(f"There is a store named {name!r} already.", code="store_exists")


def duplicate(name: str) -> Conflict:
    return Conflict(
        f"The store {name!r} is the same place already: two stores in one place would mix up their objects.",
        code="store_duplicate",
    )


def name_invalid() -> Invalid:
    return Invalid(
        "A store's name has 1 to 63 lower-case letters, digits and hyphens, and starts with no hyphen.",
        code="store_name_invalid",
    )


def prefix_taken() -> Conflict:
    return Conflict("Another tenant has this prefix, or one above or below it.", code="store_prefix_taken")
