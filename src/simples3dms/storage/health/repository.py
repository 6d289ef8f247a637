"""SQL of health, for the platform's unit of work."""

from __future__ import annotations

from simples3dms.db.session import UnitOfWork
from simples3dms.storage.health.values import UntrustedStore


async def list_untrusted(uow: UnitOfWork) -> list[UntrustedStore]:
    return await uow.rows(
        UntrustedStore,
        """SELECT id, name, untrusted_at, untrusted_reason FROM stores WHERE untrusted_at IS NOT NULL
           ORDER BY untrusted_at LIMIT 1000""",
    )
