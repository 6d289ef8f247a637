"""What can be wrong with a request about documents."""

from __future__ import annotations

from simples3dms.errors import Conflict, Failure, Invalid, NotFound, TooLarge, Unavailable


def not_found() -> NotFound:
    return NotFound("There is no such document in this tenant.", code="document_not_found")


def version_not_found() -> NotFound:
    return NotFound("This document has no such version.", code="version_not_found")


def in_trash() -> Conflict:
    return Conflict("This document is in the trash; restore it first.", code="document_deleted")


def not_in_trash() -> Conflict:
    return Conflict("Only a document in the trash can be purged; delete it first.", code="document_not_deleted")


def size_mismatch(announced: int, received: int) -> Invalid:
    return Invalid(
        f"The body has {received} bytes, but {announced} were announced; nothing was stored.",
        code="size_mismatch",
        announced_bytes=announced,
        received_bytes=received,
    )


def too_large(largest_bytes: int) -> TooLarge:
    return TooLarge(
        f"The document is larger than the {largest_bytes} bytes that are taken here; nothing was stored.",
        code="document_too_large",
        largest_bytes=largest_bytes,
    )


def limit_reached(limit: str, most: int) -> Conflict:
    """`limit`: `most_documents` or `most_bytes`."""
    what = "documents" if limit == "most_documents" else "bytes"
    return Conflict(
        f"The tenant may keep {most} {what}, versions and trash included, and this would be more; nothing was stored. "
        "Purge some, or ask the operator.",
        code="limit_reached",
        limit=limit,
        most=most,
    )


def digest_mismatch() -> Invalid:
    return Invalid(
        "The body's SHA-256 is not the one announced; nothing was stored. Send it again.", code="digest_mismatch"
    )


def key_reused() -> Conflict:
    return Conflict("This Idempotency-Key was used for another upload; use a fresh one.", code="idempotency_key_reused")


def upload_under_way() -> Conflict:
    return Conflict("An upload with this Idempotency-Key is still under way; wait for it.", code="upload_in_progress")


def too_few_stores(wanted: int, failure: Failure) -> Unavailable:
    """`failure`: what one of them said."""
    return Unavailable(
        f"The placement asks for {wanted} stores to have the bytes before an upload is done, and fewer could take "
        "them now; nothing was stored. Send it again later.",
        code="too_few_stores",
        store_code=failure.problem_code,
    )


def size_needed() -> Invalid:
    return Invalid(
        "For documents of this type, the placement must know the size beforehand, to know how many stores to wait for: "
        "send it as Content-Length.",
        code="upload_size_needed",
    )
