"""SQL of chunks: the stretches of the catalogue that a migration's workers take one at a time."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Final
from uuid import UUID

from simples3dms.db.session import UnitOfWork
from simples3dms.storage.migrations.pace import Run
from simples3dms.storage.migrations.values import Chunk, MigrationRow, PendingChunk, Phase, Range
from simples3dms.storage.placement.repository import IS_SELECTED, selection_params
from simples3dms.storage.placement.selections import Selection

#: So many blobs are looked at for those of a part that make a chunk.
_SCAN: Final = 5000


async def refresh(uow: UnitOfWork, migration_id: UUID) -> None:
    """Let the chunks that wait begin anew, at once: what they waited for has been mended."""
    await uow.execute(
        """UPDATE migration_chunks SET attempt = 0, due_at = now()
           WHERE tenant_id = %s AND migration_id = %s AND state = 'pending'
             AND (lease_until IS NULL OR lease_until < now())""",
        [uow.tenant_id, migration_id],
    )


async def next_range(
    uow: UnitOfWork, selection: Selection, *, after_seq: int, upto_seq: int, limit: int, limit_bytes: int
) -> Range:
    """The next stretch of the catalogue: bounded by count and, but for its first blob, by size, both of what is of the
    part; and by how much of the catalogue is looked at."""
    found = await uow.find(
        Range,
        f"""SELECT max(seq) AS high_seq, count(*) FILTER (WHERE is_in) AS blob_count,
             coalesce(sum(size_bytes) FILTER (WHERE is_in), 0)::bigint AS size_bytes
           FROM (SELECT seq, size_bytes, is_in, count(*) FILTER (WHERE is_in) OVER w AS so_many,
                   coalesce(sum(size_bytes) FILTER (WHERE is_in) OVER w, 0)
                     - CASE WHEN is_in THEN size_bytes ELSE 0 END AS before_bytes
                 FROM (SELECT b.seq, b.size_bytes, {IS_SELECTED} AS is_in FROM blobs b
                       WHERE b.tenant_id = %(tenant)s AND b.seq > %(after)s AND b.seq <= %(upto)s
                       ORDER BY b.seq LIMIT %(scan)s) page WINDOW w AS (ORDER BY seq)) running
           WHERE so_many <= %(limit)s AND before_bytes < %(limit_bytes)s""",  # noqa: S608
        {
            "tenant": uow.tenant_id,
            "after": after_seq,
            "upto": upto_seq,
            "limit": limit,
            "limit_bytes": limit_bytes,
            "scan": limit if selection.is_all else max(limit, _SCAN),
            **selection_params(selection),
        },
    )
    assert found is not None
    return found


async def insert(uow: UnitOfWork, row: MigrationRow, phase: Phase, *, after_seq: int, stretch: Range) -> bool:
    """Make the next stretch a chunk, if the claim still stands and nobody planned further meanwhile.

    One in which nothing is selected is done already; it may be opened all the same, as blobs come to lie in one store.
    """
    moved = await uow.execute(
        """UPDATE migrations SET planned_seq = %s WHERE tenant_id = %s AND id = %s AND fence = %s
           AND planned_seq = %s""",
        [stretch.high_seq, uow.tenant_id, row.id, row.fence, after_seq],
    )
    if moved != 1:
        return False
    await uow.execute(
        """INSERT INTO migration_chunks (tenant_id, migration_id, phase, low_seq, high_seq, state, blob_count,
             size_bytes) VALUES (%s, %s, %s, %s, %s, %s, %s, %s)
           ON CONFLICT (tenant_id, migration_id, phase, low_seq) DO UPDATE SET state = EXCLUDED.state,
             high_seq = EXCLUDED.high_seq, due_at = now(), attempt = 0""",
        [
            uow.tenant_id,
            row.id,
            phase,
            after_seq + 1,
            stretch.high_seq,
            "pending" if stretch.blob_count else "done",
            stretch.blob_count,
            stretch.size_bytes,
        ],
    )
    return True


async def list_free(uow: UnitOfWork, migration_id: UUID, phase: Phase, *, limit: int) -> list[PendingChunk]:
    """Pending chunks that are due and that nobody holds."""
    return await uow.rows(
        PendingChunk,
        """SELECT phase, low_seq FROM migration_chunks WHERE tenant_id = %s AND migration_id = %s AND phase = %s
             AND state = 'pending' AND due_at <= now() AND (lease_until IS NULL OR lease_until < now())
           ORDER BY low_seq LIMIT %s""",
        [uow.tenant_id, migration_id, phase, limit],
    )


async def count_pending(uow: UnitOfWork, migration_id: UUID, phase: Phase, *, limit: int) -> int:
    """How many chunks are not done yet, counted up to `limit`."""
    return int(
        await uow.scalar(
            """SELECT count(*) FROM (SELECT 1 FROM migration_chunks WHERE tenant_id = %s AND migration_id = %s
               AND phase = %s AND state = 'pending' LIMIT %s) p""",
            [uow.tenant_id, migration_id, phase, limit],
        )
    )


async def claim(
    uow: UnitOfWork, migration_id: UUID, phase: Phase, low_seq: int, *, lease_seconds: float
) -> Chunk | None:
    """Take a chunk over, unless another worker holds it or the migration is not in that phase (any more)."""
    states = ["copying"] if phase == "copy" else ["finalizing", "rolling_back"]
    return await uow.find(
        Chunk,
        """UPDATE migration_chunks c SET fence = c.fence + 1, attempt = c.attempt + 1,
             started_at = clock_timestamp(), copied_count = 0, copied_bytes = 0,
             lease_until = now() + make_interval(secs => %(lease)s::float8)
           FROM migrations m
           WHERE c.tenant_id = %(tenant)s AND c.migration_id = %(migration)s AND c.phase = %(phase)s
             AND c.low_seq = %(low)s AND c.state = 'pending' AND c.due_at <= now()
             AND (c.lease_until IS NULL OR c.lease_until < now())
             AND m.tenant_id = c.tenant_id AND m.id = c.migration_id AND m.state = ANY(%(states)s)
           RETURNING c.phase, c.low_seq, c.high_seq, c.fence, c.attempt""",
        {
            "lease": lease_seconds,
            "tenant": uow.tenant_id,
            "migration": migration_id,
            "phase": phase,
            "low": low_seq,
            "states": states,
        },
    )


_CHUNK: Final = "tenant_id = %s AND migration_id = %s AND phase = %s AND low_seq = %s AND fence = %s"


def _chunk_key(uow: UnitOfWork, migration_id: UUID, chunk: Chunk) -> list[Any]:
    return [uow.tenant_id, migration_id, chunk.phase, chunk.low_seq, chunk.fence]


async def extend(uow: UnitOfWork, migration_id: UUID, chunk: Chunk, *, lease_seconds: float) -> bool:
    count = await uow.execute(
        f"UPDATE migration_chunks SET lease_until = now() + make_interval(secs => %s::float8) WHERE {_CHUNK}",  # noqa: S608
        [lease_seconds, *_chunk_key(uow, migration_id, chunk)],
    )
    return count == 1


async def close(uow: UnitOfWork, migration_id: UUID, chunk: Chunk) -> bool:
    """The chunk's every blob is copied, gone, or on the list of transfers: it is done. False if the claim was lost."""
    count = await uow.execute(
        f"""UPDATE migration_chunks SET state = 'done', lease_until = NULL, attempt = 0, done_at = clock_timestamp()
            WHERE {_CHUNK}""",  # noqa: S608
        _chunk_key(uow, migration_id, chunk),
    )
    return count == 1


