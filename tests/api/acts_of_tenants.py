"""Calls of the operations on tenants and what they hold: documents, migrations, audits, and their end."""

from __future__ import annotations

from collections.abc import Callable
from uuid import UUID

from tests.api.acts import Installation, Step, step, until

_ACME = "/tenants/acme"


def steps() -> list[Step]:
    return [*_documents(), *_upkeep(), *_migrations(), *_audit(), *_tenants()]


def _upkeep() -> list[Step]:
    base = f"{_ACME}/scrubs"
    return [
        step("start_scrub", f"POST {base}", {"store": "disk-a"}, keep={"scrub": "id"}),
        step("pause_scrub", f"POST {base}/{{scrub}}/pause", first=_scrub("running")),
        step(
            "start_reconcile",
            f"POST {_ACME}/reconciles",
            {"store": "disk-a", "older_than_days": 0},
            keep={"reconcile": "id"},
        ),
        step(
            "remove_unexplained",
            f"POST {_ACME}/reconciles/{{reconcile}}/remove",
            {"count": 1},
            first=_found,
        ),
        step("repair_replicas", f"POST {_ACME}/repairs", {}),
        step("declare_restore", "POST /restore/declare", {"reason": "x"}),
        step("confirm_restore", "POST /restore/confirm"),
        step("resume_scrub", f"POST {base}/{{scrub}}/resume", first=_scrub("paused")),
    ]


def _found(at: Installation) -> None:
    """One unexplained object of a reconcile that is done."""
    at.rows(
        """UPDATE reconciles SET state = 'done', finished_at = now(), fence = fence + 1, due_at = 'infinity',
             unexplained_count = 1, hidden_count = 0, unfinished_count = 0 RETURNING id"""
    )


def _scrub(state: str) -> Callable[[Installation], None]:
    """Put the scrub back into a state: a worker may have been at it."""

    def put(at: Installation) -> None:
        at.rows(
            """UPDATE scrubs SET state = %s, finished_at = NULL, fence = fence + 1,
                 due_at = CASE WHEN %s = 'running' THEN 'infinity' ELSE now() END RETURNING id""",
            *(state, state),
        )

    return put


def _documents() -> list[Step]:
    document = f"{_ACME}/documents/{{document}}"
    retained = {"until": "2999-01-01T00:00:00Z", "mode": "governance"}
    return [
        step("upload_document", f"POST {_ACME}/documents?name=a", keep={"document": "id"}, content=b"one"),
        step("upload_version", f"POST {document}/versions", content=b"two"),
        step("place_hold", f"POST {document}/holds", {"name": "case", "reason": "x"}, keep={"hold": "id"}),
        step("release_hold", f"POST {document}/holds/{{hold}}/release", {"reason": "x"}),
        step("set_retention", f"PUT {document}/retention", retained),
        step("lift_retention", f"POST {document}/retention/lift", {"reason": "x"}),
        step("delete_document", f"DELETE {document}"),
        step("restore_document", f"POST {document}/restore"),
        step("delete_document", f"DELETE {document}"),
        step("purge_document", f"POST {document}/purge"),
        step("upload_document", f"POST {_ACME}/documents?name=b", content=b"three"),
        step("create_takeout", f"POST {_ACME}/takeouts"),
    ]


def _one_failure(at: Installation) -> None:
    """A copy towards disk-b that was given up."""
    at.ids["failure"] = str(UUID(int=7))
    at.rows(
        """INSERT INTO transfers (tenant_id, id, blob_id, target_store_id, state)
           SELECT b.tenant_id, %s, b.id, s.id, 'failed' FROM blobs b, stores s WHERE s.name = 'disk-b' LIMIT 1
           ON CONFLICT DO NOTHING RETURNING id""",
        at.ids["failure"],
    )


def _migrations() -> list[Step]:
    base = f"{_ACME}/migrations"
    migration = f"{base}/{{migration}}"
    plan = step("plan_migration", f"POST {base}", {"target": "disk-b"}, keep={"migration": "id"})
    start = step("start_migration", f"POST {migration}/start")
    cut_over = step("cut_over_migration", f"POST {migration}/cutover", first=until(migration, "ready"))
    return [
        plan,
        step("cancel_migration", f"POST {migration}/cancel"),
        plan,
        start,
        step("retry_failures", f"POST {migration}/failures/retry", {}, first=until(migration, "ready")),
        step(
            "waive_failures",
            f"POST {migration}/failures/waive",
            {"failure_ids": ["{failure}"], "reason": "x"},
            first=_one_failure,
        ),
        step("set_schedule", f"PUT {migration}/schedule", {"finalize_after_seconds": 86400}),
        step("pause_migration", f"POST {migration}/pause"),
        step("resume_migration", f"POST {migration}/resume"),
        cut_over,
        step("roll_back_migration", f"POST {migration}/rollback", first=until(migration, "soaking")),
        step(
            "plan_migration",
            f"POST {base}",
            {"target": "disk-b"},
            keep={"migration": "id"},
            first=until(migration, "rolled_back"),
        ),
        start,
        cut_over,
        step("finalize_migration", f"POST {migration}/finalize", first=until(migration, "soaking")),
        step("set_settings", f"PUT {_ACME}/settings", {"trash_days": 3}, first=until(migration, "done")),
        step("set_limits", f"PUT {_ACME}/limits", {"most_documents": 1000}),
    ]


def _audit() -> list[Step]:
    return [
        step("set_audit_retention", f"PUT {_ACME}/audit/retention", {"days": 400}),
        step("create_audit_checkpoint", f"POST {_ACME}/audit/checkpoints"),
        step("set_platform_retention", "PUT /audit/retention", {"days": 400}),
        step("create_platform_checkpoint", "POST /audit/checkpoints"),
        step("rotate_audit_key", "POST /audit/keys"),
    ]


def _tenants() -> list[Step]:
    globex, person = "/tenants/globex", {"email": "gus@example.org", "password": "correct horse battery"}
    ask = step("request_deletion", f"POST {globex}/deletion", {"short_name": "globex", "reason": "x"}, who="gus")
    return [
        step("create_tenant", "POST /tenants", {"slug": "globex", "name": "Globex"}),
        step("suspend_tenant", f"PUT {globex}/suspension", {"reason": "x"}),
        step("resume_tenant", f"DELETE {globex}/suspension"),
        step("create_user", "POST /users", person),
        step("set_member", f"PUT {globex}/members/gus@example.org", {"role": "owner"}),
        step("log_in", "POST /login", person, who="", keep={"gus": "token"}),
        ask,
        step("cancel_deletion", f"DELETE {globex}/deletion", who="gus"),
        ask,
        step("confirm_deletion", f"POST {globex}/deletion/confirm", {"short_name": "globex"}),
    ]
