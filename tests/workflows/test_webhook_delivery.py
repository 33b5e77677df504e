"""The delivery workflow over days of virtual time, with the real activity, a real database and a real receiver."""

import json
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
import pytest_asyncio
from sqlalchemy import Connection, insert, select
from standardwebhooks import Webhook
from temporalio.client import Client, WorkflowHandle
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import Worker

from activities.webhooks import GONE, NO_SUCCESS, WebhookSteps
from corridor.domain.ids import Prefix, new_id
from corridor.notify.outbound import Answer, Outbound, Rules, Trouble, Undelivered
from corridor.notify.signing import new_secret
from corridor.storage import events, webhook_deliveries, webhook_endpoints
from corridor.storage.database import Database
from corridor.storage.sealing import Sealer
from corridor.storage.tables import merchants
from corridor.storage.tables import webhook_deliveries as deliveries
from corridor.storage.tables import webhook_endpoints as endpoints
from workers import fleet
from workflows import names
from workflows.messages import DeliveryStart
from workflows.webhook_delivery import WebhookDeliveryWorkflow

NOW = datetime(2026, 11, 22, 8, tzinfo=UTC)
SECRET = new_secret()
SEALER = Sealer("k1", {"k1": b"k" * 32})


class Receiver(Outbound):
    """Answers from a list, the last answer for ever, and keeps what it was sent."""

    def __init__(self, *answers: int | Trouble | Answer) -> None:
        super().__init__(Rules(private=True))
        self.answers = list(answers)
        self.posts: list[tuple[dict[str, str], bytes]] = []

    async def post(self, address: str, headers: Any, body: bytes) -> Answer:
        self.posts.append((dict(headers), body))
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Trouble):
            raise Undelivered(answer)
        return answer if isinstance(answer, Answer) else Answer(answer, None)


class Clock:
    """Moves on by `step` at each look: the database's clock does not follow the server's virtual one."""

    def __init__(self, step: timedelta = timedelta(seconds=1)) -> None:
        self.now, self.step = NOW, step

    def __call__(self) -> datetime:
        self.now += self.step
        return self.now


@pytest_asyncio.fixture
async def database(sqlite_database: str) -> AsyncIterator[Database]:
    database = Database(sqlite_database)
    yield database
    await database.close()


def _set_up(connection: Connection) -> str:
    """A merchant with one endpoint and one event; returns the delivery's id."""
    merchant_id, endpoint_id = new_id(Prefix.MERCHANT, NOW), new_id(Prefix.WEBHOOK_ENDPOINT, NOW)
    connection.execute(
        insert(merchants).values(
            id=merchant_id,
            name="Shop",
            country="DE",
            settle_currency="EUR",
            fee_bps=0,
            fx_markup_bps=0,
            created_at=NOW,
        )
    )
    webhook_endpoints.create(
        connection,
        endpoint_id=endpoint_id,
        merchant_id=merchant_id,
        url="https://shop.example/",
        event_types=[],
        secret_sealed=SEALER.seal(SECRET.encode(), webhook_endpoints.place(endpoint_id)),
        now=NOW,
    )
    event_id = events.append(
        connection,
        object_type="payment",
        object_id=new_id(Prefix.PAYMENT, NOW),
        merchant_id=merchant_id,
        sequence=1,
        event_type="payment.captured",
        data={"ü": 1},
        previous={},
        now=NOW,
    )
    events.assign_positions(connection, 10)
    (delivery_id,) = webhook_deliveries.create_for_event(
        connection, event_id, merchant_id, "payment.captured", NOW
    )
    return delivery_id


def _state(connection: Connection) -> tuple[Any, Any]:
    return connection.execute(select(deliveries)).one(), connection.execute(select(endpoints)).one()


async def _deliver(
    client: Client, database: Database, receiver: Receiver, delivery_id: str, clock: Clock | None = None
) -> tuple[str, WorkflowHandle[Any, str]]:
    queue = f"deliveries-{uuid4()}"
    steps = WebhookSteps(database, receiver, SEALER, clock or Clock())
    async with (
        Worker(
            client,
            task_queue=queue,
            workflows=[WebhookDeliveryWorkflow],
            workflow_runner=fleet.runner(),
            max_cached_workflows=0,
        ),
        Worker(client, task_queue=names.WEBHOOK_QUEUE, activities=[steps.attempt]),
    ):
        handle = await client.start_workflow(
            WebhookDeliveryWorkflow.run,
            DeliveryStart(delivery_id=delivery_id),
            id=f"d-{uuid4()}",
            task_queue=queue,
        )
        return await handle.result(), handle


async def _pauses(handle: WorkflowHandle[Any, str]) -> Sequence[int]:
    history = await handle.fetch_history()
    return [
        event.timer_started_event_attributes.start_to_fire_timeout.seconds
        for event in history.events
        if event.HasField("timer_started_event_attributes")
    ]


