"""`Client`: one method an operation of the HTTP API."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from uuid import UUID

from simples3dms.client.audit import AuditMixin
from simples3dms.client.content import ContentMixin
from simples3dms.client.drains import DrainsMixin
from simples3dms.client.errors import ApiProblem, ServerUnreachable
from simples3dms.client.governance import GovernanceMixin
from simples3dms.client.people import PeopleMixin
from simples3dms.client.replication import ReplicationMixin
from simples3dms.client.rotations import RotationsMixin
from simples3dms.client.stores import StoresMixin, revealed, store_body
from simples3dms.client.transport import at, iter_pages
from simples3dms.client.upkeep import UpkeepMixin
from simples3dms.kit.secret import Secret
from simples3dms.schemas import documents, identity, migrations, stores, tenants
from simples3dms.schemas.base import Page

_PAGE = 200


class Client(
    AuditMixin,
    ContentMixin,
    DrainsMixin,
    GovernanceMixin,
    PeopleMixin,
    ReplicationMixin,
    RotationsMixin,
    StoresMixin,
    UpkeepMixin,
):
    """The HTTP API of one server, as the owner of one token. Blocking; one client may be used by one thread at a time.

    Raises ApiProblem where the server says no, ServerUnreachable where it says nothing.
    """

    def is_ready(self) -> bool:
        """Whether the server can serve now."""
        try:
            self.call("GET", "/readyz")
        except (ApiProblem, ServerUnreachable):
            return False
        return True

    # identity

    def log_in(
        self,
        email: str,
        password: Secret,
        *,
        token_name: str = "client",  # noqa: S107
        code: Secret | None = None,
    ) -> identity.NewToken:
        """`code`: of one's app, or a recovery code, where the account has second factors."""
        body = {"email": email, "password": password.reveal(), "token_name": token_name}
        if code is not None:
            body["code"] = code.reveal()
        return self.parse(identity.NewToken, self.post_secret(at("login"), body))

    def create_token(
        self,
        name: str,
        *,
        expires_in_days: float | None = None,
        scopes: Sequence[str] | None = None,
        tenant: str | None = None,
        password: Secret | None = None,
    ) -> identity.NewToken:
        """A token of one's own. With the password it may outlive the token that asks."""
        body = {
            "name": name,
            "expires_in_days": expires_in_days,
            "scopes": list(scopes) if scopes is not None else None,
            "tenant": tenant,
            "password": password.reveal() if password is not None else None,
        }
        return self.parse(identity.NewToken, self.post_secret(at("tokens"), body))

    def list_tokens(self) -> list[identity.Token]:
        return self.list_all(identity.Token, at("tokens"))

    def revoke_token(self, token_id: UUID) -> None:
        self.call("DELETE", at("tokens", token_id))

    def create_user(
        self, email: str, password: Secret | None = None, *, platform_role: str | None = None
    ) -> identity.NewUser:
        body = {"email": email, "password": password.reveal() if password else None, "platform_role": platform_role}
        return self.parse(identity.NewUser, self.post_secret(at("users"), body))

    def iter_users(self) -> Iterator[identity.User]:
        return iter_pages(lambda after: self.get(Page[identity.User], at("users"), after=after, limit=_PAGE))

    def set_member(self, tenant: str, email: str, role: str) -> identity.Member:
        body = identity.SetMember.model_validate({"role": role})
        return self.send("PUT", identity.Member, at("tenants", tenant, "members", email), body)

    def list_members(self, tenant: str) -> list[identity.Member]:
        return self.list_all(identity.Member, at("tenants", tenant, "members"))

    def remove_member(self, tenant: str, email: str) -> None:
        self.call("DELETE", at("tenants", tenant, "members", email))

    # tenants

    def create_tenant(self, slug: str, name: str) -> tenants.Tenant:
        return self.send("POST", tenants.Tenant, at("tenants"), tenants.CreateTenant(slug=slug, name=name))

    def get_tenant(self, tenant: str) -> tenants.Tenant:
        return self.get(tenants.Tenant, at("tenants", tenant))

    def suspend_tenant(self, tenant: str, reason: str) -> tenants.Tenant:
        body = tenants.SuspendTenant(reason=reason)
        return self.send("PUT", tenants.Tenant, at("tenants", tenant, "suspension"), body)

    def resume_tenant(self, tenant: str) -> tenants.Tenant:
        return self.parse(tenants.Tenant, self.call("DELETE", at("tenants", tenant, "suspension")))

    def iter_tenants(self) -> Iterator[tenants.Tenant]:
        return iter_pages(lambda after: self.get(Page[tenants.Tenant], at("tenants"), after=after, limit=_PAGE))

    # stores and placement

    def add_store(
        self,
        name: str,
        *,
        kind: str,
        settings: Mapping[str, object],
        credential: Mapping[str, Secret | str],
        tuning: Mapping[str, object] | None = None,
        cache_max_bytes: int | None = None,
    ) -> stores.Store:
        body = {"name": name, **store_body(kind, settings, credential, tuning), "cache_max_bytes": cache_max_bytes}
        return self.parse(stores.Store, self.post_secret(at("stores"), body))

    def probe_config(
        self,
        *,
        kind: str,
        settings: Mapping[str, object],
        credential: Mapping[str, Secret | str],
        tuning: Mapping[str, object] | None = None,
    ) -> stores.Probe:
        """Probe a store before it is saved. Takes seconds."""
        body = store_body(kind, settings, credential, tuning)
        return self.parse(stores.Probe, self.post_secret(at("store-probes"), body))

    def probe_store(self, store: str) -> stores.Probe:
        """Probe a store that is in use, and keep what was found. Takes seconds."""
        return self.send("POST", stores.Probe, at("stores", store, "probe"))

    def get_probe(self, store: str) -> stores.Probe:
        return self.get(stores.Probe, at("stores", store, "probe"))

    def set_tuning(self, store: str, tuning: Mapping[str, object]) -> stores.Store:
        body = stores.SetTuning(tuning=dict(tuning))
        return self.send("PUT", stores.Store, at("stores", store, "tuning"), body)

    def set_credential(self, store: str, credential: Mapping[str, Secret | str]) -> stores.Store:
        secrets = {key: value.get_secret_value() for key, value in revealed(credential).items()}
        answer = self.call(
            "PUT", at("stores", store, "credential"), content=json.dumps({"credential": secrets}).encode()
        )
        return self.parse(stores.Store, answer)

    def list_stores(self) -> list[stores.Store]:
        return self.list_all(stores.Store, at("stores"))

    def get_store(self, store: str) -> stores.Store:
        return self.get(stores.Store, at("stores", store))

    def check_store(self, store: str) -> stores.StoreCheck:
        return self.send("POST", stores.StoreCheck, at("stores", store, "check"))

    def grant_store(self, tenant: str, store: str, *, prefix: str | None = None) -> stores.GrantedStore:
        body = stores.GrantStore(tenant=tenant, prefix=prefix)
        return self.send("POST", stores.GrantedStore, at("stores", store, "grants"), body)

    def list_granted_stores(self, tenant: str) -> list[stores.GrantedStore]:
        return self.list_all(stores.GrantedStore, at("tenants", tenant, "stores"))

    def get_placement(self, tenant: str) -> stores.Placement:
        return self.get(stores.Placement, at("tenants", tenant, "placement"))

    def set_placement(
        self,
        tenant: str,
        *,
        write: str,
        copies: Sequence[str] = (),
        read: Sequence[str] = (),
        shares: Mapping[str, int] | None = None,
        spread: stores.Spread | None = None,
        min_acks: int = 1,
        rules: Sequence[stores.PlacementRule] = (),
        read_preference: stores.ReadPreference = "listed",
        hedge: bool = False,
        expected_version: int | None = None,
    ) -> stores.Placement:
        """For what is written from now on; a migration moves what is there already."""
        body = stores.SetPlacement(
            write=write,
            copies=list(copies),
            read=list(read),
            shares=dict(shares or {}),
            spread=spread,
            min_acks=min_acks,
            rules=list(rules),
            read_preference=read_preference,
            hedge=hedge,
            expected_version=expected_version,
        )
        return self.send("PUT", stores.Placement, at("tenants", tenant, "placement"), body)

    def preview_placement(self, tenant: str, wanted: stores.SetPlacement) -> stores.PlacementPreview:
        """What setting it would bring about; nothing changes."""
        return self.send("POST", stores.PlacementPreview, at("tenants", tenant, "placement", "preview"), wanted)

    # documents (bytes: see ContentMixin)

    def iter_documents(self, tenant: str, *, trash: bool = False) -> Iterator[documents.Document]:
        path = at("tenants", tenant, "documents")
        return iter_pages(lambda after: self.get(Page[documents.Document], path, after=after, limit=_PAGE, trash=trash))

    def get_document(self, tenant: str, document_id: UUID) -> documents.Document:
        return self.get(documents.Document, at("tenants", tenant, "documents", document_id))

    def list_versions(self, tenant: str, document_id: UUID) -> list[documents.Version]:
        return self.list_all(documents.Version, at("tenants", tenant, "documents", document_id, "versions"))

    def list_replicas(self, tenant: str, document_id: UUID) -> list[documents.Replica]:
        return self.list_all(documents.Replica, at("tenants", tenant, "documents", document_id, "replicas"))

    def explain_placement(self, tenant: str, document_id: UUID, *, version: int | None = None) -> documents.Explanation:
        path = at("tenants", tenant, "documents", document_id, "placement")
        return self.get(documents.Explanation, path, version=version)

    def delete_document(self, tenant: str, document_id: UUID) -> documents.Document:
        return self.send("DELETE", documents.Document, at("tenants", tenant, "documents", document_id))

    def restore_document(self, tenant: str, document_id: UUID) -> documents.Document:
        return self.send("POST", documents.Document, at("tenants", tenant, "documents", document_id, "restore"))

    def purge_document(self, tenant: str, document_id: UUID) -> None:
        self.call("POST", at("tenants", tenant, "documents", document_id, "purge"))

    # migrations

    def plan_migration(
        self,
        tenant: str,
        *,
        target: str,
        source: str | None = None,
        only: stores.Match | None = None,
        automatic_cutover: bool = False,
        finalize_after_seconds: int | None = None,
        windows: Sequence[migrations.Window] = (),
        canary: bool = False,
        proof: str = "read-back",
    ) -> migrations.Migration:
        body = migrations.PlanMigration(
            target=target,
            source=source,
            only=only,
            automatic_cutover=automatic_cutover,
            finalize_after_seconds=finalize_after_seconds,
            windows=list(windows),
            canary=canary,
            proof=proof,
        )
        return self.send("POST", migrations.Migration, at("tenants", tenant, "migrations"), body)

    def iter_migrations(self, tenant: str) -> Iterator[migrations.Migration]:
        path = at("tenants", tenant, "migrations")
        return iter_pages(lambda after: self.get(Page[migrations.Migration], path, after=after, limit=_PAGE))

    def get_migration(self, tenant: str, migration_id: UUID) -> migrations.Migration:
        return self.get(migrations.Migration, at("tenants", tenant, "migrations", migration_id))

    def set_schedule(self, tenant: str, migration_id: UUID, schedule: migrations.Schedule) -> migrations.Migration:
        path = at("tenants", tenant, "migrations", migration_id, "schedule")
        return self.send("PUT", migrations.Migration, path, schedule)

    def iter_report(self, tenant: str, migration_id: UUID) -> Iterator[bytes]:
        """The lines of a migration's report, as `migration verify-report` reads them; what was cut lacks its end."""
        with self.open_lines(at("tenants", tenant, "migrations", migration_id, "report")) as lines:
            yield from (line + b"\n" for line in lines)

    def _step(self, tenant: str, migration_id: UUID, step: str) -> migrations.Migration:
        path = at("tenants", tenant, "migrations", migration_id, step)
        return self.send("POST", migrations.Migration, path)

    def start_migration(self, tenant: str, migration_id: UUID) -> migrations.Migration:
        return self._step(tenant, migration_id, "start")

    def pause_migration(self, tenant: str, migration_id: UUID) -> migrations.Migration:
        return self._step(tenant, migration_id, "pause")

    def resume_migration(self, tenant: str, migration_id: UUID) -> migrations.Migration:
        return self._step(tenant, migration_id, "resume")

    def cut_over_migration(self, tenant: str, migration_id: UUID) -> migrations.Migration:
        return self._step(tenant, migration_id, "cutover")

    def roll_back_migration(self, tenant: str, migration_id: UUID) -> migrations.Migration:
        return self._step(tenant, migration_id, "rollback")

    def finalize_migration(self, tenant: str, migration_id: UUID) -> migrations.Migration:
        return self._step(tenant, migration_id, "finalize")

    def cancel_migration(self, tenant: str, migration_id: UUID) -> migrations.Migration:
        return self._step(tenant, migration_id, "cancel")

    def iter_failures(self, tenant: str, migration_id: UUID) -> Iterator[migrations.TransferFailure]:
        path = at("tenants", tenant, "migrations", migration_id, "failures")
        return iter_pages(lambda after: self.get(Page[migrations.TransferFailure], path, after=after, limit=_PAGE))

    def waive_failures(self, tenant: str, migration_id: UUID, failure_ids: Sequence[UUID], *, reason: str) -> int:
        body = migrations.WaiveFailures(failure_ids=list(failure_ids), reason=reason)
        path = at("tenants", tenant, "migrations", migration_id, "failures", "waive")
        return self.send("POST", migrations.Waived, path, body).count

    def retry_failures(self, tenant: str, migration_id: UUID, failure_ids: Sequence[UUID] | None = None) -> int:
        body = migrations.RetryFailures(failure_ids=list(failure_ids) if failure_ids is not None else None)
        path = at("tenants", tenant, "migrations", migration_id, "failures", "retry")
        return self.send("POST", migrations.Retried, path, body).count
