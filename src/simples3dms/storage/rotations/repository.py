"""SQL of rotations and schedules, for the platform's unit of work."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final
from uuid import UUID

from simples3dms.db.session import UnitOfWork
from simples3dms.storage.rotations.values import ManagerRow, Rotation, Schedule

_ROTATION: Final = """id, store_id, state, from_version, to_version, is_made, key_name, known_key_ids, deletes_old,
  created_at, switched_at, grace_until, finished_at, error_code, error_message, fence, attempt"""
_ACTIVE: Final = "state IN ('making', 'staged', 'switched', 'retiring', 'undoing')"


async def insert(
    uow: UnitOfWork,
    rotation_id: UUID,
    store_id: UUID,
    *,
    versions: tuple[int, int],
    is_made: bool,
    key_name: str,
    deletes_old: bool,
    grace_seconds: float,
) -> bool:
    """Whether it was begun: False while another one of the store is under way. The caller holds the store's row."""
    done = await uow.execute(
        """INSERT INTO credential_rotations (id, store_id, state, from_version, to_version, is_made, key_name,
             deletes_old, grace_seconds) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING""",
        [
            rotation_id,
            store_id,
            "making" if is_made else "staged",
            *versions,
            is_made,
            key_name,
            deletes_old,
            grace_seconds,
        ],
    )
    return done == 1


async def find(uow: UnitOfWork, rotation_id: UUID) -> Rotation | None:
    return await uow.find(Rotation, f"SELECT {_ROTATION} FROM credential_rotations WHERE id = %s", [rotation_id])  # noqa: S608


async def find_newest(uow: UnitOfWork, store_id: UUID) -> Rotation | None:
    return await uow.find(
        Rotation,
        f"SELECT {_ROTATION} FROM credential_rotations WHERE store_id = %s ORDER BY id DESC LIMIT 1",  # noqa: S608
        [store_id],
    )


async def list_due(uow: UnitOfWork, *, limit: int) -> list[UUID]:
    return await uow.scalars(
        f"""SELECT id FROM credential_rotations WHERE {_ACTIVE} AND due_at <= now()
              AND (lease_until IS NULL OR lease_until < now()) ORDER BY due_at LIMIT %s""",  # noqa: S608
        [limit],
    )


async def claim(uow: UnitOfWork, rotation_id: UUID, *, lease_seconds: float) -> Rotation | None:
    """The rotation, ours for a while under a new fence; None while it is another's, not due, or over."""
    return await uow.find(
        Rotation,
        f"""UPDATE credential_rotations SET fence = fence + 1, attempt = attempt + 1,
              lease_until = now() + make_interval(secs => %s)
            WHERE id = %s AND {_ACTIVE} AND due_at <= now() AND (lease_until IS NULL OR lease_until < now())
            RETURNING {_ROTATION}""",  # noqa: S608
        [lease_seconds, rotation_id],
    )


async def prolong(uow: UnitOfWork, rotation: Rotation, *, lease_seconds: float) -> bool:
    """Whether the claim still stands."""
    done = await uow.execute(
        """UPDATE credential_rotations SET lease_until = now() + make_interval(secs => %s)
           WHERE id = %s AND fence = %s""",
        [lease_seconds, rotation.id, rotation.fence],
    )
    return done == 1


async def intend(uow: UnitOfWork, rotation: Rotation, known_key_ids: Sequence[str]) -> bool:
    """Write down which keys were there before ours. Whether the claim still stands."""
    done = await uow.execute(
        "UPDATE credential_rotations SET known_key_ids = coalesce(known_key_ids, %s) WHERE id = %s AND fence = %s",
        [list(known_key_ids), rotation.id, rotation.fence],
    )
    return done == 1


async def move(uow: UnitOfWork, rotation: Rotation, state: str, *, error: tuple[str, str] | None = None) -> bool:
    """To its next state, and free for whoever comes next, if the claim still stands."""
    code, message = error or (None, None)
    done = await uow.execute(
        """UPDATE credential_rotations SET state = %(state)s, attempt = 0, lease_until = NULL, due_at = now(),
             error_code = coalesce(%(code)s, error_code), error_message = coalesce(%(message)s, error_message),
             finished_at = CASE WHEN %(state)s IN ('done', 'rolled_back', 'failed', 'needs_attention') THEN now() END
           WHERE id = %(id)s AND fence = %(fence)s""",
        {"state": state, "code": code, "message": message, "id": rotation.id, "fence": rotation.fence},
    )
    return done == 1


async def set_switched(uow: UnitOfWork, rotation: Rotation) -> bool:
    """The grace begins. Whether the claim still stands."""
    done = await uow.execute(
        """UPDATE credential_rotations SET state = 'switched', switched_at = now(), attempt = 0, lease_until = NULL,
             error_code = NULL, error_message = NULL,
             grace_until = now() + make_interval(secs => grace_seconds),
             due_at = now() + make_interval(secs => grace_seconds) WHERE id = %s AND fence = %s""",
        [rotation.id, rotation.fence],
    )
    return done == 1


