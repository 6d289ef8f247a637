"""The house rules that no ready-made tool checks, as functions from a parsed module to its breaches of the rule.

Each rule is tried twice by `test_rules.py`: on a planted breach, which it must find, and on the tree.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import PurePosixPath

Finding = str
Rule = Callable[["Module"], Iterator[Finding]]

LONGEST_FILE = 450
_LOG_METHODS = {"debug", "info", "warning", "error", "exception", "critical", "log"}
_LOGGERS = {"log", "logger", "_log", "_logger"}
_SECRET_WORDS = ("secret", "password", "credential", "token", "signed", "signature", "authorization", "url", "reveal")
_SQL_METHODS = {"execute", "find", "rows", "scalar", "scalars"}
#: Methods that give the whole body when they are called without a bound.
_READERS = {"read", "read_bytes", "read_text", "readall", "readlines", "body", "aread"}
_BODY_AREAS = ("providers", "storage", "documents", "api")
_UNSAFE_FORMATS = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve", "jsonpickle"}
_SETTINGS_AREAS = ("bootstrap", "cli", "revisions", "sandbox", "settings")


@dataclass(frozen=True)
class Module:
    """A source file: where it is in the tree, and what is in it."""

    path: PurePosixPath
    text: str

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text)

    @property
    def area(self) -> str:
        """The package or module right below `simples3dms`: `storage`, `cli`, `bootstrap`; empty elsewhere."""
        parts = self.path.parts
        return parts[2].removesuffix(".py") if parts[:2] == ("src", "simples3dms") and len(parts) > 2 else ""

    def at(self, node: ast.AST, message: str) -> Finding:
        return f"{self.path}:{getattr(node, 'lineno', 1)}: {message}"

    def calls(self) -> Iterator[ast.Call]:
        return (node for node in ast.walk(self.tree) if isinstance(node, ast.Call))

    def method_calls(self, names: set[str]) -> Iterator[tuple[ast.Call, ast.Attribute]]:
        for call in self.calls():
            if isinstance(call.func, ast.Attribute) and call.func.attr in names:
                yield call, call.func


def _name(node: ast.AST) -> str:
    """The last name of an expression: `b` of `a.b`, `f` of `f`."""
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


def commits_at_the_edge(module: Module) -> Iterator[Finding]:
    """One unit of work is one transaction, committed in db/ (and by revisions, which own the schema)."""
    if module.area and module.area not in ("db", "revisions"):
        for call, _ in module.method_calls({"commit"}):
            yield module.at(call, "commit() outside db/: leave the unit of work's block instead")


def times_have_zones(module: Module) -> Iterator[Finding]:
    """Naive datetimes compare wrongly with those of the database."""
    for call, function in module.method_calls({"now", "utcnow", "today", "fromtimestamp", "utcfromtimestamp"}):
        if _name(function.value) not in ("datetime", "date"):
            continue
        needed = {"now": 1, "fromtimestamp": 2}.get(function.attr)
        has_zone = any(keyword.arg == "tz" for keyword in call.keywords) or (
            needed is not None and len(call.args) >= needed
        )
        if not has_zone:
            yield module.at(call, f"{function.attr}() without a zone: give UTC")


def bodies_are_streamed(module: Module) -> Iterator[Finding]:
    """Memory stays the same whatever an object's size: nothing reads a whole body."""
    if module.area in _BODY_AREAS:
        for call, function in module.method_calls(_READERS):
            if not call.args and not call.keywords:
                yield module.at(call, f"{function.attr}() without a bound: read in pieces")


def logs_hold_no_secrets(module: Module) -> Iterator[Finding]:
    """No secret and no signed URL in a log call, judged by the names in it."""
    for call, function in module.method_calls(_LOG_METHODS):
        if _name(function.value) not in _LOGGERS:
            continue
        for given in (*call.args, *(keyword.value for keyword in call.keywords)):
            for node in ast.walk(given):
                name = _name(node).lower()
                if any(word in name for word in _SECRET_WORDS):
                    yield module.at(call, f"{name} in a log call")
        for keyword in call.keywords:
            if any(word in (keyword.arg or "").lower() for word in _SECRET_WORDS):
                yield module.at(call, f"{keyword.arg}= in a log call")


