"""Write the generated pages of docs/reference from the code; with `--check`, say which are stale and change nothing."""

from __future__ import annotations

import argparse
import ast
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import typer.main
from pydantic_core import PydanticUndefined

from scripts.proofs import ATTACKS, FAULTS, MODES, named_tests
from simples3dms.api import problems
from simples3dms.api.app import create_app
from simples3dms.cli.main import app as command_line
from simples3dms.errors import Failure
from simples3dms.identity.permissions import MEANINGS, PLATFORM_ROLES, TENANT_ROLES, Permission
from simples3dms.providers.errors import ProviderError
from simples3dms.providers.kinds.s3.profiles import PROFILES
from simples3dms.providers.registry import get_kind
from simples3dms.providers.stack import TUNABLE
from simples3dms.settings import Settings
from simples3dms.storage.stores.errors import explain

ROOT = Path(__file__).parents[1]
TARGET = ROOT / "docs" / "reference"
NOTE = "<!-- Written by scripts/generate_reference.py (`make docs`): change the code, not this page. -->\n"
#: Kinds that a person may choose; `memory` is for tests.
KINDS = ("s3", "b2", "local", "gcs", "azure")


def cell(text: object) -> str:
    """Text for one cell of a table."""
    return " ".join(str(text).split()).replace("|", "\\|")


