"""user report, user erase, user erasure: what is held about a person, and how they are forgotten."""

from __future__ import annotations

import sys
from typing import Annotated
from uuid import UUID

import typer

from simples3dms.cli.output import show_json, show_one, show_rows
from simples3dms.cli.session import JsonFlag, connect
from simples3dms.errors import Invalid, Unavailable


def install(user_app: typer.Typer) -> None:
    user_app.command("report")(report)
    user_app.command("erase")(erase)
    user_app.command("erasure")(show_erasure)
    user_app.command("erasures")(list_erasures)


def report(
    user: Annotated[str | None, typer.Argument(help="E-mail address or id; yourself by default.")] = None,
) -> None:
    """All that is held about a user, as JSON lines (about others: operators)."""
    last = b""
    with connect() as client, client.open_report(user) as lines:
        for line in lines:
            sys.stdout.buffer.write(line + b"\n")
            last = line
    if last != b'{"kind": "end"}':
        raise Unavailable("The report was broken off: it is not whole. Ask again.", code="report_broken_off")


def erase(
    user: Annotated[str, typer.Argument(help="E-mail address or id.")],
    reason: Annotated[str, typer.Option(help="Why: it goes into the audit and the certificate.")],
    document: Annotated[
        list[str] | None, typer.Option(help="TENANT:DOCUMENT, to be purged with the account; may be given again.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Erase a user for good, and documents named with them (operators)."""
    named = [_named(text) for text in document or []]
    with connect() as client:
        show_one(client.request_erasure(user, reason=reason, documents=named), as_json=as_json)


def _named(text: str) -> tuple[str, UUID]:
    tenant, _, document = text.partition(":")
    try:
        return tenant, UUID(document)
    except ValueError:
        raise Invalid(f"{text!r} is not TENANT:DOCUMENT.", code="document_malformed") from None


def show_erasure(erasure: UUID) -> None:
    """An erasure with its certificate, as JSON (operators)."""
    with connect() as client:
        show_json(client.get_erasure(erasure))


def list_erasures(as_json: JsonFlag = False) -> None:
    """Erasures, newest first (operators)."""
    with connect() as client:
        columns = ["id", "user_id", "state", "requested_at", "requested_by_name", "finished_at"]
        show_rows(client.iter_erasures(), columns, as_json=as_json, empty="None.")
