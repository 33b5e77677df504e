"""Webhooks of the fake Stripe: signature, order, persistence, and the ways they go wrong on request."""

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from corridor.sandbox.config import SandboxConfig
from corridor.sandbox.embedded import EmbeddedSandbox
from corridor.sandbox.stripe.webhooks import signature
from tests.unit.sandbox_stand import Stand

SECRET = "whsec_stand"


class Receiver:
    """A merchant's endpoint that keeps what came and can refuse the first deliveries."""

    def __init__(self) -> None:
        self.received: list[tuple[str, bytes]] = []
        self.refuse = 0
        kept = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                kept.received.append((self.headers["stripe-signature"], body))
                kept.refuse, status = (kept.refuse - 1, 500) if kept.refuse else (0, 200)
                self.send_response(status)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - named by http.server
                return

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}/hook"

    def types(self, intent: str) -> list[str]:
        events = [json.loads(body) for _, body in self.received]
        return [event["type"] for event in events if _about(event) == intent]

    def wait_for(self, intent: str, count: int, seconds: float = 20) -> list[str]:
        deadline = time.monotonic() + seconds
        while len(self.types(intent)) < count and time.monotonic() < deadline:
            time.sleep(0.02)
        return self.types(intent)

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    receiver.close()


@pytest.fixture(scope="module")
def stand(tmp_path_factory: pytest.TempPathFactory, receiver: Receiver) -> Iterator[Stand]:
    with EmbeddedSandbox(_config(tmp_path_factory.mktemp("sandbox"), receiver.url)) as sandbox:
        stand = Stand(sandbox)
        yield stand
        stand.close()


def test_signature_of_the_documented_vector() -> None:
    header = signature("whsec_corridor_test", 1_700_000_000, b'{"id":"evt_1","object":"event"}')
    digest = "371129bad1b1426854141f48673c3d28e9d9c549e0c0449fab9b64ecf7beb69e"
    assert header == f"t=1700000000,v1={digest}"


def test_events_arrive_signed_in_order_and_name_our_key(stand: Stand, receiver: Receiver) -> None:
    intent = stand.pay(key="ordered").json()["id"]
    types = receiver.wait_for(intent, 3)
    assert types == ["payment_intent.created", "charge.succeeded", "payment_intent.succeeded"]
    header, body = next(each for each in receiver.received if intent.encode() in each[1])
    timestamp = int(header.split(",")[0].removeprefix("t="))
    assert header == signature(SECRET, timestamp, body)
    assert abs(timestamp - time.time()) < 60
    event = json.loads(body)
    assert event["request"]["idempotency_key"] == "ordered"
    assert event["api_version"] == "2026-10-28.endive"


def test_refused_delivery_is_repeated_with_the_same_bytes(stand: Stand, receiver: Receiver) -> None:
    receiver.refuse = 2
    intent = stand.post("/payment_intents", {"amount": 1099, "currency": "eur"}).json()["id"]
    assert receiver.wait_for(intent, 3) == ["payment_intent.created"] * 3
    assert len({body for _, body in receiver.received if intent.encode() in body}) == 1


def test_what_the_receiver_took_is_listed_and_what_it_refused_is_not_yet(
    stand: Stand, receiver: Receiver
) -> None:
    receiver.refuse = 1
    intent = stand.post("/payment_intents", {"amount": 1099, "currency": "eur"}).json()["id"]
    receiver.wait_for(intent, 2)
    (event_id,) = {json.loads(body)["id"] for _, body in receiver.received if intent.encode() in body}
    deadline = time.monotonic() + 20
    while event_id not in (listed := _delivered(stand)) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert listed.count(event_id) == 1
    assert len(set(listed)) == len(listed)


def test_webhook_can_arrive_before_the_answer(stand: Stand, receiver: Receiver) -> None:
    intent = stand.pay("pm_card_visa_sandbox_webhookFirst").json()["id"]
    assert len(receiver.types(intent)) == 3


def test_duplicated_webhooks_carry_the_same_event_ids(stand: Stand, receiver: Receiver) -> None:
    intent = stand.pay("pm_card_visa_sandbox_webhookDuplicate").json()["id"]
    assert len(receiver.wait_for(intent, 9)) == 9
    ids = [json.loads(body)["id"] for _, body in receiver.received if _about(json.loads(body)) == intent]
    assert len(set(ids)) == 3


def test_reordered_webhooks_arrive_last_first(stand: Stand, receiver: Receiver) -> None:
    intent = stand.pay("pm_card_visa_sandbox_webhookReordered").json()["id"]
    assert receiver.wait_for(intent, 3) == [
        "payment_intent.succeeded",
        "charge.succeeded",
        "payment_intent.created",
    ]


def test_missing_webhooks_can_still_be_caught_up_from_the_event_list(
    stand: Stand, receiver: Receiver
) -> None:
    intent = stand.pay("pm_card_visa_sandbox_webhookMissing").json()
    events = stand.get("/events", limit=100, type="payment_intent.*", **{"created[gte]": intent["created"]})[
        "data"
    ]
    mine = [event["type"] for event in events if event["data"]["object"]["id"] == intent["id"]]
    assert mine == ["payment_intent.succeeded", "payment_intent.created"]
    time.sleep(0.3)
    assert receiver.types(intent["id"]) == []


def test_undelivered_webhooks_survive_a_restart(tmp_path: Path) -> None:
    with EmbeddedSandbox(_config(tmp_path, "http://127.0.0.1:9/closed")) as sandbox:
        stand = Stand(sandbox)
        intent = stand.pay().json()["id"]
        stand.close()
    receiver = Receiver()
    with EmbeddedSandbox(_config(tmp_path, receiver.url)):
        assert len(receiver.wait_for(intent, 3)) == 3
    receiver.close()


def _config(data_dir: Path, url: str) -> SandboxConfig:
    return SandboxConfig(
        port=0, data_dir=data_dir, webhook_url=url, webhook_secret=SECRET, webhook_backoff_milliseconds=50,
        settlement_delay_seconds=3600, payout_period_seconds=0,
    )  # fmt: skip


def _about(event: dict[str, Any]) -> str:
    thing = event["data"]["object"]
    return str(thing.get("payment_intent") or thing["id"])


def _delivered(stand: Stand) -> list[str]:
    """Ids of events, read in pages of two."""
    found: list[str] = []
    after = 0
    while page := (answer := stand.control("GET", f"/webhooks/delivered?after={after}&limit=2"))["data"]:
        found += [row["event_id"] for row in page]
        after = answer["next_after"]
    return found
