"""Calls of operations that change something: what a step is, and how a list of them is walked with an audit that fails.

The steps are in `acts_of_people`, `acts_of_stores` and `acts_of_tenants`; `test_audit_doors` walks them.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import reduce
from typing import Any

import httpx
import psycopg
from tests.api.conftest import Door

from simples3dms.api.deps import SESSION_COOKIE

#: Where the installation is reached, as its settings say; passkeys, links and browsers' sign-ins are bound to it.
PUBLIC = "https://documents.example.org"
#: Operations that are no GET and yet change nothing that the records answer for, each with the reason.
CHANGES_NOTHING = {
    "check_store": "asks the store whether it works",
    "check_own_store": "asks the store whether it works",
    "probe_store": "measures the store; what it found is no decision of anybody's",
    "probe_own_store": "measures the store; what it found is no decision of anybody's",
    "probe_config": "measures a place that is not saved",
    "plan_residency": "tells what a change would do",
    "preview_placement": "tells what a change would do",
    "plan_rollout": "tells what a change would do",
    "begin_passkey": "gives a challenge, good for five minutes; a passkey is made by `add_passkey`",
    "begin_sign_in": "gives a state, good for ten minutes; who comes in by it is in `finish_sign_in`'s event",
}
#: What must be as before when an operation failed. Counters, leases, challenges, and what workers alone write are left
#: out.
STATE = (
    "SELECT id, slug, suspended_at IS NULL, allowed_jurisdictions, deleting_at FROM tenants ORDER BY id",
    "SELECT id, email, password_hash, disabled_at FROM users ORDER BY id",
    "SELECT id, name, revoked_at FROM api_tokens ORDER BY id",
    "SELECT id, secret_hash, ended_at FROM sessions ORDER BY id",
    "SELECT user_id, version, confirmed_at, last_step FROM totp_factors ORDER BY user_id",
    "SELECT id, user_id, name FROM passkeys ORDER BY id",
    "SELECT user_id, code_hash, used_at FROM recovery_codes ORDER BY user_id, code_hash",
    "SELECT id, accepted_at, revoked_at FROM invitations ORDER BY id",
    "SELECT id, used_at FROM password_resets ORDER BY id",
    "SELECT id FROM letters ORDER BY id",
    "SELECT id, name FROM identity_providers ORDER BY id",
    "SELECT id, reason FROM erasures ORDER BY id",
    "SELECT id, name, settings, tuning, jurisdiction, disabled_at FROM stores ORDER BY id",
    "SELECT store_id, version, state, sealed FROM credentials ORDER BY store_id, version",
    "SELECT id, state, grace_until FROM credential_rotations ORDER BY id",
    "SELECT store_id, every_seconds, manager_version FROM rotation_schedules ORDER BY store_id",
    "SELECT kind, version FROM kind_rollouts ORDER BY kind",
    "SELECT kind, hosts FROM own_store_rules ORDER BY kind",
    "SELECT tenant_id, user_id, role FROM members ORDER BY tenant_id, user_id",
    "SELECT tenant_id, store_id, revoked_at FROM store_grants ORDER BY tenant_id, store_id",
    "SELECT tenant_id, version FROM placements ORDER BY tenant_id",
    "SELECT tenant_id, version FROM tenant_settings ORDER BY tenant_id",
    "SELECT id, state FROM tenant_deletions ORDER BY id",
    "SELECT id, version_number, deleted_at, purged_at, retain_until FROM documents ORDER BY id",
    "SELECT document_id, number FROM versions ORDER BY document_id, number",
    "SELECT id, released_at FROM holds ORDER BY id",
    "SELECT id FROM takeouts ORDER BY id",
    "SELECT id, untrusted_reason, price_per_gib_month FROM stores ORDER BY id",
    "SELECT id, state IN ('removing', 'removed') FROM reconciles ORDER BY id",
    "SELECT store_id, every_seconds, older_than_days FROM reconcile_schedules ORDER BY store_id",
    "SELECT held_at, confirmed_at FROM restore_guard WHERE held_at IS NOT NULL OR confirmed_at IS NOT NULL",
    "SELECT id, state = 'paused' FROM scrubs ORDER BY id",
    "SELECT id, state FROM migrations ORDER BY id",
    "SELECT id, state IN ('paused', 'cancelled'), step FROM drains ORDER BY id",
    "SELECT tenant_id, seq FROM audit_checkpoints ORDER BY tenant_id, seq",
    "SELECT tenant_id, retention_days FROM audit_heads WHERE retention_days IS NOT NULL ORDER BY tenant_id",
    "SELECT key_id FROM audit_signing_keys WHERE retired_at IS NOT NULL ORDER BY key_id",
)
_NAMED = re.compile(r"{(\w+)}")


@dataclass
class Installation:
    """The server, somebody signed in as its operator, and a look behind it. `ids`: what earlier answers told."""

    door: Door
    database: psycopg.Connection[Any]
    http: httpx.Client
    ids: dict[str, Any] = field(default_factory=dict)

    def ask(self, method: str, path: str, *, who: str = "operator", **given: Any) -> httpx.Response:
        """As the operator, as nobody (""), in a browser, or with the token that was remembered under a name."""
        headers = dict(given.pop("headers", {}))
        if who == "browser":
            headers |= {"Origin": PUBLIC, "Cookie": f"{SESSION_COOKIE}={self.ids.get('cookie', '')}"}
        elif who:
            token = self.door.token.reveal() if who == "operator" else self.ids[who]
            headers["Authorization"] = f"Bearer {token}"
        answer = self.http.request(method, f"/api/v1{self.fill(path)}", headers=headers, **self.fill(given))
        told = answer.headers.get("set-cookie", "")
        if told.startswith(SESSION_COOKIE):
            self.ids["cookie"] = told.partition(";")[0].partition("=")[2].strip('"')
        self.http.cookies.clear()
        return answer

    def fill(self, given: Any) -> Any:
        """The same with what is remembered in place of its name in braces."""
        if isinstance(given, dict):
            return {name: self.fill(value) for name, value in given.items()}
        if isinstance(given, list):
            return [self.fill(value) for value in given]
        if not isinstance(given, str):
            return given
        whole = _NAMED.fullmatch(given)
        return self.ids[whole[1]] if whole else _NAMED.sub(lambda found: str(self.ids[found[1]]), given)

    def state(self) -> list[Any]:
        return [self.database.execute(query).fetchall() for query in STATE]  # type: ignore[call-overload]

    def acts(self) -> int:
        """Events in all chains but the workers'. They end an erasure in the name of who asked for it."""
        own = "principal_name <> 'worker' AND action <> 'erasure.finished'"
        return int(self.rows(f"SELECT count(*) FROM audit_events WHERE {own}")[0][0])

    def rows(self, query: Any, *params: Any) -> list[Any]:
        return self.database.execute(query, params).fetchall()

    def break_audit(self) -> None:
        self.database.execute("ALTER TABLE audit_events ADD CONSTRAINT broken CHECK (false) NOT VALID")

    def mend_audit(self) -> None:
        self.database.execute("ALTER TABLE audit_events DROP CONSTRAINT broken")


