"""Calls of the operations on stores: the platform's, their credentials and rotations, and those that tenants bring."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from tests.api.acts import Installation, Step, step, until
from tests.rotations.conftest import B2Side


def steps(tmp_path: Path, side: B2Side) -> list[Step]:
    return [*_local(tmp_path / "disk-c"), *_rotated(side), *_brought(side)]


def _local(root: Path) -> list[Step]:
    root.mkdir()
    place, store = {"settings": {"path": str(root)}}, "/stores/disk-c"
    return [
        step("add_store", "POST /stores", {"name": "disk-c", "kind": "local"} | place),
        step("check_store", f"POST {store}/check"),
        step("probe_store", f"POST {store}/probe"),
        step("probe_config", "POST /store-probes", {"kind": "local"} | place),
        step("set_tuning", f"PUT {store}/tuning", {"tuning": {"retry_attempts": 2}}),
        step("set_credential", f"PUT {store}/credential", {"credential": {}}),
        step("set_place", f"PATCH {store}", {"credential": {}} | place),
        step("set_jurisdiction", f"PUT {store}/jurisdiction", {"jurisdiction": "DE"}),
        step("grant_store", f"POST {store}/grants", {"tenant": "acme"}),
        step("set_placement", "PUT /tenants/acme/placement", {"write": "disk-a", "copies": ["disk-c"]}),
        step("retry_failed_copies", "POST /tenants/acme/replication/disk-c/retry"),
        step("set_placement", "PUT /tenants/acme/placement", {"write": "disk-a"}),
        step("preview_placement", "POST /tenants/acme/placement/preview", {"write": "disk-a", "copies": ["disk-c"]}),
        step("plan_residency", "POST /tenants/acme/residency/plan", {"allowed": ["DE"]}),
        step("set_residency", "PUT /tenants/acme/residency", {"allowed": ["DE"]}),
        step("set_residency", "PUT /tenants/acme/residency", {"allowed": None}),
        step("set_price", f"PUT {store}/price", {"price_per_gib_month": "0.006", "egress_per_gib": "1"}),
        step("set_reconcile_schedule", f"PUT {store}/reconcile-schedule", {"every_days": 7}),
        step("set_reconcile_schedule", f"PUT {store}/reconcile-schedule", {"every_days": None}),
        step("trust_store", f"POST {store}/trust", {"reason": "x"}, first=_distrusted),
        *_cache(root.parent / "disk-cache"),
        step("revoke_grant", f"DELETE {store}/grants/acme"),
        *_drained(f"{store}/drain"),
        step("disable_store", f"POST {store}/disable"),
    ]


def _cache(root: Path) -> list[Step]:
    root.mkdir()
    cache = {"name": "disk-cache", "kind": "local", "settings": {"path": str(root)}, "cache_max_bytes": 100}
    return [
        step("add_store", "POST /stores", cache),
        step("set_cache_size", "PUT /stores/disk-cache/cache", {"max_bytes": 50}),
    ]


def _drained(drain: str) -> list[Step]:
    start = step("start_drain", f"POST {drain}", {"target": "disk-b", "steps": [1, 100]})
    return [
        start,
        step("pause_drain", f"POST {drain}/pause", first=until(drain, "confirming")),
        step("resume_drain", f"POST {drain}/resume"),
        step("confirm_drain", f"POST {drain}/confirm", first=until(drain, "confirming")),
        replace(start, first=until(drain, "done")),
        step("cancel_drain", f"POST {drain}/cancel", first=until(drain, "confirming")),
    ]


def _distrusted(at: Installation) -> None:
    at.rows("UPDATE stores SET untrusted_at = now(), untrusted_reason = 'x' WHERE name = 'disk-c' RETURNING id")


def _rotated(side: B2Side) -> list[Step]:
    store = {"name": "b2", "kind": "b2", "settings": side.settings, "credential": side.new_credential()}
    rotation, start = "/stores/b2/rotation", {"grace_seconds": 3600}
    schedule = {"every_days": 30, "manager": side.manager()}
    return [
        step("add_store", "POST /stores", store),
        step("set_rotation_schedule", "PUT /stores/b2/rotation-schedule", schedule),
        step("start_rotation", f"POST {rotation}", start | {"credential": side.new_credential()}),
        step("roll_back_rotation", f"POST {rotation}/rollback"),
        step(
            "start_rotation",
            f"POST {rotation}",
            start | {"credential": side.new_credential()},
            first=until(rotation, "rolled_back"),
        ),
        step("finalize_rotation", f"POST {rotation}/finalize"),
    ]


def _brought(side: B2Side) -> list[Step]:
    base, rule = "/tenants/acme/own-stores", "/own-store-rules/b2"
    own, start = f"{base}/mine/rotation", {"grace_seconds": 3600}
    allowed = {"hosts": [side.server.url], "most_per_tenant": 1, "bounds": {"retry_attempts": [1, 5]}}
    settings, credential = side.settings | {"bucket": "brought"}, side.manager()
    brought = {"name": "mine", "kind": "b2", "settings": settings, "credential": credential}
    reach = {"reach": "everyone", "attach": "tenants"}
    return [
        step("plan_rollout", "POST /rollouts/b2/plan", reach, first=until("/stores/b2/rotation", "done")),
        step("set_rollout", "PUT /rollouts/b2", reach),
        step("set_own_store_rule", f"PUT {rule}", allowed),
        step("add_own_store", f"POST {base}", brought),
        step("check_own_store", f"POST {base}/mine/check"),
        step("probe_own_store", f"POST {base}/mine/probe"),
        step("set_own_tuning", f"PUT {base}/mine/tuning", {"tuning": {"retry_attempts": 2}}),
        step("set_own_credential", f"PUT {base}/mine/credential", {"credential": credential}),
        step("start_own_rotation", f"POST {own}", start | {"credential": credential}),
        step("roll_back_own_rotation", f"POST {own}/rollback"),
        step("start_own_rotation", f"POST {own}", start | {"credential": credential}, first=until(own, "rolled_back")),
        step("finalize_own_rotation", f"POST {own}/finalize"),
        step("disable_own_store", f"POST {base}/mine/disable"),
        step("remove_own_store_rule", f"DELETE {rule}"),
    ]
