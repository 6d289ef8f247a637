"""SQL of blobs and replicas. Every statement names the tenant; row-level security holds it to that."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final
from uuid import UUID

from simples3dms.db.session import UnitOfWork
from simples3dms.storage.blobs.proofs import READ_BACK, Proof
from simples3dms.storage.blobs.values import Blob, Doomed, Doubtful, DoubtfulOne, Kept, Replica, WriteTicket, Written
from simples3dms.storage.caches import repository as caches_repository

_DEAD: Final = "b.tenant_id = %s AND b.id = ANY(%s) AND b.dead_at IS NOT NULL"
_REPLICA: Final = "id, blob_id, store_id, key, version_id, state, evidence, evidence_at, created_at"
#: Whether replica `r` is proven as `blobs.proofs.Proof` of %(percent)s asks for: read back, or, for who is not in the
#: sample, vouched for by its provider.
PROVEN: Final = """(r.evidence = 'read-back' OR (r.evidence = 'provider-checksum'
  AND (get_byte(sha256(uuid_send(r.blob_id)), 0) * 256 + get_byte(sha256(uuid_send(r.blob_id)), 1)) * 100
    >= %(percent)s::int * 65536))"""


async def insert_writing(
    uow: UnitOfWork, tickets: Sequence[tuple[WriteTicket, UUID | None]], *, lease_seconds: float
) -> set[UUID]:
    """Record the intent to write these keys; the ids of the rows made. A blob that has a replica there gets none."""
    rows = await uow.scalars(
        """INSERT INTO replicas (tenant_id, id, blob_id, store_id, key, state, lease_until)
           SELECT %(tenant)s, i.id, i.blob_id, i.store_id, i.key, 'writing',
                  now() + make_interval(secs => %(lease)s::float8)
           FROM unnest(%(ids)s::uuid[], %(blobs)s::uuid[], %(stores)s::uuid[], %(keys)s::text[])
             AS i (id, blob_id, store_id, key)
           ON CONFLICT DO NOTHING RETURNING id""",
        {
            "tenant": uow.tenant_id,
            "lease": lease_seconds,
            "ids": [ticket.replica_id for ticket, _ in tickets],
            "blobs": [blob_id for _, blob_id in tickets],
            "stores": [ticket.store_id for ticket, _ in tickets],
            "keys": [ticket.key for ticket, _ in tickets],
        },
    )
    return set(rows)


#: The replicas `r` that these tickets are still good for.
HELD: Final = """unnest(%(ids)s::uuid[], %(fences)s::bigint[]) AS i (id, fence)
  WHERE r.tenant_id = %(tenant)s AND r.id = i.id AND r.fence = i.fence AND r.state = 'writing'"""


def tickets_of(uow: UnitOfWork, tickets: Sequence[WriteTicket]) -> dict[str, object]:
    """The parameters of `HELD`."""
    return {
        "tenant": uow.tenant_id,
        "ids": [ticket.replica_id for ticket in tickets],
        "fences": [ticket.fence for ticket in tickets],
    }


async def extend_leases(uow: UnitOfWork, tickets: Sequence[WriteTicket], *, lease_seconds: float) -> int:
    """Keep writes alive; how many of them are still ours."""
    return await uow.execute(
        f"UPDATE replicas r SET lease_until = now() + make_interval(secs => %(lease)s::float8) FROM {HELD}",  # noqa: S608
        {**tickets_of(uow, tickets), "lease": lease_seconds},
    )


async def insert_blob(uow: UnitOfWork, blob_id: UUID, *, digest: bytes, size_bytes: int, content_type: str) -> None:
    """Record a blob. The caller shares the placement row, so that its `seq` can't slip below a barrier."""
    await uow.execute(
        "INSERT INTO blobs (tenant_id, id, digest, size_bytes, content_type) VALUES (%s, %s, %s, %s, %s)",
        [uow.tenant_id, blob_id, digest, size_bytes, content_type],
    )


async def make_live(uow: UnitOfWork, written: Written, blob_id: UUID) -> bool:
    """Turn the written replica of a new blob live; False if the claim on it was lost."""
    count = await uow.execute(
        """UPDATE replicas SET blob_id = %(blob)s, state = 'live', version_id = %(version)s, evidence = 'written',
             evidence_at = now(), state_at = now(), lease_until = NULL
           WHERE tenant_id = %(tenant)s AND id = %(id)s AND fence = %(fence)s AND state = 'writing'""",
        {
            "tenant": uow.tenant_id,
            "blob": blob_id,
            "version": written.version_id,
            "id": written.ticket.replica_id,
            "fence": written.ticket.fence,
        },
    )
    return count == 1


