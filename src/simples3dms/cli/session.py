"""Where the command line is signed in: a file for its owner only, overridden by the environment."""

from __future__ import annotations

import json
import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from simples3dms.client import Client
from simples3dms.errors import Unauthenticated
from simples3dms.kit.secret import Secret

DEFAULT_URL = "http://127.0.0.1:8080"

JsonFlag = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]
TenantOption = Annotated[
    str | None, typer.Option("--tenant", "-t", envvar="SIMPLES3DMS_TENANT", help="The tenant's short name or id.")
]


@dataclass(frozen=True, slots=True)
class Session:
    url: str
    token: Secret


def session_file() -> Path:
    base = os.environ.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
    return Path(base) / "simples3dms" / "session.json"


def save_session(session: Session) -> None:
    path = session_file()
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump({"url": session.url, "token": session.token.reveal()}, file)
    draft.replace(path)


def forget_session() -> None:
    session_file().unlink(missing_ok=True)


def load_session() -> Session:
    """Raises Unauthenticated (`not_signed_in`) where nobody is signed in."""
    url, token = os.environ.get("SIMPLES3DMS_URL"), os.environ.get("SIMPLES3DMS_TOKEN")
    saved: dict[str, str] = {}
    if session_file().exists():
        try:
            saved = json.loads(session_file().read_text())
        except ValueError:
            raise Unauthenticated(
                f"{session_file()} is damaged: run `simples3dms login` again.", code="not_signed_in"
            ) from None
    # A saved token is sent to the server that it came from, and to no other.
    if token is None and saved and url in (None, saved.get("url")):
        token, url = saved.get("token"), saved.get("url")
    if not token:
        raise Unauthenticated("Not signed in: run `simples3dms login` first.", code="not_signed_in")
    return Session(url or DEFAULT_URL, Secret(token))


def connect() -> Client:
    session = load_session()
    return Client(session.url, token=session.token)


def require_tenant(tenant: str | None) -> str:
    if not tenant:
        raise typer.BadParameter("Which tenant? Give --tenant NAME, or set SIMPLES3DMS_TENANT.")
    return tenant
