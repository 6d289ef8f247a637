"""SQL of the throttle: what processes saw of their readers lately. For the platform's unit of work."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from simples3dms.db.session import UnitOfWork
from simples3dms.storage.throttle.values import Look


@dataclass(frozen=True, slots=True)
class Seen:
    """What all processes saw: the database's clock (Unix time), whether anybody reads, and the worst slowdown."""

    clock: float
    someone_reads: bool
    slowdown: float | None


async def read_clock(uow: UnitOfWork) -> float:
    return float(await uow.scalar("SELECT extract(epoch FROM clock_timestamp())"))


async def note(uow: UnitOfWork, process_id: UUID, look: Look) -> None:
    await uow.execute(
        """INSERT INTO reader_waits (process_id, slowdown) VALUES (%s, %s)
           ON CONFLICT (process_id) DO UPDATE SET slowdown = EXCLUDED.slowdown, seen_at = now()""",
        [process_id, look.slowdown],
    )
    await uow.execute("DELETE FROM reader_waits WHERE seen_at < now() - interval '1 hour'")


async def find(uow: UnitOfWork, *, seconds: float) -> Seen:
    """Of what was noted in the last so many seconds."""
    found = await uow.find(
        Seen,
        """SELECT extract(epoch FROM clock_timestamp())::float8 AS clock, count(*) > 0 AS someone_reads,
             max(slowdown) AS slowdown
           FROM reader_waits WHERE seen_at > now() - make_interval(secs => %s::float8)""",
        [seconds],
    )
    assert found is not None
    return found


async def forget(uow: UnitOfWork, process_id: UUID) -> None:
    await uow.execute("DELETE FROM reader_waits WHERE process_id = %s", [process_id])