async def confirm_copies(uow: UnitOfWork, copies: Sequence[Written]) -> set[UUID]:
    """Turn copies that were proven live; the replica ids that are. A blob that died meanwhile makes it retiring."""
    ids = [copy.ticket.replica_id for copy in copies]
    # Against a purge that decides at the same time: it takes these rows for itself, we share them.
    await uow.execute(
        """SELECT 1 FROM (SELECT r.blob_id FROM unnest(%(ids)s::uuid[]) AS i (id) CROSS JOIN LATERAL (
               SELECT blob_id FROM replicas WHERE tenant_id = %(tenant)s AND id = i.id LIMIT 1) r
             ORDER BY r.blob_id) w
           CROSS JOIN LATERAL (SELECT 1 FROM blobs WHERE tenant_id = %(tenant)s AND id = w.blob_id FOR SHARE) b""",
        {"tenant": uow.tenant_id, "ids": ids},
    )
    live = await uow.scalars(
        """WITH changed AS (
             UPDATE replicas r SET state = CASE WHEN (SELECT b.dead_at IS NULL FROM blobs b
                 WHERE b.tenant_id = r.tenant_id AND b.id = r.blob_id) THEN 'live' ELSE 'retiring' END,
               version_id = i.version_id, evidence = i.evidence, evidence_at = now(), state_at = now(),
               lease_until = NULL
             FROM unnest(%(ids)s::uuid[], %(fences)s::bigint[], %(versions)s::text[], %(evidence)s::text[])
               AS i (id, fence, version_id, evidence)
             WHERE r.tenant_id = %(tenant)s AND r.id = i.id AND r.fence = i.fence AND r.state = 'writing'
               AND r.id = ANY(%(ids)s)
             RETURNING r.id, r.state)
           SELECT id FROM changed WHERE state = 'live'""",
        {
            "tenant": uow.tenant_id,
            "ids": ids,
            "fences": [copy.ticket.fence for copy in copies],
            "versions": [copy.version_id for copy in copies],
            "evidence": [copy.evidence for copy in copies],
        },
    )
    # What the new copy replaces in its own store is cleaned away.
    await uow.execute(
        """UPDATE replicas r SET state = 'retiring', state_at = now(), lease_until = NULL, attempt = 0
           FROM replicas n WHERE n.tenant_id = %(tenant)s AND n.id = ANY(%(live)s) AND r.tenant_id = n.tenant_id
             AND r.blob_id = n.blob_id AND r.store_id = n.store_id AND r.state IN ('suspect', 'missing')""",
        {"tenant": uow.tenant_id, "live": live},
    )
    return set(live)


async def record_read_back(uow: UnitOfWork, replica_ids: Sequence[UUID]) -> None:
    """Keep as evidence that these live replicas were read in full and compared."""
    await uow.execute(
        """UPDATE replicas SET evidence = 'read-back', evidence_at = now()
           WHERE tenant_id = %s AND id = ANY(%s) AND state = 'live'""",
        [uow.tenant_id, list(replica_ids)],
    )


async def record_vouched(uow: UnitOfWork, replica_ids: Sequence[UUID]) -> None:
    """Keep as evidence that the provider reports the right checksum of these live replicas; never instead of more."""
    await uow.execute(
        """UPDATE replicas SET evidence = 'provider-checksum', evidence_at = now()
           WHERE tenant_id = %s AND id = ANY(%s) AND state = 'live' AND evidence = 'written'""",
        [uow.tenant_id, list(replica_ids)],
    )


async def mark_lost(uow: UnitOfWork, replica_id: UUID, *, state: str, error: str) -> bool:
    """Take a live replica's word back (`suspect` or `missing`), and count it against proofs under way."""
    store_id = await uow.scalar(
        """UPDATE replicas SET state = %s, last_error = %s, state_at = now(), evidence = 'doubted'
           WHERE tenant_id = %s AND id = %s AND state = 'live' RETURNING store_id""",
        [state, error, uow.tenant_id, replica_id],
    )
    if store_id is None:
        return False
    await uow.execute(
        "UPDATE store_grants SET loss_count = loss_count + 1 WHERE tenant_id = %s AND store_id = %s",
        [uow.tenant_id, store_id],
    )
    return True


