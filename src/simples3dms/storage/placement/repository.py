"""SQL of placement: the tenant's one row, which uploads share and cut-over takes for itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final
from uuid import UUID

from psycopg.types.json import Jsonb

from simples3dms.db.session import UnitOfWork
from simples3dms.storage.placement.selections import Selection
from simples3dms.storage.placement.values import (
    Grant,
    PlacementRow,
    Policy,
    ReadPlace,
    Seen,
    Seqs,
    Subject,
    Survey,
    from_document,
    to_document,
)

_COLUMNS = """tenant_id, version, write_store_id, copy_store_ids, read_store_ids, updated_at,
  coalesce(held_until > now(), false) AS is_held, write_weights, more"""

#: Of `blobs b`. Those that are older than their own content type have that of their first version.
_CONTENT_TYPE: Final = """coalesce(b.content_type, (SELECT v.content_type FROM versions v
    WHERE v.tenant_id = b.tenant_id AND v.blob_id = b.id ORDER BY v.created_at, v.document_id, v.number LIMIT 1), '')"""
#: A subject's columns, of `blobs b`.
SUBJECT: Final = f"""b.id AS blob_id, {_CONTENT_TYPE}
  AS content_type, b.size_bytes, extract(epoch FROM now() - b.created_at)::float8 AS age_seconds"""


def _meets(match: str) -> str:
    """Whether subject `q` meets the conditions of a document, as `router.matches` says it."""
    return f"""(NOT {match} ? 'content_types' OR EXISTS (
        SELECT 1 FROM jsonb_array_elements_text({match} -> 'content_types') AS p (pattern)
        WHERE q.content_type LIKE replace(replace(p.pattern, '_', '\\_'), '*', '%%')))
      AND q.size_bytes >= coalesce(({match} ->> 'min_bytes')::bigint, 0)
      AND q.size_bytes <= coalesce(({match} ->> 'max_bytes')::bigint, q.size_bytes)
      AND q.age_days >= coalesce(({match} ->> 'min_age_days')::bigint, 0)
      AND q.age_days <= coalesce(({match} ->> 'max_age_days')::bigint, q.age_days)"""  # noqa: S608


_SELECTION: Final = "%(selection)s::jsonb"
_ASKED: Final = f"""FROM (SELECT lower(btrim(split_part({_CONTENT_TYPE}, ';', 1))) AS content_type, b.size_bytes,
      greatest(0, floor(extract(epoch FROM coalesce(%(selection_at)s::timestamptz, now()) - b.created_at) / 86400))
        AS age_days) q"""  # noqa: S608
#: Whether blob `b` is selected, by the parameters that `selection_params` gives.
IS_SELECTED: Final = f"""({_SELECTION} IS NULL OR (SELECT {_meets(f"({_SELECTION} -> 'only')")} AND (coalesce((
        SELECT (e.rule ->> 'in')::boolean
        FROM jsonb_array_elements({_SELECTION} -> 'rules') WITH ORDINALITY AS e (rule, n)
        WHERE {_meets("(e.rule -> 'match')")} ORDER BY e.n LIMIT 1), ({_SELECTION} ->> 'else')::boolean)
      OR (EXISTS (SELECT 1 FROM replicas r WHERE r.tenant_id = b.tenant_id AND r.blob_id = b.id
            AND r.store_id = %(selection_lone)s::uuid AND r.state IN ('live', 'suspect', 'missing'))
          AND NOT EXISTS (SELECT 1 FROM replicas r WHERE r.tenant_id = b.tenant_id AND r.blob_id = b.id
            AND r.store_id <> %(selection_lone)s::uuid AND r.state = 'live' AND r.evidence = 'read-back')))
    {_ASKED}))"""  # noqa: S608
#: Whether blob `b` meets the selection's `only`, whatever its rules say; by the same parameters.
MEETS_ONLY: Final = f"""({_SELECTION} IS NULL OR (SELECT {_meets(f"({_SELECTION} -> 'only')")} {_ASKED}))"""


def selection_params(selection: Selection) -> dict[str, object]:
    document = selection.document()
    return {
        "selection": None if document is None else Jsonb(document),
        "selection_at": selection.at,
        "selection_lone": selection.lone_store_id,
    }


async def find(uow: UnitOfWork) -> PlacementRow | None:
    return await uow.find(PlacementRow, f"SELECT {_COLUMNS} FROM placements WHERE tenant_id = %s", [uow.tenant_id])  # noqa: S608


async def share(uow: UnitOfWork) -> PlacementRow | None:
    """Read the row and hold it against change until this unit of work ends. Many may hold it at once."""
    return await uow.find(
        PlacementRow,
        f"SELECT {_COLUMNS} FROM placements WHERE tenant_id = %s FOR SHARE",  # noqa: S608
        [uow.tenant_id],
    )


async def lock(uow: UnitOfWork) -> PlacementRow | None:
    """Read the row for changing it: waits until nobody shares it any more, and then nobody can."""
    return await uow.find(
        PlacementRow,
        f"SELECT {_COLUMNS} FROM placements WHERE tenant_id = %s FOR UPDATE",  # noqa: S608
        [uow.tenant_id],
    )


async def save(uow: UnitOfWork, policy: Policy, *, version: int, reason: str) -> bool:
    """Put the policy in force as `version` and into the history. The caller holds the lock, or there is no row.

    False if the version before is not the one in force: two first ones at a time have no row to lock.
    """
    document = to_document(policy)
    count = await uow.execute(
        """INSERT INTO placements (tenant_id, version, write_store_id, copy_store_ids, read_store_ids, write_weights,
             more, store_ids)
           VALUES (%(tenant)s, %(version)s, %(write)s, %(copies)s::uuid[], %(read)s::uuid[], %(weights)s, %(more)s,
             %(stores)s::uuid[])
           ON CONFLICT (tenant_id) DO UPDATE SET version = EXCLUDED.version, write_store_id = EXCLUDED.write_store_id,
             copy_store_ids = EXCLUDED.copy_store_ids, read_store_ids = EXCLUDED.read_store_ids,
             write_weights = EXCLUDED.write_weights, more = EXCLUDED.more, store_ids = EXCLUDED.store_ids,
             updated_at = now(), held_until = NULL
             WHERE placements.version = EXCLUDED.version - 1""",
        {
            "tenant": uow.tenant_id,
            "version": version,
            "write": policy.write_store_id,
            "copies": list(policy.copy_store_ids),
            "read": list(policy.read_store_ids),
            "weights": Jsonb(document["weights"]),
            "more": Jsonb(
                {name: document[name] for name in ("spread", "min_acks", "rules", "read_preference", "hedge")}
            ),
            "stores": list(policy.wanted_store_ids),
        },
    )
    if count != 1:
        return False
    await uow.execute(
        "INSERT INTO placement_versions (tenant_id, version, policy, reason) VALUES (%s, %s, %s, %s)",
        [uow.tenant_id, version, Jsonb(document), reason],
    )
    return True


async def find_before(uow: UnitOfWork, *, reason: str) -> Policy | None:
    """The policy that was in force before the newest change with this reason."""
    document = await uow.scalar(
        """SELECT policy FROM placement_versions WHERE tenant_id = %(tenant)s AND version = (
             SELECT version - 1 FROM placement_versions WHERE tenant_id = %(tenant)s AND reason = %(reason)s
             ORDER BY version DESC LIMIT 1)""",
        {"tenant": uow.tenant_id, "reason": reason},
    )
    return from_document(document) if isinstance(document, dict) else None


async def find_subject(uow: UnitOfWork, blob_id: UUID) -> Subject | None:
    """What the placement may ask of a living blob."""
    return await uow.find(
        Subject,
        f"SELECT {SUBJECT} FROM blobs b WHERE b.tenant_id = %s AND b.id = %s AND b.dead_at IS NULL",  # noqa: S608
        [uow.tenant_id, blob_id],
    )


async def hold(uow: UnitOfWork, *, seconds: float) -> None:
    """Ask uploads to wait before they make a version visible; 0 lets them go. It ends by itself."""
    await uow.execute(
        "UPDATE placements SET held_until = now() + make_interval(secs => %s::float8) WHERE tenant_id = %s",
        [seconds, uow.tenant_id],
    )


_GRANTS: Final = """SELECT g.store_id, s.name, s.kind, g.prefix, s.jurisdiction, s.settings,
    s.cache_max_bytes IS NOT NULL AS is_cache FROM store_grants g
  JOIN stores s ON s.id = g.store_id
  WHERE g.tenant_id = %s AND s.disabled_at IS NULL AND g.revoked_at IS NULL ORDER BY s.name LIMIT 1000"""


async def list_grants(uow: UnitOfWork) -> list[Grant]:
    """The stores granted to the tenant: a handful, bounded by what operators grant and what a tenant may bring.

    But for caches: nothing is placed in one.
    """
    return [grant for grant in await uow.rows(Grant, _GRANTS, [uow.tenant_id]) if not grant.is_cache]


async def hold_grants(uow: UnitOfWork) -> list[Grant]:
    """The same and the caches, and none of them can be taken back until this unit of work ends.

    After the placement's own lock.
    """
    return await uow.rows(Grant, f"{_GRANTS} FOR KEY SHARE OF g", [uow.tenant_id])


async def list_read_places(uow: UnitOfWork, store_ids: Sequence[UUID]) -> list[ReadPlace]:
    """What tells which of these stores of the tenant to read from."""
    return await uow.rows(
        ReadPlace,
        """SELECT id AS store_id, kind, settings, jurisdiction, disabled_at IS NOT NULL AS is_disabled,
             (prices ->> 'egress_per_gib')::numeric AS own_egress
           FROM stores WHERE id = ANY(%s)""",
        [list(store_ids)],
    )


async def count_replicas(uow: UnitOfWork, store_id: UUID, *, after: UUID, limit: int) -> tuple[int, UUID | None]:
    """How many of the next replicas at a store there are, and the last one's id (None: there are no more)."""
    cursor = await uow.connection.execute(
        """SELECT count(*), (array_agg(id ORDER BY id DESC))[1] FROM (
             SELECT id FROM replicas WHERE tenant_id = %s AND store_id = %s AND id > %s ORDER BY id LIMIT %s) page""",
        [uow.tenant_id, store_id, after, limit],
    )
    count, last = await cursor.fetchone() or (0, None)
    return count, last if count == limit else None


