"""SQL of key-encrypting keys and of every sealed column, for the platform's unit of work."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from psycopg import sql

from simples3dms.db.session import UnitOfWork
from simples3dms.keys.values import Rewrap, SealedColumn, SealedRow, SealingKey

_REWRAP: Final = """id, key_id, state, total_count, done_count, broken_count, error_code, created_at, finished_at,
  fence, attempt"""
#: Held while it is decided which key is primary, or whether one may go.
_KEYS_LOCK: Final = 0x53_33_44_4D_4B_45
CHANNEL: Final = "simples3dms_changed"


@dataclass(frozen=True, slots=True)
class Moved:
    """A row under its new key; it counts only if the row is still what it was."""

    row: SealedRow
    key_id: str
    wrapped_key: bytes
    sealed: bytes


async def lock(uow: UnitOfWork) -> None:
    await uow.execute("SELECT pg_advisory_xact_lock(%s)", [_KEYS_LOCK])


async def notify(uow: UnitOfWork) -> None:
    """Tell all processes, when the unit of work commits, to look at what they hold in memory."""
    await uow.execute("SELECT pg_notify(%s, '')", [CHANNEL])


async def list_keys(uow: UnitOfWork) -> list[SealingKey]:
    """All keys that the database knows: few."""
    return await uow.rows(
        SealingKey,
        "SELECT key_id, fingerprint, is_primary, created_at FROM sealing_keys ORDER BY created_at, key_id LIMIT 1000",
    )


async def find_primary(uow: UnitOfWork) -> str | None:
    found = await uow.scalar("SELECT key_id FROM sealing_keys WHERE is_primary")
    return None if found is None else str(found)


async def hold(uow: UnitOfWork, key_id: str) -> bool:
    """Whether the database knows the key; it can't be retired before this unit of work ends."""
    return await uow.scalar("SELECT 1 FROM sealing_keys WHERE key_id = %s FOR KEY SHARE", [key_id]) is not None


async def insert_first(uow: UnitOfWork, key_id: str, fingerprint: bytes) -> None:
    """The first key of all becomes the primary one; where there is any, nothing happens."""
    await uow.execute(
        """INSERT INTO sealing_keys (key_id, fingerprint, is_primary)
           SELECT %s, %s, true WHERE NOT EXISTS (SELECT 1 FROM sealing_keys) ON CONFLICT DO NOTHING""",
        [key_id, fingerprint],
    )


async def fill_fingerprint(uow: UnitOfWork, key_id: str, fingerprint: bytes) -> None:
    await uow.execute(
        "UPDATE sealing_keys SET fingerprint = %s WHERE key_id = %s AND fingerprint IS NULL", [fingerprint, key_id]
    )


async def set_primary(uow: UnitOfWork, key_id: str, fingerprint: bytes) -> None:
    """The caller holds `lock`."""
    await uow.execute("UPDATE sealing_keys SET is_primary = false WHERE is_primary AND key_id <> %s", [key_id])
    await uow.execute(
        """INSERT INTO sealing_keys (key_id, fingerprint, is_primary) VALUES (%s, %s, true)
           ON CONFLICT (key_id) DO UPDATE SET is_primary = true""",
        [key_id, fingerprint],
    )


async def delete(uow: UnitOfWork, key_id: str) -> None:
    await uow.execute("DELETE FROM sealing_keys WHERE key_id = %s AND NOT is_primary", [key_id])


async def list_named(uow: UnitOfWork, columns: Sequence[SealedColumn]) -> list[str]:
    """The ids of all keys that any sealed row names: by steps over the index, however many rows there are."""
    found: set[str] = set()
    for column in columns:
        statement = sql.SQL(
            """WITH RECURSIVE named AS (
                 (SELECT min({key_id}) AS id FROM {table})
                 UNION ALL SELECT (SELECT min({key_id}) FROM {table} WHERE {key_id} > named.id) FROM named
                   WHERE named.id IS NOT NULL)
               SELECT id FROM named WHERE id IS NOT NULL LIMIT 1000"""
        ).format(key_id=sql.Identifier(column.key_id), table=sql.Identifier(column.table))
        found.update(await uow.scalars(statement))
    return sorted(found)


