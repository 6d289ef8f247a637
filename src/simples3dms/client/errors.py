"""What the client raises."""

from __future__ import annotations

import httpx

from simples3dms.schemas.base import Problem


class ApiProblem(Exception):
    """The server answered with a problem (RFC 9457): `code` is stable, the text says what to do."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.detail)
        self.problem = problem

    @property
    def code(self) -> str:
        return self.problem.code

    @property
    def status(self) -> int:
        return self.problem.status


class ServerUnreachable(Exception):
    """There was no answer, or none that makes sense."""


def to_problem(response: httpx.Response) -> ApiProblem:
    """The problem in an answer that was read."""
    try:
        return ApiProblem(Problem.model_validate_json(response.content))
    except ValueError:
        detail = f"The server answered {response.status_code} without saying why."
        if response.has_redirect_location:
            detail = f"The server is somewhere else: {response.headers['Location']}"
        return ApiProblem(
            Problem(type="about:blank", title="Error", status=response.status_code, detail=detail, code="http_error")
        )
