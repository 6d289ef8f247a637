"""Stores: add, check, tune, rotate their credential, disable, and hand out the provider of each."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
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
from simples3dms.providers.base import Capabilities, StorageProvider
from simples3dms.providers.errors import ProviderError
from simples3dms.providers.probe import run_probe
from simples3dms.providers.registry import BuildOptions, ProviderKind, get_kind
from simples3dms.providers.stack import StackSettings
from simples3dms.storage.credentials.service import Credentials
from simples3dms.storage.rollout import errors as rollout_errors
from simples3dms.storage.rollout.service import Rollouts, refuse_off, refuse_out_of_bounds, refuse_unruly
from simples3dms.storage.rollout.values import OwnStoreRule
from simples3dms.storage.stores import errors, moving, places, repository
from simples3dms.storage.stores.budgets import Budgets
from simples3dms.storage.stores.engine import ProviderPool, destinations
from simples3dms.storage.stores.errors import explain
from simples3dms.storage.stores.forms import checked_fields, settle
from simples3dms.storage.stores.grants import NAME, as_uuid, own_prefix
from simples3dms.storage.stores.jurisdictions import is_jurisdiction, known_jurisdiction
from simples3dms.storage.stores.probing import Probes, as_result, permit
from simples3dms.storage.stores.renewals import Renewals
from simples3dms.storage.stores.residency import refuse_outside
from simples3dms.storage.stores.values import CheckResult, ProbeResult, Store

log = structlog.get_logger(__name__)

#: How long a place that was seen to be its owner's is taken for that.
_OURS_SECONDS: Final = 600.0


class Stores(Probes, Renewals):
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
        self.budgets = Budgets(database, self._pool)

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
        cache_max_bytes: int | None = None,
    ) -> Store:
        """Probe the place with the credential, then save both; a tenant's own is granted to it at once.

        With `cache_max_bytes` it is a cache of that size, in front of the other stores of whoever it is granted to.

        Raises what is wrong, and saves nothing then: Invalid (`store_name_invalid`, `store_kind_unknown`,
        `store_settings_invalid`, `credential_invalid`, `store_probe_failed` with `findings`), Conflict
        (`store_exists`, `store_duplicate`, `store_place_taken`, `kind_not_enabled`), for an owner what
        `Rollouts.rule_for` and the rule refuse, and whatever `explain` makes of the store's own errors.
        """
        permit(principal, owner)
        if not NAME.fullmatch(name) or as_uuid(name) is not None:
            raise errors.name_invalid()
        rule = None if owner is None else await self._rollouts.rule_for(owner, kind)
        chosen = get_kind(kind)
        clean = chosen.validate_settings(settings).model_dump(mode="json", exclude_none=True)
        fields = checked_fields(chosen, credential)
        new = repository.NewStore(
            new_id(), name, kind, clean, dict(tuning or {}), owner, known_jurisdiction(kind, clean), cache_max_bytes
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
            if new.jurisdiction is not None:
                await refuse_outside(uow, new.owner, [new])

    async def _admit(self, new: repository.NewStore, fields: Mapping[str, str]) -> ProbeResult:
        """Probe the place; if it is fit and nobody else's, mark it as the owner's. Outside any transaction."""
        async with self.trying(new.kind, new.settings, fields, new.tuning, new.owner) as provider:
            options = await self._pool.options(new.kind, new.settings, new.tuning, owner=new.owner)
            probe = as_result(await run_probe(provider, options))
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
        sealed = await self._credentials.seal(new.id, fields, version=1, owner=new.owner)
        async with self._database.platform() as uow:
            await repository.lock_places(uow)
            await self._refuse_new(uow, new, rule)
            await places.refuse_taken(uow, new.kind, new.settings, new.owner)
            store = await repository.insert(uow, new)
            if store is None:
                raise errors.exists(new.name)
            await repository.save_probe(uow, store.id, probe.verdict, probe.findings)
            await self._credentials.insert(uow, store.id, sealed)
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

    async def set_tuning(
        self, principal: Principal, name: str, tuning: Mapping[str, Any], *, owner: UUID | None = None
    ) -> Store:
        """Replace a store's own settings of the layers; an owner within the bounds of the rule.

        Raises Invalid (`store_settings_invalid`, `own_store_refused`).
        """
        permit(principal, owner)
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
        store = await self.find_anyones(name_or_id)
        known = known_jurisdiction(store.kind, store.settings)
        if known is not None and code != known:
            raise errors.jurisdiction_contradicted(store.name, known)
        async with self._database.platform() as uow:
            held = await repository.lock(uow, store.id)
            if held is not None and held.jurisdiction != code:
                await repository.set_jurisdiction(uow, store.id, code)
                await _record(uow, principal, "store.located", store, before=held.jurisdiction, jurisdiction=code)
        return await self.get_store(str(store.id), owner=store.owner_tenant_id)

    async def find_anyones(self, name_or_id: str) -> Store:
        """A store of the platform, or by its id anyone's. Raises NotFound (`store_not_found`)."""
        store_id = as_uuid(name_or_id)
        async with self._database.platform() as uow:
            store = await repository.find_anyones(uow, store_id) if store_id else None
        return store or await self.get_store(name_or_id)

    async def _try(self, store: Store, fields: Mapping[str, str]) -> None:
        """See whether a provider of these works, and finds no other owner's mark."""
        owner = store.owner_tenant_id
        async with self.trying(store.kind, store.settings, fields, store.tuning, owner) as provider:
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
        if store.untrusted_reason is not None:
            untrusted = errors.untrusted(store.untrusted_reason)
            return CheckResult(False, untrusted.problem_code, untrusted.message)
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
        permit(principal, owner)
        store = await self.get_store(name, owner=owner)
        fields = checked_fields(get_kind(store.kind), credential)
        await self._try(store, fields)

        async def note(uow: UnitOfWork, version: int) -> None:
            await _record(uow, principal, "credential.replaced", store, version=version)

        # No right of the tenant's role reaches credentials, not even to write one: the store was found as its own.
        await self._credentials.replace(store.id, fields, note)
        self._pool.expire(store.id)
        return store

    async def set_place(
        self, principal: Principal, name: str, settings: Mapping[str, Any], credential: Mapping[str, Secret | str]
    ) -> Store:
        """Change where a store is. The whole credential comes with it: a saved one never goes to a new place.

        For operators. Probed there first, and known again by some of the copies that it holds. Raises as `add_store`
        does, and Conflict (`store_place_differs`, `rotation_under_way`), NotFound (`store_not_found`).
        """
        require_operator(principal)
        store = await self.get_store(name)
        chosen = get_kind(store.kind)
        clean = chosen.validate_settings(settings).model_dump(mode="json", exclude_none=True)
        fields = checked_fields(chosen, credential)
        async with self._database.platform() as uow:
            samples = await repository.list_samples(uow, store.id, of_each=moving.OF_EACH, limit=moving.MOST)
        async with self.trying(store.kind, clean, fields, store.tuning, None) as provider:
            probe = as_result(await run_probe(provider, await self._pool.options(store.kind, clean, store.tuning)))
            if probe.verdict == "red":
                raise errors.probe_failed(probe.findings)
            await moving.check_holds(provider, samples)
            await places.claim_place(provider, None)
        clean |= await settle(chosen, clean)

        async def first(uow: UnitOfWork) -> None:
            await repository.lock_places(uow)
            await places.refuse_taken(uow, store.kind, clean, None, but=store.id)
            if "object_lock" not in clean and await repository.has_locks(uow, store.id):
                raise errors.locks_in_use(store.name)

        async def then(uow: UnitOfWork, version: int) -> None:
            await repository.set_settings(uow, store.id, clean)
            if clean.get("object_lock") not in (None, store.settings.get("object_lock")):
                await repository.survey_locks(uow, store.id)
            await repository.save_probe(uow, store.id, probe.verdict, probe.findings)
            await _record(uow, principal, "store.moved", store, settings=clean, version=version)

        await self._credentials.replace(store.id, fields, then, first=first)
        self._pool.expire(store.id)
        return await self.get_store(str(store.id))

    async def disable(self, principal: Principal, name: str, *, owner: UUID | None = None) -> Store:
        """Offer the store to nobody any more. What it holds can still be read, moved away and swept.

        Raises Conflict (`store_in_use`) while a placement writes to it or a migration uses it. Again is no error.
        """
        permit(principal, owner)
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

    async def leave_place(self, store_id: UUID) -> None:
        """Take the mark out of the place of a store that a tenant brought, as the tenant is about to be gone.

        Raises NotFound, or a ProviderError where the place can't be reached.
        """
        provider = await self._pool.get(store_id)
        owner = self._pool.owner_of(store_id)
        if owner is not None:
            await places.leave_place(provider, owner)

    def _unit(self, owner: UUID | None) -> AbstractAsyncContextManager[UnitOfWork]:
        """The platform's unit of work, or one that finds and changes this tenant's rows only."""
        return self._database.platform() if owner is None else self._database.tenant(owner)

    async def provider(self, store_id: UUID) -> StorageProvider:
        """The provider of a store, shared by the whole process: do not close it. Raises NotFound (`store_not_found`).

        A changed credential is noticed within half a minute; work that is under way goes on with the one before.
        """
        return await self._pool.get(store_id)

    def share_owner(self, one: UUID, other: UUID) -> bool:
        """Whether two stores whose providers are in use here are the platform's both, or one tenant's."""
        return self._pool.owner_of(one) == self._pool.owner_of(other)

    async def part_bytes(self, store_id: UUID) -> int | None:
        """The size of the parts that larger objects go to the store in; None: they go whole. Asks no store."""
        try:
            capabilities = (await self._pool.get(store_id)).capabilities
        except (Failure, ProviderError):
            capabilities = Capabilities(multipart=True)
        return capabilities.part_size_bytes if capabilities.multipart else None

    def tuned(self, tuning: Mapping[str, Any]) -> dict[str, float | None]:
        """How patient and how hungry the layers of a store with this tuning are."""
        return self._pool.tuned(tuning)

    def is_resting(self, store_id: UUID) -> bool:
        """Whether this process leaves the store alone for a while, after faults."""
        return bool(self._pool.rest_seconds(store_id))

    def rest_seconds(self, store_id: UUID) -> float | None:
        """For how long, still; 0: it is asked once, and the answer decides. None: nothing is wrong with it."""
        return self._pool.rest_seconds(store_id)

    async def close(self) -> None:
        """Close all providers, and the guard after them. Idempotent."""
        await self.budgets.stop()
        await self._pool.close()
        await asyncio.to_thread(self._guard.close)


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