async def get_loss_count(uow: UnitOfWork, store_id: UUID) -> int:
    """How often a live replica of the tenant at the store has turned out not to be good."""
    count = await uow.scalar(
        "SELECT loss_count FROM store_grants WHERE tenant_id = %s AND store_id = %s", [uow.tenant_id, store_id]
    )
    return int(count or 0)


async def is_migrating(uow: UnitOfWork) -> bool:
    """Whether a started migration of the tenant has not ended yet: it owns the policy until then."""
    found = await uow.scalar(
        """SELECT 1 FROM migrations WHERE tenant_id = %s
           AND state NOT IN ('planned', 'done', 'rolled_back', 'cancelled')""",
        [uow.tenant_id],
    )
    return found is not None


async def want_survey(uow: UnitOfWork) -> None:
    """Have every blob looked at, from the first one on; what was under way begins anew."""
    await uow.execute(
        """INSERT INTO placement_surveys (tenant_id, due_at) VALUES (%s, now())
           ON CONFLICT (tenant_id) DO UPDATE SET after_seq = 0, due_at = now(), fence = placement_surveys.fence + 1""",
        [uow.tenant_id],
    )


async def is_surveyed(uow: UnitOfWork) -> bool:
    """Whether blobs that are there already are being looked at, or will be: they may come to be owed more copies."""
    return bool(
        await uow.scalar("SELECT 1 FROM placement_surveys WHERE tenant_id = %s AND due_at IS NOT NULL", [uow.tenant_id])
    )


