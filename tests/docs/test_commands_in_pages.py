"""Every command line in the documentation and in messages is one that there is, with options that it has."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer.main

from simples3dms.cli.main import app

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")])
SOURCES = sorted((ROOT / "src").rglob("*.py"))
_FENCED = re.compile(r"^```(?:sh|bash|console)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"`((?:[a-z/.]*/)?simples3dms [^`]+)`")
_SHELL = {"|", "||", "&&", ";", ">", ">>", "<", "&"}


def _lines(text: str) -> Iterator[str]:
    for block in _FENCED.findall(text):
        for line in block.replace("\\\n", " ").splitlines():
            yield line.removeprefix("$ ")
    yield from (found.replace("\n", " ") for found in _INLINE.findall(text))


def _calls(text: str) -> Iterator[list[str]]:
    """The words after the program's name, of each call."""
    for line in _lines(text):
        try:
            words = shlex.split(line, comments=True)
        except ValueError:
            words = line.split()
        for at, word in enumerate(words):
            if word == "simples3dms" or word.endswith("bin/simples3dms"):
                rest = words[at + 1 :]
                ends = [place for place, one in enumerate(rest) if one in _SHELL]
                yield rest[: ends[0]] if ends else rest


@cache
def _root() -> Any:
    return typer.main.get_command(app)


def _fault(words: list[str]) -> str | None:
    """What is wrong with a call; None: nothing."""
    command: Any = _root()
    path: list[str] = []
    for word in words:
        if hasattr(command, "commands"):
            if word.startswith("-"):
                continue
            found = command.commands.get(word)
            if found is None:
                # A page may speak of a group's commands as a whole, or leave a place for one.
                return None if path and not re.fullmatch("[a-z][a-z-]+", word) else f"{' '.join(path)} has no {word!r}"
            command, path = found, [*path, word]
        elif re.match("--[a-z]", word):
            known = {name for one in command.params for name in (*one.opts, *one.secondary_opts)}
            if word.partition("=")[0] not in known | {"--help", "--tenant"}:
                return f"{' '.join(path)} has no {word!r}"
    return None


def test_faults_are_found() -> None:
    for words in (["document", "where"], ["doc", "were"], ["doc", "where", "X", "--tenannt", "acme"], ["stor"]):
        assert _fault(words) is not None, words
    for words in (["doc", "where", "X", "--tenant", "acme"], ["store", "credential", "show", "X"], ["doc", "..."]):
        assert _fault(words) is None, words


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_commands_of_a_page_are_there(page: Path) -> None:
    assert [fault for words in _calls(page.read_text()) if (fault := _fault(words))] == []


def test_the_commands_that_messages_name_are_there() -> None:
    calls = [(path.name, words) for path in SOURCES for words in _calls(path.read_text())]
    assert len(calls) > 10
    assert [(name, fault) for name, words in calls if (fault := _fault(words))] == []


def test_there_are_commands_to_look_at() -> None:
    assert sum(1 for page in PAGES for _ in _calls(page.read_text())) > 200
