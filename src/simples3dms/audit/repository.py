"""SQL of the audit: events are added and read; sealing gives them number and hash; a cut removes the oldest."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final, LiteralString
from uuid import UUID

from psycopg import sql
from psycopg.types.json import Jsonb

from simples3dms.audit.values import (
    AuditEvent,
    ChainedEvent,
    Checkpoint,
    Cut,
    Head,
    SealedKey,
    Search,
    SigningKey,
    Uncopied,
)
from simples3dms.db.session import UnitOfWork
from simples3dms.errors import Unavailable

_EVENT: Final = "id, at, principal_id, principal_name, action, target_type, target_id, outcome, details, seq"
_CHAINED: Final = (
    "id, at, principal_id, principal_name, action, target_type, target_id, outcome, details::text AS details, seq, hash"
)
#: A process that stops with a chain's head in its hand is cut off by the database, so that another goes on.
LONGEST_IDLE_SECONDS: Final = 5.0
_HEAD: Final = "tenant_id, seq, hash, cut_seq, checkpoint_seq, retention_days"


async def insert(uow: UnitOfWork, tenant_id: UUID, event: AuditEvent) -> None:
    """Add an event; the database's clock says when."""
    await uow.execute(
        """INSERT INTO audit_events (tenant_id, id, principal_id, principal_name, action, target_type, target_id,
             outcome, details) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s)""",
        [
            tenant_id,
            event.id,
            event.principal_id,
            event.principal_name,
            event.action,
            event.target_type,
            event.target_id,
            event.outcome,
            Jsonb(event.details),
        ],
    )


# searching


async def find_cursor(uow: UnitOfWork, tenant_id: UUID, event_id: UUID) -> datetime | None:
    """When the event that a page ended with was recorded; None if there is no such event."""
    at: datetime | None = await uow.scalar(
        "SELECT at FROM audit_events WHERE tenant_id = %s AND id = %s", [tenant_id, event_id]
    )
    return at


async def search(
    uow: UnitOfWork,
    tenant_id: UUID,
    wanted: Search,
    *,
    cursor: tuple[datetime, UUID] | None,
    oldest_first: bool,
    limit: int,
) -> list[AuditEvent]:
    """A page by (at, id) from the cursor on. Those that are not sealed yet are a handful, and have an index too."""
    params: dict[str, Any] = {"tenant": tenant_id, "limit": limit}
    if cursor is not None:
        params |= {"at": cursor[0], "after": cursor[1]}
    order = sql.SQL("ORDER BY at, id LIMIT %(limit)s" if oldest_first else "ORDER BY at DESC, id DESC LIMIT %(limit)s")
    branches = []
    for is_sealed in (True, False):
        conditions, given = _conditions(wanted, is_sealed=is_sealed)
        params |= given
        if cursor is not None:
            beyond: LiteralString = (
                "(at, id) > (%(at)s, %(after)s)" if oldest_first else "(at, id) < (%(at)s, %(after)s)"
            )
            conditions.append(sql.SQL(beyond))
        branch = sql.SQL("(SELECT {columns} FROM audit_events WHERE tenant_id = %(tenant)s AND {where} {order})")
        branches.append(branch.format(columns=sql.SQL(_EVENT), where=sql.SQL(" AND ").join(conditions), order=order))
    return await uow.rows(AuditEvent, sql.SQL("{} UNION ALL {} {}").format(*branches, order), params)


def _conditions(wanted: Search, *, is_sealed: bool) -> tuple[list[sql.SQL], dict[str, Any]]:
    """In the words of the indexes."""
    conditions: list[LiteralString] = ["seq IS NOT NULL" if is_sealed else "seq IS NULL"]
    params: dict[str, Any] = {}
    if wanted.principal is not None:
        try:
            params["principal"] = UUID(wanted.principal)
            conditions.append("principal_id = %(principal)s")
        except ValueError:
            params["principal"] = wanted.principal
            conditions.append("principal_name = %(principal)s")
    if wanted.action is not None and wanted.action.endswith(".*"):
        params["noun"] = wanted.action.removesuffix(".*")
        conditions.append("noun = %(noun)s" if is_sealed else "split_part(action, '.', 1) = %(noun)s")
    elif wanted.action is not None:
        params["action"] = wanted.action
        conditions.append("action = %(action)s")
    if wanted.target_type is not None:
        params["target_type"] = wanted.target_type
        conditions.append("target_type = %(target_type)s")
    if wanted.target_id is not None:
        params["target_id"] = wanted.target_id
        conditions.append("target_id = %(target_id)s")
    if wanted.outcome is not None:
        params["outcome"] = wanted.outcome
        # Said twice where it is rare, so that the index of the rare ones fits.
        rare: LiteralString = " AND outcome <> 'done'" if wanted.outcome != "done" else ""
        conditions.append("outcome = %(outcome)s" + rare)
    if wanted.since is not None:
        params["since"] = wanted.since
        conditions.append("at >= %(since)s")
    if wanted.until is not None:
        params["until"] = wanted.until
        conditions.append("at < %(until)s")
    return [sql.SQL(condition) for condition in conditions], params


