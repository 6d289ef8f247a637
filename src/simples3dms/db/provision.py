"""Roles, passwords and the database of the embedded server, made once as its superuser."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from simples3dms.db.roles import LOGIN_ROLE, OWNER_ROLE

_DATABASE = "simples3dms"
_ADVISORY_LOCK = 0x53_33_44_4D_50


@dataclass(frozen=True, slots=True, repr=False)
class Provisioned:
    """How to reach the database: as its owner (revisions only) and as the application."""

    owner_url: str
    app_url: str


def provision(superuser_url: Callable[[str], str], credentials_file: Path, *, database: str = _DATABASE) -> Provisioned:
    """Make sure that owner, login role and database exist. Idempotent, and safe when two processes start at once."""
    passwords = _load_or_create(credentials_file)
    with psycopg.connect(superuser_url("postgres"), autocommit=True) as connection:
        connection.execute("SELECT pg_advisory_lock(%s)", [_ADVISORY_LOCK])
        _ensure_role(connection, OWNER_ROLE, passwords[OWNER_ROLE], "LOGIN CREATEROLE NOSUPERUSER")
        _ensure_role(connection, LOGIN_ROLE, passwords[LOGIN_ROLE], "LOGIN NOINHERIT NOSUPERUSER NOCREATEROLE")
        if connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [database]).fetchone() is None:
            statement = sql.SQL("CREATE DATABASE {} OWNER {}")
            connection.execute(statement.format(sql.Identifier(database), sql.Identifier(OWNER_ROLE)))
    base = superuser_url(database)
    return Provisioned(
        make_conninfo(base, user=OWNER_ROLE, password=passwords[OWNER_ROLE]),
        make_conninfo(base, user=LOGIN_ROLE, password=passwords[LOGIN_ROLE]),
    )


def _ensure_role(connection: psycopg.Connection, name: str, password: str, rights: str) -> None:
    exists = connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [name]).fetchone()
    verb = "ALTER" if exists else "CREATE"
    statement = sql.SQL("{verb} ROLE {name} {rights} PASSWORD {password}").format(
        verb=sql.SQL(verb), name=sql.Identifier(name), rights=sql.SQL(rights), password=sql.Literal(password)
    )
    connection.execute(statement)


def _load_or_create(path: Path) -> dict[str, str]:
    """The passwords, generated at first use; the file is for its owner only. The first of two writers wins."""
    if not path.exists():
        draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            json.dump({name: secrets.token_urlsafe(32) for name in (OWNER_ROLE, LOGIN_ROLE)}, file)
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(draft, path)
        except FileExistsError:
            pass
        finally:
            draft.unlink()
    passwords: dict[str, str] = json.loads(path.read_text())
    return passwords
