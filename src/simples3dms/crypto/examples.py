"""Secrets that everybody knows: out of manuals, examples and other people's defaults."""

from __future__ import annotations

import re
from typing import Final

#: What is left of a text when case and punctuation are gone. The last two are AWS's and MinIO's own examples.
_KNOWN: Final = frozenset(
    {
        *("admin", "administrator", "changeit", "changeme", "changethis", "default", "demo", "development", "dummy"),
        *("letmein", "minioadmin", "mysecret", "mysecretkey", "notsecure", "pass", "passw0rd", "password", "postgres"),
        *("public", "replaceme", "root", "secret", "secretkey", "simples3dms", "supersecret", "test", "testing"),
        *("todo", "topsecret", "user", "welcome", "xxx", "yoursecret", "yoursecretkey", "yourpassword"),
        *("wjalrxutnfemik7mdengbpxrficyexamplekey", "q3am3uq867spqqa43p2fzuf1pfnkmjwlwc2mbxq"),
    }
)
_MARKS: Final = ("example", "changeme", "replaceme", "insertyour", "yourkeyhere", "placeholder")
_FEWEST_CHARACTERS: Final = 4


def is_example(secret: str) -> bool:
    """Whether anybody could guess it: a known default, a placeholder, digits behind one, or hardly any variety."""
    bare = re.sub(r"[^a-z0-9]", "", secret.lower())
    if bare.rstrip("0123456789") in _KNOWN or bare in _KNOWN or any(mark in bare for mark in _MARKS):
        return True
    return len(set(secret)) < _FEWEST_CHARACTERS or (bare.isdecimal() and bare in "01234567890123456789")
