"""Probes of stores: before one is saved, on demand, and every day."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import asdict
from typing import Any
from uuid import UUID

import structlog

from simples3dms.context import Principal
from simples3dms.egress import EgressGuard
from simples3dms.identity.service import require_operator
from simples3dms.kit.secret import Secret
from simples3dms.providers.base import Finding, StorageProvider
from simples3dms.providers.errors import ProviderError
from simples3dms.providers.probe import ProbeReport, run_probe
from simples3dms.providers.registry import get_kind
from simples3dms.providers.vouching import vouched
from simples3dms.storage.stores import errors, repository
from simples3dms.storage.stores.engine import ProviderPool, destinations
from simples3dms.storage.stores.errors import explain
from simples3dms.storage.stores.forms import checked_fields
from simples3dms.storage.stores.grants import Grants
from simples3dms.storage.stores.values import ProbeResult, Store

log = structlog.get_logger(__name__)


class Probes(Grants):
    """The part of the stores that looks whether one is fit."""

    _pool: ProviderPool
    _guard: EgressGuard
    _guard_all: bool

    async def probe_config(
        self,
        principal: Principal,
        kind: str,
        settings: Mapping[str, Any],
        credential: Mapping[str, Secret | str],
        tuning: Mapping[str, Any] | None = None,
    ) -> ProbeResult:
        """Probe a place that is not saved yet. For operators. Raises as `add_store` does, but for what is red."""
        require_operator(principal)
        chosen = get_kind(kind)
        clean = chosen.validate_settings(settings).model_dump(mode="json", exclude_none=True)
        async with self.trying(kind, clean, checked_fields(chosen, credential), tuning, None) as provider:
            return as_result(await run_probe(provider, await self._pool.options(kind, clean, tuning)))

    @asynccontextmanager
    async def trying(
        self,
        kind: str,
        settings: Mapping[str, Any],
        fields: Mapping[str, str],
        tuning: Mapping[str, Any] | None,
        owner: UUID | None,
    ) -> AsyncIterator[StorageProvider]:
        """A provider of what somebody has typed in, for a look; errors are explained as theirs.

        Refused endpoints are told at once, and not only when they are connected to. Outside any transaction.
        """
        if self._guard_all or owner is not None:
            await self._guard.check(destinations(get_kind(kind), settings))
        try:
            provider = await self._pool.build(kind, settings, fields, tuning, owner=owner)
            try:
                yield provider
            finally:
                await provider.close()
        except ProviderError as error:
            raise explain(error, typed_in=True) from error

    async def probe_store(self, principal: Principal, name: str, *, owner: UUID | None = None) -> ProbeResult:
        """Probe a store that is in use, and keep what was found. Raises NotFound (`store_not_found`)."""
        permit(principal, owner)
        return await self._probe_and_save(await self.get_store(name, owner=owner))

    async def get_probe(self, name: str, *, owner: UUID | None = None) -> ProbeResult:
        """What the last probe found. Raises NotFound (`store_not_found`, `probe_not_found`)."""
        store = await self.get_store(name, owner=owner)
        async with self._database.platform() as uow:
            found = await repository.find_probe(uow, store.id)
        if found is None:
            raise errors.not_probed()
        return found

    async def list_vouched(self, store_id: UUID) -> frozenset[str]:
        """Of `providers.vouching`, what the last probe showed that the store can be taken at its word about."""
        async with self._database.platform() as uow:
            found = await repository.find_probe(uow, store_id)
        return frozenset() if found is None else vouched(found.findings)

    async def probe_due(self, store_id: UUID, *, hours: float) -> None:
        """The scheduled probe of a store whose last one is that old. Any number of workers may call it at once."""
        async with self._database.platform() as uow:
            store = await repository.find_anyones(uow, store_id)
            if store is None or not await repository.claim_probe(uow, store_id, hours=hours):
                return
        await self._probe_and_save(store)

    async def _probe_and_save(self, store: Store) -> ProbeResult:
        try:
            options = await self._pool.options(store.kind, store.settings, store.tuning, owner=store.owner_tenant_id)
            result = as_result(await run_probe(await self._pool.get(store.id), options))
        except ProviderError as error:
            failure = explain(error)
            row = Finding("access", "red", "Endpoint, credential and bucket work.", failure.message)
            result = ProbeResult("unreachable", [asdict(row)])
        async with self._database.platform() as uow:
            await repository.save_probe(uow, store.id, result.verdict, result.findings)
        if result.verdict != (store.probe_verdict or result.verdict):
            log.warning("store.probe_changed", store=store.name, before=store.probe_verdict, now=result.verdict)
        return await self.get_probe(str(store.id), owner=store.owner_tenant_id)


def as_result(report: ProbeReport) -> ProbeResult:
    return ProbeResult(report.verdict, [asdict(finding) for finding in report.findings])


def permit(principal: Principal, owner: UUID | None) -> None:
    if owner is None:
        require_operator(principal)