async def note_copied(uow: UnitOfWork, migration_id: UUID, chunk: Chunk, *, count: int, size_bytes: int) -> None:
    """Count what was copied since the chunk was claimed, for estimates."""
    await uow.execute(
        f"""UPDATE migration_chunks SET copied_count = copied_count + %s, copied_bytes = copied_bytes + %s
            WHERE {_CHUNK}""",  # noqa: S608
        [count, size_bytes, *_chunk_key(uow, migration_id, chunk)],
    )


async def list_runs(uow: UnitOfWork, *, target_store_id: UUID, source_store_id: UUID | None) -> list[Run]:
    """The last chunks that were copied to a store in the last 30 days, of some migrations: from one store, or any.

    In a tenant's unit of work its own, in the platform's everybody's.
    """
    return await uow.rows(
        Run,
        """SELECT extract(epoch FROM c.started_at)::float8 AS begun, extract(epoch FROM c.done_at)::float8 AS ended,
             c.copied_count AS count, c.copied_bytes AS size_bytes
           FROM (SELECT tenant_id, id FROM migrations WHERE target_store_id = %(target)s
               AND (%(source)s::uuid IS NULL OR source_store_id = %(source)s)
               AND started_at > now() - interval '720 hours' ORDER BY started_at DESC LIMIT 20) m
           CROSS JOIN LATERAL (SELECT * FROM migration_chunks WHERE tenant_id = m.tenant_id AND migration_id = m.id
               AND phase = 'copy' AND done_at > now() - interval '720 hours' ORDER BY done_at DESC LIMIT 100) c
           WHERE c.copied_count > 0 AND c.started_at < c.done_at""",
        {"target": target_store_id, "source": source_store_id},
    )


