"""Rules about committed text: nothing that ties the tree to a registry or to one machine, and well-named fragments."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

#: Written so that this file does not match itself.
_TIES = re.compile(
    r"pypi[.]org|pythonhosted[.]org|registry[.]npmjs|deb[.]debian[.]org|--(?:extra-)?index-url|--find[-]links"
    r"|(?<![\w.])/(?:work|root|home/[a-z]+|Users/[A-Za-z]+)/"
)
_FRAGMENT = re.compile(r"(\d+|\+[a-z0-9-]+)\.(?P<type>[a-z]+)(\.\d+)?\.md")
_PIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*==[0-9][A-Za-z0-9.+!-]*")


def ties(text: str) -> list[str]:
    """The registry hosts, package indexes and absolute machine paths in a text."""
    return [match.group() for match in _TIES.finditer(text)]


def is_fragment_name(name: str, types: set[str]) -> bool:
    """`2.feature.md` (an issue's number) or `+first-path.feature.md` (no issue), of a known type."""
    match = _FRAGMENT.fullmatch(name)
    return match is not None and match["type"] in types


def malformed_pins(text: str) -> list[str]:
    """Lines of a constraints file that are neither comments nor `name==version`."""
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return [line for line in lines if not _PIN.fullmatch(line)]


def normalised(name: str) -> str:
    """A distribution's name as packaging tools compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def required_names(requirements: list[str]) -> set[str]:
    """The distributions that these requirements name."""
    return {normalised(match.group()) for line in requirements if (match := re.match(r"[A-Za-z0-9._-]+", line))}


def suffix_is_text(path: PurePosixPath) -> bool:
    return path.suffix not in {".png", ".ico", ".woff2", ".gz", ".zip", ".pdf"}