async def count_sealed(
    uow: UnitOfWork, columns: Sequence[SealedColumn], key_ids: Sequence[str], *, limit: int
) -> dict[str, int]:
    """For each key, the rows that name it, counted up to `limit` a table.

    One statement, so that a row which changes its key meanwhile is counted under one of the two, and only there.
    """
    counted = sql.SQL(" + ").join(
        sql.SQL("(SELECT count(*) FROM (SELECT 1 FROM {} WHERE {} = keys.id LIMIT %(limit)s) found)").format(
            sql.Identifier(column.table), sql.Identifier(column.table, column.key_id)
        )
        for column in columns
    )
    statement = sql.SQL("SELECT keys.id, {} FROM unnest(%(ids)s::text[]) AS keys (id)").format(counted)
    cursor = await uow.connection.execute(statement, {"ids": list(key_ids), "limit": limit})
    return {key_id: int(count) for key_id, count in await cursor.fetchall()}


async def list_sealed(
    uow: UnitOfWork, column: SealedColumn, key_id: str, *, after: Sequence[str] | None, limit: int
) -> list[SealedRow]:
    """A page of the rows that name the key, by their own key."""
    key = sql.SQL(", ").join(map(sql.Identifier, column.key))
    beyond: sql.Composable = sql.SQL("")
    if after is not None:
        beyond = sql.SQL("AND ({}) > ({})").format(key, sql.SQL(", ").join([sql.Placeholder()] * len(column.key)))
    statement = sql.SQL(
        """SELECT ARRAY[{texts}] AS key, {owner} AS owner, {row_id} AS row_id, ({version})::bigint AS version,
             {key_id} AS key_id, {wrapped_key} AS wrapped_key, {sealed} AS sealed
           FROM {table} WHERE {key_id} = %s {beyond} ORDER BY {key} LIMIT %s"""
    ).format(
        texts=sql.SQL(", ").join(sql.SQL("{}::text").format(sql.Identifier(name)) for name in column.key),
        owner=_expression(column.owner),
        row_id=_expression(column.row_id),
        version=_expression(column.version),
        key_id=sql.Identifier(column.key_id),
        wrapped_key=sql.Identifier(column.wrapped_key),
        sealed=sql.Identifier(column.column),
        table=sql.Identifier(column.table),
        beyond=beyond,
        key=key,
    )
    return await uow.rows(SealedRow, statement, [key_id, *(after or ()), limit])


async def move(uow: UnitOfWork, column: SealedColumn, moved: Moved) -> bool:
    """Whether the row was still what it was; one that was replaced or deleted meanwhile is left alone."""
    statement = sql.SQL(
        "UPDATE {table} SET {key_id} = %s, {wrapped_key} = %s, {sealed} = %s WHERE {key} AND {key_id} = %s"
        " AND {wrapped_key} = %s"
    ).format(
        table=sql.Identifier(column.table),
        key_id=sql.Identifier(column.key_id),
        wrapped_key=sql.Identifier(column.wrapped_key),
        sealed=sql.Identifier(column.column),
        key=sql.SQL(" AND ").join(sql.SQL("{} = %s").format(sql.Identifier(name)) for name in column.key),
    )
    row = moved.row
    given = [moved.key_id, moved.wrapped_key, moved.sealed, *row.key, row.key_id, row.wrapped_key]
    return await uow.execute(statement, given) == 1


async def insert_rewrap(uow: UnitOfWork, rewrap_id: UUID, key_id: str, *, total_count: int) -> bool:
    """Whether it was begun: False while another one runs."""
    done = await uow.execute(
        "INSERT INTO rewraps (id, key_id, state, total_count) VALUES (%s, %s, 'running', %s) ON CONFLICT DO NOTHING",
        [rewrap_id, key_id, total_count],
    )
    return done == 1