async def postpone(uow: UnitOfWork, rotation: Rotation, *, seconds: float, error: tuple[str, str] | None) -> None:
    code, message = error or (rotation.error_code, rotation.error_message)
    await uow.execute(
        """UPDATE credential_rotations SET lease_until = NULL, due_at = now() + make_interval(secs => %s),
             error_code = %s, error_message = %s WHERE id = %s AND fence = %s""",
        [seconds, code, message, rotation.id, rotation.fence],
    )


async def undo_by_hand(uow: UnitOfWork, rotation: Rotation, *, seconds: float) -> None:
    """Whatever a worker is at counts no more: the fence goes on. The caller holds the store's row."""
    await uow.execute(
        """UPDATE credential_rotations SET state = 'undoing', fence = fence + 1, attempt = 0, lease_until = NULL,
             due_at = now() + make_interval(secs => %s), error_code = NULL, error_message = NULL WHERE id = %s""",
        [seconds, rotation.id],
    )


async def end_grace(uow: UnitOfWork, rotation: Rotation, *, least_seconds: float) -> None:
    """Now, or as soon as every process must have turned. The caller holds the store's row."""
    await uow.execute(
        """UPDATE credential_rotations SET
             grace_until = least(grace_until, greatest(now(), switched_at + make_interval(secs => %(least)s))),
             due_at = least(due_at, greatest(now(), switched_at + make_interval(secs => %(least)s)))
           WHERE id = %(id)s AND state = 'switched'""",
        {"least": least_seconds, "id": rotation.id},
    )


async def find_schedule(uow: UnitOfWork, store_id: UUID) -> Schedule | None:
    return await uow.find(
        Schedule,
        """SELECT every_seconds, deletes_old, next_at, manager_version, fingerprint AS manager_fingerprint
           FROM rotation_schedules WHERE store_id = %s""",
        [store_id],
    )


async def find_manager(uow: UnitOfWork, store_id: UUID) -> ManagerRow | None:
    return await uow.find(
        ManagerRow,
        """SELECT manager_version, key_id, wrapped_key, sealed FROM rotation_schedules
           WHERE store_id = %s AND key_id IS NOT NULL""",
        [store_id],
    )


async def save_schedule(uow: UnitOfWork, store_id: UUID, *, every_seconds: float | None, deletes_old: bool) -> None:
    await uow.execute(
        """INSERT INTO rotation_schedules (store_id, every_seconds, deletes_old, next_at)
           VALUES (%(store)s, %(every)s, %(deletes)s, now() + make_interval(secs => %(every)s))
           ON CONFLICT (store_id) DO UPDATE SET every_seconds = %(every)s, deletes_old = %(deletes)s,
             next_at = now() + make_interval(secs => %(every)s), updated_at = now()""",
        {"store": store_id, "every": every_seconds, "deletes": deletes_old},
    )


async def save_manager(uow: UnitOfWork, store_id: UUID, row: ManagerRow, fingerprint: str | None) -> None:
    await uow.execute(
        """UPDATE rotation_schedules SET manager_version = %s, key_id = %s, wrapped_key = %s, sealed = %s,
             fingerprint = %s WHERE store_id = %s""",
        [row.manager_version, row.key_id, row.wrapped_key, row.sealed, fingerprint, store_id],
    )


async def list_due_schedules(uow: UnitOfWork, *, limit: int) -> list[UUID]:
    return await uow.scalars(
        """SELECT r.store_id FROM rotation_schedules r JOIN stores s ON s.id = r.store_id
           WHERE r.next_at <= now() AND s.disabled_at IS NULL ORDER BY r.next_at LIMIT %s""",
        [limit],
    )


async def claim_schedule(uow: UnitOfWork, store_id: UUID) -> Schedule | None:
    """The schedule, if it is due: its next time is set first, so that nobody else takes it."""
    return await uow.find(
        Schedule,
        """UPDATE rotation_schedules SET next_at = now() + make_interval(secs => every_seconds)
           WHERE store_id = %s AND next_at <= now()
           RETURNING every_seconds, deletes_old, next_at, manager_version, fingerprint AS manager_fingerprint""",
        [store_id],
    )


async def hasten_schedule(uow: UnitOfWork, store_id: UUID, *, seconds: float) -> None:
    """After a rotation that failed: sooner than it would come by itself."""
    await uow.execute(
        """UPDATE rotation_schedules SET next_at = least(next_at, now() + make_interval(secs => %s))
           WHERE store_id = %s AND next_at IS NOT NULL""",
        [seconds, store_id],
    )
