"""Logs of every process: structured, with payment ids, without personal data.

All records, ours (structlog) and the libraries' (stdlib), pass the same redaction and leave on stderr as one
line of JSON, or readable on a terminal. Redaction is the second net: the first is not to log such values.
"""

import logging
import re
import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from corridor.runtime.settings import Settings

HIDDEN = "[hidden]"
_SECRET_NAMES = re.compile(
    r"secret|password|passwd|token|authorization|cookie|api_?key|pepper|cvc|cvv", re.IGNORECASE
)
_SECRET_VALUES = re.compile(r"\b(?:[sr]k_(?:test|live)_\w+|whsec_[\w+/=]+|Bearer\s+\S+)", re.IGNORECASE)
_EMAIL = re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+")
_DIGITS = re.compile(r"(?<!\d)\d(?:[ -]?\d){12,18}(?!\d)")
# They log full addresses, values (asyncpg) or whole events of merchants (sse_starlette): only their trouble is told.
_QUIET = ("httpx", "httpcore", "asyncio", "asyncpg", "alembic", "sse_starlette", "uvicorn.access")
# Their messages quote values: of the row that a database refused, of the field that did not validate, of a provider.
_QUOTING = ("sqlalchemy.", "asyncpg.", "sqlite3", "pydantic_core.", "temporalio.exceptions")
_HARMLESS = (
    "sqlstate",
    "sqlite_errorname",
    "schema_name",
    "table_name",
    "column_name",
    "constraint_name",
    "type",
)
"""What an error of those says instead: the names its own attributes carry."""


def configure(settings: Settings, process: str) -> None:
    """Set up logging of this process. `process` names it in every line (`api`, `worker`)."""
    pretty = settings.log_format == "console" or (settings.log_format == "auto" and sys.stderr.isatty())
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _named(process),
        _exceptions_without_values,
        redact,
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(without_bodies)
    handler.setFormatter(_formatter(shared, pretty))
    logging.basicConfig(handlers=[handler], level=settings.log_level.upper(), force=True)
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)


@contextmanager
def about(**ids: str) -> Iterator[None]:
    """Every line logged inside carries these ids: `with about(payment_id=...)`."""
    with structlog.contextvars.bound_contextvars(**ids):
        yield


def redact(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """structlog processor: hide card numbers, secrets and e-mail addresses anywhere in the line."""
    return {key: _redacted(key, value) for key, value in event.items()}


def redact_text(text: str) -> str:
    """The text without card numbers, secrets and e-mail addresses."""
    text = _SECRET_VALUES.sub(HIDDEN, text)
    text = _EMAIL.sub(HIDDEN, text)
    return _DIGITS.sub(lambda found: HIDDEN if is_card_number(found.group()) else found.group(), text)


def is_card_number(text: str) -> bool:
    """13 to 19 digits, spaces and dashes aside, that pass the Luhn check (ISO/IEC 7812-1, annex B)."""
    digits = [int(character) for character in text if character.isdigit()]
    if not 13 <= len(digits) <= 19:
        return False
    doubled = (sum(divmod(2 * digit, 10)) for digit in digits[-2::-2])
    return (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0


def without_bodies(record: logging.LogRecord) -> bool:
    """Logging filter: the Temporal SDK logs a failed activity with message and traceback in clear, and either may
    quote a provider's answer. Keep what kind of failure it was and where; drop what it said. Never drops the line.
    """
    if record.name.startswith("temporalio"):
        error = record.exc_info[1] if record.exc_info else None
        if error is not None:
            record.msg, record.args = f"{record.getMessage()} [{_kinds(error)}]", None
            record.exc_info = record.exc_text = None
        elif isinstance(record.msg, str) and "error of type" in record.msg:
            record.msg, record.args = record.msg.partition(": ")[0], None
    return True


def _redacted(key: str, value: Any) -> Any:
    if not key.startswith("_") and _SECRET_NAMES.search(key):
        return HIDDEN
    if isinstance(value, str):
        return redact_text(value)
    if isinstance(value, bytes):
        return f"[{len(value)} bytes]"
    if isinstance(value, Mapping):
        return {inner: _redacted(inner, item) for inner, item in value.items()}
    if isinstance(value, list | tuple | set):
        return [_redacted("", item) for item in value]
    return value


def _kinds(error: BaseException) -> str:
    """`ActivityError < ApplicationError(DECLINED) at adapter.py:81`: types and places, no messages."""
    kinds: list[str] = []
    current: BaseException | None = error
    while current is not None and len(kinds) < 5:
        code = getattr(current, "type", None)
        kinds.append(f"{type(current).__name__}({code})" if isinstance(code, str) else type(current).__name__)
        current = current.__cause__ or (None if current.__suppress_context__ else current.__context__)
    frames = traceback.extract_tb(error.__traceback__)
    place = f" at {frames[-1].filename.rpartition('/')[2]}:{frames[-1].lineno}" if frames else ""
    return " < ".join(kinds) + place


def _exceptions_without_values(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Replace `exc_info` by types, stack lines and messages; local variables are never printed.

    Messages of our own pass `redact`; those of `_QUOTING` are left out, for no pattern finds a reference in them.
    """
    info = event.pop("exc_info", None)
    error = sys.exc_info()[1] if info is True else info[1] if isinstance(info, tuple) else info
    if isinstance(error, BaseException):
        event["exception"] = "".join(_told(error, set()))
    return event


def _told(error: BaseException, told: set[int]) -> Iterator[str]:
    """As Python prints it: what it came from first, then its own stack, and the errors it stands for."""
    told.add(id(error))
    before = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if before is not None and id(before) not in told:
        yield from _told(before, told)
        yield f"\n{'Caused' if error.__cause__ else 'While it was handled'}:\n\n"
    yield "Traceback (most recent call last):\n"
    yield from traceback.format_tb(error.__traceback__)
    yield _last_line(error)
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from ("\nOne of them:\n\n", *_told(inner, told))


def _last_line(error: BaseException) -> str:
    module = type(error).__module__
    if not module.startswith(_QUOTING):
        return "".join(traceback.format_exception_only(error))
    about = ", ".join(
        f"{name} {value}" for name in _HARMLESS if isinstance(value := getattr(error, name, None), str)
    )
    return f"{module}.{type(error).__qualname__}: {about or HIDDEN}\n"


def _named(process: str) -> Processor:
    def add(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        return {**event, "process": process}

    return add


def _formatter(shared: list[Processor], pretty: bool) -> logging.Formatter:
    render: Processor = structlog.dev.ConsoleRenderer() if pretty else structlog.processors.JSONRenderer()
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, render],
    )
