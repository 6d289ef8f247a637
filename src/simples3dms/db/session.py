"""Units of work: one short transaction each, as the tenant role or the platform role, committed at the edge.

The role and the tenant are set for the transaction only (`set_config(..., is_local => true)`), so that a pooled
connection carries nothing over, also behind a transaction pooler. No store I/O may happen inside one.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, LiteralString, TypeVar
from uuid import UUID
from weakref import WeakKeyDictionary

import psycopg
from psycopg import sql
from psycopg.pq import TransactionStatus
from psycopg.rows import class_row, scalar_row
from psycopg_pool import AsyncConnectionPool, PoolClosed, PoolTimeout

from simples3dms.db.roles import PLATFORM_ROLE, QUEUE_ROLE, SEALER_ROLE, TENANT_ROLE
from simples3dms.errors import Unavailable

T = TypeVar("T")
Query = LiteralString | sql.SQL | sql.Composed
Params = Sequence[Any] | dict[str, Any] | None

#: One round trip, as a query without parameters may hold several statements. The time is for the server: the locks of
#: a process that fell silent in the middle of a unit of work, and can't be reached any more, are not held for hours.
_ENTER = sql.SQL(
    "BEGIN; SELECT set_config('role', {}, true), set_config('app.tenant_id', {}, true), "
    "set_config('idle_in_transaction_session_timeout', '30s', true)"
)
#: For how long after its last use a connection is taken for whole without asking.
_TRUSTED_SECONDS = 1.0
_SET_ROLE = "SELECT set_config('role', %s, true)"
#: Before a statement in the same message, which PostgreSQL runs as one transaction of its own.
_ENTER_ONCE = f"SELECT set_config('role', '{PLATFORM_ROLE}', true), set_config('app.tenant_id', '', true); "


class UnitOfWork:
    """One open transaction. Repositories get it as their first argument; nobody commits it by hand."""

    def __init__(self, connection: psycopg.AsyncConnection[Any], role: str, tenant_id: UUID | None) -> None:
        self.connection = connection
        self.tenant_id = tenant_id
        self._role = role

    async def execute(self, query: Query, params: Params = None) -> int:
        """Run a statement; the number of rows it touched."""
        cursor = await self.connection.execute(query, params)
        return cursor.rowcount

    async def find(self, row_type: type[T], query: Query, params: Params = None) -> T | None:
        """The first row as `row_type` (columns are its fields), or None."""
        async with self.connection.cursor(row_factory=class_row(row_type)) as cursor:
            await cursor.execute(query, params)
            return await cursor.fetchone()

    async def rows(self, row_type: type[T], query: Query, params: Params = None) -> list[T]:
        """All rows as `row_type`. The statement bounds how many."""
        async with self.connection.cursor(row_factory=class_row(row_type)) as cursor:
            await cursor.execute(query, params)
            return await cursor.fetchall()

    async def scalar(self, query: Query, params: Params = None) -> Any:
        """The first column of the first row, or None."""
        async with self.connection.cursor(row_factory=scalar_row) as cursor:
            await cursor.execute(query, params)
            return await cursor.fetchone()

    async def scalars(self, query: Query, params: Params = None) -> list[Any]:
        """The first column of each row. The statement bounds how many."""
        async with self.connection.cursor(row_factory=scalar_row) as cursor:
            await cursor.execute(query, params)
            return await cursor.fetchall()

    @asynccontextmanager
    async def as_queue(self) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
        """The same transaction under the queue's role, for deferring a job inside it."""
        await self.connection.execute(_SET_ROLE, [QUEUE_ROLE])
        yield self.connection
        await self.connection.execute(_SET_ROLE, [self._role])


