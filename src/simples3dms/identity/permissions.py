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
    UPKEEP_WRITE = "upkeep.write"
    MEMBERS_READ = "members.read"
    MEMBERS_WRITE = "members.write"
    OWNERS_WRITE = "owners.write"
    AUDIT_READ = "audit.read"
    AUDIT_WRITE = "audit.write"
    HOLDS_READ = "holds.read"
    HOLDS_WRITE = "holds.write"
    RETENTION_LIFT = "retention.lift"
    SETTINGS_WRITE = "settings.write"
    TAKEOUTS_WRITE = "takeouts.write"
    PROVIDERS_WRITE = "providers.write"
    TENANT_DELETE = "tenant.delete"

    TENANTS_READ = "tenants.read"
    TENANTS_WRITE = "tenants.write"
    USERS_READ = "users.read"
    USERS_WRITE = "users.write"
    STORES_READ = "stores.read"
    STORES_WRITE = "stores.write"
    SECURITY_READ = "security.read"
    SECURITY_WRITE = "security.write"
    PERSONS_REPORT = "persons.report"
    PERSONS_ERASE = "persons.erase"
    ROLLOUTS_WRITE = "rollouts.write"

    OWN = "own.manage"
    ACCOUNT = "account.manage"


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
    Permission.UPKEEP_WRITE: "Have replicas looked at, read back and compared, at the stores' price.",
    Permission.MEMBERS_READ: "See who belongs to the tenant.",
    Permission.MEMBERS_WRITE: "Give and take places in the tenant, up to administrator.",
    Permission.OWNERS_WRITE: "Make, change and remove owners.",
    Permission.AUDIT_READ: "Read the tenant's audit, and have it signed.",
    Permission.AUDIT_WRITE: "Say for how long the tenant's audit is kept.",
    Permission.HOLDS_READ: "See what keeps documents: legal holds and retention.",
    Permission.HOLDS_WRITE: "Place and release legal holds, retain documents for longer.",
    Permission.RETENTION_LIFT: "End a retention of the mode governance early, with a reason.",
    Permission.SETTINGS_WRITE: "Change the tenant's settings: trash, retention, region, jurisdictions.",
    Permission.TAKEOUTS_WRITE: "Take everything out: make takeouts and read their manifests.",
    Permission.PROVIDERS_WRITE: "Say which identity providers vouch for the tenant's people.",
    Permission.TENANT_DELETE: "Ask for the tenant's deletion, cancel it, confirm it.",
    Permission.TENANTS_READ: "List all tenants.",
    Permission.TENANTS_WRITE: "Make tenants.",
    Permission.USERS_READ: "List all users.",
    Permission.USERS_WRITE: "Make users, also operators and auditors of the platform.",
    Permission.STORES_READ: "See all stores, their settings and probes; never a secret.",
    Permission.STORES_WRITE: "Add stores, test and tune them, replace credentials, grant them to tenants.",
    Permission.SECURITY_READ: "Read the platform's own audit: users, stores, refused attempts.",
    Permission.SECURITY_WRITE: "Replace the key that signs checkpoints; say for how long the platform's audit is kept.",
    Permission.PERSONS_REPORT: "Read all that is held about one user, in all tenants.",
    Permission.PERSONS_ERASE: "Erase a user, and documents named with them.",
    Permission.ROLLOUTS_WRITE: "Say for whom kinds of stores are there, and which stores tenants may bring.",
    Permission.OWN: "One's own tokens.",
    Permission.ACCOUNT: "How one signs in oneself: password, sessions, second factors.",
}
OF_PLATFORM: Final = frozenset(
    {
        Permission.TENANTS_READ,
        Permission.TENANTS_WRITE,
        Permission.USERS_READ,
        Permission.USERS_WRITE,
        Permission.STORES_READ,
        Permission.STORES_WRITE,
        Permission.SECURITY_READ,
        Permission.SECURITY_WRITE,
        Permission.PERSONS_REPORT,
        Permission.PERSONS_ERASE,
        Permission.ROLLOUTS_WRITE,
    }
)
#: Everybody's; a service has no account to sign in with.
OF_ONESELF: Final = frozenset({Permission.OWN, Permission.ACCOUNT})
OF_TENANT: Final = frozenset(Permission) - OF_PLATFORM - OF_ONESELF

#: What a suspended tenant still shows to whoever may see it: that it is there, who belongs to it, what was done.
#: And what is to be kept can be kept still.
WHILE_SUSPENDED: Final = frozenset(
    {
        Permission.TENANT_READ,
        Permission.STORAGE_READ,
        Permission.MEMBERS_READ,
        Permission.AUDIT_READ,
        Permission.HOLDS_READ,
        Permission.HOLDS_WRITE,
        Permission.TENANT_DELETE,
    }
)

_SEES: Final = frozenset({Permission.TENANT_READ, Permission.STORAGE_READ, Permission.MEMBERS_READ})
_VIEWS: Final = _SEES | {Permission.DOCUMENTS_READ}
_EDITS: Final = _VIEWS | {Permission.DOCUMENTS_WRITE}
#: What a member may do in the tenant.
TENANT_ROLES: Final[Mapping[Role, frozenset[Permission]]] = {
    Role.OWNER: OF_TENANT,
    Role.ADMINISTRATOR: OF_TENANT
    - {Permission.OWNERS_WRITE, Permission.PROVIDERS_WRITE, Permission.RETENTION_LIFT, Permission.TENANT_DELETE},
    Role.EDITOR: _EDITS,
    Role.VIEWER: _VIEWS,
    Role.AUDITOR: _SEES | {Permission.AUDIT_READ, Permission.HOLDS_READ},
}
#: What a role of the platform allows, outside of tenants and in each of them. An auditor reads no document.
PLATFORM_ROLES: Final[Mapping[PlatformRole, frozenset[Permission]]] = {
    PlatformRole.OPERATOR: OF_PLATFORM | OF_TENANT,
    PlatformRole.AUDITOR: _SEES
    | {Permission.AUDIT_READ, Permission.HOLDS_READ, Permission.SECURITY_READ}
    | {Permission.TENANTS_READ, Permission.USERS_READ, Permission.STORES_READ},
}


def rights_of(principal: Principal, role: Role | None = None) -> frozenset[Permission]:
    """All that a principal may do: on the platform, and in a tenant where they have this role.

    What is bounded to a tenant has no rights on the platform, nor over the account; whether it is that tenant is for
    who asks.
    """
    rights: frozenset[Permission] = frozenset()
    if principal.id is not None:
        rights |= {Permission.OWN} if principal.is_service else OF_ONESELF
    if principal.is_operator:
        rights |= PLATFORM_ROLES[PlatformRole.OPERATOR]
    if principal.is_auditor:
        rights |= PLATFORM_ROLES[PlatformRole.AUDITOR]
    if role is not None:
        rights |= TENANT_ROLES[role]
    if principal.tenant_id is not None:
        rights -= OF_PLATFORM | {Permission.ACCOUNT}
    return rights if principal.scopes is None else rights & principal.scopes


def require(rights: frozenset[Permission], needed: Permission) -> None:
    """Raise Forbidden (`permission_required`, with `permission`) unless it is among the rights."""
    if needed not in rights:
        whom = "an operator of the platform" if needed in OF_PLATFORM else "an administrator or owner of the tenant"
        raise Forbidden(
            f"Your role does not include {needed}: ask {whom}.",
            code="permission_required",
            permission=str(needed),
        )
