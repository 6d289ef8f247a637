"""Stores: add, check, grant, rotate their credential, disable, and hand out the provider of each."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Final
from uuid import UUID

import structlog

from simples3dms.audit.service import record
from simples3dms.context import Principal
from simples3dms.db.session import Database, UnitOfWork
from simples3dms.egress import EgressGuard
from simples3dms.errors import Failure
from simples3dms.identity.service import require_operator
from simples3dms.kit.ids import new_id
from simples3dms.kit.secret import Secret
from simples3dms.providers.base import Finding, StorageProvider
from simples3dms.providers.errors import ProviderError
from simples3dms.providers.probe import ProbeReport, run_probe
from simples3dms.providers.registry import BuildOptions, FormModel, ProviderKind, get_kind
from simples3dms.providers.stack import StackSettings
from simples3dms.storage.credentials.service import Credentials
from simples3dms.storage.stores import errors, repository
from simples3dms.storage.stores.engine import ProviderPool, destinations
from simples3dms.storage.stores.errors import explain
from simples3dms.storage.stores.values import CheckResult, GrantedStore, Place, ProbeResult, Store, place_of
from simples3dms.tenants import repository as tenants_repository
from simples3dms.tenants.service import not_found as tenant_not_found

log = structlog.get_logger(__name__)

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_PREFIX: Final = re.compile(r"(?=.{2,500}\Z)([A-Za-z0-9_-][A-Za-z0-9._-]*/)+")


class Stores:
    """The stores of the platform, and the pool of their providers."""

    def __init__(
        self,
        database: Database,
        credentials: Credentials,
        *,
        stack_settings: StackSettings,
        options: BuildOptions | None = None,
        guard: EgressGuard | None = None,
        fresh_seconds: float = 30.0,
    ) -> None:
        """`guard`: every store's connections go through it. None: straight out."""
        self._database = database
        self._credentials = credentials
        self._guard = guard
        self._pool = ProviderPool(
            database,
            credentials,
            stack_settings=stack_settings,
            options=options,
            guard=guard,
            fresh_seconds=fresh_seconds,
        )

    async def add_store(
        self,
        principal: Principal,
        name: str,
        kind: str,
        settings: Mapping[str, Any],
        credential: Mapping[str, Secret | str],
        tuning: Mapping[str, Any] | None = None,
    ) -> Store:
        """Probe the place with the credential, then save both. For operators.

        Raises what is wrong, and saves nothing then: Invalid (`store_name_invalid`, `store_kind_unknown`,
        `store_settings_invalid`, `credential_invalid`, `store_probe_failed` with `findings`), Conflict
        (`store_exists`, `store_duplicate`), and whatever `explain` makes of the store's own errors.
        """
        require_operator(principal)
        if not _NAME.fullmatch(name) or _as_uuid(name) is not None:
            raise errors.name_invalid()
        chosen = get_kind(kind)
        clean = chosen.validate_settings(settings).model_dump(mode="json", exclude_none=True)
        fields = _checked_fields(chosen, credential)
        async with self._database.platform() as uow:
            await _refuse_taken(uow, name, kind, clean)
        probe = await self._probe(kind, clean, fields, tuning)
        if probe.verdict == "red":
            raise errors.probe_failed(probe.findings)
        clean |= await _settle(chosen, clean)
        store_id = new_id()
        sealed = await self._credentials.seal(store_id, fields, version=1)
        async with self._database.platform() as uow:
            await repository.lock_places(uow)
            await _refuse_taken(uow, name, kind, clean)
            store = await repository.insert(uow, store_id, name, kind, clean, dict(tuning or {}))
            if store is None:
                raise errors.exists(name)
            await repository.save_probe(uow, store.id, probe.verdict, probe.findings)
            await self._credentials.insert(uow, store.id, sealed)
            await _record(uow, principal, "store.added", store, name=name, kind=kind)
        return await self.get_store(str(store.id))

    async def ensure_store(
        self,
        principal: Principal,
        name: str,
        kind: str,
        settings: Mapping[str, Any],
        credential: Mapping[str, Secret | str],
    ) -> str | None:
        """Add the store unless it is there; give it this credential unless it has it. What was done, if anything.

        A store of that name with other settings is left alone: Conflict (`store_differs`). Else raises as `add_store`.
        """
        chosen = get_kind(kind)
        clean = chosen.validate_settings(settings).model_dump(mode="json", exclude_none=True)
        fields = _checked_fields(chosen, credential)
        async with self._database.platform() as uow:
            store = await repository.find(uow, name=name)
        if store is None:
            await self.add_store(principal, name, kind, settings, credential)
            return "added"
        known = {
            field: value for field, value in store.settings.items() if field in clean or field not in chosen.settled
        }
        if (store.kind, known) != (kind, clean):
            raise errors.differs(name)
        _, held = await self._credentials.open(store.id)
        if {key: value.reveal() for key, value in held.items()} == fields:
            return None
        await self.set_credential(principal, name, credential)
        return "credential replaced"

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
        return await self._probe(kind, clean, _checked_fields(chosen, credential), tuning)

    async def _probe(
        self, kind: str, settings: Mapping[str, Any], fields: Mapping[str, str], tuning: Mapping[str, Any] | None
    ) -> ProbeResult:
        """Outside any transaction. Refused endpoints are told at once, and not only when they are connected to."""
        if self._guard is not None:
            await self._guard.check(destinations(get_kind(kind), settings))
        try:
            provider = await self._pool.build(kind, settings, fields, tuning)
            try:
                return _result(await run_probe(provider, await self._pool.options(kind, settings, tuning)))
            finally:
                await provider.close()
        except ProviderError as error:
            raise explain(error, typed_in=True) from error

    async def probe_store(self, principal: Principal, name: str) -> ProbeResult:
        """Probe a store that is in use, and keep what was found. For operators. Raises NotFound (`store_not_found`)."""
        require_operator(principal)
        return await self._probe_and_save(await self.get_store(name))

    async def get_probe(self, name: str) -> ProbeResult:
        """What the last probe found. Raises NotFound (`store_not_found`, `probe_not_found`)."""
        store = await self.get_store(name)
        async with self._database.platform() as uow:
            found = await repository.find_probe(uow, store.id)
        if found is None:
            raise errors.not_probed()
        return found

    async def probe_due(self, store_id: UUID, *, hours: float) -> None:
        """The scheduled probe of a store whose last one is that old. Any number of workers may call it at once."""
        async with self._database.platform() as uow:
            store = await repository.find(uow, store_id=store_id)
            if store is None or not await repository.claim_probe(uow, store_id, hours=hours):
                return
        await self._probe_and_save(store)

    async def _probe_and_save(self, store: Store) -> ProbeResult:
        try:
            options = await self._pool.options(store.kind, store.settings, store.tuning)
            result = _result(await run_probe(await self._pool.get(store.id), options))
        except ProviderError as error:
            failure = explain(error)
            row = Finding("access", "red", "Endpoint, credential and bucket work.", failure.message)
            result = ProbeResult("unreachable", [asdict(row)])
        async with self._database.platform() as uow:
            await repository.save_probe(uow, store.id, result.verdict, result.findings)
        if result.verdict != (store.probe_verdict or result.verdict):
            log.warning("store.probe_changed", store=store.name, before=store.probe_verdict, now=result.verdict)
        return await self.get_probe(str(store.id))

    def expire(self, store_id: UUID | None = None) -> None:
        """Look for a newer credential or tuning at the next use: of one store, or of all."""
        self._pool.expire(store_id)

    async def set_tuning(self, principal: Principal, name: str, tuning: Mapping[str, Any]) -> Store:
        """Replace a store's own settings of the layers. For operators. Raises Invalid (`store_settings_invalid`)."""
        require_operator(principal)
        store = await self.get_store(name)
        self._pool.check_tuning(tuning)
        async with self._database.platform() as uow:
            await repository.lock(uow, store.id)
            await repository.set_tuning(uow, store.id, dict(tuning))
            await _record(uow, principal, "store.tuned", store, tuning=dict(tuning))
        self._pool.expire(store.id)
        return await self.get_store(name)

    async def _try(self, kind: str, settings: Mapping[str, Any], fields: Mapping[str, str]) -> None:
        """See whether a provider of these works. Outside any transaction."""
        try:
            provider = await self._pool.build(kind, settings, fields)
            try:
                await provider.check()
            finally:
                await provider.close()
        except ProviderError as error:
            raise explain(error, typed_in=True) from error

    async def list_stores(self, *, after: str = "", limit: int = 1000) -> list[Store]:
        """A page by name; `after` is the name that the page before ended with."""
        async with self._database.platform() as uow:
            return await repository.list_page(uow, after=after, limit=limit)

    async def get_store(self, name_or_id: str) -> Store:
        """Raises NotFound (`store_not_found`)."""
        name = name_or_id if _NAME.fullmatch(name_or_id) else None
        async with self._database.platform() as uow:
            store = await repository.find(uow, name=name, store_id=_as_uuid(name_or_id))
        if store is None:
            raise errors.not_found()
        return store

    async def check_store(self, name: str) -> CheckResult:
        """Whether the store works now. Raises NotFound (`store_not_found`) only."""
        store = await self.get_store(name)
        try:
            provider = await self._pool.get(store.id)
            await provider.check()
        except ProviderError as error:
            failure = explain(error)
            return CheckResult(False, failure.problem_code, failure.message)
        except Failure as failure:
            return CheckResult(False, failure.problem_code, failure.message)
        return CheckResult(True)

    async def set_credential(self, principal: Principal, name: str, credential: Mapping[str, Secret | str]) -> Store:
        """Replace a store's credential, once the new one has been seen to work. For operators.

        Other processes take it up within half a minute. Raises as `add_store` does.
        """
        require_operator(principal)
        store = await self.get_store(name)
        fields = _checked_fields(get_kind(store.kind), credential)
        await self._try(store.kind, store.settings, fields)

        async def note(uow: UnitOfWork, version: int) -> None:
            await _record(uow, principal, "credential.replaced", store, version=version)

        await self._credentials.replace(store.id, fields, note)
        self._pool.expire(store.id)
        return store

    async def disable(self, principal: Principal, name: str) -> Store:
        """Offer the store to nobody any more. What it holds can still be read, moved away and swept. For operators.

        Raises Conflict (`store_in_use`) while a placement writes to it or a migration uses it. Again is no error.
        """
        require_operator(principal)
        store = await self.get_store(name)
        async with self._database.platform() as uow:
            held = await repository.lock(uow, store.id)
            if held is None or held.disabled_at is not None:
                return held or store
            if await repository.is_in_use(uow, store.id):
                raise errors.in_use(store.name)
            await repository.disable(uow, store.id)
            await _record(uow, principal, "store.disabled", store, name=store.name)
        return await self.get_store(str(store.id))

    async def grant_store(
        self, principal: Principal, tenant_id: UUID, store_name: str, prefix: str | None = None
    ) -> GrantedStore:
        """Let a tenant use a store, under a prefix that nobody else has in that bucket. For operators.

        An existing grant is returned as it is. Raises NotFound (`store_not_found`, `tenant_not_found`), Invalid
        (`store_prefix_invalid`), Conflict (`store_prefix_taken`, `store_grant_differs`, `store_disabled`).
        """
        require_operator(principal)
        store = await self.get_store(store_name)
        wanted = f"t/{tenant_id}/" if prefix is None else prefix
        if not _PREFIX.fullmatch(wanted):
            raise errors.prefix_invalid()
        async with self._database.platform() as uow:
            await repository.lock_places(uow)
            if await tenants_repository.find(uow, tenant_id=tenant_id) is None:
                raise tenant_not_found()
            existing = await repository.find_grant(uow, tenant_id, store.id)
            if existing is not None:
                if prefix not in (None, existing.prefix):
                    raise errors.granted_differently(existing.prefix)
                return existing
            await _refuse_ungrantable(uow, store, wanted)
            await repository.insert_grant(uow, tenant_id, store.id, wanted)
            await _record(uow, principal, "store.granted", store, tenant_id=tenant_id, name=store.name, prefix=wanted)
        return GrantedStore(store.id, store.name, store.kind, wanted)

    async def list_granted_stores(self, tenant_id: UUID) -> list[GrantedStore]:
        """The stores that the tenant may use; disabled ones are left out."""
        async with self._database.tenant(tenant_id) as uow:
            return await repository.list_granted(uow)

    async def get_granted_store(self, tenant_id: UUID, name_or_id: str) -> GrantedStore:
        """Raises NotFound (`store_not_found`), also for a store that others use."""
        for granted in await self.list_granted_stores(tenant_id):
            if granted.name == name_or_id or granted.id == _as_uuid(name_or_id):
                return granted
        raise errors.not_found()

    async def provider(self, store_id: UUID) -> StorageProvider:
        """The provider of a store, shared by the whole process: do not close it. Raises NotFound (`store_not_found`).

        A changed credential is noticed within half a minute; work that is under way goes on with the one before.
        """
        return await self._pool.get(store_id)

    async def close(self) -> None:
        """Close all providers, and the guard after them. Idempotent."""
        await self._pool.close()
        if self._guard is not None:
            await asyncio.to_thread(self._guard.close)