class Database:
    """The pool that the whole process shares. `open` before use; `close` once."""

    def __init__(self, url: str, *, pool_max: int = 16, acquire_timeout_seconds: float = 5.0) -> None:
        self.url = url
        self._pool = AsyncConnectionPool(
            url,
            open=False,
            min_size=1,
            max_size=pool_max,
            timeout=acquire_timeout_seconds,
            # A pooler in between may hand each transaction to another server: nothing is prepared by name.
            kwargs={"autocommit": True, "prepare_threshold": None, "application_name": "simples3dms"},
            check=self._check,
            name="simples3dms",
        )
        self.used_at: WeakKeyDictionary[psycopg.AsyncConnection[Any], float] = WeakKeyDictionary()

    async def _check(self, connection: psycopg.AsyncConnection[Any]) -> None:
        """Whether a connection that has not been used for a while still is one. A busy one shows it by itself."""
        if time.monotonic() - self.used_at.get(connection, -_TRUSTED_SECONDS) >= _TRUSTED_SECONDS:
            await AsyncConnectionPool.check_connection(connection)

    async def open(self) -> None:
        await self._pool.open()

    async def close(self) -> None:
        await self._pool.close()

    def tenant(self, tenant_id: UUID) -> _UnitContext:
        """A unit of work that sees this tenant's rows and no others."""
        return _UnitContext(self, TENANT_ROLE, tenant_id)

    def platform(self, *, acting_for: UUID | None = None) -> _UnitContext:
        """A unit of work that spans tenants. For the platform's own tables and for upkeep.

        `acting_for` names a tenant to repositories that work on one: the role's rights stay the platform's.
        """
        return _UnitContext(self, PLATFORM_ROLE, acting_for)

    async def find_at_once(self, row_type: type[T], query: LiteralString, params: Params = None) -> T | None:
        """The first row of one statement that is a whole platform's unit of work, in a single round trip.

        For what each request asks: a unit of work takes three round trips, and four times the CPU. Parameters are
        merged into the text here, quoted by the driver.
        """
        async with _connected(self) as connection:
            cursor = psycopg.AsyncClientCursor(connection, row_factory=class_row(row_type))
            # No BEGIN: what fails leaves nothing open.
            await cursor.execute((_ENTER_ONCE + cursor.mogrify(query, params)).encode())
            cursor.nextset()
            return await cursor.fetchone()

    def sealer(self, tenant_id: UUID) -> _UnitContext:
        """A unit of work over this tenant's audit chain alone: the only one that may number events, or cut them."""
        return _UnitContext(self, SEALER_ROLE, tenant_id)

    async def ping(self) -> None:
        """Raise `Unavailable` unless the database answers."""
        async with self.platform() as uow:
            await uow.scalar("SELECT 1")


class _UnitContext:
    """`async with db.tenant(id) as uow`: opens, and commits unless an exception leaves the block."""

    def __init__(self, database: Database, role: str, tenant_id: UUID | None) -> None:
        self._context = _unit(database, role, tenant_id)

    async def __aenter__(self) -> UnitOfWork:
        return await self._context.__aenter__()

    async def __aexit__(self, *exc: Any) -> bool | None:
        return await self._context.__aexit__(*exc)


@asynccontextmanager
async def _unit(database: Database, role: str, tenant_id: UUID | None) -> AsyncIterator[UnitOfWork]:
    async with _connected(database) as connection:
        await connection.execute(_ENTER.format(role, str(tenant_id) if tenant_id else ""))
        yield UnitOfWork(connection, role, tenant_id)
        if connection.info.transaction_status == TransactionStatus.INERROR:
            # PostgreSQL would answer COMMIT by a roll-back, and call it a success.
            raise RuntimeError("A statement failed in this unit of work and was passed over: nothing is committed.")
        await connection.commit()


@asynccontextmanager
async def _connected(database: Database) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
    """A connection of the pool, which rolls back if an exception leaves the block."""
    try:
        async with database._pool.connection() as connection:
            yield connection
            database.used_at[connection] = time.monotonic()
    except (
        PoolTimeout,
        PoolClosed,
        psycopg.OperationalError,
        psycopg.errors.IdleInTransactionSessionTimeout,
    ) as error:
        # Deadlock victims and serialization failures are among these: nothing was changed, and a repeat may succeed.
        raise Unavailable("The database is not reachable; try again shortly.", code="database_unavailable") from error
