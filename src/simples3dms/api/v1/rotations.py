"""Rotations of stores' credentials, their schedules, and the change of a store's place."""

from __future__ import annotations

from pydantic import SecretStr

from simples3dms.api.deps import ServicesDep, StoresReader, StoresWriter
from simples3dms.api.routing import new_router
from simples3dms.kit.secret import Secret
from simples3dms.schemas import rotations as schemas
from simples3dms.schemas.stores import Store

router = new_router(prefix="/stores/{store}", tags=["stores"])


def _secrets(given: dict[str, SecretStr] | None) -> dict[str, Secret | str] | None:
    return None if given is None else {name: Secret(value.get_secret_value()) for name, value in given.items()}


@router.patch("", operation_id="set_place", summary="Change where it is")
async def set_place(store: str, body: schemas.SetPlace, services: ServicesDep, principal: StoresWriter) -> Store:
    """Endpoint, region, bucket and the like, with the secret in the same request. Probed first."""
    given = _secrets(body.credential) or {}
    return Store.model_validate(await services.stores.set_place(principal, store, body.settings, given))


@router.get("/credential", operation_id="get_credential", summary="What is known of its credential")
async def get_credential(store: str, services: ServicesDep, _operator: StoresReader) -> schemas.StoreCredential:
    return schemas.StoreCredential.model_validate(await services.rotations.get_credential(store))


@router.post("/rotation", operation_id="start_rotation", status_code=201, summary="Rotate the credential")
async def start_rotation(
    store: str, body: schemas.StartRotation, services: ServicesDep, principal: StoresWriter
) -> schemas.Rotation:
    """Taken as far as it goes now: `switched`, or `failed` with why. The old credential works until then."""
    rotation = await services.rotations.start(
        principal,
        store,
        _secrets(body.credential),
        deletes_old=body.deletes_old,
        grace_seconds=body.grace_seconds,
        expires_at=body.expires_at,
    )
    return schemas.Rotation.model_validate(rotation)


@router.get("/rotation", operation_id="get_rotation", summary="The newest rotation")
async def get_rotation(store: str, services: ServicesDep, _operator: StoresReader) -> schemas.Rotation:
    return schemas.Rotation.model_validate(await services.rotations.get(store))


@router.post("/rotation/rollback", operation_id="roll_back_rotation", summary="Back to the old credential")
async def roll_back_rotation(store: str, services: ServicesDep, principal: StoresWriter) -> schemas.Rotation:
    return schemas.Rotation.model_validate(await services.rotations.roll_back(principal, store))


@router.post("/rotation/finalize", operation_id="finalize_rotation", summary="End the grace of the old credential")
async def finalize_rotation(store: str, services: ServicesDep, principal: StoresWriter) -> schemas.Rotation:
    return schemas.Rotation.model_validate(await services.rotations.finish(principal, store))


@router.put("/rotation-schedule", operation_id="set_rotation_schedule", summary="Rotate it by itself")
async def set_rotation_schedule(
    store: str, body: schemas.SetRotationSchedule, services: ServicesDep, principal: StoresWriter
) -> schemas.RotationSchedule:
    """For providers with an API for their keys: B2, and AWS IAM or what speaks it."""
    schedule = await services.rotations.set_schedule(
        principal, store, every_days=body.every_days, deletes_old=body.deletes_old, manager=_secrets(body.manager)
    )
    return schemas.RotationSchedule.model_validate(schedule)
