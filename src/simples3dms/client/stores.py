"""Stores that tenants bring, grants taken back, jurisdictions, and the rollout of kinds."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from pydantic import SecretStr

from simples3dms.client.transport import Transport, at
from simples3dms.kit.secret import Secret
from simples3dms.schemas import rollout, stores

Credential = Mapping[str, Secret | str]


def store_body(
    kind: str, settings: Mapping[str, object], credential: Credential, tuning: Mapping[str, object] | None
) -> dict[str, object]:
    """The JSON of a store, its secrets in clear: never logged, and sent once."""
    secrets = {key: value.get_secret_value() for key, value in revealed(credential).items()}
    return {"kind": kind, "settings": dict(settings), "credential": secrets, "tuning": dict(tuning or {})}


def revealed(credential: Credential) -> dict[str, SecretStr]:
    return {
        name: SecretStr(value.reveal() if isinstance(value, Secret) else value) for name, value in credential.items()
    }


class StoresMixin(Transport):
    """What tenants do with their own stores, and operators with everybody's."""

    def add_own_store(
        self,
        tenant: str,
        name: str,
        *,
        kind: str,
        settings: Mapping[str, object],
        credential: Credential,
        tuning: Mapping[str, object] | None = None,
    ) -> stores.Store:
        """Bring a store, within the operator's rules. Takes seconds: it is probed first."""
        body = {"name": name, **store_body(kind, settings, credential, tuning)}
        answer = self.call("POST", at("tenants", tenant, "own-stores"), content=json.dumps(body).encode())
        return self.parse(stores.Store, answer)

    def list_own_stores(self, tenant: str) -> list[stores.Store]:
        return self.list_all(stores.Store, at("tenants", tenant, "own-stores"))

    def list_rules_for_own_stores(self, tenant: str) -> list[rollout.OwnStoreRule]:
        """What the tenant may bring; nothing if the list is empty."""
        return self.list_all(rollout.OwnStoreRule, at("tenants", tenant, "own-store-rules"))

    def get_own_store(self, tenant: str, store: str) -> stores.Store:
        return self.get(stores.Store, at("tenants", tenant, "own-stores", store))

    def check_own_store(self, tenant: str, store: str) -> stores.StoreCheck:
        return self.send("POST", stores.StoreCheck, at("tenants", tenant, "own-stores", store, "check"))

    def probe_own_store(self, tenant: str, store: str) -> stores.Probe:
        return self.send("POST", stores.Probe, at("tenants", tenant, "own-stores", store, "probe"))

    def get_own_probe(self, tenant: str, store: str) -> stores.Probe:
        return self.get(stores.Probe, at("tenants", tenant, "own-stores", store, "probe"))

    def set_own_tuning(self, tenant: str, store: str, tuning: Mapping[str, object]) -> stores.Store:
        body = stores.SetTuning(tuning=dict(tuning))
        return self.send("PUT", stores.Store, at("tenants", tenant, "own-stores", store, "tuning"), body)

    def set_own_credential(self, tenant: str, store: str, credential: Credential) -> stores.Store:
        secrets = {key: value.get_secret_value() for key, value in revealed(credential).items()}
        path = at("tenants", tenant, "own-stores", store, "credential")
        return self.parse(stores.Store, self.call("PUT", path, content=json.dumps({"credential": secrets}).encode()))

    def disable_own_store(self, tenant: str, store: str) -> stores.Store:
        return self.send("POST", stores.Store, at("tenants", tenant, "own-stores", store, "disable"))

    def disable_store(self, store: str) -> stores.Store:
        return self.send("POST", stores.Store, at("stores", store, "disable"))

    def set_cache_size(self, store: str, max_bytes: int) -> stores.Store:
        """Say how much a cache may hold."""
        return self.send("PUT", stores.Store, at("stores", store, "cache"), stores.SetCacheSize(max_bytes=max_bytes))

    def set_jurisdiction(self, store: str, jurisdiction: str | None) -> stores.Store:
        """By name, or a tenant's own store by id. None: nobody knows."""
        body = stores.SetJurisdiction(jurisdiction=jurisdiction)
        return self.send("PUT", stores.Store, at("stores", store, "jurisdiction"), body)

    def revoke_grant(self, tenant: str, store: str) -> None:
        """Refused while the tenant needs the store."""
        self.call("DELETE", at("stores", store, "grants", tenant))

    def get_residency(self, tenant: str) -> stores.Residency:
        return self.get(stores.Residency, at("tenants", tenant, "residency"))

    def plan_residency(self, tenant: str, allowed: Sequence[str] | None) -> stores.Residency:
        """What would be outside; it changes nothing."""
        body = stores.SetResidency(allowed=None if allowed is None else list(allowed))
        return self.send("POST", stores.Residency, at("tenants", tenant, "residency", "plan"), body)

    def set_residency(self, tenant: str, allowed: Sequence[str] | None) -> stores.Residency:
        """None: documents may lie anywhere."""
        body = stores.SetResidency(allowed=None if allowed is None else list(allowed))
        return self.send("PUT", stores.Residency, at("tenants", tenant, "residency"), body)

    def list_rollouts(self) -> list[rollout.Rollout]:
        return self.list_all(rollout.Rollout, at("rollouts"))

    def get_rollout(self, kind: str) -> rollout.Rollout:
        return self.get(rollout.Rollout, at("rollouts", kind))

    def plan_rollout(
        self, kind: str, *, reach: str, percent: float = 0, tenants: Sequence[str] = (), attach: str = "operators"
    ) -> rollout.RolloutPreview:
        """What a change would do; it changes nothing."""
        body = rollout.PlanRollout.model_validate(
            {"reach": reach, "percent": percent, "tenants": list(tenants), "attach": attach}
        )
        return self.send("POST", rollout.RolloutPreview, at("rollouts", kind, "plan"), body)

    def set_rollout(
        self,
        kind: str,
        *,
        reach: str,
        percent: float = 0,
        tenants: Sequence[str] = (),
        attach: str = "operators",
        expected_version: int | None = None,
    ) -> rollout.Rollout:
        body = rollout.SetRollout.model_validate(
            {
                "reach": reach,
                "percent": percent,
                "tenants": list(tenants),
                "attach": attach,
                "expected_version": expected_version,
            }
        )
        return self.send("PUT", rollout.Rollout, at("rollouts", kind), body)

    def list_own_store_rules(self) -> list[rollout.OwnStoreRule]:
        return self.list_all(rollout.OwnStoreRule, at("own-store-rules"))

    def set_own_store_rule(
        self,
        kind: str,
        *,
        hosts: Sequence[str],
        regions: Sequence[str] = (),
        most_per_tenant: int = 1,
        bounds: Mapping[str, tuple[float, float]] | None = None,
    ) -> rollout.OwnStoreRule:
        body = rollout.SetOwnStoreRule(
            hosts=list(hosts), regions=list(regions), most_per_tenant=most_per_tenant, bounds=dict(bounds or {})
        )
        return self.send("PUT", rollout.OwnStoreRule, at("own-store-rules", kind), body)

    def remove_own_store_rule(self, kind: str) -> None:
        self.call("DELETE", at("own-store-rules", kind))
