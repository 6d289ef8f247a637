"""Every sealed column of the database is known to rotation, to retirement and to the check at the start."""

from __future__ import annotations

import pytest

from simples3dms.bootstrap import Services
from simples3dms.context import HOST, Principal
from simples3dms.crypto.sealing import SealContext, Sealed, seal, unseal
from simples3dms.db.session import UnitOfWork
from simples3dms.errors import Conflict
from simples3dms.keys.values import SEALED_COLUMNS
from simples3dms.kit.ids import new_id

pytestmark = pytest.mark.anyio


async def test_no_sealed_column_is_left_out(services: Services) -> None:
    """A table with a wrapped key has a row in the list, and an index to walk it by."""
    async with services.database.platform() as uow:
        found = await uow.scalars(
            "SELECT table_name::text FROM information_schema.columns WHERE column_name = 'wrapped_key' ORDER BY 1"
        )
        for column in SEALED_COLUMNS:
            indexed = await uow.scalars(
                """SELECT a.attname::text FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid
                     AND a.attnum = i.indkey[0] WHERE i.indrelid = %s::regclass""",
                [column.table],
            )
            assert column.key_id in indexed, column.table
    assert found == sorted(column.table for column in SEALED_COLUMNS)


async def _fill(services: Services, uow: UnitOfWork, user: Principal) -> dict[str, SealContext]:
    """A sealed value in each table that people and the audit brought."""
    provider_id = new_id()
    contexts = {
        "totp_factors": SealContext("platform", "totp_factors", "sealed", str(user.id), 3),
        "identity_providers": SealContext("platform", "identity_providers", "sealed", str(provider_id), 1),
    }
    ring = services.credentials.keyring
    totp, secret = (seal(ring, b"a secret", context=context) for context in contexts.values())
    await uow.execute(
        "INSERT INTO totp_factors (user_id, version, key_id, wrapped_key, sealed) VALUES (%s, 3, %s, %s, %s)",
        [user.id, totp.key_id, totp.wrapped_key, totp.sealed],
    )
    await uow.execute(
        """INSERT INTO identity_providers (id, name, issuer, client_id, links_by_email, creates_users, key_id,
             wrapped_key, sealed) VALUES (%s, 'x', 'https://issuer.example', 'x', false, false, %s, %s, %s)""",
        [provider_id, secret.key_id, secret.wrapped_key, secret.sealed],
    )
    return contexts


async def test_s41_a_rotation_brings_every_kind_of_secret_along(services: Services) -> None:
    await services.keys.check_start()
    made, _ = await services.identity.create_user(HOST, "anna@example.org")
    async with services.database.platform() as uow:
        contexts = await _fill(services, uow, Principal(made.id, made.email))
    first = await services.audit.create_checkpoint(HOST, None)
    (old,) = {key.id for key in await services.keys.list_keys() if key.in_use}
    with pytest.raises(Conflict):
        await services.keys.retire(HOST, old)
    begun = await services.keys.rotate(HOST)
    await services.keys.engine.run(begun.id)
    assert (await services.keys.get_rewrap(begun.id)).state == "done"
    ring = services.credentials.keyring
    async with services.database.platform() as uow:
        for table, context in contexts.items():
            key_id, wrapped, sealed = [
                await uow.scalar(f"SELECT {name} FROM {table}")  # type: ignore[arg-type]
                for name in ("key_id", "wrapped_key", "sealed")
            ]
            assert key_id == begun.key_id
            assert unseal(ring, Sealed(key_id, wrapped, sealed), context=context) == b"a secret"
        assert await uow.scalars("SELECT seal_key_id FROM audit_signing_keys") == [begun.key_id]
    await services.keys.retire(HOST, old)
    assert (await services.audit.create_checkpoint(HOST, None)).key_id == first.key_id, "it signs with the same key"
