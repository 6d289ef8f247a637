"""The ASGI application: routes, problems, headers. Made by a function; nothing happens at import."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from fastapi import APIRouter, FastAPI

from simples3dms.api import problems
from simples3dms.api.middleware import DoorMiddleware
from simples3dms.api.v1 import content, documents, health, identity, migrations, stores, tenants
from simples3dms.bootstrap import Services
from simples3dms.schemas.base import Problem

_PROBLEMS = {"default": {"model": Problem, "description": "Any failure: a problem (RFC 9457) with a stable code"}}


class _App(FastAPI):
    """FastAPI, but problems are documented under their own media type."""

    def openapi(self) -> dict[str, Any]:
        if self.openapi_schema is None:
            for methods in super().openapi()["paths"].values():
                for operation in methods.values():
                    content = operation["responses"]["default"]["content"]
                    content[problems.PROBLEM_TYPE] = content.pop("application/json")
        return super().openapi()


def create_app(services: Services | None) -> FastAPI:
    """The application over these services (None is enough for its OpenAPI document)."""
    app = _App(
        title="SimpleS3DMS",
        version=version("simples3dms"),
        description="Documents of many tenants, in the object storage that each of them chooses.",
        openapi_url="/api/v1/openapi.json",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        responses=_PROBLEMS,  # type: ignore[arg-type]  # FastAPI takes "default" as a key, its annotation does not
    )
    app.state.services = services
    app.include_router(health.router)
    v1 = APIRouter(prefix="/api/v1")
    for module in (identity, tenants, stores, documents, content, migrations):
        v1.include_router(module.router)
    app.include_router(v1)
    problems.install(app)
    app.add_middleware(DoorMiddleware)
    return app
