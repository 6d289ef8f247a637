"""Stores, their grants, and the placement of a tenant."""

from __future__ import annotations

from typing import Any

from pydantic import SecretStr

from simples3dms.api.deps import (
    PlacementWriter,
    ServicesDep,
    StorageReader,
    StoresReader,
    StoresWriter,
    TenantsWriter,
)
from simples3dms.api.routing import new_router
from simples3dms.kit.secret import Secret
from simples3dms.schemas import stores as schemas
from simples3dms.storage.placement.values import Across, Match, PolicyWords, ReadPreference, RuleWords, SpreadWords

router = new_router()


def secrets_of(given: dict[str, SecretStr]) -> dict[str, Secret | str]:
    return {name: Secret(value.get_secret_value()) for name, value in given.items()}


@router.post("/stores", operation_id="add_store", tags=["stores"], status_code=201, summary="Add a store (operators)")
async def add_store(body: schemas.AddStore, services: ServicesDep, principal: StoresWriter) -> schemas.Store:
    """The store is probed with the credential first; nothing is saved if that fails or finds something red."""
    store = await services.stores.add_store(
        principal,
        body.name,
        body.kind,
        body.settings,
        secrets_of(body.credential),
        body.tuning,
        cache_max_bytes=body.cache_max_bytes,
    )
    return schemas.Store.model_validate(store)


@router.get("/stores", operation_id="list_stores", tags=["stores"], summary="All stores (operators)")
async def list_stores(services: ServicesDep, _operator: StoresReader) -> list[schemas.Store]:
    return [schemas.Store.model_validate(store) for store in await services.stores.list_stores()]


@router.get("/stores/{store}", operation_id="get_store", tags=["stores"], summary="One store (operators)")
async def get_store(store: str, services: ServicesDep, _operator: StoresReader) -> schemas.Store:
    return schemas.Store.model_validate(await services.stores.get_store(store))


@router.post("/stores/{store}/check", operation_id="check_store", tags=["stores"], summary="Does it work now?")
async def check_store(store: str, services: ServicesDep, _operator: StoresWriter) -> schemas.StoreCheck:
    return schemas.StoreCheck.model_validate(await services.stores.check_store(store))


@router.post("/stores/{store}/probe", operation_id="probe_store", tags=["stores"], summary="Probe it now")
async def probe_store(store: str, services: ServicesDep, principal: StoresWriter) -> schemas.Probe:
    """Writes, reads and deletes below a scratch prefix of the store; takes seconds. What is found is kept."""
    return schemas.Probe.model_validate(await services.stores.probe_store(principal, store))


@router.get("/stores/{store}/probe", operation_id="get_probe", tags=["stores"], summary="What the last probe found")
async def get_probe(store: str, services: ServicesDep, _operator: StoresReader) -> schemas.Probe:
    return schemas.Probe.model_validate(await services.stores.get_probe(store))


@router.post("/store-probes", operation_id="probe_config", tags=["stores"], summary="Probe a store before it is saved")
async def probe_config(body: schemas.ProbeConfig, services: ServicesDep, principal: StoresWriter) -> schemas.Probe:
    result = await services.stores.probe_config(
        principal, body.kind, body.settings, secrets_of(body.credential), body.tuning
    )
    return schemas.Probe.model_validate(result)


@router.put("/stores/{store}/tuning", operation_id="set_tuning", tags=["stores"], summary="Its own timeouts and limits")
async def set_tuning(
    store: str, body: schemas.SetTuning, services: ServicesDep, principal: StoresWriter
) -> schemas.Store:
    return schemas.Store.model_validate(await services.stores.set_tuning(principal, store, body.tuning))


@router.put(
    "/stores/{store}/credential", operation_id="set_credential", tags=["stores"], summary="Replace the credential"
)
async def set_credential(
    store: str, body: schemas.SetCredential, services: ServicesDep, principal: StoresWriter
) -> schemas.Store:
    changed = await services.stores.set_credential(principal, store, secrets_of(body.credential))
    return schemas.Store.model_validate(changed)


@router.post(
    "/stores/{store}/grants", operation_id="grant_store", tags=["stores"], summary="Let a tenant use it (operators)"
)
async def grant_store(
    store: str, body: schemas.GrantStore, services: ServicesDep, principal: StoresWriter
) -> schemas.GrantedStore:
    tenant = await services.tenants.get_tenant(body.tenant)
    grant = await services.stores.grant_store(principal, tenant.id, store, prefix=body.prefix)
    return schemas.GrantedStore.model_validate(grant)


@router.delete(
    "/stores/{store}/grants/{tenant}",
    operation_id="revoke_grant",
    tags=["stores"],
    status_code=204,
    summary="Let it use the store no more (operators)",
)
async def revoke_grant(store: str, tenant: str, services: ServicesDep, principal: StoresWriter) -> None:
    """Refused while replicas, the placement or a migration of the tenant need the store (`store_grant_in_use`)."""
    found = await services.tenants.get_tenant(tenant)
    await services.stores.revoke_grant(principal, found.id, store)