async def postpone(uow: UnitOfWork, migration_id: UUID, chunk: Chunk, *, delay_seconds: float) -> bool:
    """Leave the rest of the chunk for a later attempt."""
    count = await uow.execute(
        f"""UPDATE migration_chunks SET lease_until = NULL,
              due_at = now() + make_interval(secs => %s::float8) WHERE {_CHUNK}""",  # noqa: S608
        [delay_seconds, *_chunk_key(uow, migration_id, chunk)],
    )
    return count == 1


async def rest(uow: UnitOfWork, migration_id: UUID, chunk: Chunk) -> None:
    """Leave the rest of the chunk for when work goes on. That was no attempt: nothing has failed."""
    await uow.execute(
        f"""UPDATE migration_chunks SET lease_until = NULL, due_at = now(), attempt = greatest(attempt - 1, 0)
            WHERE {_CHUNK}""",  # noqa: S608
        _chunk_key(uow, migration_id, chunk),
    )


async def reopen(uow: UnitOfWork, migration_id: UUID, phase: Phase, seqs: Collection[int]) -> int:
    """Make the done chunks pending again that hold these blobs."""
    return await uow.execute(
        """UPDATE migration_chunks c SET state = 'pending', due_at = now(), attempt = 0
           FROM (SELECT DISTINCT c2.low_seq FROM unnest(%(seqs)s::bigint[]) AS s (seq)
                 JOIN LATERAL (SELECT low_seq, high_seq FROM migration_chunks WHERE tenant_id = %(tenant)s
                   AND migration_id = %(migration)s AND phase = %(phase)s AND low_seq <= s.seq
                   ORDER BY low_seq DESC LIMIT 1) c2 ON c2.high_seq >= s.seq) hit
           WHERE c.tenant_id = %(tenant)s AND c.migration_id = %(migration)s AND c.phase = %(phase)s
             AND c.low_seq = hit.low_seq AND c.state = 'done'""",
        {"seqs": list(seqs), "tenant": uow.tenant_id, "migration": migration_id, "phase": phase},
    )


async def list_blob_sizes(uow: UnitOfWork, chunk: Chunk, selection: Selection) -> list[tuple[UUID, int]]:
    """The living blobs of the chunk that are of the part, with their sizes, oldest first."""
    cursor = await uow.connection.execute(
        f"""SELECT b.id, b.size_bytes FROM blobs b WHERE b.tenant_id = %(tenant)s
             AND b.seq BETWEEN %(low)s AND %(high)s AND b.dead_at IS NULL AND {IS_SELECTED} ORDER BY b.seq""",  # noqa: S608
        {"tenant": uow.tenant_id, "low": chunk.low_seq, "high": chunk.high_seq, **selection_params(selection)},
    )
    return await cursor.fetchall()