def settings_stay_at_the_edges(module: Module) -> Iterator[Finding]:
    """Settings are read by the composition root and the command line; everything else is handed values."""
    if not module.area or module.area in _SETTINGS_AREAS:
        return
    for node in ast.walk(module.tree):
        named = node.module if isinstance(node, ast.ImportFrom) else None
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import | ast.ImportFrom) else []
        if named == "simples3dms.settings" or "simples3dms.settings" in names:
            yield module.at(node, "settings imported here: take the value as an argument")
        if named == "simples3dms" and "settings" in names:
            yield module.at(node, "settings imported here: take the value as an argument")
        if isinstance(node, ast.Attribute) and node.attr in ("environ", "getenv") and _name(node.value) == "os":
            yield module.at(node, "the environment read here: make it a setting")


def sql_is_in_repositories(module: Module) -> Iterator[Finding]:
    """Statements are run by repositories and db/ only."""
    if module.area in ("", "db", "revisions", "sandbox", "jobqueue") or module.path.name == "repository.py":
        return
    for call, function in module.method_calls(_SQL_METHODS):
        if _name(function.value) in ("uow", "connection", "cursor", "unit"):
            yield module.at(call, f"{_name(function.value)}.{function.attr}() outside a repository")


def nothing_is_pretended(module: Module) -> Iterator[Finding]:
    """What a store can't do is said by its capabilities; what is not built is not there."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Raise) and node.exc is not None:
            raised = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
            if _name(raised) == "NotImplementedError":
                yield module.at(node, "NotImplementedError: capabilities say what can be done")


def nothing_is_unpickled(module: Module) -> Iterator[Finding]:
    """S-53: what comes from outside is JSON; these formats run code when they are read."""
    for node in ast.walk(module.tree):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        for name in names:
            if name.partition(".")[0] in _UNSAFE_FORMATS:
                yield module.at(node, f"{name} imported: use JSON")
    for call, function in module.method_calls({"load", "load_all", "unsafe_load", "full_load"}):
        if _name(function.value) == "yaml":
            yield module.at(call, f"yaml.{function.attr}(): use safe_load")
    for call in module.calls():
        if _name(call.func) in ("eval", "exec") and isinstance(call.func, ast.Name):
            yield module.at(call, f"{_name(call.func)}() runs what it is given")


def modules_say_what_they_are_for(module: Module) -> Iterator[Finding]:
    """A module opens with a sentence that says what it is for."""
    if not ast.get_docstring(module.tree):
        yield module.at(module.tree, "no docstring")


def files_are_short(module: Module) -> Iterator[Finding]:
    """A file longer than this holds more than one idea."""
    count = module.text.count("\n")
    if count > LONGEST_FILE:
        yield module.at(module.tree, f"{count} lines, more than {LONGEST_FILE}")


def fail_points_of(module: Module) -> Iterator[tuple[str, int]]:
    """Each name that `fp` is called with, and the line; a name that is not written out is given as `?`."""
    for call in module.calls():
        if _name(call.func) == "fp":
            given = call.args[0] if call.args else None
            name = given.value if isinstance(given, ast.Constant) and isinstance(given.value, str) else "?"
            yield name, call.lineno


SOURCE_RULES: tuple[Rule, ...] = (
    commits_at_the_edge,
    times_have_zones,
    bodies_are_streamed,
    logs_hold_no_secrets,
    settings_stay_at_the_edges,
    sql_is_in_repositories,
    nothing_is_pretended,
    nothing_is_unpickled,
)
FILE_RULES: tuple[Rule, ...] = (modules_say_what_they_are_for, files_are_short)
