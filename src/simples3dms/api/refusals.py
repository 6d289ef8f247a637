"""Which refused requests are security events, and of whose audit: decided here for every route."""

from __future__ import annotations

from fastapi import Request

from simples3dms.audit.refusals import Refusal
from simples3dms.bootstrap import Services
from simples3dms.context import PLATFORM, Principal
from simples3dms.errors import Failure, Forbidden

_NOBODY = Principal(None, "nobody")


async def note_refusal(request: Request, failure: Failure) -> None:
    """Record that somebody was refused: no right to it, another's tenant, a wrong password.

    What a member of a tenant was refused there is told to the tenant. Somebody else's attempt on a tenant is told to
    the platform: strangers must neither fill a tenant's audit nor be named in it. A tenant that never was is treated
    as one that is there, so that not even the time it takes tells them apart.
    """
    services: Services | None = request.app.state.services
    principal: Principal | None = getattr(request.state, "principal", None)
    operation = getattr(request.scope.get("route"), "operation_id", None)
    if services is None or operation is None:
        return
    code = failure.problem_code
    details = {"code": code, "method": request.method, "address": request.client.host if request.client else None}
    if operation == "log_in" and code == "credentials_wrong":
        email = str(getattr(request.state, "attempted", ""))
        await services.refusals.note(Refusal(PLATFORM, _NOBODY, "login.refused", "user", email, details))
    elif principal is None:
        return
    elif isinstance(failure, Forbidden):
        chain_id = getattr(request.state, "tenant_id", PLATFORM)
        if "permission" in failure.extra:
            details["permission"] = str(failure.extra["permission"])
        await services.refusals.note(Refusal(chain_id, principal, "access.refused", "operation", operation, details))
    elif code == "tenant_not_found":
        details["tenant"] = str(request.path_params.get("tenant", ""))
        await services.refusals.note(Refusal(PLATFORM, principal, "access.refused", "operation", operation, details))
