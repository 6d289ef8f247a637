"""What routes depend on: the services, who is asking, and in which tenant with which role."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Final
from urllib.parse import urlsplit
from uuid import UUID

from fastapi import Depends, Path, Query, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from simples3dms.api.forgery import Asked, why_forged
from simples3dms.bootstrap import Services
from simples3dms.context import Principal
from simples3dms.crypto.tokens import TOKEN_PREFIX
from simples3dms.errors import Forbidden, Invalid, NotFound, Unauthenticated
from simples3dms.identity.permissions import WHILE_SUSPENDED, Permission, require, rights_of
from simples3dms.identity.standing import Standing
from simples3dms.kit.secret import Secret
from simples3dms.tenants.service import not_found as tenant_not_found
from simples3dms.tenants.service import suspended
from simples3dms.tenants.values import Tenant

_bearer = HTTPBearer(auto_error=False, description="An API token, from `POST /api/v1/login` or `token create`.")

#: The prefix has browsers take it from this very host only, over https, for all of its paths.
SESSION_COOKIE: Final = "__Host-session"
_TOKEN: Final = re.compile(rf"{TOKEN_PREFIX}_[A-Za-z0-9_-]{{43}}")
_TOKEN_NAMES: Final = frozenset({"access_token", "token", "api_key", "apikey"})
LARGEST_PAGE = 500


# Dependencies are coroutines, all of them: FastAPI runs plain functions in a thread each.
async def get_services(request: Request) -> Services:
    services: Services = request.app.state.services
    return services


ServicesDep = Annotated[Services, Depends(get_services)]


def client_address(request: Request) -> str:
    """Where the caller is, for limits and for what is shown of sessions: the one place that says so."""
    return request.client.host if request.client else ""


def refuse_forgery(request: Request, services: Services) -> None:
    """Raise Forbidden (`request_forged`) if another site may have had the browser send this."""
    headers = request.headers
    own = {f"{request.url.scheme}://{headers.get('host', '')}"}
    if services.public_url is not None:
        own = {"{0.scheme}://{0.netloc}".format(urlsplit(services.public_url))}
    asked = Asked(
        method=request.method,
        own_origins=own,
        origin=headers.get("origin"),
        fetch_site=headers.get("sec-fetch-site"),
        content_type=headers.get("content-type"),
        has_body=headers.get("content-length", "0") != "0" or "transfer-encoding" in headers,
        has_own_header="x-requested-with" in headers,
    )
    reason = why_forged(asked)
    if reason is not None:
        raise Forbidden(f"The request was refused: {reason}.", code="request_forged")


async def _require_own_page(request: Request, services: ServicesDep) -> None:
    refuse_forgery(request, services)


#: For doors that hand out a cookie before anybody is signed in: nobody is to be signed in by another site.
OwnPage = Depends(_require_own_page)


def _refuse_tokens_in_query(request: Request) -> None:
    """What stands in an address ends in logs, histories and other sites' hands."""
    for name, value in request.query_params.multi_items():
        if name.lower() in _TOKEN_NAMES or _TOKEN.fullmatch(value):
            raise Invalid(
                "A token does not belong into an address: revoke it, and send another as `Authorization: Bearer ...`.",
                code="token_in_query",
            )


async def get_standing(
    request: Request, services: ServicesDep, given: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
) -> Standing | None:
    """By a token or by a browser's session, and never by both: which of them is meant is not for us to guess.

    With what they may do in the tenant that the path names, if it names one. None for somebody who does not say who
    they are. Raises Unauthenticated for what proves nothing.
    """
    _refuse_tokens_in_query(request)
    cookie = request.cookies.get(SESSION_COOKIE)
    if cookie is not None:
        if "authorization" in request.headers:
            raise Invalid("Send a token or a session's cookie, not both.", code="two_credentials")
        refuse_forgery(request, services)
        standing = await services.sessions.recognise(Secret(cookie), tenant=request.path_params.get("tenant"))
    elif given is not None:
        token = Secret(given.credentials)
        standing = await services.identity.recognise(token, tenant=request.path_params.get("tenant"))
    else:
        return None
    # For whoever has to record that the principal was refused.
    request.state.principal = standing.principal
    return standing


StandingOrNone = Annotated[Standing | None, Depends(get_standing)]


def token_missing() -> Unauthenticated:
    return Unauthenticated("Sign in first: send a token as `Authorization: Bearer ...`.", code="token_missing")


async def get_principal(standing: StandingOrNone) -> Principal:
    if standing is None:
        raise token_missing()
    return standing.principal


PrincipalDep = Annotated[Principal, Depends(get_principal)]


def is_on_this_machine(request: Request) -> bool:
    """Whether the client itself, and not only the proxy before it, has an address of the loopback."""
    return request.client is not None and request.client.host in ("127.0.0.1", "::1")


@dataclass(frozen=True, slots=True)
class Seat:
    """A principal in a tenant, with the right that the route asked for."""

    principal: Principal
    tenant: Tenant

    @property
    def tenant_id(self) -> UUID:
        return self.tenant.id