async def list_due_surveys(uow: UnitOfWork, *, limit: int) -> list[UUID]:
    """Tenants of which blobs are to be looked at. For the platform's unit of work."""
    return await uow.scalars(
        "SELECT tenant_id FROM placement_surveys WHERE due_at <= now() ORDER BY due_at LIMIT %s", [limit]
    )


async def claim_survey(uow: UnitOfWork, *, lease_seconds: float) -> Survey | None:
    return await uow.find(
        Survey,
        """UPDATE placement_surveys SET due_at = now() + make_interval(secs => %s::float8), fence = fence + 1
           WHERE tenant_id = %s AND due_at <= now() RETURNING after_seq, fence""",
        [lease_seconds, uow.tenant_id],
    )


async def list_seen(uow: UnitOfWork, *, after_seq: int, limit: int) -> list[Seen]:
    """The next living blobs, with the stores that hold them or are to."""
    return await uow.rows(
        Seen,
        f"""SELECT b.seq, {SUBJECT}, ARRAY(SELECT DISTINCT r.store_id FROM replicas r WHERE r.tenant_id = b.tenant_id
              AND r.blob_id = b.id AND r.state <> 'retiring') AS store_ids
            FROM blobs b WHERE b.tenant_id = %s AND b.seq > %s AND b.dead_at IS NULL ORDER BY b.seq LIMIT %s""",  # noqa: S608
        [uow.tenant_id, after_seq, limit],
    )


async def find_seqs(uow: UnitOfWork) -> Seqs | None:
    """From where to where the tenant's blobs are numbered: two looks into an index. None: there are none."""
    found = await uow.find(
        Seqs,
        """SELECT coalesce((SELECT min(seq) FROM blobs WHERE tenant_id = %(tenant)s), 0) AS first,
             coalesce((SELECT max(seq) FROM blobs WHERE tenant_id = %(tenant)s), 0) AS last""",
        {"tenant": uow.tenant_id},
    )
    return found if found is not None and found.last else None


async def advance_survey(uow: UnitOfWork, survey: Survey, *, after_seq: int, due_in_seconds: float | None) -> bool:
    """Note how far it is, and when it goes on (None: not at all); False if another worker has taken over."""
    count = await uow.execute(
        """UPDATE placement_surveys SET after_seq = %s, due_at = now() + make_interval(secs => %s::float8)
           WHERE tenant_id = %s AND fence = %s""",
        [after_seq, due_in_seconds, uow.tenant_id, survey.fence],
    )
    return count == 1