# the chain


async def list_unsealed_tenants(uow: UnitOfWork, *, after: UUID | None, limit: int) -> list[UUID]:
    """Those with events to seal, from one to the next in the index. For the platform's unit of work."""
    return await uow.scalars(
        """WITH RECURSIVE waiting AS (
             (SELECT tenant_id FROM audit_events WHERE seq IS NULL
                AND (%(after)s::uuid IS NULL OR tenant_id > %(after)s) ORDER BY tenant_id LIMIT 1)
             UNION ALL
             SELECT (SELECT e.tenant_id FROM audit_events e WHERE e.seq IS NULL AND e.tenant_id > w.tenant_id
                     ORDER BY e.tenant_id LIMIT 1)
             FROM waiting w WHERE w.tenant_id IS NOT NULL)
           SELECT tenant_id FROM waiting WHERE tenant_id IS NOT NULL LIMIT %(limit)s""",
        {"after": after, "limit": limit},
    )


async def ensure_head(uow: UnitOfWork) -> None:
    await uow.execute("INSERT INTO audit_heads (tenant_id) VALUES (%s) ON CONFLICT DO NOTHING", [uow.tenant_id])


async def find_head(uow: UnitOfWork) -> Head | None:
    return await uow.find(Head, f"SELECT {_HEAD} FROM audit_heads WHERE tenant_id = %s", [uow.tenant_id])  # noqa: S608


async def lock_head(uow: UnitOfWork, *, wait: bool, idle_seconds: float = LONGEST_IDLE_SECONDS) -> Head | None:
    """The tenant's head, for whoever may change the chain; None if somebody else is at it and one does not wait.

    Whoever stops in the middle of this unit of work loses it after so long, and with it what it holds.
    """
    bound = f"{int(idle_seconds * 1000)}ms"
    await uow.scalar("SELECT set_config('idle_in_transaction_session_timeout', %s, true)", [bound])
    query: LiteralString = f"SELECT {_HEAD} FROM audit_heads WHERE tenant_id = %s FOR UPDATE"  # noqa: S608
    return await uow.find(Head, query + ("" if wait else " SKIP LOCKED"), [uow.tenant_id])


async def list_unsealed(uow: UnitOfWork, *, limit: int) -> list[ChainedEvent]:
    """Committed and not sealed, oldest first. One that is still to be committed is not seen, and comes later."""
    return await uow.rows(
        ChainedEvent,
        f"SELECT {_CHAINED} FROM audit_events WHERE tenant_id = %s AND seq IS NULL ORDER BY at, id LIMIT %s",  # noqa: S608
        [uow.tenant_id, limit],
    )


async def seal(uow: UnitOfWork, ids: Sequence[UUID], seqs: Sequence[int], hashes: Sequence[bytes]) -> int:
    """Give each event its number and hash; how many got theirs. The caller holds the head."""
    return await uow.execute(
        """UPDATE audit_events e SET seq = given.seq, hash = given.hash, noun = split_part(e.action, '.', 1)
           FROM unnest(%s::uuid[], %s::bigint[], %s::bytea[]) AS given (id, seq, hash)
           WHERE e.tenant_id = %s AND e.id = given.id AND e.seq IS NULL""",
        [list(ids), list(seqs), list(hashes), uow.tenant_id],
    )


async def advance_head(uow: UnitOfWork, head: Head, *, seq: int, hash_: bytes) -> bool:
    """Move the head on from where the caller found it; False if it is elsewhere."""
    count = await uow.execute(
        "UPDATE audit_heads SET seq = %s, hash = %s WHERE tenant_id = %s AND seq = %s AND hash = %s",
        [seq, hash_, uow.tenant_id, head.seq, head.hash],
    )
    return count == 1


async def list_chain(uow: UnitOfWork, *, after_seq: int, until_seq: int, limit: int) -> list[ChainedEvent]:
    """Sealed events in their order."""
    return await uow.rows(
        ChainedEvent,
        f"""SELECT {_CHAINED} FROM audit_events WHERE tenant_id = %s AND seq > %s AND seq <= %s
            ORDER BY seq LIMIT %s""",  # noqa: S608
        [uow.tenant_id, after_seq, until_seq, limit],
    )


