"""Who may do what, as data: permissions, the roles that hold them, and what each is for.

Every route of the API names the one permission that it takes (`api/deps.py`); `docs/reference/permissions.md` is made
of these tables, and a test asks every operation as every role.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from simples3dms.context import Principal
from simples3dms.errors import Forbidden
from simples3dms.identity.values import PlatformRole, Role


class Permission(StrEnum):
    """`noun.verb`; of a tenant, of the platform, or of one's own."""

    TENANT_READ = "tenant.read"
    DOCUMENTS_READ = "documents.read"
    DOCUMENTS_WRITE = "documents.write"
    DOCUMENTS_PURGE = "documents.purge"
    STORAGE_READ = "storage.read"
    PLACEMENT_WRITE = "placement.write"
    OWN_STORES_WRITE = "own_stores.write"
    MIGRATIONS_WRITE = "migrations.write"
    MEMBERS_READ = "members.read"
    MEMBERS_WRITE = "members.write"
    OWNERS_WRITE = "owners.write"
    AUDIT_READ = "audit.read"

    TENANTS_READ = "tenants.read"
    TENANTS_WRITE = "tenants.write"
    USERS_READ = "users.read"
    USERS_WRITE = "users.write"
    STORES_READ = "stores.read"
    STORES_WRITE = "stores.write"
    ROLLOUTS_WRITE = "rollouts.write"

    OWN = "own.manage"


#: What each allows, for a person.
MEANINGS: Final[Mapping[Permission, str]] = {
    Permission.TENANT_READ: "See the tenant itself.",
    Permission.DOCUMENTS_READ: "List documents and read their bytes.",
    Permission.DOCUMENTS_WRITE: "Upload, put into the trash, restore.",
    Permission.DOCUMENTS_PURGE: "Remove documents for good.",
    Permission.STORAGE_READ: "See where the bytes are: granted stores, placement, replicas, migrations.",
    Permission.PLACEMENT_WRITE: "Say where the bytes belong.",
    Permission.OWN_STORES_WRITE: "Bring stores, test and tune them, replace their credentials, disable them.",
    Permission.MIGRATIONS_WRITE: "Plan migrations, and run them.",
    Permission.MEMBERS_READ: "See who belongs to the tenant.",
    Permission.MEMBERS_WRITE: "Give and take places in the tenant, up to administrator.",
    Permission.OWNERS_WRITE: "Make, change and remove owners.",
    Permission.AUDIT_READ: "Read the tenant's audit.",
    Permission.TENANTS_READ: "List all tenants.",
    Permission.TENANTS_WRITE: "Make tenants.",
    Permission.USERS_READ: "List all users.",
    Permission.USERS_WRITE: "Make users, also operators and auditors of the platform.",
    Permission.STORES_READ: "See all stores, their settings and probes; never a secret.",
    Permission.STORES_WRITE: "Add stores, test and tune them, replace credentials, grant them to tenants.",
    Permission.ROLLOUTS_WRITE: "Say for whom kinds of stores are there, and which stores tenants may bring.",
    Permission.OWN: "One's own tokens.",
}
OF_PLATFORM: Final = frozenset(
    {
        Permission.TENANTS_READ,
        Permission.TENANTS_WRITE,
        Permission.USERS_READ,
        Permission.USERS_WRITE,
        Permission.STORES_READ,
        Permission.STORES_WRITE,
        Permission.ROLLOUTS_WRITE,
    }
)
OF_TENANT: Final = frozenset(Permission) - OF_PLATFORM - {Permission.OWN}

#: What a suspended tenant still shows to whoever may see it: that it is there, who belongs to it, what was done.
WHILE_SUSPENDED: Final = frozenset(
    {Permission.TENANT_READ, Permission.STORAGE_READ, Permission.MEMBERS_READ, Permission.AUDIT_READ}
)

_SEES: Final = frozenset({Permission.TENANT_READ, Permission.STORAGE_READ, Permission.MEMBERS_READ})
_VIEWS: Final = _SEES | {Permission.DOCUMENTS_READ}
_EDITS: Final = _VIEWS | {Permission.DOCUMENTS_WRITE}
#: What a member may do in the tenant.
TENANT_ROLES: Final[Mapping[Role, frozenset[Permission]]] = {
    Role.OWNER: OF_TENANT,
    Role.ADMINISTRATOR: OF_TENANT - {Permission.OWNERS_WRITE},
    Role.EDITOR: _EDITS,
    Role.VIEWER: _VIEWS,
    Role.AUDITOR: _SEES | {Permission.AUDIT_READ},
}
#: What a role of the platform allows, outside of tenants and in each of them. An auditor reads no document.
PLATFORM_ROLES: Final[Mapping[PlatformRole, frozenset[Permission]]] = {
    PlatformRole.OPERATOR: OF_PLATFORM | OF_TENANT,
    PlatformRole.AUDITOR: _SEES
    | {Permission.AUDIT_READ, Permission.TENANTS_READ, Permission.USERS_READ, Permission.STORES_READ},
}


def rights_of(principal: Principal, role: Role | None = None) -> frozenset[Permission]:
    """All that a principal may do: on the platform, and in a tenant where they have this role."""
    rights: frozenset[Permission] = frozenset({Permission.OWN}) if principal.id is not None else frozenset()
    if principal.is_operator:
        rights |= PLATFORM_ROLES[PlatformRole.OPERATOR]
    if principal.is_auditor:
        rights |= PLATFORM_ROLES[PlatformRole.AUDITOR]
    return rights if role is None else rights | TENANT_ROLES[role]


def require(rights: frozenset[Permission], needed: Permission) -> None:
    """Raise Forbidden (`permission_required`, with `permission`) unless it is among the rights."""
    if needed not in rights:
        whom = "an operator of the platform" if needed in OF_PLATFORM else "an administrator or owner of the tenant"
        raise Forbidden(
            f"Your role does not include {needed}: ask {whom}.",
            code="permission_required",
            permission=str(needed),
        )
