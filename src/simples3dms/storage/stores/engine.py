"""The providers in use: one for each store and credential version, shared by the whole process."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final
from uuid import UUID

import structlog

from simples3dms.db.session import Database
from simples3dms.egress import Destination, EgressGuard
from simples3dms.errors import Unavailable
from simples3dms.providers.base import StorageProvider
from simples3dms.providers.registry import BuildOptions, ProviderKind, get_kind
from simples3dms.providers.stack import (
    TUNABLE,
    StackSettings,
    build_stack,
    count_calls,
    is_idle,
    rest_seconds,
    set_share,
)
from simples3dms.storage.credentials.service import Credentials
from simples3dms.storage.stores import errors, repository

log = structlog.get_logger(__name__)

#: How long a replaced provider is left to those who may still be about to read or write with it.
_GRACE_SECONDS: Final = 3600.0
#: How soon a new credential that can't be opened now is asked for again.
_ASK_AGAIN_SECONDS: Final = 5.0


@dataclass(slots=True)
class _Pooled:
    """A provider with the credential version and tuning it was built from, and until when they are taken for new."""

    provider: StorageProvider
    owner: UUID | None
    version: int
    tuning: dict[str, Any]
    fresh_until: float
    share: float = 1.0
    call_count: int = 0


class ProviderPool:
    """Builds providers, keeps one for each store, and notices a new credential version within `fresh_seconds`."""

    def __init__(
        self,
        database: Database,
        credentials: Credentials,
        *,
        stack_settings: StackSettings,
        options: BuildOptions | None = None,
        guard: EgressGuard,
        guard_all: bool = False,
        fresh_seconds: float = 30.0,
    ) -> None:
        self._database = database
        self._credentials = credentials
        self._stack_settings = stack_settings
        self._options = options or BuildOptions()
        self._guard = guard
        self._guard_all = guard_all
        self._fresh_seconds = fresh_seconds
        self._pooled: dict[UUID, _Pooled] = {}
        self._locks: defaultdict[UUID, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._retired: list[tuple[float, StorageProvider]] = []
        self._closed = False

    async def options(
        self,
        kind: str,
        settings: Mapping[str, Any],
        tuning: Mapping[str, Any] | None = None,
        *,
        owner: UUID | None = None,
    ) -> BuildOptions:
        """How connections of a store of these go out: by the guard if a tenant brought it. Raises Invalid."""
        tuned = self._stack_settings.tuned(dict(tuning or {}))
        options = replace(
            self._options,
            connect_seconds=tuned.connect_timeout_seconds,
            read_seconds=tuned.read_timeout_seconds,
            most_concurrent=tuned.most_concurrent,
        )
        if owner is None and not self._guard_all:
            return options
        # In threads: loading a kind imports its vendor's library, and the first URL starts the guard.
        places = destinations(await asyncio.to_thread(get_kind, kind), settings)
        return replace(options, proxy_url=await asyncio.to_thread(self._guard.proxy_url, places))

    async def build(
        self,
        kind: str,
        settings: Mapping[str, Any],
        fields: Mapping[str, str],
        tuning: Mapping[str, Any] | None = None,
        *,
        owner: UUID | None = None,
    ) -> StorageProvider:
        """A provider of these, in all its layers; the caller closes it. Raises Invalid, or a ProviderError."""
        for name, value in fields.items():
            if not value.strip():
                raise errors.credential_blank(name)
        options = await self.options(kind, settings, tuning, owner=owner)
        # In threads, as above; and some clients take long to make.
        loaded = await asyncio.to_thread(get_kind, kind)
        provider = await asyncio.to_thread(loaded.create, settings, fields, options=options)
        return build_stack(provider, self._stack_settings.tuned(dict(tuning or {})))

    def tuned(self, tuning: Mapping[str, Any]) -> dict[str, float | None]:
        """What holds for a store with this tuning: its own values, and the installation's for the rest."""
        settings = self._stack_settings.tuned(dict(tuning))
        return {name: getattr(settings, name) for name in TUNABLE}

    def check_tuning(self, tuning: Mapping[str, Any]) -> None:
        """Raises Invalid (`store_settings_invalid`, with fields) for what is unknown or out of range."""
        self._stack_settings.tuned(dict(tuning))

    async def get(self, store_id: UUID) -> StorageProvider:
        """The store's provider; no round trip to the database while it is fresh. Raises NotFound."""
        pooled = self._pooled.get(store_id)
        if pooled is not None and time.monotonic() < pooled.fresh_until:
            return pooled.provider
        async with self._locks[store_id]:
            pooled = self._pooled.get(store_id)
            if pooled is None or time.monotonic() >= pooled.fresh_until:
                pooled = await self._refresh(store_id, pooled)
            return pooled.provider

    async def _refresh(self, store_id: UUID, pooled: _Pooled | None) -> _Pooled:
        async with self._database.platform() as uow:
            store = await repository.find_anyones(uow, store_id)
            if store is None:
                raise errors.not_found()
            newest = await self._credentials.get_version(uow, store_id)
            if pooled is not None and (pooled.version, pooled.tuning) == (newest, store.tuning):
                pooled.fresh_until = time.monotonic() + self._fresh_seconds
                return pooled
        try:
            version, secrets = await self._credentials.open(store_id)
        except Unavailable as error:
            if pooled is None:
                raise
            # The service that keeps the key is away: what is opened already goes on working meanwhile.
            log.warning("store.credential_not_opened", store=str(store_id), code=error.problem_code)
            pooled.fresh_until = time.monotonic() + min(self._fresh_seconds, _ASK_AGAIN_SECONDS)
            return pooled
        owner = store.owner_tenant_id
        fields = {name: secret.reveal() for name, secret in secrets.items()}
        provider = await self.build(store.kind, store.settings, fields, store.tuning, owner=owner)
        if self._closed:
            await provider.close()
            raise Unavailable("This process is stopping.", code="stopping")
        fresh = _Pooled(provider, owner, version, store.tuning, time.monotonic() + self._fresh_seconds)
        self._pooled[store_id] = fresh
        if pooled is not None:
            self.set_share(store_id, pooled.share)
        await self._retire(pooled)
        return fresh

    async def _retire(self, replaced: _Pooled | None) -> None:
        """Put a replaced provider aside, and close those that were put aside long ago."""
        now = time.monotonic()
        if replaced is not None:
            self._retired.append((now, replaced.provider))
        # A large object may take longer than the grace: whoever is at it ends with the credential it began with.
        expired = [(at, provider) for at, provider in self._retired if now - at > _GRACE_SECONDS and is_idle(provider)]
        self._retired = [one for one in self._retired if one not in expired]
        await _close_all([provider for _, provider in expired])

    def take_used(self) -> dict[UUID, bool]:
        """The stores that have a provider here, and whether it has been used since the last call of this."""
        used = {}
        for store_id, pooled in self._pooled.items():
            before, pooled.call_count = pooled.call_count, count_calls(pooled.provider)
            used[store_id] = pooled.call_count != before or not is_idle(pooled.provider)
        return used

    def set_share(self, store_id: UUID, share: float) -> None:
        """Use so much of a store's limits from now on: the rest is for other processes."""
        pooled = self._pooled.get(store_id)
        if pooled is not None:
            pooled.share = share
            set_share(pooled.provider, share)

    def rest_seconds(self, store_id: UUID) -> float | None:
        """For how long a store is left alone by this process, after faults; 0: it is asked once. None: all is well."""
        pooled = self._pooled.get(store_id)
        return None if pooled is None else rest_seconds(pooled.provider)

    def owner_of(self, store_id: UUID) -> UUID | None:
        """The tenant that brought a store whose provider is in use; None: the platform's, or not in use."""
        pooled = self._pooled.get(store_id)
        return None if pooled is None else pooled.owner

    def expire(self, store_id: UUID | None = None) -> None:
        """Look for a newer credential at the next use: of one store, or of all."""
        for found, pooled in self._pooled.items():
            if store_id in (None, found):
                pooled.fresh_until = time.monotonic()

    async def close(self) -> None:
        """Close all providers. Idempotent."""
        self._closed = True
        providers = [pooled.provider for pooled in self._pooled.values()]
        providers += [provider for _, provider in self._retired]
        self._pooled.clear()
        self._retired.clear()
        await _close_all(providers)


def destinations(kind: ProviderKind, settings: Mapping[str, Any]) -> list[Destination]:
    """Where a store's connections go. Raises Invalid (`endpoint_refused`, `store_kind_unguarded`)."""
    if kind.destinations is None:
        raise errors.unguarded(kind.name)
    try:
        return [Destination.of(url) for url in kind.destinations(kind.validate_settings(settings))]
    except ValueError:
        raise errors.endpoint_refused() from None


async def _close_all(providers: list[StorageProvider]) -> None:
    for provider, outcome in zip(
        providers, await asyncio.gather(*(one.close() for one in providers), return_exceptions=True), strict=True
    ):
        if isinstance(outcome, Exception):
            log.warning("store.close_failed", kind=provider.kind, error=type(outcome).__name__)
