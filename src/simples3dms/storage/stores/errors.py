"""A store's errors as something that its owner can act on, and what stores themselves refuse."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

from simples3dms.errors import Conflict, Failure, Invalid, NotFound, StorageFailed, TooLarge, Unavailable
from simples3dms.providers.errors import NOT_THIS_KIND, ProviderError

#: Error kind -> (class, code, sentence). One row a kind; a test walks the tree of provider errors over it.
_EXPLANATIONS: Final[dict[str, tuple[type[Failure], str, str]]] = {
    "object_not_found": (StorageFailed, "store_object_missing", "The store no longer has this object."),
    "access_denied": (
        StorageFailed,
        "store_access_denied",
        "The store knows the credential, but it may not do this: give it rights to read, write, list and delete.",
    ),
    "bad_credential": (
        StorageFailed,
        "store_credential_refused",
        "The store refuses the credential: check the key and its secret.",
    ),
    "clock_skew": (
        StorageFailed,
        "store_clock_skew",
        "The clocks of this server and of the store differ too much for signed requests: set this server's right. "
        "Nothing is wrong with the credential.",
    ),
    "bucket_missing": (StorageFailed, "store_bucket_missing", "There is no such bucket at the store: check its name."),
    "throttled": (Unavailable, "store_throttled", "The store asks for fewer requests; try again shortly."),
    "store_unavailable": (Unavailable, "store_unreachable", "The store can't be reached: check the endpoint, or wait."),
    "store_resting": (
        Unavailable,
        "store_resting",
        "The store failed again and again and is left alone for a moment; try again shortly.",
    ),
    "store_timed_out": (Unavailable, "store_timed_out", "The store did not answer in time; try again."),
    "integrity": (StorageFailed, "store_integrity", "What the store holds or received differs from what was sent."),
    "precondition_failed": (Conflict, "store_precondition_failed", "The object at the store has changed meanwhile."),
    "cap_exceeded": (
        StorageFailed,
        "store_cap_exceeded",
        "The store's account has reached a spending or transaction cap: raise it with the provider.",
    ),
    "store_full": (StorageFailed, "store_full", "The store has no space left: make room, nothing was stored."),
    "store_broken": (
        StorageFailed,
        "store_broken",
        "The store's disk failed: nothing was stored. Look at the disk before you use the store again.",
    ),
    "object_too_large": (TooLarge, "store_object_too_large", "The store does not take objects of this size."),
    "unsupported": (Invalid, "store_unsupported", "This kind of store can't do that."),
}
#: Where the caller has just typed in the settings or the credential, these are the caller's to mend.
_MISTYPED: Final = frozenset({"access_denied", "bad_credential", "bucket_missing"})


def explain(error: ProviderError, *, typed_in: bool = False) -> Failure:
    """The failure to show for a store's error: stable code, our sentence, never the vendor's.

    `typed_in`: the error is about settings or a credential that the caller gave in this very request.
    """
    failure, code, sentence = _EXPLANATIONS.get(
        error.kind, (StorageFailed, "storage_failed", "The store failed in a way that it did not explain.")
    )
    extra: dict[str, object] = {}
    if error.vendor_code:
        extra["vendor_code"] = error.vendor_code
    if error.retry_after:
        extra["retry_after_seconds"] = error.retry_after
    if typed_in and (error.kind == "object_not_found" or error.vendor_code == NOT_THIS_KIND):
        # No object was asked for: whoever answers does not speak this kind's language.
        code, sentence = "store_endpoint_wrong", "The endpoint answers, but not as this kind of store: check it."
        failure = Invalid
    if typed_in and error.kind in _MISTYPED:
        failure = Invalid
    return failure(sentence, code=code, **extra)


def not_found() -> NotFound:
    return NotFound("There is no such store.", code="store_not_found")


def not_probed() -> NotFound:
    return NotFound("The store has not been probed yet.", code="probe_not_found")


def probe_failed(findings: list[dict[str, str]]) -> Invalid:
    reds = [finding for finding in findings if finding["verdict"] == "red"]
    said = "; ".join(f"{red['name']}: {red['detail']}" for red in reds)
    message = f"The store fails the probe and is not safe to use. {said}"
    return Invalid(message, code="store_probe_failed", findings=findings)


def unguarded(kind: str) -> Invalid:
    return Invalid(
        f"Stores of the kind {kind!r} don't pass the egress guard, which this installation demands.",
        code="store_kind_unguarded",
    )


def endpoint_refused() -> Invalid:
    return Invalid("The endpoint is not written as a plain host name or address.", code="endpoint_refused")


def exists(name: str) -> Conflict:
    return Conflict(f"There is a store named {name!r} already.", code="store_exists")


def differs(name: str) -> Conflict:
    return Conflict(
        f"The store {name!r} has other settings than these. A store's place never changes: give this one another name.",
        code="store_differs",
    )


def holds_other(key_count: int) -> Conflict:
    return Conflict(
        f"The new place does not hold what this store holds: of the copies looked for, {key_count} are not there. "
        "Bring the objects there first, or add the place as a store of its own and migrate.",
        code="store_place_differs",
    )


def duplicate(name: str) -> Conflict:
    return Conflict(
        f"The store {name!r} is the same place already: two stores in one place would mix up their objects.",
        code="store_duplicate",
    )


def alias(name: str, path: str) -> Conflict:
    return Conflict(
        f"The directory is the one of the store {name!r}, by another path: give {path!r} and a prefix. If it is a copy "
        "of that directory, remove its file '.~store' first.",
        code="store_duplicate",
    )


def place_taken() -> Conflict:
    """One answer for every other owner: whose store it is, is not told."""
    return Conflict(
        "This place, or one above or below it, is in use by somebody else: choose another bucket or prefix.",
        code="store_place_taken",
    )


def name_taken(name: str) -> Conflict:
    return Conflict(
        f"The tenant has a store named {name!r} already, its own or a granted one: the two would be mixed up.",
        code="store_name_taken",
    )


def jurisdiction_unknown(code: str) -> Invalid:
    return Invalid(
        f"{code!r} is neither a country's two-letter code nor a bloc that is known (EU, EEA).",
        code="jurisdiction_unknown",
    )


def jurisdiction_contradicted(name: str, known: str) -> Conflict:
    return Conflict(
        f"The region of the store {name!r} is known to be in {known}: another jurisdiction would be wrong.",
        code="jurisdiction_contradicted",
    )


def residency_violated(store: str, jurisdiction: str | None, allowed: Collection[str]) -> Conflict:
    where = f"lies in {jurisdiction}" if jurisdiction else "has no known jurisdiction"
    return Conflict(
        f"The store {store!r} {where}; the tenant's documents may lie in {', '.join(sorted(allowed)) or 'none'} only.",
        code="residency_violated",
        store=store,
        jurisdiction=jurisdiction,
        allowed=sorted(allowed),
    )


def not_granted(name: str) -> NotFound:
    return NotFound(f"The store {name!r} is not granted to this tenant.", code="store_not_granted")


def grant_in_use(name: str, needs: Sequence[str]) -> Conflict:
    return Conflict(
        f"The tenant still needs the store {name!r} ({', '.join(needs)}): move it to another store first.",
        code="store_grant_in_use",
        needs=list(needs),
    )


def disabled(name: str) -> Conflict:
    return Conflict(f"The store {name!r} is disabled.", code="store_disabled")


def draining(name: str) -> Conflict:
    return Conflict(f"The store {name!r} is being drained: it takes no new tenants.", code="store_draining")


def untrusted(reason: str) -> Conflict:
    return Conflict(
        f"{reason} Nothing at this store is repaired by itself until an operator trusts it again.",
        code="store_untrusted",
    )


def locks_in_use(name: str) -> Conflict:
    return Conflict(
        f"The store {name!r} keeps documents by locks that were set there: it goes on using them until they are over.",
        code="store_locks_in_use",
    )


def in_use(name: str) -> Conflict:
    return Conflict(
        f"Tenants write to the store {name!r}, or a migration uses it: move them to another store first.",
        code="store_in_use",
    )


def name_invalid() -> Invalid:
    return Invalid(
        "A store's name has 1 to 63 lower-case letters, digits and hyphens, and starts with no hyphen.",
        code="store_name_invalid",
    )


def credential_blank(field: str) -> Invalid:
    return Invalid(
        "The store's credential is not valid.",
        code="credential_invalid",
        fields=[{"field": field, "message": "must be text, and not blank"}],
    )


def prefix_invalid() -> Invalid:
    return Invalid(
        "A prefix is made of names of letters, digits, `.`, `_` and `-`, each followed by a slash; "
        "no name starts with a dot, and all have at most 500 characters together.",
        code="store_prefix_invalid",
    )


def prefix_taken() -> Conflict:
    return Conflict(
        "This prefix, or one above or below it, belongs to another grant in the same bucket.",
        code="store_prefix_taken",
    )


def granted_differently(prefix: str) -> Conflict:
    return Conflict(
        f"The tenant has this store already, under the prefix {prefix!r}; a grant's prefix never changes.",
        code="store_grant_differs",
    )
