"""The product's error tree: what a caller can be told, with a stable code, and nothing about HTTP.

    Failure                     anything we raise on purpose
    ├── Unauthenticated         nobody known is asking
    ├── Forbidden               known, but not allowed
    ├── NotFound                not there, or not yours: the two look alike on purpose
    ├── Invalid                 the request can never succeed as it stands
    ├── Conflict                right request, wrong moment or state
    ├── TooLarge                over a limit that we declare
    ├── TooMany                 too often: the same again later may well pass
    ├── Unavailable             something we depend on is not there now; try again
    └── StorageFailed           a store refused or failed in a way that its owner must mend

The HTTP status of each class is drawn up once, in `simples3dms.api.problems`.
"""

from __future__ import annotations

from typing import ClassVar


class Failure(Exception):
    """Something went wrong that the caller can be told about.

    `code` is stable and part of the public contract; `message` is one sentence for a person that says
    what to do next where there is something to do; `extra` holds machine-readable details (never a secret).
    """

    code: ClassVar[str] = "internal"
    retryable: ClassVar[bool] = False

    def __init__(self, message: str, *, code: str | None = None, **extra: object) -> None:
        super().__init__(message)
        self.message = message
        self.problem_code = code or self.code
        self.extra = extra


class Unauthenticated(Failure):
    code = "unauthenticated"


class Forbidden(Failure):
    code = "forbidden"


class NotFound(Failure):
    code = "not_found"


class Invalid(Failure):
    code = "invalid"


class Conflict(Failure):
    code = "conflict"


class TooLarge(Failure):
    code = "too_large"


class TooMany(Failure):
    """`retry_after_seconds` among its details says when."""

    code = "too_many"
    retryable = True


class Unavailable(Failure):
    code = "unavailable"
    retryable = True


class StorageFailed(Failure):
    code = "storage_failed"
