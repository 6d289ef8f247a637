"""The audit: search it, export it, have it signed. `tenant` None: the platform's own."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from uuid import UUID

import httpx

from simples3dms.client.errors import ServerUnreachable, to_problem
from simples3dms.client.transport import Transport, at
from simples3dms.schemas import audit
from simples3dms.schemas.base import Page

_PAGE = 200


def _place(tenant: str | None, *parts: object) -> str:
    return at("audit", *parts) if tenant is None else at("tenants", tenant, "audit", *parts)


class AuditMixin(Transport):
    """Search, export, checkpoints, keys, retention."""

    def iter_audit_events(
        self,
        tenant: str | None,
        *,
        principal: str | None = None,
        action: str | None = None,
        target_type: str | None = None,
        target_id: str | None = None,
        outcome: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        oldest_first: bool = False,
    ) -> Iterator[audit.AuditEvent]:
        """Events that match, newest first unless asked otherwise. `action` may be `document.*`."""
        wanted = {
            "principal": principal,
            "action": action,
            "target_type": target_type,
            "target_id": target_id,
            "outcome": outcome,
            "since": since.isoformat() if since else None,
            "until": until.isoformat() if until else None,
            "order": "oldest" if oldest_first else "newest",
        }
        after: UUID | None = None
        while True:
            page = self.get(Page[audit.AuditEvent], _place(tenant), **wanted, after=after, limit=_PAGE)
            yield from page.items
            after = page.next_after
            if after is None:
                return

    def iter_audit_export(self, tenant: str | None, *, after_seq: int | None = None) -> Iterator[bytes]:
        """The lines of an export, as `audit verify` reads them. Goes on after a cut where it had come to."""
        attempt, is_begun = 0, False
        while True:
            attempt += 1
            try:
                for number, line in enumerate(self._lines(tenant, "jsonl", after_seq)):
                    if number == 0:
                        if not is_begun:
                            yield line
                        is_begun = True
                        continue
                    yield line
                    after_seq, attempt = int(json.loads(line)["seq"]), 0
                return
            except ServerUnreachable:
                if attempt >= self.tries:
                    raise
            self.pause(max(attempt, 1))

    def iter_audit_csv(self, tenant: str | None, *, after_seq: int | None = None) -> Iterator[bytes]:
        """The lines of an export for a spreadsheet. A cut raises ServerUnreachable."""
        return self._lines(tenant, "csv", after_seq)

    def _lines(self, tenant: str | None, format_: str, after_seq: int | None) -> Iterator[bytes]:
        """Whole lines, each with its line feed."""
        params = {"format": format_} | ({} if after_seq is None else {"after_seq": str(after_seq)})
        rest = b""
        try:
            with self.http.stream("GET", _place(tenant, "export"), params=params) as response:
                if not response.is_success:
                    response.read()
                    raise to_problem(response)
                for chunk in response.iter_bytes():
                    *whole, rest = (rest + chunk).split(b"\n")
                    yield from (line + b"\n" for line in whole)
        except httpx.TransportError as error:
            raise self.unreachable(error) from error
        if rest:
            yield rest

    def get_audit_trail(self, tenant: str | None) -> audit.AuditTrail:
        return self.get(audit.AuditTrail, _place(tenant, "trail"))

    def set_audit_retention(self, tenant: str | None, days: int | None) -> audit.AuditTrail:
        return self.send("PUT", audit.AuditTrail, _place(tenant, "retention"), audit.SetRetention(days=days))

    def create_audit_checkpoint(self, tenant: str | None) -> audit.AuditCheckpoint:
        """Signed now. Keep it where nobody else can change it."""
        return self.send("POST", audit.AuditCheckpoint, _place(tenant, "checkpoints"))

    def iter_audit_checkpoints(self, tenant: str | None) -> Iterator[audit.AuditCheckpoint]:
        """Newest first."""
        before: int | None = None
        while True:
            path = _place(tenant, "checkpoints")
            page = self.get(audit.AuditCheckpoints, path, before=before, limit=_PAGE)
            yield from page.items
            before = page.next_before
            if before is None:
                return

    def list_audit_keys(self) -> list[audit.AuditKey]:
        """Every public key that signed, newest first."""
        return self.list_all(audit.AuditKey, at("audit", "keys"))

    def rotate_audit_key(self) -> audit.AuditKey:
        return self.send("POST", audit.AuditKey, at("audit", "keys"))
