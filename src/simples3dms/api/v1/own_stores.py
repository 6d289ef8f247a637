"""Stores that a tenant brings: its own bucket, under its own credential."""

from __future__ import annotations

from simples3dms.api.deps import OwnStoresWriter, ServicesDep, StorageReader
from simples3dms.api.routing import new_router
from simples3dms.api.v1.stores import secrets_of
from simples3dms.schemas import rollout, rotations
from simples3dms.schemas import stores as schemas

router = new_router(prefix="/tenants/{tenant}", tags=["own stores"])


@router.post("/own-stores", operation_id="add_own_store", status_code=201, summary="Bring a store")
async def add_own_store(body: schemas.AddStore, services: ServicesDep, seat: OwnStoresWriter) -> schemas.Store:
    """Within the operator's rules. Probed with the credential first; nothing is saved if that fails."""
    store = await services.stores.add_store(
        seat.principal,
        body.name,
        body.kind,
        body.settings,
        secrets_of(body.credential),
        body.tuning,
        owner=seat.tenant_id,
    )
    return schemas.Store.model_validate(store)


@router.get("/own-stores", operation_id="list_own_stores", summary="Stores that it has brought")
async def list_own_stores(services: ServicesDep, seat: StorageReader) -> list[schemas.Store]:
    return [schemas.Store.model_validate(one) for one in await services.stores.list_stores(owner=seat.tenant_id)]


@router.get("/own-store-rules", operation_id="list_rules_for_own_stores", summary="What it may bring")
async def list_rules_for_own_stores(services: ServicesDep, seat: StorageReader) -> list[rollout.OwnStoreRule]:
    return [rollout.OwnStoreRule.model_validate(one) for one in await services.rollouts.list_rules_for(seat.tenant_id)]


@router.get("/own-stores/{store}", operation_id="get_own_store", summary="One of them")
async def get_own_store(store: str, services: ServicesDep, seat: StorageReader) -> schemas.Store:
    return schemas.Store.model_validate(await services.stores.get_store(store, owner=seat.tenant_id))


@router.post("/own-stores/{store}/check", operation_id="check_own_store", summary="Does it work now?")
async def check_own_store(store: str, services: ServicesDep, seat: OwnStoresWriter) -> schemas.StoreCheck:
    return schemas.StoreCheck.model_validate(await services.stores.check_store(store, owner=seat.tenant_id))


@router.post("/own-stores/{store}/probe", operation_id="probe_own_store", summary="Probe it now")
async def probe_own_store(store: str, services: ServicesDep, seat: OwnStoresWriter) -> schemas.Probe:
    result = await services.stores.probe_store(seat.principal, store, owner=seat.tenant_id)
    return schemas.Probe.model_validate(result)


@router.get("/own-stores/{store}/probe", operation_id="get_own_probe", summary="What the last probe found")
async def get_own_probe(store: str, services: ServicesDep, seat: StorageReader) -> schemas.Probe:
    return schemas.Probe.model_validate(await services.stores.get_probe(store, owner=seat.tenant_id))


@router.put(
    "/own-stores/{store}/tuning", operation_id="set_own_tuning", summary="Its timeouts and limits, within bounds"
)
async def set_own_tuning(
    store: str, body: schemas.SetTuning, services: ServicesDep, seat: OwnStoresWriter
) -> schemas.Store:
    changed = await services.stores.set_tuning(seat.principal, store, body.tuning, owner=seat.tenant_id)
    return schemas.Store.model_validate(changed)


@router.put("/own-stores/{store}/credential", operation_id="set_own_credential", summary="Replace its credential")
async def set_own_credential(
    store: str, body: schemas.SetCredential, services: ServicesDep, seat: OwnStoresWriter
) -> schemas.Store:
    changed = await services.stores.set_credential(
        seat.principal, store, secrets_of(body.credential), owner=seat.tenant_id
    )
    return schemas.Store.model_validate(changed)


@router.post("/own-stores/{store}/rotation", operation_id="start_own_rotation", status_code=201, summary="Rotate it")
async def start_own_rotation(
    store: str, body: rotations.StartOwnRotation, services: ServicesDep, seat: OwnStoresWriter
) -> rotations.Rotation:
    """To another credential, which is probed first: `switched`, or `failed` with why. The old one works until then."""
    rotation = await services.rotations.start(
        seat.principal,
        store,
        secrets_of(body.credential),
        deletes_old=False,
        grace_seconds=body.grace_seconds,
        expires_at=body.expires_at,
        owner=seat.tenant_id,
    )
    return rotations.Rotation.model_validate(rotation)


@router.get("/own-stores/{store}/rotation", operation_id="get_own_rotation", summary="The newest rotation")
async def get_own_rotation(store: str, services: ServicesDep, seat: StorageReader) -> rotations.Rotation:
    return rotations.Rotation.model_validate(await services.rotations.get(store, owner=seat.tenant_id))


@router.post(
    "/own-stores/{store}/rotation/rollback", operation_id="roll_back_own_rotation", summary="Back to the old credential"
)
async def roll_back_own_rotation(store: str, services: ServicesDep, seat: OwnStoresWriter) -> rotations.Rotation:
    rotation = await services.rotations.roll_back(seat.principal, store, owner=seat.tenant_id)
    return rotations.Rotation.model_validate(rotation)


@router.post(
    "/own-stores/{store}/rotation/finalize",
    operation_id="finalize_own_rotation",
    summary="End the grace of the old credential",
)
async def finalize_own_rotation(store: str, services: ServicesDep, seat: OwnStoresWriter) -> rotations.Rotation:
    rotation = await services.rotations.finish(seat.principal, store, owner=seat.tenant_id)
    return rotations.Rotation.model_validate(rotation)


@router.post("/own-stores/{store}/disable", operation_id="disable_own_store", summary="Offer it no more")
async def disable_own_store(store: str, services: ServicesDep, seat: OwnStoresWriter) -> schemas.Store:
    """What it holds can still be read and moved away. Refused while the placement or a migration needs it."""
    return schemas.Store.model_validate(await services.stores.disable(seat.principal, store, owner=seat.tenant_id))