@router.post("/stores/{store}/disable", operation_id="disable_store", tags=["stores"], summary="Offer it no more")
async def disable_store(store: str, services: ServicesDep, principal: StoresWriter) -> schemas.Store:
    """What it holds can still be read and moved away. Refused while a placement or a migration needs it."""
    return schemas.Store.model_validate(await services.stores.disable(principal, store))


@router.put(
    "/stores/{store}/jurisdiction", operation_id="set_jurisdiction", tags=["stores"], summary="Where its bytes lie"
)
async def set_jurisdiction(
    store: str, body: schemas.SetJurisdiction, services: ServicesDep, principal: StoresWriter
) -> schemas.Store:
    """Of any store, one that a tenant brought by its id. Refused where the region of the store tells another."""
    return schemas.Store.model_validate(await services.stores.set_jurisdiction(principal, store, body.jurisdiction))


@router.put(
    "/stores/{store}/cache", operation_id="set_cache_size", tags=["stores"], summary="How much a cache may hold"
)
async def set_cache_size(
    store: str, body: schemas.SetCacheSize, services: ServicesDep, principal: StoresWriter
) -> schemas.Store:
    """What is too much then is removed in the background, what was not used for longest first."""
    return schemas.Store.model_validate(await services.blobs.caches.resize(principal, store, body.max_bytes))


@router.get(
    "/tenants/{tenant}/stores", operation_id="list_granted_stores", tags=["stores"], summary="Stores it may use"
)
async def list_granted_stores(services: ServicesDep, seat: StorageReader) -> list[schemas.GrantedStore]:
    return [
        schemas.GrantedStore.model_validate(store)
        for store in await services.stores.list_granted_stores(seat.tenant_id)
    ]


@router.get(
    "/tenants/{tenant}/residency", operation_id="get_residency", tags=["placement"], summary="Where they may lie"
)
async def get_residency(services: ServicesDep, seat: StorageReader) -> schemas.Residency:
    return schemas.Residency.model_validate(await services.placements.get_residency(seat.tenant_id))


@router.post(
    "/tenants/{tenant}/residency/plan",
    operation_id="plan_residency",
    tags=["placement"],
    summary="What would be outside (operators)",
)
async def plan_residency(
    tenant: str, body: schemas.SetResidency, services: ServicesDep, principal: TenantsWriter
) -> schemas.Residency:
    """Changes nothing."""
    found = await services.tenants.get_tenant(tenant)
    return schemas.Residency.model_validate(await services.placements.plan_residency(principal, found.id, body.allowed))


@router.put(
    "/tenants/{tenant}/residency",
    operation_id="set_residency",
    tags=["placement"],
    summary="Say where they may lie (operators)",
)
async def set_residency(
    tenant: str, body: schemas.SetResidency, services: ServicesDep, principal: TenantsWriter
) -> schemas.Residency:
    """Nothing new is put elsewhere from now on. What is there already is listed, and stays until somebody moves it."""
    found = await services.tenants.get_tenant(tenant)
    return schemas.Residency.model_validate(await services.placements.set_residency(principal, found.id, body.allowed))


@router.get("/tenants/{tenant}/placement", operation_id="get_placement", tags=["placement"], summary="Where things go")
async def get_placement(services: ServicesDep, seat: StorageReader) -> schemas.Placement:
    return schemas.Placement.model_validate(await services.placements.get_placement(seat.tenant_id))


@router.put("/tenants/{tenant}/placement", operation_id="set_placement", tags=["placement"], summary="Set it")
async def set_placement(body: schemas.SetPlacement, services: ServicesDep, seat: PlacementWriter) -> schemas.Placement:
    """Documents that are there are moved by a migration; copies that they lack now are made in the background."""
    placement = await services.placements.set_placement(
        seat.principal, seat.tenant_id, **_policy(body), expected_version=body.expected_version
    )
    return schemas.Placement.model_validate(placement)


@router.post(
    "/tenants/{tenant}/placement/preview",
    operation_id="preview_placement",
    tags=["placement"],
    summary="What setting it would bring about; nothing changes",
)
async def preview_placement(
    body: schemas.SetPlacement, services: ServicesDep, seat: PlacementWriter
) -> schemas.PlacementPreview:
    """Which copies would be made, what would be where it no longer belongs, and money."""
    found = await services.previews.preview(seat.tenant_id, PolicyWords(**_policy(body)))
    return schemas.PlacementPreview.model_validate(found)


def _policy(body: schemas.SetPlacement) -> dict[str, Any]:
    return {
        **_layout(body),
        "read": tuple(body.read),
        "rules": tuple(RuleWords(**_layout(rule), match=match_of(rule.match)) for rule in body.rules),
        "read_preference": ReadPreference(body.read_preference),
        "hedge": body.hedge,
    }


def _layout(body: schemas.Layout) -> dict[str, Any]:
    spread = SpreadWords(body.spread.copies, Across(body.spread.across)) if body.spread else None
    return {
        "write": body.write,
        "copies": tuple(body.copies),
        "shares": body.shares,
        "spread": spread,
        "min_acks": body.min_acks,
    }


def match_of(body: schemas.Match) -> Match:
    return Match(tuple(body.content_types), body.min_bytes, body.max_bytes, body.min_age_days, body.max_age_days)
