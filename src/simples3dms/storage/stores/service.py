"""Stores: add, check, tune, rotate their credential, disable, and hand out the provider of each."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import asdict
from typing import Any, Final
from uuid import UUID

import structlog

from simples3dms.audit.service import record
from simples3dms.context import Principal
from simples3dms.db.session import Database, UnitOfWork
from simples3dms.egress import EgressGuard, EgressPolicy
from simples3dms.errors import Failure
from simples3dms.identity.service import require_operator
from simples3dms.kit.ids import new_id
from simples3dms.kit.secret import Secret
from simples3dms.providers.base import Finding, StorageProvider
from simples3dms.providers.errors import ProviderError
from simples3dms.providers.probe import ProbeReport, run_probe
from simples3dms.providers.registry import BuildOptions, ProviderKind, get_kind
from simples3dms.providers.stack import StackSettings
from simples3dms.storage.credentials.service import Credentials
from simples3dms.storage.rollout import errors as rollout_errors
from simples3dms.storage.rollout.service import Rollouts, refuse_off, refuse_out_of_bounds, refuse_unruly
from simples3dms.storage.rollout.values import OwnStoreRule
from simples3dms.storage.stores import errors, places, repository
from simples3dms.storage.stores.engine import ProviderPool, destinations
from simples3dms.storage.stores.errors import explain
from simples3dms.storage.stores.forms import checked_fields, settle
from simples3dms.storage.stores.grants import NAME, Grants, as_uuid, own_prefix
from simples3dms.storage.stores.jurisdictions import is_inside, is_jurisdiction, known_jurisdiction
from simples3dms.storage.stores.values import CheckResult, ProbeResult, Store

log = structlog.get_logger(__name__)

#: How long a place that was seen to be its owner's is taken for that.
_OURS_SECONDS: Final = 600.0


class Stores(Grants):
    """The stores of the platform and those that tenants bring, and the pool of their providers.

    `owner`: the tenant that brought a store, and whose rows alone the database lets be found and changed then. None:
    the platform, for operators only. Who may act for a tenant is decided at the door.
    """

    def __init__(
        self,
        database: Database,
        credentials: Credentials,
        *,
        stack_settings: StackSettings,
        options: BuildOptions | None = None,
        guard: EgressGuard | None = None,
        guard_all: bool = False,
        fresh_seconds: float = 30.0,
    ) -> None:
        """`guard`: what connections of stores that tenants bring go through, and with `guard_all` of all others."""
        self._database = database
        self._credentials = credentials
        self._rollouts = Rollouts(database)
        self._guard = guard or EgressGuard(EgressPolicy())
        self._guard_all = guard_all
        self._ours_until: dict[UUID, float] = {}
        self._pool = ProviderPool(
            database,
            credentials,
            stack_settings=stack_settings,
            options=options,
            guard=self._guard,
            guard_all=guard_all,
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
        *,
        owner: UUID | None = None,
    ) -> Store:
        """Probe the place with the credential, then save both; a tenant's own is granted to it at once.

        Raises what is wrong, and saves nothing then: Invalid (`store_name_invalid`, `store_kind_unknown`,
        `store_settings_invalid`, `credential_invalid`, `store_probe_failed` with `findings`), Conflict
        (`store_exists`, `store_duplicate`, `store_place_taken`, `kind_not_enabled`), for an owner what
        `Rollouts.rule_for` and the rule refuse, and whatever `explain` makes of the store's own errors.
        """
        _permit(principal, owner)
        if not NAME.fullmatch(name) or as_uuid(name) is not None:
            raise errors.name_invalid()
        rule = None if owner is None else await self._rollouts.rule_for(owner, kind)
        chosen = get_kind(kind)
        clean = chosen.validate_settings(settings).model_dump(mode="json", exclude_none=True)
        fields = checked_fields(chosen, credential)
        new = repository.NewStore(
            new_id(), name, kind, clean, dict(tuning or {}), owner, known_jurisdiction(kind, clean)
        )
        await self._refuse_early(chosen, new, rule)
        probe = await self._admit(new, fields)
        clean |= await settle(chosen, clean)
        return await self._save(principal, new, fields, probe, rule)

    async def _refuse_early(self, chosen: ProviderKind, new: repository.NewStore, rule: OwnStoreRule | None) -> None:
        """What can be refused before anything is connected to. A tenant is told of its own stores only: whether a
        place is somebody else's it learns when its credential has opened it."""
        if rule is not None:
            refuse_unruly(rule, new.settings, destinations(chosen, new.settings))
            refuse_out_of_bounds(rule, new.tuning)
        self._pool.check_tuning(new.tuning)
        async with self._database.platform() as uow:
            await self._refuse_new(uow, new, rule)
            if new.owner is None:
                await places.refuse_taken(uow, new.kind, new.settings, None)

    async def _refuse_new(self, uow: UnitOfWork, new: repository.NewStore, rule: OwnStoreRule | None) -> None:
        if new.owner is None:
            refuse_off(await self._rollouts.find(uow, new.kind), new.kind)
        if await repository.find(uow, owner=new.owner, name=new.name) is not None:
            raise errors.exists(new.name)
        if new.owner is not None and rule is not None:
            if await repository.has_granted_name(uow, new.owner, new.name):
                raise errors.name_taken(new.name)
            if await repository.count_of_owner(uow, new.owner, new.kind) >= rule.most_per_tenant:
                raise rollout_errors.too_many(rule.most_per_tenant)
            allowed = await repository.find_allowed_jurisdictions(uow, new.owner)
            if new.jurisdiction is not None and not is_inside(new.jurisdiction, allowed):
                raise errors.residency_violated(new.name, new.jurisdiction, allowed or ())

    async def _admit(self, new: repository.NewStore, fields: Mapping[str, str]) -> ProbeResult:
        """Probe the place; if it is fit and nobody else's, mark it as the owner's. Outside any transaction."""
        async with self._trying(new.kind, new.settings, fields, new.tuning, new.owner) as provider:
            options = await self._pool.options(new.kind, new.settings, new.tuning, owner=new.owner)
            probe = _result(await run_probe(provider, options))
            if probe.verdict == "red":
                raise errors.probe_failed(probe.findings)
            async with self._database.platform() as uow:
                await places.refuse_taken(uow, new.kind, new.settings, new.owner)
            await places.claim_place(provider, new.owner)
        return probe

    async def _save(
        self,
        principal: Principal,
        new: repository.NewStore,
        fields: Mapping[str, str],
        probe: ProbeResult,
        rule: OwnStoreRule | None,
    ) -> Store:
        async with self._database.platform() as uow:
            await repository.lock_places(uow)
            await self._refuse_new(uow, new, rule)
            await places.refuse_taken(uow, new.kind, new.settings, new.owner)
            store = await repository.insert(uow, new)
            if store is None:
                raise errors.exists(new.name)
            await repository.save_probe(uow, store.id, probe.verdict, probe.findings)
            await self._credentials.save(uow, store.id, fields, owner=new.owner)
            if new.owner is not None:
                await places.refuse_prefix_taken(uow, store, own_prefix(new.owner))
                await repository.insert_grant(uow, new.owner, store.id, own_prefix(new.owner))
            await _record(uow, principal, "store.added", store, name=new.name, kind=new.kind)
        return await self.get_store(str(store.id), owner=new.owner)

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
        fields = checked_fields(chosen, credential)
        async with self._database.platform() as uow:
            store = await repository.find(uow, owner=None, name=name)
            held = {} if store is None else (await self._credentials.open(uow, store.id))[1]
        if store is None:
            await self.add_store(principal, name, kind, settings, credential)
            return "added"
        known = {
            field: value for field, value in store.settings.items() if field in clean or field not in chosen.settled
        }
        if (store.kind, known) != (kind, clean):
            raise errors.differs(name)
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
        async with self._trying(kind, clean, checked_fields(chosen, credential), tuning, None) as provider:
            return _result(await run_probe(provider, await self._pool.options(kind, clean, tuning)))

    @asynccontextmanager
    async def _trying(
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
        _permit(principal, owner)
        return await self._probe_and_save(await self.get_store(name, owner=owner))

    async def get_probe(self, name: str, *, owner: UUID | None = None) -> ProbeResult:
        """What the last probe found. Raises NotFound (`store_not_found`, `probe_not_found`)."""
        store = await self.get_store(name, owner=owner)
        async with self._database.platform() as uow:
            found = await repository.find_probe(uow, store.id)
        if found is None:
            raise errors.not_probed()
        return found

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
            result = _result(await run_probe(await self._pool.get(store.id), options))
        except ProviderError as error:
            failure = explain(error)
            row = Finding("access", "red", "Endpoint, credential and bucket work.", failure.message)
            result = ProbeResult("unreachable", [asdict(row)])
        async with self._database.platform() as uow:
            await repository.save_probe(uow, store.id, result.verdict, result.findings)
        if result.verdict != (store.probe_verdict or result.verdict):
            log.warning("store.probe_changed", store=store.name, before=store.probe_verdict, now=result.verdict)
        return await self.get_probe(str(store.id), owner=store.owner_tenant_id)

    async def set_tuning(
        self, principal: Principal, name: str, tuning: Mapping[str, Any], *, owner: UUID | None = None
    ) -> Store:
        """Replace a store's own settings of the layers; an owner within the bounds of the rule.

        Raises Invalid (`store_settings_invalid`, `own_store_refused`).
        """
        _permit(principal, owner)
        store = await self.get_store(name, owner=owner)
        if owner is not None:
            refuse_out_of_bounds(await self._rollouts.rule_for(owner, store.kind), tuning)
        self._pool.check_tuning(tuning)
        async with self._unit(owner) as uow:
            await repository.lock(uow, store.id)
            await repository.set_tuning(uow, store.id, dict(tuning))
            await _record(uow, principal, "store.tuned", store, tuning=dict(tuning))
        self._pool.expire(store.id)
        return await self.get_store(str(store.id), owner=owner)

    async def set_jurisdiction(self, principal: Principal, name_or_id: str, code: str | None) -> Store:
        """Say under whose law a store's bytes lie; None: nobody knows. For operators, of any store (a tenant's by id).

        Raises Invalid (`jurisdiction_unknown`), Conflict (`jurisdiction_contradicted`) where its region tells another.
        """
        require_operator(principal)
        if code is not None and not is_jurisdiction(code):
            raise errors.jurisdiction_unknown(code)
        store_id = as_uuid(name_or_id)
        async with self._database.platform() as uow:
            store = await repository.find_anyones(uow, store_id) if store_id else None
        store = store or await self.get_store(name_or_id)
        known = known_jurisdiction(store.kind, store.settings)
        if known is not None and code != known:
            raise errors.jurisdiction_contradicted(store.name, known)
        async with self._database.platform() as uow:
            held = await repository.lock(uow, store.id)
            if held is not None and held.jurisdiction != code:
                await repository.set_jurisdiction(uow, store.id, code)
                await _record(uow, principal, "store.located", store, before=held.jurisdiction, jurisdiction=code)
        return await self.get_store(str(store.id), owner=store.owner_tenant_id)

    async def _try(self, store: Store, fields: Mapping[str, str]) -> None:
        """See whether a provider of these works, and finds no other owner's mark."""
        owner = store.owner_tenant_id
        async with self._trying(store.kind, store.settings, fields, store.tuning, owner) as provider:
            await provider.check()
            if owner is not None and await places.is_others(provider, owner):
                raise errors.place_taken()

    async def list_stores(self, *, owner: UUID | None = None, after: str = "", limit: int = 1000) -> list[Store]:
        """A page by name; `after` is the name that the page before ended with."""
        async with self._unit(owner) as uow:
            return await repository.list_page(uow, owner=owner, after=after, limit=limit)

    async def check_store(self, name: str, *, owner: UUID | None = None) -> CheckResult:
        """Whether the store works now. Raises NotFound (`store_not_found`) only."""
        store = await self.get_store(name, owner=owner)
        try:
            provider = await self._pool.get(store.id)
            await provider.check()
        except ProviderError as error:
            failure = explain(error)
            return CheckResult(False, failure.problem_code, failure.message)
        except Failure as failure:
            return CheckResult(False, failure.problem_code, failure.message)
        return CheckResult(True)

    async def set_credential(
        self,
        principal: Principal,
        name: str,
        credential: Mapping[str, Secret | str],
        *,
        owner: UUID | None = None,
    ) -> Store:
        """Replace a store's credential, once the new one has been seen to work.

        Other processes take it up within half a minute. Raises as `add_store` does.
        """
        _permit(principal, owner)
        store = await self.get_store(name, owner=owner)
        fields = checked_fields(get_kind(store.kind), credential)
        await self._try(store, fields)
        # No right of the tenant's role reaches credentials, not even to write one: the store was found as its own.
        async with self._database.platform() as uow:
            await repository.lock(uow, store.id)
            version = await self._credentials.save(uow, store.id, fields, owner=store.owner_tenant_id)
            await _record(uow, principal, "credential.replaced", store, version=version)
        self._pool.expire(store.id)
        return store

    async def disable(self, principal: Principal, name: str, *, owner: UUID | None = None) -> Store:
        """Offer the store to nobody any more. What it holds can still be read, moved away and swept.

        Raises Conflict (`store_in_use`) while a placement writes to it or a migration uses it. Again is no error.
        """
        _permit(principal, owner)
        store = await self.get_store(name, owner=owner)
        async with self._unit(owner) as uow:
            if owner is not None:
                # Nobody else places a tenant's own store: with its placement held, it does not begin to either.
                await repository.lock_grant(uow, owner, store.id)
            held = await repository.lock(uow, store.id)
            if held is None or held.disabled_at is not None:
                return held or store
            if await repository.is_in_use(uow, store.id):
                raise errors.in_use(store.name)
            await repository.disable(uow, store.id)
            await _record(uow, principal, "store.disabled", store, name=store.name)
        return await self.get_store(str(store.id), owner=owner)

    async def is_place_ours(self, store_id: UUID) -> bool:
        """Whether nobody else has marked the place of a store that a tenant brought: asked before anything is removed.

        Raises NotFound, or a ProviderError where the place can't be asked.
        """
        if time.monotonic() < self._ours_until.get(store_id, 0.0):
            return True
        provider = await self._pool.get(store_id)
        owner = self._pool.owner_of(store_id)
        if owner is not None and await places.is_others(provider, owner):
            log.error("store.place_taken", store=str(store_id))
            return False
        self._ours_until[store_id] = time.monotonic() + _OURS_SECONDS
        return True

    def _unit(self, owner: UUID | None) -> AbstractAsyncContextManager[UnitOfWork]:
        """The platform's unit of work, or one that finds and changes this tenant's rows only."""
        return self._database.platform() if owner is None else self._database.tenant(owner)

    async def provider(self, store_id: UUID) -> StorageProvider:
        """The provider of a store, shared by the whole process: do not close it. Raises NotFound (`store_not_found`).

        A changed credential is noticed within half a minute; work that is under way goes on with the one before.
        """
        return await self._pool.get(store_id)

    async def close(self) -> None:
        """Close all providers, and the guard after them. Idempotent."""
        await self._pool.close()
        await asyncio.to_thread(self._guard.close)


def _result(report: ProbeReport) -> ProbeResult:
    return ProbeResult(report.verdict, [asdict(finding) for finding in report.findings])


def _permit(principal: Principal, owner: UUID | None) -> None:
    if owner is None:
        require_operator(principal)


async def _record(uow: UnitOfWork, principal: Principal, action: str, store: Store, **details: object) -> None:
    await record(
        uow,
        principal,
        action,
        target_type="store",
        target_id=str(store.id),
        tenant_id=store.owner_tenant_id,
        details=details,
    )
