"""Stores: add, check, grant, rotate their credential, and hand out the provider of each."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from simples3dms.audit.service import record
from simples3dms.context import Principal
from simples3dms.db.session import Database
from simples3dms.errors import Failure, Forbidden, Invalid
from simples3dms.kit.ids import new_id
from simples3dms.kit.secret import Secret
from simples3dms.providers.base import StorageProvider
from simples3dms.providers.errors import ProviderError
from simples3dms.providers.registry import get_kind
from simples3dms.providers.stack import StackSettings, build_stack
from simples3dms.storage.credentials.service import Credentials
from simples3dms.storage.stores import errors, repository
from simples3dms.storage.stores.errors import explain
from simples3dms.storage.stores.values import CheckResult, GrantedStore, Store

_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_PREFIX = re.compile(r"([A-Za-z0-9_-][A-Za-z0-9._-]*/)+")
_FRESH_SECONDS = 30.0
#: Of each kind's settings, those that say which place it is.
_PLACE = ("endpoint", "realm", "region", "bucket", "path", "name", "prefix")


@dataclass(slots=True)
class _Pooled:
    """A provider in use, with the credential version that it was built from."""

    provider: StorageProvider
    version: int
    checked_at: float


class Stores:
    """The stores of the platform, and the pool of their providers."""

    def __init__(self, database: Database, credentials: Credentials, *, stack_settings: StackSettings) -> None:
        self._database = database
        self._credentials = credentials
        self._stack_settings = stack_settings
        self._pool: dict[UUID, _Pooled] = {}
        self._lock = asyncio.Lock()

    async def add_store(
        self,
        principal: Principal,
        name: str,
        kind: str,
        settings: Mapping[str, Any],
        credential: Mapping[str, Secret | str],
    ) -> Store:
        """Check that the place works with the credential, then save both. Raises what is wrong; saves nothing then."""
        _require_operator(principal)
        if not _NAME.fullmatch(name):
            raise errors.name_invalid()
        fields = _revealed(credential)
        clean = get_kind(kind).validate_settings(settings).model_dump(mode="json")
        await self._try(kind, clean, fields)
        place = {key: clean[key] for key in _PLACE if key in clean}
        async with self._database.platform() as uow:
            same = await repository.find_same_place(uow, kind, place)
            if same is not None and same != name:
                raise errors.duplicate(same)
            store = await repository.insert(uow, new_id(), name, kind, clean)
            if store is None:
                raise errors.exists(name)
            await self._credentials.save(uow, store.id, fields)
            await record(
                uow,
                principal,
                "store.added",
                target_type="store",
                target_id=str(store.id),
                details={"name": name, "kind": kind},
            )
            return store

    async def _try(self, kind: str, settings: Mapping[str, Any], fields: Mapping[str, str]) -> None:
        """Build a provider from these and see whether it works. Outside any transaction."""
        _refuse_blank(fields)
        provider = build_stack(get_kind(kind).create(settings, fields), self._stack_settings)
        try:
            await provider.check()
        except ProviderError as error:
            raise explain(error) from error
        finally:
            await provider.close()

    async def list_stores(self) -> list[Store]:
        async with self._database.platform() as uow:
            return await repository.list_all(uow)

    async def get_store(self, name_or_id: str) -> Store:
        """Raises NotFound (`store_not_found`)."""
        async with self._database.platform() as uow:
            store = await repository.find(uow, name=name_or_id, store_id=_as_uuid(name_or_id))
        if store is None:
            raise errors.not_found()
        return store

    async def check_store(self, name: str) -> CheckResult:
        """Whether the store works now."""
        store = await self.get_store(name)
        try:
            provider = await self.provider(store.id)
            await provider.check()
        except ProviderError as error:
            failure = explain(error)
            return CheckResult(False, failure.problem_code, failure.message)
        except Failure as failure:
            return CheckResult(False, failure.problem_code, failure.message)
        return CheckResult(True)

    async def set_credential(self, principal: Principal, name: str, credential: Mapping[str, Secret | str]) -> Store:
        """Replace a store's credential, once the new one has been seen to work."""
        _require_operator(principal)
        store = await self.get_store(name)
        fields = _revealed(credential)
        await self._try(store.kind, store.settings, fields)
        async with self._database.platform() as uow:
            await repository.lock(uow, store.id)
            version = await self._credentials.save(uow, store.id, fields)
            await record(
                uow,
                principal,
                "store.credential_set",
                target_type="store",
                target_id=str(store.id),
                details={"version": version},
            )
        pooled = self._pool.get(store.id)
        if pooled is not None:
            pooled.checked_at = 0.0
        return store

    async def grant_store(
        self, principal: Principal, tenant_id: UUID, store_name: str, prefix: str | None = None
    ) -> GrantedStore:
        """Let a tenant use a store under a prefix of its own. Idempotent: an existing grant is returned as it is."""
        _require_operator(principal)
        store = await self.get_store(store_name)
        place = prefix or f"t/{tenant_id}/"
        if not _PREFIX.fullmatch(place):
            raise Invalid("A prefix is made of names with letters, digits, . _ -, each followed by a slash.")
        async with self._database.platform() as uow:
            await repository.lock(uow, store.id)
            existing = await repository.find_grant(uow, tenant_id, store.id)
            if existing is not None:
                return existing
            if await repository.is_prefix_taken(uow, store.id, place):
                raise errors.prefix_taken()
            await repository.insert_grant(uow, tenant_id, store.id, place)
            await record(
                uow,
                principal,
                "store.granted",
                target_type="store",
                target_id=str(store.id),
                tenant_id=tenant_id,
                details={"prefix": place},
            )
        return GrantedStore(store.id, store.name, store.kind, place)

    async def list_granted_stores(self, tenant_id: UUID) -> list[GrantedStore]:
        async with self._database.tenant(tenant_id) as uow:
            return await repository.list_granted(uow)

    async def provider(self, store_id: UUID) -> StorageProvider:
        """The provider of a store, from the pool. A changed credential is noticed within half a minute."""
        pooled = self._pool.get(store_id)
        if pooled is not None and time.monotonic() - pooled.checked_at < _FRESH_SECONDS:
            return pooled.provider
        async with self._lock:
            pooled = self._pool.get(store_id)
            if pooled is not None and time.monotonic() - pooled.checked_at < _FRESH_SECONDS:
                return pooled.provider
            return await self._build(store_id, pooled)

    async def _build(self, store_id: UUID, pooled: _Pooled | None) -> StorageProvider:
        async with self._database.platform() as uow:
            store = await repository.find(uow, store_id=store_id)
            if store is None:
                raise errors.not_found()
            version, secrets = await self._credentials.open(uow, store_id)
        if pooled is not None and pooled.version == version:
            pooled.checked_at = time.monotonic()
            return pooled.provider
        fields = {name: secret.reveal() for name, secret in secrets.items()}
        _refuse_blank(fields)
        provider = build_stack(get_kind(store.kind).create(store.settings, fields), self._stack_settings)
        # The one before is left to those who are still using it; it is freed with the last of them.
        self._pool[store_id] = _Pooled(provider, version, time.monotonic())
        return provider

    async def close(self) -> None:
        """Close all providers."""
        pooled, self._pool = list(self._pool.values()), {}
        for item in pooled:
            await item.provider.close()


def _require_operator(principal: Principal) -> None:
    if not principal.is_operator:
        raise Forbidden("Only an operator of the platform may do this.", code="operator_required")


def _revealed(credential: Mapping[str, Secret | str]) -> dict[str, str]:
    return {name: value.reveal() if isinstance(value, Secret) else value for name, value in credential.items()}


def _refuse_blank(fields: Mapping[str, str]) -> None:
    """With a blank key a vendor's library would sign with the host's own identity: refused here, too."""
    for name, value in fields.items():
        if not value.strip():
            raise Invalid(
                "The store's credential is not valid.",
                code="credential_invalid",
                fields=[{"field": name, "message": "must not be blank"}],
            )


def _as_uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None