async def find_rewrap(uow: UnitOfWork, rewrap_id: UUID | None = None) -> Rewrap | None:
    """The rewrap, or the newest of all."""
    return await uow.find(
        Rewrap,
        f"""SELECT {_REWRAP} FROM rewraps WHERE %(id)s::uuid IS NULL OR id = %(id)s
            ORDER BY id DESC LIMIT 1""",  # noqa: S608
        {"id": rewrap_id},
    )


async def lower_broken(uow: UnitOfWork, rewrap_id: UUID, count: int) -> None:
    """No more than so many rows are still broken of those that it could not open."""
    await uow.execute(
        "UPDATE rewraps SET broken_count = %(n)s WHERE id = %(id)s AND broken_count > %(n)s",
        {"n": count, "id": rewrap_id},
    )


async def reopen_rewrap(uow: UnitOfWork, rewrap_id: UUID) -> bool:
    """Go on with one that has ended; False if it runs, or another is the newest by now."""
    changed = await uow.execute(
        """UPDATE rewraps SET state = 'running', finished_at = NULL, due_at = now()
           WHERE id = %s AND state <> 'running'
             AND NOT EXISTS (SELECT 1 FROM rewraps newer WHERE newer.id > rewraps.id)""",
        [rewrap_id],
    )
    return changed == 1


async def list_due_rewraps(uow: UnitOfWork, *, limit: int) -> list[UUID]:
    return await uow.scalars(
        """SELECT id FROM rewraps WHERE state = 'running' AND due_at <= now()
             AND (lease_until IS NULL OR lease_until < now()) LIMIT %s""",
        [limit],
    )


async def claim_rewrap(uow: UnitOfWork, rewrap_id: UUID, *, lease_seconds: float) -> Rewrap | None:
    """The rewrap, ours for a while under a new fence; None while it is another's, or done."""
    return await uow.find(
        Rewrap,
        f"""UPDATE rewraps SET fence = fence + 1, attempt = attempt + 1,
              lease_until = now() + make_interval(secs => %s)
            WHERE id = %s AND state = 'running' AND (lease_until IS NULL OR lease_until < now())
            RETURNING {_REWRAP}""",  # noqa: S608
        [lease_seconds, rewrap_id],
    )


async def count_page(uow: UnitOfWork, rewrap: Rewrap, *, done: int, broken: int, lease_seconds: float) -> bool:
    """Whether the claim still stands; if so, it is prolonged."""
    changed = await uow.execute(
        """UPDATE rewraps SET done_count = done_count + %(done)s, broken_count = broken_count + %(broken)s,
             total_count = greatest(total_count, done_count + %(done)s), error_code = NULL,
             lease_until = now() + make_interval(secs => %(lease)s)
           WHERE id = %(id)s AND fence = %(fence)s AND state = 'running'""",
        {"done": done, "broken": broken, "lease": lease_seconds, "id": rewrap.id, "fence": rewrap.fence},
    )
    return changed == 1


async def finish_rewrap(uow: UnitOfWork, rewrap: Rewrap, *, broken: int) -> bool:
    changed = await uow.execute(
        """UPDATE rewraps SET state = CASE WHEN %(broken)s > 0 THEN 'needs_attention' ELSE 'done' END,
             broken_count = %(broken)s, error_code = CASE WHEN %(broken)s > 0 THEN 'seal_broken' END,
             lease_until = NULL, finished_at = now() WHERE id = %(id)s AND fence = %(fence)s AND state = 'running'""",
        {"broken": broken, "id": rewrap.id, "fence": rewrap.fence},
    )
    return changed == 1


async def postpone_rewrap(uow: UnitOfWork, rewrap: Rewrap, *, error_code: str, seconds: float) -> None:
    """Give the claim back; it is due again later."""
    await uow.execute(
        """UPDATE rewraps SET lease_until = NULL, due_at = now() + make_interval(secs => %s), error_code = %s
           WHERE id = %s AND fence = %s AND state = 'running'""",
        [seconds, error_code, rewrap.id, rewrap.fence],
    )


def _expression(text: str) -> sql.SQL:
    """A piece of SQL from the list of sealed columns, which is written by hand."""
    return sql.SQL(text)
