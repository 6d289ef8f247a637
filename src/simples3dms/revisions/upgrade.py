"""Bring a database's schema to the newest revision and give the login role its memberships, as the schema's owner."""

from __future__ import annotations

from pathlib import Path

import psycopg
import sqlalchemy
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from psycopg import sql

from simples3dms.db.roles import GROUP_ROLES
from simples3dms.errors import Unavailable

#: Held for the length of an upgrade, so that two processes that start at once do not both run it.
_ADVISORY_LOCK = 0x53_33_44_4D_53
#: Below these minor versions row-level security can leak (CVE-2024-10976, CVE-2025-8713).
_OLDEST_MINOR = {15: 14, 16: 10, 17: 6}


def upgrade(owner_url: str, *, login_role: str) -> str:
    """Apply all revisions to the database at `owner_url` and return the revision reached. Idempotent.

    `owner_url` needs CREATEROLE and ownership of the database; it is not used at run time. `login_role` is what the
    application logs in as: it is made a member of the group roles and keeps no right of its own.
    """
    engine = sqlalchemy.create_engine("postgresql+psycopg://", creator=lambda: psycopg.connect(owner_url))
    try:
        with engine.connect() as connection:
            _refuse_leaky(connection)
            connection.execute(sqlalchemy.text("SELECT pg_advisory_lock(:key)"), {"key": _ADVISORY_LOCK})
            connection.commit()
            config = _config()
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
            connection.commit()
        with psycopg.connect(owner_url, autocommit=True) as plain:
            _grant_memberships(plain, login_role)
    except sqlalchemy.exc.OperationalError as error:
        raise Unavailable("The database does not accept connections as the schema's owner.") from error
    finally:
        engine.dispose()
    return newest_revision()


def newest_revision() -> str:
    """The revision that this version of the program needs."""
    head = ScriptDirectory.from_config(_config()).get_current_head()
    return head or ""


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    config.set_main_option("path_separator", "os")
    return config


def _refuse_leaky(connection: sqlalchemy.Connection) -> None:
    number = int(connection.execute(sqlalchemy.text("SHOW server_version_num")).scalar_one())
    major, minor = divmod(number, 10_000)
    if major < 15 or minor < _OLDEST_MINOR.get(major, 0):
        raise Unavailable(
            f"PostgreSQL {major}.{minor} is too old: isolation needs 15.14, 16.10, 17.6 or newer.",
            code="database_too_old",
        )


def _grant_memberships(connection: psycopg.Connection, login_role: str) -> None:
    # The application compares revisions at start; the table holds nothing else.
    connection.execute("GRANT SELECT ON alembic_version TO PUBLIC")
    for role in GROUP_ROLES:
        statement = sql.SQL("GRANT {} TO {}").format(sql.Identifier(role), sql.Identifier(login_role))
        connection.execute(statement)
