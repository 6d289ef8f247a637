"""Create and find tenants."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final
from uuid import UUID

from simples3dms.audit.service import record
from simples3dms.context import Principal
from simples3dms.db.session import Database
from simples3dms.errors import Conflict, Forbidden, Invalid, NotFound
from simples3dms.kit.ids import new_id
from simples3dms.kit.texts import is_line
from simples3dms.tenants import errors, repository
from simples3dms.tenants.values import Tenant, TenantSettings

_SLUG: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_LONGEST_NAME: Final = 200
_JURISDICTION: Final = re.compile(r"[A-Z]{2,3}")
_MOST_JURISDICTIONS: Final = 300
_MOST_DAYS: Final = 36_500
_MOST_COUNT: Final = 2**62


def require_operator(principal: Principal) -> None:
    """Raise Forbidden (`operator_required`) unless the principal operates the platform."""
    if not principal.is_operator:
        raise Forbidden("Only an operator of the platform may do this.", code="operator_required")


class Tenants:
    """All tenants."""

    def __init__(self, database: Database, *, regions: Collection[str] = ()) -> None:
        self._database = database
        self._regions = regions

    async def create_tenant(self, principal: Principal, slug: str, name: str) -> Tenant:
        """Make a tenant. Raises Invalid (`tenant_slug_invalid`, `tenant_name_invalid`), Conflict (`tenant_exists`)."""
        require_operator(principal)
        # A slug that looks like an id could be taken for another tenant.
        if not _SLUG.fullmatch(slug) or _as_uuid(slug) is not None:
            raise Invalid(
                "A tenant's short name has 1 to 63 lower-case letters, digits and hyphens, and starts with no hyphen.",
                code="tenant_slug_invalid",
            )
        if not is_line(name, longest=_LONGEST_NAME):
            raise Invalid("A tenant's name has 1 to 200 printable characters.", code="tenant_name_invalid")
        async with self._database.platform() as uow:
            tenant = await repository.insert(uow, new_id(), slug, name)
            if tenant is None:
                raise Conflict(f"There is a tenant {slug!r} already.", code="tenant_exists")
            await record(
                uow,
                principal,
                "tenant.created",
                target_type="tenant",
                target_id=str(tenant.id),
                details={"slug": slug},
            )
            return tenant

    async def suspend_tenant(self, principal: Principal, slug_or_id: str, reason: str) -> Tenant:
        """Refuse the tenant's documents, reading and writing, until it is resumed; what is there is kept and proven on.

        What has begun ends. Again with another reason changes that. For operators. Raises Invalid
        (`suspension_reason_invalid`), NotFound (`tenant_not_found`).
        """
        require_operator(principal)
        if not is_line(reason):
            raise Invalid("A reason has 1 to 500 printable characters.", code="suspension_reason_invalid")
        return await self._set_suspension(principal, slug_or_id, reason, "tenant.suspended")

    async def resume_tenant(self, principal: Principal, slug_or_id: str) -> Tenant:
        """Serve a suspended tenant again; no error if it is served. For operators. Raises NotFound."""
        require_operator(principal)
        return await self._set_suspension(principal, slug_or_id, None, "tenant.resumed")

    async def _set_suspension(self, principal: Principal, slug_or_id: str, reason: str | None, action: str) -> Tenant:
        tenant = await self.get_tenant(slug_or_id)
        if tenant.deleting_at is not None:
            raise errors.being_deleted()
        async with self._database.platform() as uow:
            changed = await repository.set_suspension(uow, tenant.id, reason)
            if changed is not None:
                await record(
                    uow,
                    principal,
                    action,
                    target_type="tenant",
                    target_id=str(tenant.id),
                    tenant_id=tenant.id,
                    details={} if reason is None else {"reason": reason},
                )
        return changed or await self.get_tenant(slug_or_id)

    async def get_settings(self, tenant_id: UUID) -> TenantSettings:
        async with self._database.platform() as uow:
            return await repository.find_settings(uow, tenant_id)

    async def change_settings(
        self, principal: Principal, tenant_id: UUID, changes: Mapping[str, Any], *, expected_version: int | None = None
    ) -> TenantSettings:
        """Set these fields of the tenant's settings; the others stay. They count for what happens from now on.

        Raises Invalid (`tenant_settings_invalid`, with `fields`), Conflict (`tenant_settings_changed`) if the version
        in force is not the expected one.
        """
        async with self._database.platform() as uow:
            # Another list of jurisdictions may be set elsewhere meanwhile, or be decided by.
            await repository.lock_residency(uow, tenant_id)
            before = await repository.find_settings(uow, tenant_id)
            if expected_version not in (None, before.version):
                raise errors.settings_changed(before.version)
            wanted = replace(before, **changes)
            self._check_settings(wanted)
            after = await repository.save_settings(uow, tenant_id, wanted)
            if after is None:
                raise errors.settings_changed(before.version + 1)
            await record(
                uow,
                principal,
                "tenant.settings_changed",
                target_type="tenant",
                target_id=str(tenant_id),
                tenant_id=tenant_id,
                details={
                    "version": after.version,
                    "before": {name: getattr(before, name) for name in changes},
                    "after": dict(changes),
                },
            )
            return after

    def _check_settings(self, settings: TenantSettings) -> None:
        problems = list(settings_problems(settings, self._regions))
        if problems:
            raise errors.settings_invalid(problems)

    async def get_tenant(self, slug_or_id: str) -> Tenant:
        """By short name or id. Raises NotFound (`tenant_not_found`)."""
        slug, tenant_id = parse_name(slug_or_id)
        async with self._database.platform() as uow:
            tenant = await repository.find(uow, slug=slug, tenant_id=tenant_id)
        if tenant is None:
            raise not_found()
        return tenant

    async def list_tenants(self, *, after: UUID | None = None, limit: int = 100) -> list[Tenant]:
        """A page, oldest first."""
        async with self._database.platform() as uow:
            return await repository.list_page(uow, after=after, limit=limit)


def settings_problems(settings: TenantSettings, regions: Collection[str]) -> Iterator[tuple[str, str]]:
    """What is wrong with which field."""
    if settings.trash_days is not None and not 0 <= settings.trash_days <= _MOST_DAYS:
        yield "trash_days", f"Days in the trash are 0 to {_MOST_DAYS}."
    if settings.retention_days is not None and not 1 <= settings.retention_days <= _MOST_DAYS:
        yield "retention_days", f"Days of retention are 1 to {_MOST_DAYS}."
    if settings.retention_mode not in (None, "governance", "compliance"):
        yield "retention_mode", "A retention's mode is governance or compliance."
    if (settings.retention_days is None) != (settings.retention_mode is None):
        yield "retention_mode", "Days of retention and their mode go together: set both, or neither."
    if settings.region is not None and settings.region not in regions:
        known = ", ".join(sorted(regions)) or "none: the operator names them in SIMPLES3DMS_REGIONS"
        yield "region", f"There is no such region here. Known: {known}."
    yield from _jurisdiction_problems(settings.allowed_jurisdictions)
    for name in ("largest_upload_bytes", "most_documents", "most_bytes"):
        value = getattr(settings, name)
        if value is not None and not int(name == "largest_upload_bytes") <= value <= _MOST_COUNT:
            yield name, "A limit is a whole number and not below zero; null is no limit."


def _jurisdiction_problems(codes: Sequence[str] | None) -> Iterator[tuple[str, str]]:
    if codes is None:
        return
    if not 1 <= len(codes) <= _MOST_JURISDICTIONS:
        yield "allowed_jurisdictions", "Name at least one jurisdiction, or null for any."
    for code in codes:
        if not _JURISDICTION.fullmatch(code):
            yield "allowed_jurisdictions", f"{code[:20]!r} is no code like DE, EU or EEA."
    if len(set(codes)) != len(codes):
        yield "allowed_jurisdictions", "A jurisdiction is named once."


def parse_name(slug_or_id: str) -> tuple[str | None, UUID | None]:
    """What a tenant may be found by; neither, where it can be no tenant's."""
    return slug_or_id if _SLUG.fullmatch(slug_or_id) else None, _as_uuid(slug_or_id)


def suspended() -> Forbidden:
    """For its members; why is the operator's affair."""
    return Forbidden(
        "The tenant is suspended: its documents are kept, and not served. Ask the operator.", code="tenant_suspended"
    )


def not_found() -> NotFound:
    """The same for a tenant that is not there and for one that the caller is no member of."""
    return NotFound("There is no such tenant.", code="tenant_not_found")


def _as_uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None