def table(heads: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    """A Markdown table."""
    names = list(heads)
    lines = [names, ["---"] * len(names), *([cell(value) for value in row] for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


# --- settings -------------------------------------------------------------------------------------------------------


def settings_page() -> str:
    """Every setting with its environment variable, default, bounds and meaning."""
    schema = Settings.model_json_schema()["properties"]
    rows = []
    for name, field in Settings.model_fields.items():
        default = field.default
        shown = "" if default is None or default is PydanticUndefined or default == "" else f"`{default}`"
        rows.append([f"`SIMPLES3DMS_{name.upper()}`", shown, allowed(schema[name]), field.description or ""])
    return (
        f"{NOTE}\n# Settings\n\n"
        "The host commands (`serve`, `worker`, `db`, `fsck`) read these environment variables when they start. "
        "A value that is not allowed is refused, with the variable's name.\n\n"
        + table(["Variable", "Default", "Allowed", "Meaning"], rows)
        + "\nThe commands that speak to a server read these instead:\n\n"
        + table(
            ["Variable", "Meaning"],
            [
                ["`SIMPLES3DMS_URL`", "The server's address. Without it: the one that `login` saved."],
                ["`SIMPLES3DMS_TOKEN`", "An API token. Without it: the one that `login` saved."],
                ["`SIMPLES3DMS_TENANT`", "The tenant that commands are about, as `--tenant`."],
            ],
        )
    )


def allowed(schema: Mapping[str, Any]) -> str:
    """What a field takes, from its JSON schema."""
    for option in schema.get("anyOf", []):
        if option.get("type") != "null":
            return allowed(option)
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    kind = {"path": "path", "password": "secret"}.get(schema.get("format", ""), schema.get("type", ""))
    bounds = [
        f"{word} {schema[key]:g}"
        for key, word in (("minimum", "at least"), ("exclusiveMinimum", "above"), ("maximum", "at most"))
        if key in schema
    ]
    return f"{kind}, {', '.join(bounds)}" if bounds else str(kind)


# --- stores ---------------------------------------------------------------------------------------------------------


def stores_page() -> str:
    """What each kind of store is set up with."""
    parts = [
        f"{NOTE}\n# Kinds of stores\n\n"
        "`simples3dms store add NAME --kind KIND` takes the settings as `--set NAME=VALUE`. The credential is asked "
        "for, or read as a JSON object from a file (`--credential-file FILE`, `-` for standard input).\n"
    ]
    for name in KINDS:
        kind = get_kind(name)
        parts.append(f"\n## `{name}`: {kind.title}\n\n")
        parts.append(paragraph(kind.settings_model.__doc__))
        parts.append(form(kind.public_settings_schema(), "Setting"))
        credential = kind.credential_schema()
        if credential.get("properties"):
            parts.append(f"\n{paragraph(kind.credential_model.__doc__)}{form(credential, 'Credential')}")
        else:
            parts.append("\nIt has no credential.\n")
    parts.append(
        "\n## Settings of the layers\n\nA store's own values (`simples3dms store tune`); the installation's hold for "
        "the rest.\n\n"
    )
    rows = [[f"`{name}`", f"{lowest:g}", f"{highest:g}", text] for name, (lowest, highest, text) in TUNABLE.items()]
    rows.append(["`read_only`", "false", "true", "Refuse every call that would change something."])
    parts.append(table(["Setting", "Least", "Greatest", "Meaning"], rows))
    parts.append("\n## Services that speak S3\n\nWhat the setting `service` of the kind `s3` stands for.\n\n")
    services = [
        [f"`{name}`", one.title, one.addressing, _size(one.largest_object_bytes), "; ".join(one.notes)]
        for name, one in PROFILES.items()
    ]
    parts.append(table(["Service", "Name", "Addressing", "Largest object", "Notes"], services))
    return "".join(parts)


def _size(size_bytes: int) -> str:
    return f"{size_bytes / 10**12:.3g} TB"


def paragraph(text: str | None) -> str:
    return f"{' '.join(text.split())}\n\n" if text else ""


def form(schema: Mapping[str, Any], title: str) -> str:
    required = set(schema.get("required", []))
    rows = []
    for name, field in schema["properties"].items():
        default = field.get("default")
        secret = "secret" if field.get("writeOnly") or any(o.get("writeOnly") for o in field.get("anyOf", [])) else ""
        pattern = next((f"`{one['pattern']}`" for one in [field, *field.get("anyOf", [])] if "pattern" in one), "")
        values = ", ".join(f"`{value}`" for value in field.get("enum", []))
        rows.append(
            [
                f"`{name}`",
                "yes" if name in required else "no",
                f"`{default}`" if default else "",
                values or pattern or secret,
            ]
        )
    return table([title, "Required", "Default", "Values"], rows)


# --- commands -------------------------------------------------------------------------------------------------------


def commands_page() -> str:
    """Every command with its arguments and options, as `--help` has them."""
    root = typer.main.get_command(command_line)
    parts = [
        f"{NOTE}\n# Commands\n\n"
        "`simples3dms --help` shows the same at the terminal. Commands with `--json` print JSON on standard output and "
        "everything meant for people on standard error. A failure is one line on standard error and exit code 1; wrong "
        "usage and wrong settings end with 2.\n\n"
        "`serve`, `worker`, `db`, `fsck` and `demo` run on the host and use its [settings](settings.md). All others "
        "speak HTTP with the server that `login` named.\n"
    ]
    for path, command in walk(root, ("simples3dms",)):
        parts.append(f"\n## `{' '.join(path)}`\n\n{command.get_short_help_str(500) or ''}\n")
        context = command.context_class(command, info_name=" ".join(path))
        parts.append(f"\n    {' '.join([*path, *command.collect_usage_pieces(context)])}\n")
        rows = [[f"`{left}`", right] for left, right in records(command, context)]
        if rows:
            parts.append("\n" + table(["Parameter", "Meaning"], rows))
    return "".join(parts)


def walk(command: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """The commands of a tree that can be run, in the order of their help."""
    if not hasattr(command, "commands"):
        yield path, command
        return
    for name, child in command.commands.items():
        yield from walk(child, (*path, name))


def records(command: Any, context: Any) -> Iterator[tuple[str, str]]:
    for parameter in command.params:
        if parameter.name in {"help", "install_completion", "show_completion"}:
            continue
        if parameter.param_type_name == "argument":
            yield " ".join(parameter.get_usage_pieces(context)), parameter.help or ""
            continue
        found = parameter.get_help_record(context)
        if found:
            yield found


# --- HTTP -----------------------------------------------------------------------------------------------------------


def openapi() -> dict[str, Any]:
    return create_app(None).openapi()


def api_page() -> str:
    """Every operation of the HTTP API; the OpenAPI document beside it has the whole of it."""
    document = openapi()
    parts = [
        f"{NOTE}\n# HTTP API\n\n"
        "The whole of it, with every field, is in the [OpenAPI document](openapi.json); a running server answers it "
        "at `/api/v1/openapi.json`.\n\n"
        "- Requests carry `Authorization: Bearer TOKEN`; `POST /api/v1/login` gives a token.\n"
        "- A tenant is named in the path by its short name or its id.\n"
        "- Lists come in pages: `items`, and `next`, which goes into `after` of the next request.\n"
        "- Failures are problems (RFC 9457) with a stable `code`: see [problems](problems.md).\n"
        "- An upload may carry `Idempotency-Key`: repeated, it has one effect and the same answer.\n"
    ]
    groups: dict[str, list[list[object]]] = {}
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            names = [parameter["name"] for parameter in operation.get("parameters", []) if parameter["in"] != "path"]
            group = (operation.get("tags") or ["service"])[0]
            text = ". ".join(filter(None, (operation.get("summary"), operation.get("description"))))
            groups.setdefault(group, []).append(
                [
                    f"`{method.upper()} {path}`",
                    f"`{operation['operationId']}`",
                    text,
                    ", ".join(f"`{n}`" for n in names),
                ]
            )
    for group, rows in groups.items():
        parts.append(f"\n## {group.capitalize()}\n\n")
        parts.append(table(["Request", "Operation", "What it does", "Query and headers"], rows))
    return "".join(parts)


# --- problems -------------------------------------------------------------------------------------------------------


def permissions_page() -> str:
    """Roles and permissions, and what each operation takes."""
    # By name and not in one table of both: the two auditors are equal as text.
    held = [(str(role), rights) for role, rights in TENANT_ROLES.items()]
    held += [(f"platform {role}", rights) for role, rights in PLATFORM_ROLES.items()]
    heads = ["permission", "allows", *(name for name, _ in held)]
    rows = [
        [f"`{one}`", MEANINGS[one], *("yes" if one in rights | {Permission.OWN} else "" for _, rights in held)]
        for one in Permission
    ]
    operations = [
        [f"`{method.upper()} {path}`", f"`{operation['operationId']}`", f"`{operation['x-permission']}`"]
        for path, methods in openapi()["paths"].items()
        for method, operation in methods.items()
        if "x-permission" in operation
    ]
    return (
        "# Permissions\n\n"
        "A member of a tenant has one role in it; a user may be an operator or an auditor of the platform besides.\n"
        "What no role allows is refused with `permission_required`, which names the permission. A tenant in which one\n"
        "may do nothing looks like one that does not exist. Administrators give places up to administrator; owners\n"
        "are made, changed and removed by owners and operators, and the last one stays.\n\n"
        + table(heads, rows)
        + "\n## What each operation takes\n\nAll others are open: signing in, and the two health checks.\n\n"
        + table(["operation", "id", "permission"], operations)
    )


def problems_page() -> str:
    """Every code that a failure can carry, with its status and its sentences."""
    found: dict[str, tuple[set[str], bool, list[str]]] = {}
    for code, status, retry, message in (*raised(), *store_problems()):
        statuses, _, messages = found.setdefault(code, (set(), retry, []))
        statuses.add(status)
        if message not in messages:
            messages.append(message)
    rows = [
        [
            f"`{code}`",
            ", ".join(sorted(statuses - {"-"})) or "-",
            "yes" if retry else "",
            GENERAL.get(code) or " / ".join(messages),
        ]
        for code, (statuses, retry, messages) in sorted(found.items())
    ]
    return (
        f"{NOTE}\n# Problems\n\n"
        "A failed request is answered with `application/problem+json` (RFC 9457). `code` is stable; `detail` is a "
        "sentence for a person and may change; `request_id` is the one in the server's log. Fields that are wrong are "
        "listed in `fields`. The command line shows the sentence. `…` stands for what differs from case to case.\n\n"
        "*Again*: the same request may succeed if it is repeated; with status 503 `Retry-After` says when. "
        "Status `-`: only the command line says this.\n\n" + table(["Code", "Status", "Again", "Sentence"], rows)
    )


#: What the HTTP door itself answers, before or after any operation.
HTTP_OWN = {
    "http_error": "4xx",
    "internal": "500",
    "invalid": "422",
    "method_not_allowed": "405",
    "not_found": "404",
    "too_large": "413",
}
#: Codes that stand for a whole class of failures.
GENERAL = {
    "internal": "Something went wrong here; it has been logged with this request's id.",
    "invalid": "The request can't succeed as it stands; `fields` or the sentence says what is wrong.",
    "not_found": "There is nothing at this address, or nothing of yours.",
    "unavailable": "Something that the server depends on is not there now.",
    "http_error": "The request was refused before it reached an operation.",
    "too_large": "The request is larger than the server takes.",
    "method_not_allowed": "There is no such method at this address.",
}


def failures() -> dict[str, type[Failure]]:
    """The classes of failures by name."""
    found: dict[str, type[Failure]] = {}
    pending: list[type[Failure]] = [Failure]
    while pending:
        cls = pending.pop()
        found[cls.__name__] = cls
        pending.extend(cls.__subclasses__())
    return found


def raised() -> Iterator[tuple[str, str, bool, str]]:
    """Every failure that the source makes: code, status, whether to try again, sentence."""
    classes = failures()
    yield from ((code, status, False, "") for code, status in HTTP_OWN.items())
    for path in sorted((ROOT / "src" / "simples3dms").rglob("*.py")):
        if {"sandbox", "demo"} & set(path.parts):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name | ast.Attribute):
                continue
            cls = classes.get(node.func.id if isinstance(node.func, ast.Name) else node.func.attr)
            if cls is None or not node.args or isinstance(node.args[0], ast.Name):
                continue
            given = (
                word.value.value
                for word in node.keywords
                if word.arg == "code" and isinstance(word.value, ast.Constant)
            )
            code = str(next(given, cls.code))
            failure = cls.__new__(cls)
            Failure.__init__(failure, "", code=code)
            status, retry = standing(failure)
            # One that words its own sentence is described by what it is.
            text = (cls.__doc__ or "") if "__init__" in vars(cls) else sentence(node.args[0])
            yield code, "-" if "cli" in path.parts else status, retry, text


def standing(failure: Failure) -> tuple[str, bool]:
    return str(problems.status_of(failure)[0]), failure.retryable


def store_problems() -> Iterator[tuple[str, str, bool, str]]:
    """What a store's own errors become, also where the caller has just typed in its settings."""
    for cls in ProviderError.__subclasses__():
        for typed_in in (False, True):
            failure = explain(cls(""), typed_in=typed_in)
            yield (failure.problem_code, *standing(failure), failure.message)


def sentence(node: ast.expr) -> str:
    """The text of an expression, with what is filled in left out."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values)
    if isinstance(node, ast.BinOp):
        return sentence(node.left) + sentence(node.right)
    return "…"


# --- proofs ---------------------------------------------------------------------------------------------------------


def proofs_page() -> str:
    """Each fault and attack with the tests that bear its number."""
    found = named_tests()
    parts = [
        f"{NOTE}\n# Proofs\n\nWhat the product promises to stand, row by row, and the tests whose names bear the row's "
        "number. `make test` runs them all; a row without a test fails it.\n"
    ]
    for title, listed in (("Attacks", ATTACKS), ("Faults", FAULTS), ("Failures seen in the field", MODES)):
        rows = []
        for row, meaning in listed.items():
            tests = [test.partition("::") for test in found.get(row, [])]
            shown = "; ".join(f"`{name}` ({path.removeprefix('tests/')})" for path, _, name in tests)
            rows.append([_numbered(row), meaning, len(tests), shown])
        parts.append(f"\n## {title}\n\n{table(['Row', 'What', 'Tests', 'Which'], rows)}")
    return "".join(parts)


def _numbered(row: str) -> str:
    return row.removeprefix("mode_") if row.startswith("mode_") else f"{row[0].upper()}-{row[1:]}"


# --- writing --------------------------------------------------------------------------------------------------------

PAGES: dict[str, Callable[[], str]] = {
    "settings.md": settings_page,
    "stores.md": stores_page,
    "commands.md": commands_page,
    "http.md": api_page,
    "problems.md": problems_page,
    "permissions.md": permissions_page,
    "proofs.md": proofs_page,
    "openapi.json": lambda: json.dumps(openapi(), indent=2, sort_keys=True) + "\n",
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="Fail if a page is stale; write nothing.")
    check = parser.parse_args().check
    stale = []
    for name, page in PAGES.items():
        path, text = TARGET / name, page()
        if path.exists() and path.read_text() == text:
            continue
        stale.append(name)
        if not check:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
    if check and stale:
        sys.stderr.write(f"Stale in docs/reference: {', '.join(stale)}. Run `make docs` and commit the result.\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
