"""SQL of credentials, for the platform's unit of work."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from simples3dms.db.session import UnitOfWork
from simples3dms.storage.credentials.values import CredentialRow

_ROW: Final = "version, key_id, wrapped_key, sealed, fingerprint, state, provider_key_id, expires_at"


@dataclass(frozen=True, slots=True)
class Expiring:
    """A store whose credential is about to expire."""

    store: str
    expires_at: datetime


async def lock_store(uow: UnitOfWork, store_id: UUID) -> None:
    """Hold the store's row: its credentials change one after another."""
    await uow.execute("SELECT 1 FROM stores WHERE id = %s FOR UPDATE", [store_id])


async def find_owner(uow: UnitOfWork, store_id: UUID) -> UUID | None:
    """The tenant that brought the store; None: the platform's."""
    found: UUID | None = await uow.scalar("SELECT owner_tenant_id FROM stores WHERE id = %s", [store_id])
    return found


async def next_version(uow: UnitOfWork, store_id: UUID) -> int:
    """The version that comes next: never one that was given before, also to a rotation that failed."""
    found = await uow.scalar(
        """SELECT greatest((SELECT max(version) FROM credentials WHERE store_id = %(store)s),
             (SELECT max(to_version) FROM credential_rotations WHERE store_id = %(store)s), 0) + 1""",
        {"store": store_id},
    )
    return int(found)


async def is_rotating(uow: UnitOfWork, store_id: UUID) -> bool:
    """The caller holds the store's row."""
    found = await uow.scalar(
        """SELECT 1 FROM credential_rotations WHERE store_id = %s
             AND state IN ('making', 'staged', 'switched', 'retiring', 'undoing')""",
        [store_id],
    )
    return found is not None


async def find_current_version(uow: UnitOfWork, store_id: UUID) -> int | None:
    found = await uow.scalar("SELECT version FROM credentials WHERE store_id = %s AND state = 'current'", [store_id])
    return None if found is None else int(found)


async def insert(uow: UnitOfWork, store_id: UUID, row: CredentialRow) -> None:
    await uow.execute(
        """INSERT INTO credentials (store_id, version, key_id, wrapped_key, sealed, fingerprint, state,
             provider_key_id, expires_at) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s)""",
        [
            store_id,
            row.version,
            row.key_id,
            row.wrapped_key,
            row.sealed,
            row.fingerprint,
            row.state,
            row.provider_key_id,
            row.expires_at,
        ],
    )


async def find(uow: UnitOfWork, store_id: UUID, version: int | None = None) -> CredentialRow | None:
    """That version, or the current one."""
    return await uow.find(
        CredentialRow,
        f"""SELECT {_ROW} FROM credentials WHERE store_id = %(store)s
              AND CASE WHEN %(version)s::int IS NULL THEN state = 'current' ELSE version = %(version)s END""",  # noqa: S608
        {"store": store_id, "version": version},
    )


async def list_versions(uow: UnitOfWork, store_id: UUID) -> list[CredentialRow]:
    """All that are kept: three at most."""
    return await uow.rows(
        CredentialRow,
        f"SELECT {_ROW} FROM credentials WHERE store_id = %s ORDER BY version LIMIT 10",  # noqa: S608
        [store_id],
    )


async def switch(uow: UnitOfWork, store_id: UUID, *, leave: int, take: int) -> bool:
    """Make `take` the current version, if `leave` is: compare and set. The caller holds the store's row."""
    left = await uow.execute(
        "UPDATE credentials SET state = 'old' WHERE store_id = %s AND version = %s AND state = 'current'",
        [store_id, leave],
    )
    if left != 1:
        return False
    taken = await uow.execute(
        "UPDATE credentials SET state = 'current' WHERE store_id = %s AND version = %s", [store_id, take]
    )
    return taken == 1


async def delete_all(uow: UnitOfWork, store_id: UUID) -> None:
    await uow.execute("DELETE FROM credentials WHERE store_id = %s", [store_id])


async def delete_unused(uow: UnitOfWork, store_id: UUID, version: int) -> None:
    """Forget a version; never the current one."""
    await uow.execute(
        "DELETE FROM credentials WHERE store_id = %s AND version = %s AND state <> 'current'", [store_id, version]
    )


async def claim_expiry_warnings(uow: UnitOfWork, *, days: float) -> list[Expiring]:
    """Credentials in use that expire within so many days; each is told once a day, by whoever asks first."""
    return await uow.rows(
        Expiring,
        """UPDATE credentials c SET expiry_warned_at = now() FROM stores s
           WHERE s.id = c.store_id AND c.state = 'current' AND c.expires_at < now() + make_interval(secs => %s)
             AND (c.expiry_warned_at IS NULL OR c.expiry_warned_at < now() - interval '24 hours')
           RETURNING s.name AS store, c.expires_at""",
        [days * 86_400],
    )
