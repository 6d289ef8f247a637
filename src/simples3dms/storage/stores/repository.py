"""SQL of stores and grants."""

from __future__ import annotations

from typing import Any, Final
from uuid import UUID

from psycopg.types.json import Jsonb

from simples3dms.db.session import UnitOfWork
from simples3dms.storage.stores.values import GrantedStore, Store

_STORE: Final = "id, name, kind, settings, created_at, disabled_at"


async def insert(uow: UnitOfWork, store_id: UUID, name: str, kind: str, settings: dict[str, Any]) -> Store | None:
    """The new store, or None if the name is taken."""
    return await uow.find(
        Store,
        f"""INSERT INTO stores (id, name, kind, settings) VALUES (%s, %s, %s, %s)
            ON CONFLICT (name) DO NOTHING RETURNING {_STORE}""",  # noqa: S608
        [store_id, name, kind, Jsonb(settings)],
    )


async def find(uow: UnitOfWork, *, name: str | None = None, store_id: UUID | None = None) -> Store | None:
    return await uow.find(Store, f"SELECT {_STORE} FROM stores WHERE name = %s OR id = %s", [name, store_id])  # noqa: S608


async def lock(uow: UnitOfWork, store_id: UUID) -> None:
    """Hold the store's row, for changes that must not interleave."""
    await uow.execute("SELECT 1 FROM stores WHERE id = %s FOR UPDATE", [store_id])


async def list_all(uow: UnitOfWork) -> list[Store]:
    """A platform has a handful of stores; a thousand at the most are shown."""
    return await uow.rows(Store, f"SELECT {_STORE} FROM stores ORDER BY name LIMIT 1000")  # noqa: S608


async def find_same_place(uow: UnitOfWork, kind: str, place: dict[str, Any]) -> str | None:
    """The name of a store of this kind whose settings contain these."""
    found: str | None = await uow.scalar(
        "SELECT name FROM stores WHERE kind = %s AND settings @> %s LIMIT 1", [kind, Jsonb(place)]
    )
    return found


async def list_granted(uow: UnitOfWork) -> list[GrantedStore]:
    """For the tenant's unit of work."""
    return await uow.rows(
        GrantedStore,
        """SELECT s.id, s.name, s.kind, g.prefix FROM store_grants g JOIN stores s ON s.id = g.store_id
           WHERE g.tenant_id = %s ORDER BY s.name LIMIT 1000""",
        [uow.tenant_id],
    )


async def find_grant(uow: UnitOfWork, tenant_id: UUID, store_id: UUID) -> GrantedStore | None:
    return await uow.find(
        GrantedStore,
        """SELECT s.id, s.name, s.kind, g.prefix FROM store_grants g JOIN stores s ON s.id = g.store_id
           WHERE g.tenant_id = %s AND g.store_id = %s""",
        [tenant_id, store_id],
    )


async def is_prefix_taken(uow: UnitOfWork, store_id: UUID, prefix: str) -> bool:
    """Whether the prefix, or one above or below it, is granted in this store."""
    found = await uow.scalar(
        """SELECT 1 FROM store_grants WHERE store_id = %(store)s
             AND (starts_with(prefix, %(prefix)s) OR starts_with(%(prefix)s, prefix)) LIMIT 1""",
        {"store": store_id, "prefix": prefix},
    )
    return found is not None


async def insert_grant(uow: UnitOfWork, tenant_id: UUID, store_id: UUID, prefix: str) -> None:
    await uow.execute(
        "INSERT INTO store_grants (tenant_id, store_id, prefix) VALUES (%s, %s, %s)", [tenant_id, store_id, prefix]
    )
