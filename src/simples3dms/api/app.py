"""The ASGI application: routes, problems, headers. Made by a function; nothing happens at import."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from starlette.routing import BaseRoute
from starlette.types import ASGIApp

from simples3dms.api import problems
from simples3dms.api.deps import PERMISSION_OF, StandingOrNone, is_on_this_machine, token_missing
from simples3dms.api.middleware import DoorMiddleware, DoorOptions
from simples3dms.api.routing import RouteIndex
from simples3dms.api.v1 import (
    audit,
    compliance,
    content,
    documents,
    drains,
    factors,
    federation,
    health,
    holds,
    identity,
    invitations,
    letters,
    migrations,
    own_stores,
    persons,
    replication,
    rollouts,
    rotations,
    service_principals,
    sessions,
    stores,
    takeouts,
    tenants,
    upkeep,
)
from simples3dms.bootstrap import Services
from simples3dms.identity.permissions import Permission

DESCRIPTION_PATH: Final = "/api/v1/openapi.json"
#: The only operations that take no permission: nobody has signed in yet.
OPEN: Final = frozenset(
    {
        "get_livez",
        "get_readyz",
        "log_in",
        "sign_in",
        "accept_invitation",
        "request_reset",
        "use_reset",
        "list_offered_providers",
        "begin_sign_in",
        "finish_sign_in",
    }
)


def permissions_of(routes: Sequence[BaseRoute]) -> dict[str, Permission]:
    """What each operation takes. RuntimeError for one that names no permission: nothing is open by oversight."""
    found: dict[str, Permission] = {}
    for route in routes:
        if isinstance(route, APIRoute) and route.operation_id not in OPEN:
            named = [PERMISSION_OF[one.call] for one in route.dependant.dependencies if one.call in PERMISSION_OF]
            if len(named) != 1 or route.operation_id is None:
                raise RuntimeError(f"{route.path} must name one permission")
            found[route.operation_id] = named[0]
    return found


async def read_description(request: Request, standing: StandingOrNone) -> JSONResponse:
    """The OpenAPI document: for whoever has signed in, and on the machine itself for anybody."""
    if standing is None and not is_on_this_machine(request):
        raise token_missing()
    return JSONResponse(request.app.openapi())


class _App(FastAPI):
    """FastAPI, but problems are documented under their own media type, and routes are found by their path."""

    def build_middleware_stack(self) -> ASGIApp:
        self.router.middleware_stack = RouteIndex(self.routes, self.router.app)
        return super().build_middleware_stack()

    def openapi(self) -> dict[str, Any]:
        if self.openapi_schema is None:
            for methods in super().openapi()["paths"].values():
                for operation in methods.values():
                    permission = self.state.permissions.get(operation["operationId"])
                    if permission is not None:
                        operation["x-permission"] = str(permission)
                    content = operation["responses"]["default"]["content"]
                    content[problems.PROBLEM_TYPE] = content.pop("application/json")
        return super().openapi()


def create_app(services: Services | None, options: DoorOptions | None = None) -> FastAPI:
    """The application over these services (None is enough for its OpenAPI document)."""
    app = _App(
        title="SimpleS3DMS",
        version=version("simples3dms"),
        description="Documents of many tenants, in the object storage that each of them chooses.",
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.services = services
    app.state.permissions = {}
    for module in (
        *(health, identity, sessions, factors, service_principals, invitations, federation, tenants, audit),
        *(stores, own_stores, rollouts, rotations, drains, documents, content, holds, takeouts, migrations),
        *(compliance, persons, letters, upkeep, replication),
    ):
        app.router.routes.extend(module.router.routes)
        app.state.permissions |= permissions_of(module.router.routes)
    problems.install(app)
    app.add_api_route(DESCRIPTION_PATH, read_description, include_in_schema=False)
    app.add_middleware(DoorMiddleware, options=options)
    return app