@dataclass(frozen=True)
class Step:
    """A call of an operation that is valid when its turn comes.

    `keep`: noun -> where in the answer it is. `first`: what to wait for, or to prepare, before each time it is asked.
    """

    name: str
    method: str
    path: str
    who: str
    given: dict[str, Any]
    keep: dict[str, str]
    first: Callable[[Installation], object] | None

    def ask(self, at: Installation) -> httpx.Response:
        if self.first is not None:
            self.first(at)
        return at.ask(self.method, self.path, who=self.who, **self.given)


def step(
    name: str,
    call: str,
    body: Any = None,
    *,
    who: str = "operator",
    keep: dict[str, str] | None = None,
    first: Callable[[Installation], object] | None = None,
    **given: Any,
) -> Step:
    """`call`: method and path."""
    method, _, path = call.partition(" ")
    return Step(name, method, path, who, ({"json": body} if body is not None else {}) | given, keep or {}, first)


def until(path: str, wanted: str) -> Callable[[Installation], None]:
    """Wait until what is there is in that state."""

    def wait(at: Installation) -> None:
        deadline = time.monotonic() + 60
        while (found := at.ask("GET", path).json().get("state")) != wanted:
            assert time.monotonic() < deadline, f"{found}, and never {wanted}"
            time.sleep(0.05)

    return wait


def walk(at: Installation, steps: list[Step]) -> None:
    """Each with an audit that takes nothing: it fails, and all is as it was. Then for good: one event."""
    for one in steps:
        expected = 0 if one.name in CHANGES_NOTHING else 1
        if expected:
            if one.first is not None:
                one.first(at)
            before = at.state()
            at.break_audit()
            failed = one.ask(at)
            assert failed.status_code == 500, (one.name, failed.text)
            assert at.state() == before, one.name
            at.mend_audit()
        count = at.acts()
        answer = one.ask(at)
        assert answer.is_success, (one.name, answer.text)
        assert at.acts() - count == expected, one.name
        for noun, where in one.keep.items():
            at.ids[noun] = reduce(lambda found, key: found[key], where.split("."), answer.json())
