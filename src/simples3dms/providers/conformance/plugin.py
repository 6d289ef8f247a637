"""The option of the conformance suite. A plug-in, since pytest asks a package's conftest for options too late."""

from __future__ import annotations

from typing import Any


def pytest_addoption(parser: Any) -> None:
    parser.addoption(
        "--store-config", metavar="FILE", help='TOML: kind = "...", [settings], [credential] of the store to test'
    )
