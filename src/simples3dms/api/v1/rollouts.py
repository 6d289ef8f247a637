"""Rollout of kinds of stores, and the rules for stores that tenants bring (operators)."""

from __future__ import annotations

from simples3dms.api.deps import RolloutsWriter, ServicesDep, StoresReader
from simples3dms.api.routing import new_router
from simples3dms.bootstrap import Services
from simples3dms.schemas import rollout as schemas
from simples3dms.storage.rollout.values import Attach, Change, OwnStoreRule, Reach

router = new_router(tags=["rollout"])


async def _change(services: Services, body: schemas.PlanRollout) -> Change:
    chosen = [(await services.tenants.get_tenant(tenant)).id for tenant in body.tenants]
    return Change(Reach(body.reach), body.percent, chosen, Attach(body.attach))


@router.get("/rollouts", operation_id="list_rollouts", summary="For whom each kind is there")
async def list_rollouts(services: ServicesDep, _operator: StoresReader) -> list[schemas.Rollout]:
    return [schemas.Rollout.model_validate(one) for one in await services.rollouts.list_rollouts()]


@router.get("/rollouts/{kind}", operation_id="get_rollout", summary="For whom a kind is there")
async def get_rollout(kind: str, services: ServicesDep, _operator: StoresReader) -> schemas.Rollout:
    return schemas.Rollout.model_validate(await services.rollouts.get_rollout(kind))


@router.post("/rollouts/{kind}/plan", operation_id="plan_rollout", summary="What a change would do")
async def plan_rollout(
    kind: str, body: schemas.PlanRollout, services: ServicesDep, principal: RolloutsWriter
) -> schemas.RolloutPreview:
    """Counts tenants, and changes nothing."""
    preview = await services.rollouts.preview_rollout(principal, kind, await _change(services, body))
    return schemas.RolloutPreview.model_validate(preview)


@router.put("/rollouts/{kind}", operation_id="set_rollout", summary="Change it")
async def set_rollout(
    kind: str, body: schemas.SetRollout, services: ServicesDep, principal: RolloutsWriter
) -> schemas.Rollout:
    """For what begins from now on: what is in use goes on working."""
    change = await _change(services, body)
    saved = await services.rollouts.set_rollout(principal, kind, change, expected_version=body.expected_version)
    return schemas.Rollout.model_validate(saved)


@router.get("/own-store-rules", operation_id="list_own_store_rules", summary="What tenants may bring")
async def list_own_store_rules(services: ServicesDep, _operator: StoresReader) -> list[schemas.OwnStoreRule]:
    return [schemas.OwnStoreRule.model_validate(rule) for rule in await services.rollouts.list_rules()]


@router.put("/own-store-rules/{kind}", operation_id="set_own_store_rule", summary="Let tenants bring stores of a kind")
async def set_own_store_rule(
    kind: str, body: schemas.SetOwnStoreRule, services: ServicesDep, principal: RolloutsWriter
) -> schemas.OwnStoreRule:
    """Besides, the kind's rollout must let tenants attach it. What was brought before stays."""
    rule = OwnStoreRule(kind, body.hosts, body.regions, body.most_per_tenant, body.bounds)
    return schemas.OwnStoreRule.model_validate(await services.rollouts.set_rule(principal, rule))


@router.delete(
    "/own-store-rules/{kind}", operation_id="remove_own_store_rule", status_code=204, summary="Let them bring no more"
)
async def remove_own_store_rule(kind: str, services: ServicesDep, principal: RolloutsWriter) -> None:
    await services.rollouts.remove_rule(principal, kind)
