"""SQL of the guard: one row that says of itself whether it was written where it is read.

A restored row can't: `pg_restore` writes it in another transaction than the one that it names (`xmin`), a copy has
another database's oid, another cluster has another identifier, recovery to a point in time ends on another timeline.
"""

from __future__ import annotations

from typing import Final, LiteralString
from uuid import UUID

from simples3dms.db.session import Database, UnitOfWork
from simples3dms.storage.restores.values import Guard, Mark

_HERE: Final[LiteralString] = """SELECT (SELECT system_identifier::text FROM pg_control_system()) AS cluster_id,
  left(pg_walfile_name(pg_current_wal_lsn()), 8) AS timeline,
  (SELECT oid::text FROM pg_database WHERE datname = current_database()) AS database_oid"""
_STAMP: Final[LiteralString] = f"""cluster_id = here.cluster_id, timeline = here.timeline,
  database_oid = here.database_oid, written_by = pg_current_xact_id()::xid::text FROM ({_HERE}) here"""
_GUARD: Final[LiteralString] = f"""SELECT g.held_at, g.held_reason, g.confirmed_at, g.confirmed_by_name,
    (g.cluster_id, g.timeline, g.database_oid, g.written_by)
      = (here.cluster_id, here.timeline, here.database_oid, g.xmin::text) AS is_same
  FROM restore_guard g, ({_HERE}) here"""  # noqa: S608


async def find(database: Database) -> Guard | None:
    """In one round trip; None before the first look."""
    return await database.find_at_once(Guard, _GUARD)


async def lock(uow: UnitOfWork) -> Guard | None:
    return await uow.find(Guard, f"{_GUARD} FOR UPDATE OF g")


async def insert(uow: UnitOfWork) -> None:
    """The first look of an installation: whatever it is, it is not older than this."""
    await uow.execute(
        f"""INSERT INTO restore_guard (cluster_id, timeline, database_oid, written_by)
            SELECT cluster_id, timeline, database_oid, pg_current_xact_id()::xid::text FROM ({_HERE}) here
            ON CONFLICT DO NOTHING"""  # noqa: S608
    )


async def hold(uow: UnitOfWork, reason: str) -> None:
    await uow.execute(
        f"""UPDATE restore_guard SET held_at = coalesce(held_at, now()),
              held_reason = coalesce(held_reason, %s), {_STAMP}""",  # noqa: S608
        [reason],
    )


async def confirm(uow: UnitOfWork, *, name: str) -> None:
    await uow.execute(
        f"""UPDATE restore_guard SET held_at = NULL, held_reason = NULL, confirmed_at = now(),
              confirmed_by_name = %s, {_STAMP}""",  # noqa: S608
        [name],
    )


async def find_mark(uow: UnitOfWork, tenant_id: UUID, store_id: UUID) -> Mark | None:
    """For the platform's unit of work."""
    return await uow.find(
        Mark,
        """SELECT g.tenant_id, g.prefix, coalesce((SELECT seq FROM audit_checkpoints c WHERE c.tenant_id = g.tenant_id
             ORDER BY seq DESC LIMIT 1), 0) AS seq
           FROM store_grants g WHERE g.tenant_id = %s AND g.store_id = %s""",
        [tenant_id, store_id],
    )
