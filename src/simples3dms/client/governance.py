"""What keeps documents, what is set for a tenant, takeouts, deletions, erasures, reports."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any
from uuid import UUID

from simples3dms.client.transport import Transport, at, iter_pages
from simples3dms.schemas import audit, compliance, holds, takeouts, tenants
from simples3dms.schemas.base import Page

_PAGE = 200


class GovernanceMixin(Transport):
    """One method an operation."""

    def place_hold(self, tenant: str, document_id: UUID, *, name: str, reason: str) -> holds.Hold:
        path = at("tenants", tenant, "documents", document_id, "holds")
        return self.send("POST", holds.Hold, path, holds.PlaceHold(name=name, reason=reason))

    def release_hold(self, tenant: str, document_id: UUID, hold_id: UUID, *, reason: str) -> holds.Hold:
        path = at("tenants", tenant, "documents", document_id, "holds", hold_id, "release")
        return self.send("POST", holds.Hold, path, holds.ReleaseHold(reason=reason))

    def list_holds(self, tenant: str, document_id: UUID) -> list[holds.Hold]:
        return self.list_all(holds.Hold, at("tenants", tenant, "documents", document_id, "holds"))

    def iter_tenant_holds(self, tenant: str) -> Iterator[holds.Hold]:
        path = at("tenants", tenant, "holds")
        return iter_pages(lambda after: self.get(Page[holds.Hold], path, after=after, limit=_PAGE))

    def get_retention(self, tenant: str, document_id: UUID) -> holds.Retention:
        return self.get(holds.Retention, at("tenants", tenant, "documents", document_id, "retention"))

    def set_retention(self, tenant: str, document_id: UUID, *, until: datetime, mode: holds.Mode) -> holds.Retention:
        path = at("tenants", tenant, "documents", document_id, "retention")
        return self.send("PUT", holds.Retention, path, holds.SetRetention(until=until, mode=mode))

    def lift_retention(
        self, tenant: str, document_id: UUID, *, until: datetime | None = None, reason: str
    ) -> holds.Retention:
        path = at("tenants", tenant, "documents", document_id, "retention", "lift")
        return self.send("POST", holds.Retention, path, holds.LiftRetention(until=until, reason=reason))

    def request_deletion(self, tenant: str, *, short_name: str, reason: str) -> compliance.Deletion:
        body = compliance.RequestDeletion(short_name=short_name, reason=reason)
        return self.send("POST", compliance.Deletion, at("tenants", tenant, "deletion"), body)

    def get_deletion(self, tenant: str) -> compliance.Deletion:
        return self.get(compliance.Deletion, at("tenants", tenant, "deletion"))

    def cancel_deletion(self, tenant: str) -> None:
        self.call("DELETE", at("tenants", tenant, "deletion"))

    def confirm_deletion(self, tenant: str, *, short_name: str) -> compliance.Deletion:
        body = compliance.ConfirmDeletion(short_name=short_name)
        return self.send("POST", compliance.Deletion, at("tenants", tenant, "deletion", "confirm"), body)

    def iter_deletions(self) -> Iterator[compliance.Deletion]:
        return iter_pages(lambda after: self.get(Page[compliance.Deletion], at("deletions"), after=after, limit=_PAGE))

    def get_deletion_certificate(self, deletion_id: UUID) -> compliance.Certificate:
        return self.get(compliance.Certificate, at("deletions", deletion_id, "certificate"))

    def iter_deletion_audit(self, deletion_id: UUID) -> Iterator[audit.AuditEvent]:
        """What was done in a tenant that is not there any more."""
        path = at("deletions", deletion_id, "audit")
        return iter_pages(lambda after: self.get(Page[audit.AuditEvent], path, after=after, limit=_PAGE))

    @contextmanager
    def open_report(self, user: str | None = None) -> Iterator[Iterator[bytes]]:
        """What is held about a user (by id or address), or about oneself: JSON lines."""
        with self.open_lines(at("report") if user is None else at("users", user, "report")) as lines:
            yield lines

    def request_erasure(
        self, user: str, *, reason: str, documents: Sequence[tuple[str, UUID]] = ()
    ) -> compliance.Erasure:
        """`documents`: (tenant, document), to be purged with the account."""
        named = [compliance.NamedDocument(tenant=tenant, document=document) for tenant, document in documents]
        body = compliance.RequestErasure(reason=reason, documents=named)
        return self.send("POST", compliance.Erasure, at("users", user, "erasure"), body)

    def get_erasure(self, erasure_id: UUID) -> compliance.Erasure:
        return self.get(compliance.Erasure, at("erasures", erasure_id))

    def iter_erasures(self) -> Iterator[compliance.Erasure]:
        return iter_pages(lambda after: self.get(Page[compliance.Erasure], at("erasures"), after=after, limit=_PAGE))

    def create_takeout(self, tenant: str) -> takeouts.Takeout:
        return self.send("POST", takeouts.Takeout, at("tenants", tenant, "takeouts"))

    def get_takeout(self, tenant: str, takeout_id: UUID) -> takeouts.Takeout:
        return self.get(takeouts.Takeout, at("tenants", tenant, "takeouts", takeout_id))

    def iter_takeouts(self, tenant: str) -> Iterator[takeouts.Takeout]:
        path = at("tenants", tenant, "takeouts")
        return iter_pages(lambda after: self.get(Page[takeouts.Takeout], path, after=after, limit=_PAGE))

    @contextmanager
    def open_manifest(self, tenant: str, takeout_id: UUID, *, after: str | None = None) -> Iterator[Iterator[bytes]]:
        """The manifest's whole lines after `after` (DOCUMENT:VERSION). A cut raises ServerUnreachable."""
        path = at("tenants", tenant, "takeouts", takeout_id, "manifest")
        with self.open_lines(path, after=after) as lines:
            yield lines

    def get_settings(self, tenant: str) -> tenants.TenantSettings:
        return self.get(tenants.TenantSettings, at("tenants", tenant, "settings"))

    def set_settings(self, tenant: str, **changes: Any) -> tenants.TenantSettings:
        """Fields that are not given stay as they are; None takes what is set away."""
        path = at("tenants", tenant, "settings")
        body = tenants.SetSettings(**changes).model_dump_json(exclude_unset=True)
        return self.parse(tenants.TenantSettings, self.call("PUT", path, content=body.encode()))

    def set_limits(self, tenant: str, **changes: Any) -> tenants.TenantSettings:
        """As `set_settings`."""
        path = at("tenants", tenant, "limits")
        body = tenants.SetLimits(**changes).model_dump_json(exclude_unset=True)
        return self.parse(tenants.TenantSettings, self.call("PUT", path, content=body.encode()))
