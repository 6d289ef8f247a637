"""Where requests go: routers that are whole by themselves, and the way from a path to its route.

FastAPI asks one route after the other, several times where routers hold routers: with a hundred and more that took
longer than all else. Here the path leads to the few that can be meant.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from fastapi import APIRouter
from fastapi.routing import APIRoute
from starlette._utils import get_route_path
from starlette.routing import BaseRoute, Match
from starlette.types import ASGIApp, Receive, Scope, Send

from simples3dms.schemas.base import Problem

_PROBLEMS: Final[dict[int | str, dict[str, Any]]] = {
    "default": {"model": Problem, "description": "Any failure: a problem (RFC 9457) with a stable code"}
}


def new_router(*, prefix: str = "", tags: Sequence[str] = ()) -> APIRouter:
    """A router of the API."""
    return bare_router(prefix=f"/api/v1{prefix}", tags=tags)


def bare_router(*, prefix: str = "", tags: Sequence[str] = ()) -> APIRouter:
    """A router beside the API."""
    return APIRouter(prefix=prefix, tags=list(tags), responses=_PROBLEMS)


class RouteIndex:
    """An ASGI application: the first route, in order, that takes the path and the method.

    What none takes goes to `otherwise`, which knows of other methods and of what is not there.
    """

    def __init__(self, routes: Iterable[BaseRoute], otherwise: ASGIApp) -> None:
        self._otherwise = otherwise
        self._root: _Node = _Node()
        for number, route in enumerate(routes):
            if isinstance(route, APIRoute):
                self._root.add(route.path_format.split("/"), number, route)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            for _, route in sorted(self._root.find(get_route_path(scope).split("/"))):
                match, child_scope = route.matches(scope)
                if match is Match.FULL:
                    scope.update(child_scope)
                    await route.handle(scope, receive, send)
                    return
        await self._otherwise(scope, receive, send)


class _Node:
    """What may follow a part of a path: these words, or any one; and the routes that end here."""

    def __init__(self) -> None:
        self.words: dict[str, _Node] = {}
        self.any: _Node | None = None
        self.routes: list[tuple[int, APIRoute]] = []

    def add(self, segments: Sequence[str], number: int, route: APIRoute) -> None:
        if not segments:
            self.routes.append((number, route))
        elif "{" in segments[0]:
            self.any = self.any or _Node()
            self.any.add(segments[1:], number, route)
        else:
            self.words.setdefault(segments[0], _Node()).add(segments[1:], number, route)

    def find(self, segments: Sequence[str]) -> Iterator[tuple[int, APIRoute]]:
        if not segments:
            yield from self.routes
            return
        for following in (self.words.get(segments[0]), self.any):
            if following is not None:
                yield from following.find(segments[1:])
