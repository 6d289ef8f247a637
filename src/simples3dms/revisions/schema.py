"""At start: is the schema the one that this version needs, and is the login as weak as it must be?"""

from __future__ import annotations

import psycopg

from simples3dms.bootstrap import Services
from simples3dms.db.roles import LOGIN_ROLE
from simples3dms.errors import Unavailable
from simples3dms.revisions.upgrade import current_revision, newest_revision, upgrade


def ensure_schema(services: Services) -> None:
    """Bring the embedded server's schema up to date; of an operator's own database, refuse one that is not. Blocks."""
    if services.server.is_embedded:
        upgrade(services.urls.owner_url, login_role=LOGIN_ROLE)
        return
    found, needed = current_revision(services.urls.app_url), newest_revision()
    if found != needed:
        raise Unavailable(
            f"The database's schema is at revision {found or 'none'}, this version needs {needed}: "
            "run `simples3dms db upgrade`.",
            code="database_schema_outdated",
        )
    _refuse_powerful_login(services.urls.app_url)


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
