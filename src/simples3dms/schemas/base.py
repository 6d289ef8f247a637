"""What the models have in common: requests refuse unknown fields, pages end in a cursor, problems follow RFC 9457."""

from __future__ import annotations

from typing import Any, Generic, TypeVar
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

Item = TypeVar("Item")


class Request(BaseModel):
    """A request body: unknown fields are refused, and inputs never show in errors."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)


class Response(BaseModel):
    """A response body, made from a service's value of the same field names."""

    model_config = ConfigDict(from_attributes=True)


class Page(Response, Generic[Item]):
    """A page of a listing. `next_after` is the `after` of the next page, or null on the last one."""

    items: list[Item]
    next_after: UUID | None = None


class FieldProblem(Response):
    """What is wrong with one field of a request."""

    field: str
    message: str


class Problem(BaseModel):
    """RFC 9457 problem details. `code` is stable; `detail` is for a person and says what to do."""

    model_config = ConfigDict(extra="allow")

    type: str = Field(examples=["urn:simples3dms:problem:document_not_found"])
    title: str
    status: int
    detail: str
    code: str
    instance: str | None = None
    request_id: str | None = None
    fields: list[FieldProblem] | None = None
    retry_after_seconds: float | None = None

    @property
    def extra(self) -> dict[str, Any]:
        return self.model_extra or {}
