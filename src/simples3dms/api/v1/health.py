"""Whether the process lives, and whether it can serve."""

from __future__ import annotations

from simples3dms.api.deps import ServicesDep
from simples3dms.api.routing import bare_router
from simples3dms.bootstrap import check_ready

router = bare_router(tags=["health"])


@router.get("/livez", operation_id="get_livez", summary="The process lives")
async def get_livez() -> dict[str, str]:
    return {"status": "ok"}


@router.get("/readyz", operation_id="get_readyz", summary="The database answers, requests can be served")
async def get_readyz(services: ServicesDep) -> dict[str, str]:
    await check_ready(services)
    return {"status": "ok"}