async def lock_replicas(uow: UnitOfWork, replica_ids: Sequence[UUID]) -> None:
    """Take these rows in the one order, before several are marked: each mark goes on to a row that all share."""
    await uow.execute(
        "SELECT 1 FROM replicas WHERE tenant_id = %s AND id = ANY(%s) ORDER BY id FOR UPDATE",
        [uow.tenant_id, list(replica_ids)],
    )


async def abandon(uow: UnitOfWork, tickets: Sequence[WriteTicket], *, grace_seconds: float) -> int:
    """Give writes up: their keys are cleaned by the sweep, after a grace in which a request may still be landing.

    How many were still to be given up; of the others nobody keeps a record any more.
    """
    return await uow.execute(
        f"""UPDATE replicas r SET state = 'retiring', fence = r.fence + 1, state_at = now(),
              lease_until = now() + make_interval(secs => %(grace)s::float8) FROM {HELD}""",  # noqa: S608
        {**tickets_of(uow, tickets), "grace": grace_seconds},
    )


async def forget_unsent(uow: UnitOfWork, tickets: Sequence[WriteTicket]) -> None:
    """Forget writes of which nothing was sent to their store: there is nothing to clean. With them, dead blobs."""
    statement = f"DELETE FROM replicas r USING {HELD} RETURNING r.blob_id"  # noqa: S608
    await _forget_dead(uow, [blob_id for blob_id in await uow.scalars(statement, tickets_of(uow, tickets)) if blob_id])


async def is_counted(uow: UnitOfWork, replica_id: UUID) -> bool:
    """Whether a replica is written, or was, under a claim that stands: its object is not to be touched."""
    statement = "SELECT true FROM replicas WHERE tenant_id = %s AND id = %s AND state <> 'retiring'"
    return await uow.scalar(statement, [uow.tenant_id, replica_id]) is not None


async def expire_writes(uow: UnitOfWork, *, limit: int, grace_seconds: float) -> int:
    """Give up the writes whose lease ran out: their writer is gone, or so slow that its claim no longer counts.

    A copy in parts of a living blob is left for an hour to whoever goes on with it.
    """
    return await uow.execute(
        """UPDATE replicas SET state = 'retiring', fence = fence + 1, state_at = now(),
             lease_until = now() + make_interval(secs => %(grace)s::float8)
           WHERE tenant_id = %(tenant)s AND id = ANY(ARRAY(
             SELECT id FROM replicas r WHERE tenant_id = %(tenant)s AND state = 'writing' AND lease_until < now()
               AND (lease_until < now() - interval '1 hour' OR NOT EXISTS (SELECT 1 FROM part_uploads u
                 JOIN blobs b ON b.tenant_id = u.tenant_id AND b.id = r.blob_id AND b.dead_at IS NULL
                 WHERE u.tenant_id = r.tenant_id AND u.replica_id = r.id))
             LIMIT %(limit)s FOR UPDATE SKIP LOCKED))""",
        {"tenant": uow.tenant_id, "limit": limit, "grace": grace_seconds},
    )


async def list_doubtful(uow: UnitOfWork, *, limit: int) -> list[Doubtful]:
    """Replicas to be copied anew, of living blobs without a transfer under way or failed. For the platform.

    A store that is not trusted waits for a person, with all that it holds.
    """
    return await uow.rows(
        Doubtful,
        """SELECT r.tenant_id, r.blob_id, r.store_id FROM stores s CROSS JOIN LATERAL (
             SELECT r.tenant_id, r.blob_id, r.store_id FROM replicas r
             JOIN blobs b ON b.tenant_id = r.tenant_id AND b.id = r.blob_id AND b.dead_at IS NULL
             WHERE r.store_id = s.id AND r.state IN ('suspect', 'missing') AND NOT EXISTS (
               SELECT 1 FROM transfers t WHERE t.tenant_id = r.tenant_id AND t.blob_id = r.blob_id)
             LIMIT %(limit)s) r
           WHERE s.untrusted_at IS NULL LIMIT %(limit)s""",
        {"limit": limit},
    )


