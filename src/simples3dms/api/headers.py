"""HTTP headers read and written by rules of their own: digests, ranges, dispositions."""

from __future__ import annotations

import base64
import binascii
import re
import unicodedata
from urllib.parse import quote

from simples3dms.errors import Invalid

_RANGE = re.compile(r"bytes=([0-9]{0,19})-([0-9]{0,19})", re.IGNORECASE)
_SHA256 = re.compile(r"(?:^|,)\s*sha-256=:([A-Za-z0-9+/=]*):\s*(?:,|$)", re.IGNORECASE)
#: Types that browsers show without running anything in them; all else is served as plain bytes.
_SAFE_TYPES = frozenset(
    {"application/pdf", "image/png", "image/jpeg", "image/gif", "image/webp", "text/plain", "application/zip"}
)


def parse_content_digest(value: str | None) -> bytes | None:
    """The SHA-256 of a Content-Digest header (RFC 9530), or None without one. Raises Invalid (`digest_malformed`)."""
    if value is None:
        return None
    found = _SHA256.search(value)
    try:
        digest = base64.b64decode(found.group(1), validate=True) if found else b""
    except binascii.Error:
        digest = b""
    if len(digest) != 32:
        raise Invalid(
            "Content-Digest must hold a SHA-256, as in `sha-256=:BASE64:` (RFC 9530).", code="digest_malformed"
        )
    return digest


def content_digest(sha256: bytes) -> str:
    return f"sha-256=:{base64.b64encode(sha256).decode()}:"


def parse_range(value: str | None, size_bytes: int) -> tuple[int, int] | None:
    """(start, length) of a single byte range, or None for the whole. Raises Invalid (`range_not_satisfiable`).

    Several ranges, other units and malformed values are answered with the whole, as RFC 9110 allows.
    """
    found = _RANGE.fullmatch(value.strip()) if value else None
    if found is None or not (found.group(1) or found.group(2)):
        return None
    first, last = found.groups()
    if not first:
        length = min(int(last), size_bytes)
        start = size_bytes - length
    else:
        start = int(first)
        end = min(int(last), size_bytes - 1) if last else size_bytes - 1
        if last and int(last) < start:
            return None
        length = end - start + 1
    if length <= 0 or start >= size_bytes:
        raise Invalid("The range lies outside the document.", code="range_not_satisfiable", size_bytes=size_bytes)
    return start, length


def is_held(if_none_match: str | None, etag: str) -> bool:
    """Whether the caller has these very bytes: the weak comparison of RFC 9110, section 13.1.2."""
    if if_none_match is None:
        return False
    tags = [tag.strip().removeprefix("W/") for tag in if_none_match.split(",")]
    return etag in tags or tags == ["*"]


def attachment(filename: str) -> str:
    """Content-Disposition for a download (RFC 6266): an ASCII fallback, and the true name in UTF-8 (RFC 8187)."""
    clean = "".join(character for character in filename if unicodedata.category(character)[0] != "C")
    clean = re.sub(r"[/\\]", "_", clean).strip() or "document"
    folded = unicodedata.normalize("NFKD", clean).encode("ascii", "ignore").decode()
    fallback = re.sub(r"[^A-Za-z0-9 ._()+-]", "_", folded).strip() or "document"
    return f"attachment; filename=\"{fallback}\"; filename*=UTF-8''{quote(clean, safe='')}"


def safe_type(content_type: str) -> str:
    """The uploader's type where nothing of it is ever executed, else plain bytes."""
    bare = content_type.partition(";")[0].strip().lower()
    return bare if bare in _SAFE_TYPES else "application/octet-stream"
