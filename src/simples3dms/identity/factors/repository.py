"""SQL of second factors, for the platform's unit of work."""

from __future__ import annotations

from typing import Final
from uuid import UUID

from simples3dms.crypto.passkeys import NewPasskey
from simples3dms.crypto.sealing import Sealed
from simples3dms.db.session import UnitOfWork
from simples3dms.identity.factors.values import Held, Passkey, StoredPasskey, TotpRow

_CHALLENGE_SECONDS: Final = 300


async def get_held(uow: UnitOfWork, user_id: UUID) -> Held:
    passkeys = await uow.rows(
        Passkey,
        "SELECT id, name, created_at, last_used_at FROM passkeys WHERE user_id = %s ORDER BY id LIMIT 100",
        [user_id],
    )
    has_totp = await uow.scalar("SELECT 1 FROM totp_factors WHERE user_id = %s AND confirmed_at IS NOT NULL", [user_id])
    codes = await uow.scalar("SELECT count(*) FROM recovery_codes WHERE user_id = %s AND used_at IS NULL", [user_id])
    return Held(has_totp is not None, passkeys, int(codes))


async def lock(uow: UnitOfWork, user_id: UUID) -> None:
    """Wait for whoever else changes this account's factors."""
    await uow.execute("SELECT 1 FROM users WHERE id = %s FOR UPDATE", [user_id])


async def get_now_seconds(uow: UnitOfWork) -> float:
    """The database's clock, which codes are compared by."""
    found: float = await uow.scalar("SELECT extract(epoch FROM clock_timestamp())::float8")
    return found


async def find_totp(uow: UnitOfWork, user_id: UUID) -> TotpRow | None:
    return await uow.find(
        TotpRow,
        "SELECT version, key_id, wrapped_key, sealed, confirmed_at FROM totp_factors WHERE user_id = %s",
        [user_id],
    )


async def put_totp(uow: UnitOfWork, user_id: UUID, version: int, sealed: Sealed) -> None:
    """In place of one that no code has confirmed."""
    await uow.execute(
        """INSERT INTO totp_factors (user_id, version, key_id, wrapped_key, sealed) VALUES (%s, %s, %s, %s, %s)
           ON CONFLICT (user_id) DO UPDATE SET version = EXCLUDED.version, key_id = EXCLUDED.key_id,
             wrapped_key = EXCLUDED.wrapped_key, sealed = EXCLUDED.sealed, last_step = NULL, created_at = now()
           WHERE totp_factors.confirmed_at IS NULL""",
        [user_id, version, sealed.key_id, sealed.wrapped_key, sealed.sealed],
    )


async def use_step(uow: UnitOfWork, user_id: UUID, version: int, step: int, *, confirm: bool = False) -> bool:
    """Whether no code of this step or a later one was used before; from now on one was."""
    count = await uow.execute(
        """UPDATE totp_factors SET last_step = %(step)s,
             confirmed_at = CASE WHEN %(confirm)s THEN coalesce(confirmed_at, now()) ELSE confirmed_at END
           WHERE user_id = %(user)s AND version = %(version)s AND (last_step IS NULL OR last_step < %(step)s)
             AND (confirmed_at IS NULL) = %(confirm)s""",
        {"user": user_id, "version": version, "step": step, "confirm": confirm},
    )
    return count == 1


async def delete_totp(uow: UnitOfWork, user_id: UUID) -> bool:
    return await uow.execute("DELETE FROM totp_factors WHERE user_id = %s", [user_id]) == 1


async def put_recovery_codes(uow: UnitOfWork, user_id: UUID, hashes: list[bytes]) -> None:
    """In place of all that were there."""
    await uow.execute("DELETE FROM recovery_codes WHERE user_id = %s", [user_id])
    await uow.execute(
        "INSERT INTO recovery_codes (user_id, code_hash) SELECT %s, unnest(%s::bytea[])", [user_id, hashes]
    )


async def use_recovery_code(uow: UnitOfWork, user_id: UUID, code_hash: bytes) -> bool:
    count = await uow.execute(
        "UPDATE recovery_codes SET used_at = now() WHERE user_id = %s AND code_hash = %s AND used_at IS NULL",
        [user_id, code_hash],
    )
    return count == 1


async def insert_challenge(uow: UnitOfWork, challenge_id: UUID, user_id: UUID, purpose: str, challenge: bytes) -> None:
    """What was not answered in time goes."""
    await uow.execute("DELETE FROM passkey_challenges WHERE user_id = %s AND expires_at < now()", [user_id])
    await uow.execute(
        """INSERT INTO passkey_challenges (id, user_id, purpose, challenge, expires_at)
           VALUES (%s, %s, %s, %s, now() + make_interval(secs => %s))""",
        [challenge_id, user_id, purpose, challenge, _CHALLENGE_SECONDS],
    )


async def take_challenge(uow: UnitOfWork, challenge_id: UUID, user_id: UUID, purpose: str) -> bytes | None:
    """The challenge, which is answered once, whatever comes of the answer."""
    found: bytes | None = await uow.scalar(
        """DELETE FROM passkey_challenges WHERE id = %s AND user_id = %s AND purpose = %s AND expires_at > now()
           RETURNING challenge""",
        [challenge_id, user_id, purpose],
    )
    return found


async def list_credential_ids(uow: UnitOfWork, user_id: UUID) -> list[bytes]:
    return await uow.scalars("SELECT credential_id FROM passkeys WHERE user_id = %s ORDER BY id LIMIT 100", [user_id])


async def find_passkey(uow: UnitOfWork, user_id: UUID, credential_id: bytes) -> StoredPasskey | None:
    return await uow.find(
        StoredPasskey,
        """SELECT id, user_id, credential_id, public_key, sign_count FROM passkeys
           WHERE user_id = %s AND credential_id = %s""",
        [user_id, credential_id],
    )


async def insert_passkey(
    uow: UnitOfWork, passkey_id: UUID, user_id: UUID, name: str, made: NewPasskey
) -> Passkey | None:
    """The new passkey, or None if it is somebody's already."""
    return await uow.find(
        Passkey,
        """INSERT INTO passkeys (id, user_id, name, credential_id, public_key, sign_count)
           VALUES (%s, %s, %s, %s, %s, %s) ON CONFLICT (credential_id) DO NOTHING
           RETURNING id, name, created_at, last_used_at""",
        [passkey_id, user_id, name, made.credential_id, made.public_key, made.sign_count],
    )


async def count_signature(uow: UnitOfWork, passkey: StoredPasskey, sign_count: int) -> bool:
    """Whether the passkey has not signed anything else since it was read."""
    count = await uow.execute(
        "UPDATE passkeys SET sign_count = %s, last_used_at = now() WHERE id = %s AND sign_count = %s",
        [sign_count, passkey.id, passkey.sign_count],
    )
    return count == 1


async def delete_passkey(uow: UnitOfWork, user_id: UUID, passkey_id: UUID) -> bool:
    return await uow.execute("DELETE FROM passkeys WHERE user_id = %s AND id = %s", [user_id, passkey_id]) == 1


async def delete_all(uow: UnitOfWork, user_id: UUID) -> int:
    """All factors of an account; how many there were, recovery codes not counted."""
    await uow.execute("DELETE FROM recovery_codes WHERE user_id = %s", [user_id])
    await uow.execute("DELETE FROM passkey_challenges WHERE user_id = %s", [user_id])
    totp = await uow.execute("DELETE FROM totp_factors WHERE user_id = %s", [user_id])
    return totp + await uow.execute("DELETE FROM passkeys WHERE user_id = %s", [user_id])