async def list_doubtful_ones(
    uow: UnitOfWork, *, store_id: UUID | None, after: UUID | None, limit: int
) -> list[DoubtfulOne]:
    """The tenant's replicas to be copied anew (None: wherever they are, but for stores that are not trusted), by id."""
    return await uow.rows(
        DoubtfulOne,
        """SELECT r.id, r.blob_id, r.store_id FROM replicas r JOIN stores s ON s.id = r.store_id
           JOIN blobs b ON b.tenant_id = r.tenant_id AND b.id = r.blob_id AND b.dead_at IS NULL
           WHERE r.tenant_id = %(tenant)s AND r.state IN ('suspect', 'missing') AND s.untrusted_at IS NULL
             AND (%(store)s::uuid IS NULL OR r.store_id = %(store)s)
             AND (%(after)s::uuid IS NULL OR r.id > %(after)s) ORDER BY r.id LIMIT %(limit)s""",
        {"tenant": uow.tenant_id, "store": store_id, "after": after, "limit": limit},
    )


async def is_trusted(uow: UnitOfWork, store_id: UUID) -> bool:
    """Whether what is bad at a store may be mended without a person."""
    found = await uow.scalar("SELECT 1 FROM stores WHERE id = %s AND untrusted_at IS NULL", [store_id])
    return found is not None


async def has_doubtful(uow: UnitOfWork, blob_id: UUID) -> bool:
    found = await uow.scalar(
        "SELECT 1 FROM replicas WHERE tenant_id = %s AND blob_id = %s AND state IN ('suspect', 'missing') LIMIT 1",
        [uow.tenant_id, blob_id],
    )
    return found is not None


async def retire_doubtful(uow: UnitOfWork, blob_id: UUID, *, except_at: Collection[UUID]) -> int:
    """Retire the blob's doubtful replicas where none is wanted, once another one is live and was read back."""
    return await uow.execute(
        """UPDATE replicas r SET state = 'retiring', state_at = now(), lease_until = NULL, attempt = 0
           WHERE r.tenant_id = %(tenant)s AND r.blob_id = %(blob)s AND r.state IN ('suspect', 'missing')
             AND NOT r.store_id = ANY(%(wanted)s) AND EXISTS (
               SELECT 1 FROM replicas o WHERE o.tenant_id = r.tenant_id AND o.blob_id = r.blob_id
                 AND o.state = 'live' AND o.evidence = 'read-back')""",
        {"tenant": uow.tenant_id, "blob": blob_id, "wanted": list(except_at)},
    )


async def find_blob(uow: UnitOfWork, blob_id: UUID) -> Blob | None:
    return await uow.find(
        Blob,
        "SELECT id, seq, digest, size_bytes FROM blobs WHERE tenant_id = %s AND id = %s AND dead_at IS NULL",
        [uow.tenant_id, blob_id],
    )


async def list_replicas(uow: UnitOfWork, blob_ids: Sequence[UUID]) -> list[Replica]:
    """All replicas of these blobs that hold, held or may hold their bytes."""
    return await uow.rows(
        Replica,
        f"""SELECT r.* FROM unnest(%s::uuid[]) AS i (blob) CROSS JOIN LATERAL (SELECT {_REPLICA} FROM replicas
              WHERE tenant_id = %s AND blob_id = i.blob OFFSET 0) r ORDER BY blob_id, created_at, id""",  # noqa: S608
        [list(blob_ids), uow.tenant_id],
    )


async def retire_at(uow: UnitOfWork, blob_ids: Sequence[UUID], *, store_id: UUID, proof: Proof = READ_BACK) -> int:
    """Retire these blobs' replicas at the store, each only if another one elsewhere is live and proven."""
    await uow.execute(
        "SELECT 1 FROM blobs WHERE tenant_id = %s AND id = ANY(%s) ORDER BY id FOR UPDATE",
        [uow.tenant_id, list(blob_ids)],
    )
    return await uow.execute(
        f"""UPDATE replicas o SET state = 'retiring', state_at = now(), lease_until = NULL, attempt = 0
            WHERE o.tenant_id = %(tenant)s AND o.blob_id = ANY(%(blobs)s) AND o.store_id = %(store)s
              AND o.state IN ('live', 'suspect', 'missing') AND EXISTS (
                SELECT 1 FROM replicas r WHERE r.tenant_id = o.tenant_id AND r.blob_id = o.blob_id
                  AND r.store_id <> o.store_id AND r.state = 'live' AND {PROVEN})""",  # noqa: S608
        {"tenant": uow.tenant_id, "blobs": list(blob_ids), "store": store_id, "percent": proof.read_back_percent},
    )


