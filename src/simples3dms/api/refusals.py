"""Which refused requests are security events, and of whose audit: decided here for every route."""

from __future__ import annotations

from fastapi import Request

from simples3dms.audit.refusals import Refusal
from simples3dms.bootstrap import Services
from simples3dms.context import PLATFORM, SOMEBODY, Principal
from simples3dms.errors import Failure, Forbidden


async def note_refusal(request: Request, failure: Failure) -> None:
    """Record that somebody was refused: no right to it, another's tenant, a forged request.

    What a member of a tenant was refused there is told to the tenant. Somebody else's attempt on a tenant is told to
    the platform: strangers must neither fill a tenant's audit nor be named in it. A tenant that never was is treated
    as one that is there, so that not even the time it takes tells them apart. Who is not let in at all is written
    down by `identity`, which knows whose account it was: `sign_in.refused`.
    """
    services: Services | None = request.app.state.services
    principal: Principal | None = getattr(request.state, "principal", None)
    operation = getattr(request.scope.get("route"), "operation_id", None)
    if services is None or operation is None:
        return
    code = failure.problem_code
    details = {"code": code, "method": request.method, "address": request.client.host if request.client else None}
    if isinstance(failure, Forbidden):
        chain_id = getattr(request.state, "tenant_id", PLATFORM)
        if "permission" in failure.extra:
            details["permission"] = str(failure.extra["permission"])
        who = principal or SOMEBODY
        refusal = Refusal(chain_id, who, "access.refused", "operation", operation, details, apart=code)
    elif principal is not None and code == "tenant_not_found":
        details["tenant"] = str(request.path_params.get("tenant", ""))
        refusal = Refusal(PLATFORM, principal, "access.refused", "operation", operation, details, apart=code)
    else:
        return
    await services.refusals.note(refusal)
