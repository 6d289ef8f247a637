"""SQL of credentials, for the platform's unit of work."""

from __future__ import annotations

from uuid import UUID

from simples3dms.db.session import UnitOfWork
from simples3dms.storage.credentials.values import CredentialRow


async def lock_store(uow: UnitOfWork, store_id: UUID) -> None:
    """Hold the store's row: its credentials change one after another."""
    await uow.execute("SELECT 1 FROM stores WHERE id = %s FOR UPDATE", [store_id])


async def next_version(uow: UnitOfWork, store_id: UUID) -> int:
    """The version that comes next. The caller holds the store's row."""
    found = await uow.scalar("SELECT coalesce(max(version), 0) + 1 FROM credentials WHERE store_id = %s", [store_id])
    return int(found)


async def insert(uow: UnitOfWork, store_id: UUID, row: CredentialRow) -> None:
    await uow.execute(
        "INSERT INTO credentials (store_id, version, key_id, wrapped_key, sealed) VALUES (%s, %s, %s, %s, %s)",
        [store_id, row.version, row.key_id, row.wrapped_key, row.sealed],
    )


async def find_newest(uow: UnitOfWork, store_id: UUID) -> CredentialRow | None:
    return await uow.find(
        CredentialRow,
        """SELECT version, key_id, wrapped_key, sealed FROM credentials WHERE store_id = %s
           ORDER BY version DESC LIMIT 1""",
        [store_id],
    )


async def delete_before(uow: UnitOfWork, store_id: UUID, version: int) -> None:
    await uow.execute("DELETE FROM credentials WHERE store_id = %s AND version < %s", [store_id, version])