async def bury(uow: UnitOfWork, blob_ids: Sequence[UUID]) -> None:
    """Nobody refers to these blobs any more: mark them dead and retire all that is finished of them.

    A copy still being written is left to its writer, which finds the blob dead and retires it, or to its lease.
    """
    await uow.execute(
        "UPDATE blobs SET dead_at = now() WHERE tenant_id = %s AND id = ANY(%s) AND dead_at IS NULL",
        [uow.tenant_id, list(blob_ids)],
    )
    await uow.execute(
        """UPDATE replicas SET state = 'retiring', state_at = now(), lease_until = NULL, attempt = 0
           WHERE tenant_id = %s AND blob_id = ANY(%s) AND state IN ('live', 'suspect', 'missing')""",
        [uow.tenant_id, list(blob_ids)],
    )
    await caches_repository.drop_blobs(uow, blob_ids)


#: What permits the removal of another replica that was retired: how much it took was decided when it was.
_EVIDENCE: Final = "('read-back', 'provider-checksum')"


async def claim_retiring(uow: UnitOfWork, *, limit: int, lease_seconds: float) -> list[Doomed]:
    """Claim replicas to remove, and say of each whether the records permit it at this moment."""
    return await uow.rows(
        Doomed,
        f"""WITH claimed AS (
             UPDATE replicas SET fence = fence + 1, attempt = attempt + 1,
               lease_until = now() + make_interval(secs => %(lease)s::float8)
             WHERE tenant_id = %(tenant)s AND id = ANY(ARRAY(
               SELECT id FROM replicas WHERE tenant_id = %(tenant)s AND state = 'retiring'
                 AND (lease_until IS NULL OR lease_until < now())
               ORDER BY lease_until NULLS FIRST LIMIT %(limit)s FOR UPDATE SKIP LOCKED))
             RETURNING id, blob_id, store_id, key, version_id, evidence, fence, attempt)
           SELECT c.*, b.size_bytes, (c.evidence IS NULL OR b.id IS NULL OR b.dead_at IS NOT NULL OR EXISTS (
               SELECT 1 FROM replicas o WHERE o.tenant_id = %(tenant)s AND o.blob_id = c.blob_id
                 AND o.id <> c.id AND o.state = 'live' AND o.evidence IN {_EVIDENCE})) AS allowed
           FROM claimed c LEFT JOIN blobs b ON b.tenant_id = %(tenant)s AND b.id = c.blob_id""",  # noqa: S608
        {"tenant": uow.tenant_id, "limit": limit, "lease": lease_seconds},
    )


async def recheck(uow: UnitOfWork, doomed: Sequence[Doomed], *, lease_seconds: float) -> set[UUID]:
    """Of these claims, those that still stand and that the records still permit; their leases are extended.

    To be asked right before the store is: what justified a removal may have turned out bad since it was claimed.
    """
    return set(
        await uow.scalars(
            f"""UPDATE replicas r SET lease_until = now() + make_interval(secs => %(lease)s::float8)
               FROM unnest(%(ids)s::uuid[], %(fences)s::bigint[]) AS i (id, fence)
               WHERE r.tenant_id = %(tenant)s AND r.id = i.id AND r.fence = i.fence AND r.state = 'retiring'
                 AND (r.evidence IS NULL OR NOT EXISTS (
                     SELECT 1 FROM blobs b WHERE b.tenant_id = r.tenant_id AND b.id = r.blob_id AND b.dead_at IS NULL)
                   OR EXISTS (SELECT 1 FROM replicas o WHERE o.tenant_id = r.tenant_id AND o.blob_id = r.blob_id
                     AND o.id <> r.id AND o.state = 'live' AND o.evidence IN {_EVIDENCE}))
               RETURNING r.id""",  # noqa: S608
            {
                "tenant": uow.tenant_id,
                "lease": lease_seconds,
                "ids": [item.id for item in doomed],
                "fences": [item.fence for item in doomed],
            },
        )
    )


