"""At start: is the schema the one that this version needs, and is the login as weak as it must be?"""

from __future__ import annotations

from typing import Final

import psycopg
import structlog

from simples3dms.bootstrap import Services
from simples3dms.db.roles import GROUP_ROLES, LOGIN_ROLE
from simples3dms.errors import Unavailable

log = structlog.get_logger(__name__)

#: The revision that this version of the program needs; a test compares it with the revisions themselves.
NEWEST: Final = "0033"


def ensure_schema(services: Services) -> None:
    """Bring the embedded server's schema up to date; of an operator's own database, refuse one that is not. Blocks.

    A newer one is as good: revisions only add, so that versions may run side by side during an upgrade.
    """
    found = find_revision(services.urls.app_url)
    if is_newer(found):
        log.warning("schema.newer", revision=found, needed=NEWEST)
        if not services.server.is_embedded:
            _refuse_powerful_login(services.urls.app_url)
        return
    if services.server.is_embedded:
        if found != NEWEST or not _has_memberships(services.urls.app_url):
            # Loaded for this alone: Alembic and SQLAlchemy take longer than all the rest of most commands.
            from simples3dms.revisions.upgrade import upgrade

            upgrade(services.urls.owner_url, login_role=LOGIN_ROLE)
        return
    if found != NEWEST:
        raise Unavailable(
            f"The database's schema is at revision {found or 'none'}, this version needs {NEWEST}: "
            "run `simples3dms db upgrade`.",
            code="database_schema_outdated",
        )
    _refuse_powerful_login(services.urls.app_url)


def find_revision(url: str) -> str | None:
    """The revision that the database is at, or None where it has none."""
    with psycopg.connect(url) as connection:
        try:
            row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
        except (psycopg.errors.UndefinedTable, psycopg.errors.InsufficientPrivilege):
            return None
    return None if row is None else str(row[0])


def is_newer(revision: str | None) -> bool:
    """Whether a later version of the program has brought the schema there."""
    return revision is not None and revision.isdecimal() and int(revision) > int(NEWEST)


def _has_memberships(url: str) -> bool:
    """Whether the login may become each of the group roles: what an upgrade ends with."""
    with psycopg.connect(url) as connection:
        row = connection.execute(
            """SELECT count(*) FROM pg_roles r
               WHERE r.rolname = ANY (%s) AND pg_has_role(session_user, r.oid, 'MEMBER')""",
            [list(GROUP_ROLES)],
        ).fetchone()
    return row == (len(GROUP_ROLES),)


def _refuse_powerful_login(url: str) -> None:
    """At run time no superuser and no table owner: either would see through row-level security."""
    with psycopg.connect(url) as connection:
        row = connection.execute(
            """SELECT r.rolsuper OR r.rolbypassrls OR EXISTS (
                 SELECT 1 FROM pg_class c WHERE c.relowner = r.oid AND c.relname = 'blobs')
               FROM pg_roles r WHERE r.rolname = session_user"""
        ).fetchone()
    if row is None or row[0]:
        raise Unavailable(
            "The application must not log in as a superuser or as the tables' owner: "
            "give SIMPLES3DMS_DATABASE_URL a login role of its own (see the how-to on your own PostgreSQL).",
            code="database_login_too_powerful",
        )