async def test_a_taken_event_is_delivered_once_and_verifies(
    skipping_env: WorkflowEnvironment, database: Database
) -> None:
    delivery_id = await database.write(_set_up)
    receiver = Receiver(204)
    result, handle = await _deliver(skipping_env.client, database, receiver, delivery_id)
    assert (result, list(await _pauses(handle))) == ("delivered", [])
    ((headers, body),) = receiver.posts
    event = json.loads(body)
    signing = Webhook(SECRET).sign(
        headers["webhook-id"], datetime.fromtimestamp(int(headers["webhook-timestamp"]), UTC), body.decode()
    )
    assert (headers["webhook-id"], headers["webhook-signature"]) == (event["id"], signing)
    assert (event["type"], event["position"], event["data"]) == ("payment.captured", 1, {"ü": 1})
    delivery, endpoint = await database.read(_state)
    assert (delivery.status, delivery.attempts, delivery.last_status_code) == ("delivered", 1, 204)
    assert endpoint.first_failure_at is None


async def test_failures_are_repeated_with_the_same_bytes_until_taken(
    skipping_env: WorkflowEnvironment, database: Database
) -> None:
    delivery_id = await database.write(_set_up)
    receiver = Receiver(500, Trouble.TIMED_OUT, 302, 200)
    result, handle = await _deliver(skipping_env.client, database, receiver, delivery_id)
    assert result == "delivered"
    assert len({body for _, body in receiver.posts}) == 1
    assert len({headers["webhook-id"] for headers, _ in receiver.posts}) == 1
    assert len({headers["webhook-timestamp"] for headers, _ in receiver.posts}) == 4
    for pause, scheduled in zip(await _pauses(handle), (5, 300, 1800), strict=True):
        assert scheduled * 0.9 - 1 <= pause <= scheduled * 1.1
    delivery, endpoint = await database.read(_state)
    assert (delivery.status, delivery.attempts, endpoint.first_failure_at) == ("delivered", 4, None)


async def test_retry_after_is_waited_for(skipping_env: WorkflowEnvironment, database: Database) -> None:
    delivery_id = await database.write(_set_up)
    _, handle = await _deliver(skipping_env.client, database, Receiver(Answer(503, "1200"), 200), delivery_id)
    assert list(await _pauses(handle)) == [1200]


async def test_after_ten_attempts_it_is_given_up(
    skipping_env: WorkflowEnvironment, database: Database
) -> None:
    delivery_id = await database.write(_set_up)
    receiver = Receiver(Trouble.UNREACHABLE)
    result, handle = await _deliver(skipping_env.client, database, receiver, delivery_id)
    assert (result, len(receiver.posts)) == ("failed", 10)
    assert timedelta(hours=68) < timedelta(seconds=sum(await _pauses(handle))) < timedelta(hours=84)
    delivery, endpoint = await database.read(_state)
    assert (delivery.status, delivery.attempts, delivery.last_error) == ("failed", 10, "unreachable")
    assert (delivery.next_attempt_at, endpoint.enabled) == (None, True)


async def test_410_disables_the_endpoint_and_says_so_in_the_feed(
    skipping_env: WorkflowEnvironment, database: Database
) -> None:
    delivery_id = await database.write(_set_up)
    result, _ = await _deliver(skipping_env.client, database, Receiver(410), delivery_id)
    delivery, endpoint = await database.read(_state)
    assert (result, delivery.status, endpoint.enabled, endpoint.disabled_reason) == (
        "failed",
        "failed",
        False,
        GONE,
    )
    await database.write(events.assign_positions, 10)
    told = (await database.read(events.feed, delivery.merchant_id, 1, 10))[0]
    assert (told["type"], told["subject"]["id"]) == ("webhook_endpoint.disabled", endpoint.id)


async def test_five_days_without_one_success_disable_the_endpoint(
    skipping_env: WorkflowEnvironment, database: Database
) -> None:
    delivery_id = await database.write(_set_up)
    receiver = Receiver(500)
    result, _ = await _deliver(skipping_env.client, database, receiver, delivery_id, Clock(timedelta(days=1)))
    _, endpoint = await database.read(_state)
    assert (result, endpoint.enabled, endpoint.disabled_reason) == ("failed", False, NO_SUCCESS)
    assert 1 < len(receiver.posts) < 10


@pytest.mark.parametrize("enabled", [True, False])
async def test_nothing_is_sent_when_there_is_nothing_left_to_do(
    skipping_env: WorkflowEnvironment, database: Database, enabled: bool
) -> None:
    def close(connection: Connection) -> None:
        if enabled:
            webhook_deliveries.record_delivered(connection, delivery_id, 1, 200, NOW)
        else:
            connection.execute(endpoints.update().values(enabled=False))

    delivery_id = await database.write(_set_up)
    await database.write(close)
    receiver = Receiver(200)
    result, _ = await _deliver(skipping_env.client, database, receiver, delivery_id)
    assert (result, receiver.posts) == ("closed", [])
    delivery, _ = await database.read(_state)
    assert delivery.status == ("delivered" if enabled else "failed")
