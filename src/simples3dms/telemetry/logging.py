"""Logging: one line an event, as text or JSON, to standard error. Tracebacks never show the values of variables."""

from __future__ import annotations

import logging
import sys
from typing import Literal

import structlog

_NOISY = (
    *("alembic", "httpx", "httpcore", "botocore", "boto3", "urllib3"),
    *("s3transfer", "b2sdk", "procrastinate", "psycopg.pool"),
)


def configure_logging(level: str, form: Literal["text", "json"]) -> None:
    """Set up structlog and the standard library's logging for this process. Call it once, from a command."""
    number = logging.getLevelNamesMapping()[level.upper()]
    if form == "json":
        renderer: structlog.typing.Processor = structlog.processors.JSONRenderer()
        # Names and lines only: a local variable may hold a secret.
        tracebacks: structlog.typing.Processor = structlog.processors.ExceptionRenderer(
            structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
        )
    else:
        renderer = structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
        tracebacks = _keep
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            tracebacks,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.PrintLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(level=number, stream=sys.stderr, format="%(asctime)s [%(levelname)s] %(name)s: %(message)s")
    for name in _NOISY:
        # Libraries' own debug lines may show requests, and with them signatures.
        logging.getLogger(name).setLevel(max(number, logging.WARNING))


def _keep(_logger: object, _name: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    return event
