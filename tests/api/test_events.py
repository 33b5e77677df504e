"""Events over HTTP: per payment without gaps, per merchant in feed order, and as a stream that resumes."""

import asyncio
import json
from datetime import timedelta
from typing import Any

import httpx
import pytest
from sqlalchemy import select
from sqlalchemy.exc import OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from api import feed
from corridor.storage import events
from corridor.storage.database import Database, DatabaseUnavailable
from corridor.storage.tables import event_positions
from tests.api.conftest import Stand, order


async def placed(stand: Stand) -> None:
    """What the relay's sequencer does."""
    while await stand.database.write(events.assign_positions, 100):
        continue


async def stream(stand: Stand, *, who: str = "merchant", **headers: str) -> list[dict[str, str]]:
    """Every message of one stream's (short) life."""
    answer = await stand.http.get("/v1/events/stream", headers=stand.headers(who, **headers))
    assert answer.status_code == 200, answer.text
    assert answer.headers["Content-Type"].startswith("text/event-stream")
    messages = [block for block in answer.text.replace("\r\n", "\n").split("\n\n") if "data:" in block]
    return [dict(line.split(": ", 1) for line in block.strip().split("\n")) for block in messages]


async def test_events_of_a_payment_have_no_gaps_and_resume(stand: Stand) -> None:
    paid = await stand.paid()
    path = f"/v1/payments/{paid['id']}/events"
    listed = (await stand.get(path)).json()["data"]
    assert [(event["sequence"], event["type"]) for event in listed] == [
        (1, "payment.accepted"),
        (2, "payment.captured"),
    ]
    assert listed[1]["data"] == paid, "the event's snapshot is the resource as it was answered"
    assert (await stand.get(path, after_sequence=1)).json()["data"] == listed[1:]
    page = (await stand.get(path, limit=1)).json()
    assert page["has_more"] and page["next_cursor"] == "1"


async def test_feed_holds_the_merchants_own_events_in_order_once_placed(stand: Stand) -> None:
    await stand.paid()
    assert (await stand.get("/v1/events")).json()["data"] == []
    await stand.post("/v1/payments", order(merchant_reference="theirs"), who="other")
    await placed(stand)
    feed = (await stand.get("/v1/events")).json()["data"]
    assert [event["type"] for event in feed] == ["payment.accepted", "payment.captured"]
    assert all(event["merchant"] == stand.merchant_id for event in feed)
    positions = [event["position"] for event in feed]
    assert positions == sorted(positions)
    rest = (await stand.get("/v1/events", after_position=positions[0])).json()["data"]
    assert rest == feed[1:]


async def test_position_beyond_the_feed_is_gone(stand: Stand) -> None:
    await stand.paid()
    await placed(stand)
    for path, headers in (
        ("/v1/events?after_position=999", {}),
        ("/v1/events/stream?after_position=999", {}),
        ("/v1/events/stream", {"Last-Event-ID": "999"}),
    ):
        answer = await stand.http.get(path, headers=stand.headers(**headers))
        assert (answer.status_code, answer.json()["code"]) == (410, "event_cursor_expired")
        assert answer.json()["oldest_position"] == 1


async def test_last_event_id_is_a_position(small_stand: Stand) -> None:
    for text in ("x", "-1", "1e3", "²"):
        headers = {**small_stand.headers(), "Last-Event-ID": text}
        raw = httpx.Headers(headers, encoding="latin-1")
        answer = await small_stand.http.get("/v1/events/stream", headers=raw)
        assert (answer.status_code, answer.json()["code"]) == (400, "invalid_parameter")


async def test_stream_replays_resumes_and_speaks_the_events_of_the_feed(stand: Stand) -> None:
    await stand.paid()
    await placed(stand)
    feed = (await stand.get("/v1/events")).json()["data"]
    messages = await stream(stand)
    assert [json.loads(message["data"]) for message in messages] == feed
    assert [(message["id"], message["event"]) for message in messages] == [
        (str(event["position"]), event["type"]) for event in feed
    ]
    assert messages[0]["retry"] == "3000"
    resumed = await stream(stand, **{"Last-Event-ID": messages[0]["id"]})
    assert resumed == messages[1:]
    assert await stream(stand, who="other") == []


async def test_stream_delivers_what_happens_while_it_is_open(stand: Stand) -> None:
    object.__setattr__(stand.dependencies, "stream_life", timedelta(seconds=4))
    listening = asyncio.create_task(stream(stand))
    async with asyncio.timeout(20):
        while not stand.feed._somebody.is_set():
            await asyncio.sleep(0.01)
    await stand.paid()
    await placed(stand)
    positions = await stand.database.read(
        lambda connection: connection.execute(select(event_positions.c.position)).scalars().all()
    )
    assert [int(message["id"]) for message in await listening] == sorted(positions)


@pytest.mark.parametrize(
    "trouble",
    [DatabaseUnavailable("gone"), OperationalError("SELECT", {}, Exception("disk I/O error")), PoolTimeout()],
    ids=lambda trouble: type(trouble).__name__,
)
async def test_open_streams_outlive_any_trouble_of_the_database(
    small_stand: Stand, monkeypatch: pytest.MonkeyPatch, trouble: Exception
) -> None:
    monkeypatch.setattr(feed, "PAUSE_AFTER_TROUBLE_SECONDS", 0.01)
    troubles = [trouble]
    read = Database.read

    async def troubled(self: Database, work: Any, *args: Any) -> Any:
        if troubles:
            raise troubles.pop()
        return await read(self, work, *args)

    await small_stand.paid()
    await placed(small_stand)
    monkeypatch.setattr(Database, "read", troubled)
    watching = feed.Feed(small_stand.database, poll_seconds=0.01)
    async with watching.running(), asyncio.timeout(5):
        with watching.listening(small_stand.merchant_id) as grown:
            await grown.wait()
    assert troubles == []