async def find_hash(uow: UnitOfWork, seq: int) -> bytes | None:
    found: bytes | None = await uow.scalar(
        "SELECT hash FROM audit_events WHERE tenant_id = %s AND seq = %s", [uow.tenant_id, seq]
    )
    return found


async def list_heads(uow: UnitOfWork, *, after: UUID | None, limit: int) -> list[Head]:
    """All chains, by keyset. For the platform's unit of work."""
    return await uow.rows(
        Head,
        f"""SELECT {_HEAD} FROM audit_heads WHERE (%(after)s::uuid IS NULL OR tenant_id > %(after)s)
            ORDER BY tenant_id LIMIT %(limit)s""",  # noqa: S608
        {"after": after, "limit": limit},
    )


async def now(uow: UnitOfWork) -> datetime:
    """The database's time."""
    at: datetime = await uow.scalar("SELECT now()")
    return at


# checkpoints and cuts


async def list_to_checkpoint(uow: UnitOfWork, *, hours: float, limit: int) -> list[UUID]:
    """Tenants whose chain has grown since a checkpoint that is that old. For the platform's unit of work."""
    return await uow.scalars(
        """SELECT tenant_id FROM audit_heads WHERE seq > checkpoint_seq
             AND checkpointed_at < now() - make_interval(secs => %s::float8) ORDER BY checkpointed_at LIMIT %s""",
        [hours * 3600, limit],
    )


async def insert_checkpoint(uow: UnitOfWork, checkpoint: Checkpoint) -> None:
    """The caller holds the head."""
    await uow.execute(
        """INSERT INTO audit_checkpoints (tenant_id, seq, hash, at, key_id, signature)
           VALUES (%s, %s, %s, %s, %s, %s)""",
        [
            checkpoint.tenant_id,
            checkpoint.seq,
            checkpoint.hash,
            checkpoint.at,
            checkpoint.key_id,
            checkpoint.signature,
        ],
    )
    await uow.execute(
        "UPDATE audit_heads SET checkpoint_seq = %s, checkpointed_at = %s WHERE tenant_id = %s",
        [checkpoint.seq, checkpoint.at, checkpoint.tenant_id],
    )


async def find_checkpoint(uow: UnitOfWork, seq: int) -> Checkpoint | None:
    return await uow.find(
        Checkpoint,
        "SELECT tenant_id, seq, hash, at, key_id, signature FROM audit_checkpoints WHERE tenant_id = %s AND seq = %s",
        [uow.tenant_id, seq],
    )


async def list_checkpoints(uow: UnitOfWork, *, before_seq: int | None, limit: int) -> list[Checkpoint]:
    """Newest first."""
    return await uow.rows(
        Checkpoint,
        """SELECT tenant_id, seq, hash, at, key_id, signature FROM audit_checkpoints
           WHERE tenant_id = %(tenant)s AND (%(before)s::bigint IS NULL OR seq < %(before)s)
           ORDER BY seq DESC LIMIT %(limit)s""",
        {"tenant": uow.tenant_id, "before": before_seq, "limit": limit},
    )


async def set_retention(uow: UnitOfWork, days: int | None) -> None:
    """It is looked at anew soon."""
    await uow.execute(
        "UPDATE audit_heads SET retention_days = %s, cut_looked_at = '-infinity' WHERE tenant_id = %s",
        [days, uow.tenant_id],
    )


async def list_to_cut(uow: UnitOfWork, *, hours: float, limit: int) -> list[UUID]:
    """Tenants whose trail ends by age and that nobody has looked at for that long. For the platform's unit of work."""
    return await uow.scalars(
        """SELECT tenant_id FROM audit_heads WHERE retention_days IS NOT NULL
             AND cut_looked_at < now() - make_interval(secs => %s::float8) ORDER BY cut_looked_at LIMIT %s""",
        [hours * 3600, limit],
    )


async def note_look(uow: UnitOfWork) -> None:
    await uow.execute("UPDATE audit_heads SET cut_looked_at = now() WHERE tenant_id = %s", [uow.tenant_id])


async def list_uncopied(uow: UnitOfWork, *, limit: int) -> list[Uncopied]:
    """Newest checkpoints for which no copies are planned yet. For the platform's unit of work."""
    return await uow.rows(
        Uncopied,
        """SELECT tenant_id, checkpoint_seq AS seq FROM audit_heads WHERE checkpoint_seq > copied_seq
           ORDER BY tenant_id LIMIT %s""",
        [limit],
    )


async def note_copies(uow: UnitOfWork, seq: int) -> None:
    await uow.execute(
        "UPDATE audit_heads SET copied_seq = greatest(copied_seq, %s) WHERE tenant_id = %s", [seq, uow.tenant_id]
    )


