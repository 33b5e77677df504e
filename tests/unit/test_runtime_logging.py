"""Redaction: what must not reach a log, and what must still be told."""

import asyncio
import io
import json
import logging
import sys
from collections.abc import AsyncIterator, Callable, Iterator

import pytest
import structlog
from pydantic import BaseModel, ValidationError
from sqlalchemy import Connection, literal, select, text
from sqlalchemy.exc import IntegrityError, SQLAlchemyError
from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.types import Message
from temporalio.exceptions import ApplicationError

from corridor.runtime import logging as runtime_logging
from corridor.runtime.settings import load
from corridor.storage.columns import UtcTime
from corridor.storage.database import Database
from corridor.storage.tables import effects

CARDS = ["4242424242424242", "4000 0566 5566 5556", "3782-822463-10005", "6011111111111117", "30569309025904"]
PRIVATE = "canary"
"""Held by name: a stack's lines show source, and may."""

Lines = Callable[[], list[dict[str, object]]]


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> Iterator[Lines]:
    """Logging as a process sets it up, on a stderr of its own; undone for the tests that follow."""
    root, stream = logging.getLogger(), io.StringIO()
    handlers, level = root.handlers[:], root.level
    root.handlers.clear()
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", stream)
        runtime_logging.configure(load(log_format="json"), "test")
    yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    root.handlers[:], root.level = handlers, level
    structlog.reset_defaults()


@pytest.mark.parametrize("card", CARDS)
def test_card_numbers_are_hidden_wherever_they_stand(card: str) -> None:
    assert runtime_logging.redact_text(f"card {card}, sorry") == "card [hidden], sorry"


@pytest.mark.parametrize("number", ["4242424242424241", "424242424242", "1795334400", "2026-11-22 10:43:36"])
def test_other_numbers_stay(number: str) -> None:
    assert runtime_logging.redact_text(number) == number


def test_secrets_and_addresses_are_hidden_at_any_depth(lines: Lines) -> None:
    structlog.get_logger("t").info(
        "to ann@example.com", payment_id="pay_1", a={"b": ["sk_live_abc", {"card": CARDS[0]}]}, api_key="zzz"
    )
    (line,) = lines()
    assert line["payment_id"] == "pay_1"
    assert not any(secret in json.dumps(line) for secret in ("ann@", "sk_live", CARDS[0], "zzz"))


def test_a_failed_activity_is_logged_by_kind_and_place_without_its_words(lines: Lines) -> None:
    try:
        raise ApplicationError("provider said: canary", type="DECLINED") from ValueError("canary body")
    except ApplicationError:
        logging.getLogger("temporalio.activity").warning("Completing activity as failed", exc_info=True)
    (line,) = lines()
    assert "canary" not in json.dumps(line)
    assert "ApplicationError(DECLINED) < ValueError at test_runtime_logging.py" in str(line["event"])


def test_an_exception_of_our_own_keeps_its_stack_without_card_numbers(lines: Lines) -> None:
    try:
        raise ValueError(f"bad {CARDS[0]}")
    except ValueError:
        logging.getLogger("corridor.x").exception("failed")
    (line,) = lines()
    assert "ValueError: bad [hidden]" in str(line["exception"])


class _Buyer(BaseModel):
    age: int


def _fails_in_the_driver(connection: Connection) -> None:
    insert = "INSERT INTO merchants (id, name) VALUES (:id, :name)"
    connection.execute(text(insert), {"id": f"{PRIVATE}_id", "name": PRIVATE})


def _fails_before_the_driver(connection: Connection) -> None:
    connection.execute(select(effects).where(effects.c.declared_at == literal(PRIVATE, UtcTime)))


@pytest.mark.parametrize("work", [_fails_in_the_driver, _fails_before_the_driver])
async def test_an_error_of_the_database_is_logged_without_its_values(
    lines: Lines, database: Database, work: Callable[[Connection], None]
) -> None:
    with pytest.raises(SQLAlchemyError) as caught:
        await database.write(work)
    assert PRIVATE not in str(caught.value).partition("DETAIL")[0], "engines do not quote parameters"
    logging.getLogger("corridor.x").error("failed", exc_info=caught.value)
    structlog.get_logger("corridor.y").error("failed", exc_info=caught.value)
    for line in lines():
        assert PRIVATE not in json.dumps(line)
        assert f"in {work.__name__}" in str(line["exception"])
        assert type(caught.value).__name__ in str(line["exception"])


async def test_what_refused_a_row_is_named(lines: Lines, database: Database) -> None:
    with pytest.raises(IntegrityError) as caught:
        await database.write(_fails_in_the_driver)
    logging.getLogger("corridor.x").error("failed", exc_info=caught.value)
    (line,) = lines()
    named = "sqlite_errorname SQLITE_CONSTRAINT_NOTNULL" if database.is_sqlite else "sqlstate 23502"
    assert named in str(line["exception"])


def test_errors_within_errors_are_told_without_what_they_quote(lines: Lines) -> None:
    try:
        try:
            _Buyer.model_validate({"age": PRIVATE})
        except ValidationError as error:
            raise ExceptionGroup("two at once", [ValueError("our own"), error]) from error
    except ExceptionGroup:
        logging.getLogger("corridor.x").exception("failed")
    (line,) = lines()
    assert PRIVATE not in json.dumps(line)
    for told in ("two at once", "ValueError: our own", "ValidationError: [hidden]"):
        assert told in str(line["exception"])


def test_lines_inside_carry_the_ids(lines: Lines) -> None:
    with runtime_logging.about(payment_id="pay_1"):
        logging.getLogger("corridor.x").warning("inside")
    logging.getLogger("corridor.x").warning("outside")
    inside, outside = lines()
    assert inside["payment_id"] == "pay_1"
    assert "payment_id" not in outside


async def test_events_on_their_way_to_a_merchant_are_not_logged(lines: Lines) -> None:
    """The library that streams them logs every chunk at DEBUG."""

    async def events() -> AsyncIterator[ServerSentEvent]:
        yield ServerSentEvent(data="order-7781")

    async def receive() -> Message:
        return await asyncio.Future[Message]()

    async def send(_: Message) -> None:
        return None

    logging.getLogger().setLevel(logging.DEBUG)
    await EventSourceResponse(events())({"type": "http", "method": "GET"}, receive, send)
    assert "order-7781" not in str(lines())