def _result(report: ProbeReport) -> ProbeResult:
    return ProbeResult(report.verdict, [asdict(finding) for finding in report.findings])


def _checked_fields(kind: ProviderKind, credential: Mapping[str, Secret | str]) -> dict[str, str]:
    """The credential as it is sealed. With a blank key a vendor's library would sign as the host."""
    given: dict[str, str] = {}
    for name, value in credential.items():
        text = value.reveal() if isinstance(value, Secret) else value
        if not isinstance(text, str) or not text.strip():
            raise errors.credential_blank(name)
        given[name] = text
    return _revealed(kind.validate_credential(given))


def _revealed(form: FormModel) -> dict[str, str]:
    values = {name: getattr(form, name) for name in type(form).model_fields}
    return {
        name: value.reveal() if isinstance(value, Secret) else str(value)
        for name, value in values.items()
        if value is not None
    }


async def _settle(kind: ProviderKind, settings: Mapping[str, Any]) -> Mapping[str, Any]:
    if kind.settle is None:
        return {}
    try:
        return await asyncio.to_thread(kind.settle, kind.validate_settings(settings))
    except ProviderError as error:
        raise explain(error, typed_in=True) from error


async def _refuse_taken(uow: UnitOfWork, name: str, kind: str, settings: Mapping[str, Any]) -> None:
    if await repository.find(uow, name=name) is not None:
        raise errors.exists(name)
    wanted = place_of(kind, settings)
    for store in await repository.list_of_kind(uow, kind):
        if place_of(kind, store.settings) == wanted:
            raise errors.duplicate(store.name)


async def _refuse_ungrantable(uow: UnitOfWork, store: Store, prefix: str) -> None:
    held = await repository.lock(uow, store.id)
    if held is None or held.disabled_at is not None:
        raise errors.disabled(store.name)
    here = place_of(store.kind, store.settings)
    neighbours: dict[UUID, Place] = {}
    for other in await repository.list_of_kind(uow, store.kind):
        place = place_of(other.kind, other.settings)
        if place.root == here.root:
            neighbours[other.id] = place
    if await repository.is_prefix_taken(uow, neighbours, here.prefix + prefix):
        raise errors.prefix_taken()


async def _record(
    uow: UnitOfWork,
    principal: Principal,
    action: str,
    store: Store,
    *,
    tenant_id: UUID | None = None,
    **details: object,
) -> None:
    await record(
        uow,
        principal,
        action,
        target_type="store",
        target_id=str(store.id),
        tenant_id=tenant_id,
        details=details,
    )


def _as_uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None
