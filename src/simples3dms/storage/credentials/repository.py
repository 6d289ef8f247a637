"""SQL of credentials, for the platform's unit of work."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from simples3dms.db.session import UnitOfWork
from simples3dms.storage.credentials.values import CredentialRow


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


async def list_unknown_keys(uow: UnitOfWork, known: Sequence[str]) -> list[str]:
    """The ids of the keys that any credential is sealed under and that are not among `known`."""
    return await uow.scalars(
        "SELECT DISTINCT key_id FROM credentials WHERE NOT key_id = ANY (%s::text[]) ORDER BY key_id LIMIT 100",
        [list(known)],
    )