#: The permission that each dependency below asks for: the application starts only if every route has one.
PERMISSION_OF: dict[Callable[..., Any], Permission] = {}


def _in_tenant(permission: Permission) -> Any:
    async def get_seat(
        request: Request,
        standing: StandingOrNone,
        tenant: Annotated[str, Path(description="The tenant's short name or id.", max_length=100)],  # noqa: ARG001
    ) -> Seat:
        """The same answer where the tenant is not there and where one has no place in it."""
        if standing is None:
            raise token_missing()
        found = standing.tenant
        if found is None or not standing.rights:
            raise tenant_not_found()
        request.state.tenant_id = found.id
        require(standing.rights, permission)
        if found.suspended_at is not None and permission not in WHILE_SUSPENDED:
            raise suspended()
        return Seat(standing.principal, found)

    PERMISSION_OF[get_seat] = permission
    return Depends(get_seat)


def _on_platform(permission: Permission) -> Any:
    async def get_entitled(principal: PrincipalDep) -> Principal:
        require(rights_of(principal), permission)
        return principal

    PERMISSION_OF[get_entitled] = permission
    return Depends(get_entitled)


TenantReader = Annotated[Seat, _in_tenant(Permission.TENANT_READ)]
DocumentReader = Annotated[Seat, _in_tenant(Permission.DOCUMENTS_READ)]
DocumentWriter = Annotated[Seat, _in_tenant(Permission.DOCUMENTS_WRITE)]
DocumentPurger = Annotated[Seat, _in_tenant(Permission.DOCUMENTS_PURGE)]
StorageReader = Annotated[Seat, _in_tenant(Permission.STORAGE_READ)]
PlacementWriter = Annotated[Seat, _in_tenant(Permission.PLACEMENT_WRITE)]
OwnStoresWriter = Annotated[Seat, _in_tenant(Permission.OWN_STORES_WRITE)]
MigrationWriter = Annotated[Seat, _in_tenant(Permission.MIGRATIONS_WRITE)]
UpkeepWriter = Annotated[Seat, _in_tenant(Permission.UPKEEP_WRITE)]
MemberReader = Annotated[Seat, _in_tenant(Permission.MEMBERS_READ)]
MemberWriter = Annotated[Seat, _in_tenant(Permission.MEMBERS_WRITE)]
ProviderWriter = Annotated[Seat, _in_tenant(Permission.PROVIDERS_WRITE)]
AuditReader = Annotated[Seat, _in_tenant(Permission.AUDIT_READ)]
AuditWriter = Annotated[Seat, _in_tenant(Permission.AUDIT_WRITE)]
HoldReader = Annotated[Seat, _in_tenant(Permission.HOLDS_READ)]
HoldWriter = Annotated[Seat, _in_tenant(Permission.HOLDS_WRITE)]
RetentionLifter = Annotated[Seat, _in_tenant(Permission.RETENTION_LIFT)]
SettingsWriter = Annotated[Seat, _in_tenant(Permission.SETTINGS_WRITE)]
TakeoutMaker = Annotated[Seat, _in_tenant(Permission.TAKEOUTS_WRITE)]
TenantDeleter = Annotated[Seat, _in_tenant(Permission.TENANT_DELETE)]
TenantsReader = Annotated[Principal, _on_platform(Permission.TENANTS_READ)]
TenantsWriter = Annotated[Principal, _on_platform(Permission.TENANTS_WRITE)]
UsersReader = Annotated[Principal, _on_platform(Permission.USERS_READ)]
UsersWriter = Annotated[Principal, _on_platform(Permission.USERS_WRITE)]
StoresReader = Annotated[Principal, _on_platform(Permission.STORES_READ)]
StoresWriter = Annotated[Principal, _on_platform(Permission.STORES_WRITE)]
SecurityReader = Annotated[Principal, _on_platform(Permission.SECURITY_READ)]
SecurityWriter = Annotated[Principal, _on_platform(Permission.SECURITY_WRITE)]
PersonReporter = Annotated[Principal, _on_platform(Permission.PERSONS_REPORT)]
PersonEraser = Annotated[Principal, _on_platform(Permission.PERSONS_ERASE)]
RolloutsWriter = Annotated[Principal, _on_platform(Permission.ROLLOUTS_WRITE)]
Oneself = Annotated[Principal, _on_platform(Permission.OWN)]
AccountOwner = Annotated[Principal, _on_platform(Permission.ACCOUNT)]

After = Annotated[UUID | None, Query(description="The `next_after` of the page before.")]
Limit = Annotated[int, Query(ge=1, le=LARGEST_PAGE, description="Most items on the page.")]


def as_id(text: str, failure: NotFound) -> UUID:
    """An id from a path; what is no id is not there, like an id that nobody has."""
    try:
        return UUID(text)
    except ValueError:
        raise failure from None