async def find_last_old(uow: UnitOfWork, *, after_seq: int, days: int) -> tuple[int, bytes] | None:
    """Number and hash of the last event of those in a row that are older than that; None if the first is not."""
    first_kept = await uow.scalar(
        """SELECT seq FROM audit_events WHERE tenant_id = %s AND seq > %s
             AND at >= now() - make_interval(hours => 24 * %s) ORDER BY seq LIMIT 1""",
        [uow.tenant_id, after_seq, days],
    )
    last = await uow.scalar(
        """SELECT seq FROM audit_events WHERE tenant_id = %(tenant)s AND seq > %(after)s
             AND (%(kept)s::bigint IS NULL OR seq < %(kept)s) ORDER BY seq DESC LIMIT 1""",
        {"tenant": uow.tenant_id, "after": after_seq, "kept": first_kept},
    )
    if last is None:
        return None
    found = await find_hash(uow, last)
    assert found is not None
    return int(last), found


async def insert_cut(uow: UnitOfWork, cut: Cut) -> None:
    """The caller holds the head. From here on the events up to the cut may go, and no export has them any more."""
    await uow.execute(
        """INSERT INTO audit_cuts (tenant_id, seq, hash, at, days, key_id, signature)
           VALUES (%s, %s, %s, %s, %s, %s, %s)""",
        [cut.tenant_id, cut.seq, cut.hash, cut.at, cut.days, cut.key_id, cut.signature],
    )
    await uow.execute("UPDATE audit_heads SET cut_seq = %s WHERE tenant_id = %s", [cut.seq, cut.tenant_id])


async def find_cut(uow: UnitOfWork, seq: int) -> Cut | None:
    return await uow.find(
        Cut,
        "SELECT tenant_id, seq, hash, at, days, key_id, signature FROM audit_cuts WHERE tenant_id = %s AND seq = %s",
        [uow.tenant_id, seq],
    )


async def delete_cut(uow: UnitOfWork, *, limit: int) -> int:
    """Remove events that a cut has released, some at a time."""
    return await uow.execute(
        """DELETE FROM audit_events WHERE tenant_id = %(tenant)s AND seq IN (
             SELECT e.seq FROM audit_events e JOIN audit_heads h ON h.tenant_id = e.tenant_id AND e.seq <= h.cut_seq
             WHERE e.tenant_id = %(tenant)s ORDER BY e.seq LIMIT %(limit)s)""",
        {"tenant": uow.tenant_id, "limit": limit},
    )


# signing keys, for the platform's unit of work


async def find_signer(uow: UnitOfWork) -> SealedKey | None:
    """The key that signs now, with its sealed secret."""
    return await uow.find(
        SealedKey,
        """SELECT key_id, public_key, seal_key_id, wrapped_key, sealed FROM audit_signing_keys
           WHERE retired_at IS NULL""",
    )


async def insert_signer(uow: UnitOfWork, key: SealedKey) -> bool:
    """Make it the key that signs; False if there is one already.

    What it is sealed under stays until this unit of work ends. Raises Unavailable (`seal_key_retired`).
    """
    known = await uow.scalar("SELECT 1 FROM sealing_keys WHERE key_id = %s FOR KEY SHARE", [key.seal_key_id])
    if known is None and await uow.scalar("SELECT 1 FROM sealing_keys LIMIT 1") is not None:
        raise Unavailable("The key that this was sealed under has just been retired: again.", code="seal_key_retired")
    count = await uow.execute(
        """INSERT INTO audit_signing_keys (key_id, public_key, seal_key_id, wrapped_key, sealed)
           VALUES (%s, %s, %s, %s, %s) ON CONFLICT DO NOTHING""",
        [key.key_id, key.public_key, key.seal_key_id, key.wrapped_key, key.sealed],
    )
    return count == 1


async def retire_signer(uow: UnitOfWork) -> str | None:
    """The key that signs signs no more: its secret is forgotten, what it signed is checked on. Its id, if any."""
    retired: str | None = await uow.scalar(
        """UPDATE audit_signing_keys SET retired_at = now(), seal_key_id = NULL, wrapped_key = NULL, sealed = NULL
           WHERE retired_at IS NULL RETURNING key_id"""
    )
    return retired


async def list_keys(uow: UnitOfWork) -> list[SigningKey]:
    """All keys that ever signed, newest first. A handful: operators make them."""
    return await uow.rows(
        SigningKey,
        """SELECT key_id, public_key, created_at, retired_at FROM audit_signing_keys
           ORDER BY created_at DESC, key_id LIMIT 1000""",
    )