async def reprieve(uow: UnitOfWork, doomed: Sequence[Doomed]) -> None:
    """Take retirement back where the other copy that justified it is no longer good: to what each was before."""
    await uow.execute(
        """UPDATE replicas r SET state = CASE WHEN r.evidence = 'doubted' THEN 'suspect' ELSE 'live' END,
             lease_until = NULL, state_at = now()
           FROM unnest(%(ids)s::uuid[], %(fences)s::bigint[]) AS i (id, fence)
           WHERE r.tenant_id = %(tenant)s AND r.id = i.id AND r.fence = i.fence AND r.state = 'retiring'
             AND NOT EXISTS (SELECT 1 FROM replicas o WHERE o.tenant_id = r.tenant_id AND o.blob_id = r.blob_id
               AND o.store_id = r.store_id AND o.state IN ('writing', 'live'))""",
        {
            "tenant": uow.tenant_id,
            "ids": [item.id for item in doomed],
            "fences": [item.fence for item in doomed],
        },
    )


async def remove(uow: UnitOfWork, gone: Sequence[Doomed]) -> int:
    """Forget replicas that are gone from their store, and dead blobs that have none left; how many replicas."""
    count = await uow.execute(
        """DELETE FROM replicas r USING unnest(%(ids)s::uuid[], %(fences)s::bigint[]) AS i (id, fence)
           WHERE r.tenant_id = %(tenant)s AND r.id = i.id AND r.fence = i.fence AND r.state = 'retiring'""",
        {"tenant": uow.tenant_id, "ids": [item.id for item in gone], "fences": [item.fence for item in gone]},
    )
    await _forget_dead(uow, list({item.blob_id for item in gone if item.blob_id}))
    return count


async def _forget_dead(uow: UnitOfWork, blob_ids: Sequence[UUID]) -> None:
    """Locked first: of two that take the last replicas away at once, the second must see what the first took."""
    which = [uow.tenant_id, list(blob_ids)]
    await uow.execute(f"SELECT 1 FROM blobs b WHERE {_DEAD} ORDER BY b.id FOR NO KEY UPDATE", which)  # noqa: S608
    bare = "NOT EXISTS (SELECT 1 FROM replicas r WHERE r.tenant_id = b.tenant_id AND r.blob_id = b.id)"
    await uow.execute(f"DELETE FROM blobs b WHERE {_DEAD} AND {bare}", which)  # noqa: S608


async def keep_for_later(uow: UnitOfWork, failed: Sequence[Kept], *, base_seconds: float) -> None:
    """Note why a removal failed, and leave it for a later attempt, each time later (at most an hour).

    What is known to be kept for some time is left alone that long, but looked at daily: it may end before.
    """
    await uow.execute(
        """UPDATE replicas r SET last_error = i.error,
             lease_until = greatest(
               now() + make_interval(secs => least(3600, %(base)s::float8 * power(2, least(r.attempt, 20)))),
               CASE WHEN i.until IS NOT NULL THEN least(i.until, now() + interval '24 hours') END)
           FROM unnest(%(ids)s::uuid[], %(fences)s::bigint[], %(errors)s::text[], %(untils)s::timestamptz[])
             AS i (id, fence, error, until)
           WHERE r.tenant_id = %(tenant)s AND r.id = i.id AND r.fence = i.fence AND r.state = 'retiring'""",
        {
            "tenant": uow.tenant_id,
            "base": base_seconds,
            "ids": [one.item.id for one in failed],
            "fences": [one.item.fence for one in failed],
            "errors": [one.error for one in failed],
            "untils": [one.until for one in failed],
        },
    )


async def has_cleaning(uow: UnitOfWork) -> bool:
    """Whether replicas of the tenant wait to be removed now."""
    statement = """SELECT true FROM replicas WHERE tenant_id = %s AND state IN ('writing', 'retiring')
                     AND (lease_until IS NULL OR lease_until < now()) LIMIT 1"""
    return await uow.scalar(statement, [uow.tenant_id]) is not None


async def list_tenants_to_clean(uow: UnitOfWork, *, limit: int) -> list[UUID]:
    """Tenants with replicas to remove or writes to expire. For the platform's unit of work."""
    return await uow.scalars(
        """SELECT DISTINCT tenant_id FROM replicas WHERE state IN ('writing', 'retiring')
             AND (lease_until IS NULL OR lease_until < now()) LIMIT %s""",
        [limit],
    )
