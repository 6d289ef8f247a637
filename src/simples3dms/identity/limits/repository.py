"""SQL of the buckets (GCRA: each holds one time, at which it will be empty again) and of networks known to accounts."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID

import psycopg

from simples3dms.db.session import Database, UnitOfWork
from simples3dms.errors import Unavailable
from simples3dms.identity.limits.values import Bucket

#: A network is known to an account for this long after the last time that it signed in from there.
_KNOWN_DAYS = 60
_PRUNED_AT_ONCE = 20


@asynccontextmanager
async def counting(database: Database) -> AsyncIterator[UnitOfWork]:
    """A unit of work in which attempts are counted. Where they can't be, nobody comes in: raises Unavailable."""
    try:
        async with database.platform() as uow:
            yield uow
    except psycopg.Error as error:
        raise Unavailable(
            "Attempts to sign in can't be counted now, so nobody is let in; try again shortly.",
            code="attempts_uncounted",
        ) from error


async def take(uow: UnitOfWork, bucket: Bucket) -> bool:
    """Count one attempt, unless the bucket is full. Whoever else fills this bucket waits for this unit of work."""
    found = await uow.scalar(
        """INSERT INTO attempt_buckets AS b (kind, key, empty_at)
           VALUES (%(kind)s, %(key)s, clock_timestamp() + make_interval(secs => %(step)s))
           ON CONFLICT (kind, key) DO UPDATE
             SET empty_at = GREATEST(b.empty_at, clock_timestamp()) + make_interval(secs => %(step)s)
             WHERE GREATEST(b.empty_at, clock_timestamp())
               <= clock_timestamp() + make_interval(secs => %(step)s * (%(burst)s - 1))
           RETURNING 1""",
        _params(bucket),
    )
    return found is not None


async def give_back(uow: UnitOfWork, bucket: Bucket) -> None:
    """Uncount one attempt."""
    await uow.execute(
        """UPDATE attempt_buckets SET empty_at = empty_at - make_interval(secs => %(step)s)
           WHERE kind = %(kind)s AND key = %(key)s""",
        _params(bucket),
    )


async def get_wait_seconds(uow: UnitOfWork, bucket: Bucket) -> float:
    """How long until the bucket takes one more."""
    found = await uow.scalar(
        """SELECT GREATEST(0, extract(epoch FROM empty_at - clock_timestamp()) - %(step)s * (%(burst)s - 1))::float8
           FROM attempt_buckets WHERE kind = %(kind)s AND key = %(key)s""",
        _params(bucket),
    )
    return float(found or 0)


async def tell_once(uow: UnitOfWork, bucket: Bucket) -> bool:
    """Whether nobody has told of this bucket being full for ten minutes; from now on somebody has."""
    count = await uow.execute(
        """UPDATE attempt_buckets SET told_at = now() WHERE kind = %(kind)s AND key = %(key)s
             AND (told_at IS NULL OR told_at < now() - interval '10 minutes')""",
        _params(bucket),
    )
    return count == 1


async def prune(uow: UnitOfWork) -> None:
    """Drop a few buckets that have been empty for long; those that somebody is just filling are left alone."""
    await uow.execute(
        """DELETE FROM attempt_buckets WHERE (kind, key) IN (
             SELECT kind, key FROM attempt_buckets WHERE empty_at < now() - interval '1 hour'
             ORDER BY empty_at LIMIT %s FOR UPDATE SKIP LOCKED)""",
        [_PRUNED_AT_ONCE],
    )


async def is_known(uow: UnitOfWork, email: str, network: str) -> bool:
    """Whether the account has signed in from the network lately."""
    found = await uow.scalar(
        """SELECT 1 FROM known_networks k JOIN users u ON u.id = k.user_id
           WHERE u.email = %s AND k.network = %s AND k.last_at > now() - make_interval(hours => 24 * %s)""",
        [email, network, _KNOWN_DAYS],
    )
    return found is not None


async def note_known(uow: UnitOfWork, user_id: UUID, network: str) -> None:
    """That the account has signed in from the network; what is too old is forgotten."""
    await uow.execute(
        """INSERT INTO known_networks (user_id, network) VALUES (%s, %s)
           ON CONFLICT (user_id, network) DO UPDATE SET last_at = now()""",
        [user_id, network],
    )
    await uow.execute(
        "DELETE FROM known_networks WHERE user_id = %s AND last_at < now() - make_interval(hours => 24 * %s)",
        [user_id, _KNOWN_DAYS],
    )


async def forget_known(uow: UnitOfWork, user_id: UUID) -> None:
    """When a password is changed: whoever knew the old one may have signed in from anywhere."""
    await uow.execute("DELETE FROM known_networks WHERE user_id = %s", [user_id])


def _params(bucket: Bucket) -> dict[str, object]:
    rate = bucket.rate
    return {"kind": bucket.kind, "key": bucket.key, "step": float(rate.seconds), "burst": float(rate.burst)}
