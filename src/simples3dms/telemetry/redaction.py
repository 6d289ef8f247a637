"""What a log line never shows: secrets, by their shape or their name, and characters that forge lines."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from typing import Any, Final

HIDDEN: Final = "***"
#: Names that hold a secret wherever they stand. What merely names one (`token_id`) or counts them is none.
_SECRET_NAME: Final = re.compile(
    r"(?i)(?:^|_|-)(?:passw(?:or)?d|passphrase|secret|token|authorization|cookie|credential|api_?key|application_?key"
    r"|secret_access_key|private_?key|dsn)s?$"
)
#: What to keep of a match, in its first group; the rest is hidden.
_SHAPES: Final = tuple(
    re.compile(shape)
    for shape in (
        r"(?s)()-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)",
        r"(\bs3dms[a-z]*_)[A-Za-z0-9_-]{16,}",  # our own tokens
        r"(?i)(\b(?:authorization|cookie|set-cookie|x-auth-token|x-vault-token)['\"]?\s*[:=]\s*['\"]?)[^'\"\r\n,}]+",
        r"(?i)(\b(?:bearer|basic)\s+)[A-Za-z0-9._~+/=-]{8,}",
        r"(__Host-[A-Za-z-]+=)[^;\s'\"]+",
        r"(?i)([?&](?:x-amz-signature|x-amz-security-token|x-amz-credential|signature|sig|token|code|key|secret"
        r"|authorization)=)[^&\s'\"]+",
        r"(?i)(\bsignature=)[0-9a-f]{16,}",
        r"(\b[a-z][a-z0-9+.-]*://[^/\s:@'\"]*:)[^@\s/'\"]+(?=@)",  # the password of a URL
        r"(?i)(\b(?:password|passwd|passphrase|secret_access_key|secretaccesskey|application_?key|client_secret)"
        r"['\"]?\s*[:=]\s*['\"]?)[^'\"\s,;}&]+",
        r"(\b4_00)[A-Za-z0-9_=/+-]{20,}",  # B2's account and upload tokens
        r"(\bK00)[0-9][A-Za-z0-9/+]{20,}",  # B2's application keys
    )
)


def redact(text: str) -> str:
    """The text without anything that has a secret's shape."""
    for shape in _SHAPES:
        text = shape.sub(rf"\g<1>{HIDDEN}", text)
    return text


def one_line(text: str) -> str:
    """The text with every character that could end a line, move a cursor or turn the reading order spelled out."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        _spelled(one) if unicodedata.category(one) in ("Cc", "Cf", "Zl", "Zp", "Cs") else one for one in text
    )


def clean(value: Any, *, name: str = "") -> Any:
    """A value as it may be logged: hidden by its name, or redacted; mappings and lists all through."""
    if isinstance(value, Mapping):
        return {key: clean(item, name=str(key)) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [clean(item, name=name) for item in value]
    if value is None or isinstance(value, bool | int | float):
        return value
    return HIDDEN if _SECRET_NAME.search(name) else redact(str(value))


def _spelled(character: str) -> str:
    number = ord(character)
    if number < 0x100:
        return f"\\x{number:02x}"
    return f"\\u{number:04x}" if number < 0x1_0000 else f"\\U{number:08x}"
