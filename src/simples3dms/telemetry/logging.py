"""Logging: one line an event, as text or JSON, to standard error; ours and every library's pass the same redaction."""

from __future__ import annotations

import logging
import sys
from typing import Final, Literal

import structlog
from structlog.typing import EventDict, Processor

from simples3dms.telemetry.redaction import clean, one_line, redact

_NOISY = (
    *("alembic", "httpx", "httpcore", "botocore", "boto3", "urllib3"),
    *("s3transfer", "b2sdk", "procrastinate", "psycopg.pool"),
)
#: Lines of a traceback begin with it, so that none of them can pass for a line of the log.
_MARGIN: Final = "    | "


def configure_logging(level: str, form: Literal["text", "json"]) -> None:
    """Set up structlog and the standard library's logging for this process. Call it once, from a command."""
    number = logging.getLevelNamesMapping()[level.upper()]
    before: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        # Names and lines only: a local variable may hold a secret.
        structlog.processors.ExceptionRenderer(structlog.tracebacks.ExceptionDictTransformer(show_locals=False))
        if form == "json"
        else structlog.processors.format_exc_info,
        _redacted,
    ]
    renderer: Processor = structlog.processors.JSONRenderer() if form == "json" else _as_text
    structlog.configure(
        processors=[*before, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.PrintLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    remove_meta = structlog.stdlib.ProcessorFormatter.remove_processors_meta
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name], processors=[remove_meta, *before, renderer]
        )
    )
    logging.basicConfig(level=number, handlers=[handler], force=True)
    for name in _NOISY:
        # Libraries' own debug lines may show requests, and with them signatures.
        logging.getLogger(name).setLevel(max(number, logging.WARNING))


def _redacted(_logger: object, _name: str, event: EventDict) -> EventDict:
    return {name: clean(value, name=name) for name, value in event.items()}


def _as_text(_logger: object, _name: str, event: EventDict) -> str:
    """`time [level] event name=value ...`, on one line, and a traceback indented below it."""
    traceback = event.pop("exception", None)
    when, level, said = (event.pop(name, "") for name in ("timestamp", "level", "event"))
    values = "".join(f" {one_line(str(name))}={_quoted(value)}" for name, value in event.items())
    line = f"{when} [{level}] {one_line(str(said))}{values}"
    if traceback:
        line += "".join(f"\n{_MARGIN}{one_line(redact(part))}" for part in str(traceback).splitlines())
    return line


def _quoted(value: object) -> str:
    """As it is, or in quotes where a space or an equals sign could make two values of one."""
    text = one_line(str(value))
    return f'"{text}"' if not text or any(character in text for character in ' ="') else text
