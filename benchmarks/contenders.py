"""The contenders of one run: how each is started to its answer, and from there to its end."""

import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol

import httpx
from sqlalchemy import Connection
from temporalio.client import Client, WithStartWorkflowOperation
from temporalio.common import WorkflowIDConflictPolicy

from api.gateway import TemporalGateway
from benchmarks import bare
from corridor.domain.accepted import NewPayment
from corridor.domain.ids import Prefix, new_id
from corridor.domain.money import Money
from corridor.domain.settlement import SettlementLine
from corridor.storage import idempotency, payments, settlement
from corridor.storage.database import Database
from corridor.storage.payments import PaymentRow
from workflows import names
from workflows.messages import SettlementFact

AMOUNT = Money(10_000, "EUR")
DEADLINE_SECONDS = 60.0
CAPTURED = 201


class WrongAnswer(Exception):
    """A contender did not do what is measured; its figures would mean nothing."""


@dataclass(frozen=True)
class Answered:
    """`seconds` is what the caller waited; `start_seconds` of it was the update-with-start alone."""

    id: str
    seconds: float
    start_seconds: float


class Contender(Protocol):
    """What the rounds drive."""

    name: str

    async def answer(self) -> Answered:
        """Start one and wait for its early answer. Raises `WrongAnswer`."""
        ...

    async def finish(self, answered: Answered) -> None:
        """Signal it and wait until its workflow is completed. Raises `WrongAnswer`."""
        ...


@dataclass
class Bare:
    """The yardstick (`benchmarks/bare.py`); `sealed` is the same behind our data converter."""

    name: str
    client: Client
    _count: int = 0

    async def answer(self) -> Answered:
        self._count += 1
        workflow_id = f"{self.name}-{self._count}"
        begun = time.perf_counter()
        operation: WithStartWorkflowOperation[Any, str] = WithStartWorkflowOperation(
            bare.NAME,
            workflow_id,
            id=workflow_id,
            task_queue=bare.QUEUE,
            result_type=str,
            id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
        )
        await self.client.execute_update_with_start_workflow(
            "accept", start_workflow_operation=operation, id="accept", result_type=str
        )
        seconds = time.perf_counter() - begun
        return Answered(workflow_id, seconds, seconds)

    async def finish(self, answered: Answered) -> None:
        handle = self.client.get_workflow_handle(answered.id, result_type=str)
        await handle.signal("tell", "settled")
        await handle.result()


@dataclass
class Payment:
    """Our payment as the API carries it, without HTTP: accept, start, read the frozen answer."""

    name: str
    client: Client
    database: Database
    merchant_id: str
    gateway: TemporalGateway = field(init=False)

    def __post_init__(self) -> None:
        self.gateway = TemporalGateway(self.client)

    async def answer(self) -> Answered:
        new = _order(self.merchant_id)
        begun = time.perf_counter()
        row = await self.database.write(_accept, new, _now())
        accepted = time.perf_counter()
        await self.gateway.start_payment(row, DEADLINE_SECONDS)
        started = time.perf_counter()
        answer = await self.database.read(idempotency.answer_of, new.id)
        ended = time.perf_counter()
        if answer is None or '"status":"captured"' not in answer.body:
            raise WrongAnswer(f"{self.name}: {new.id} is not captured: {answer}")
        return Answered(new.id, ended - begun, started - accepted)

    async def finish(self, answered: Answered) -> None:
        await settle(self.client, self.database, answered.id)


@dataclass
class OverHttp:
    """The same through `POST /v1/payments` of the API process."""

    name: str
    client: Client
    database: Database
    http: httpx.AsyncClient

    async def answer(self) -> Answered:
        token = new_id(Prefix.REQUEST, _now())
        body = {
            "amount": {"minor": AMOUNT.minor, "currency": AMOUNT.currency},
            "payment_method": {"type": "card", "provider_token": "pm_card_visa", "fingerprint": token},
            "buyer": {"country": "DE"},
            "metadata": {},
        }
        begun = time.perf_counter()
        response = await self.http.post("/v1/payments", json=body, headers={"Idempotency-Key": token})
        seconds = time.perf_counter() - begun
        if response.status_code != CAPTURED or response.json()["status"] != "captured":
            raise WrongAnswer(f"{self.name}: HTTP {response.status_code}: {response.text[:300]}")
        return Answered(response.json()["id"], seconds, seconds)

    async def finish(self, answered: Answered) -> None:
        await settle(self.client, self.database, answered.id)


async def settle(client: Client, database: Database, payment_id: str) -> None:
    """Stage a report row as the import does, tell the payment, wait for its end."""
    line_id = f"txn_{payment_id}"
    await database.write(_stage, _line(line_id, payment_id), _now())
    handle: Any = client.get_workflow_handle(names.payment_workflow_id(payment_id))
    await handle.signal(names.SETTLEMENT_FACT, SettlementFact(provider="stripe", line_id=line_id))
    result = await handle.result()
    if result["status"] != "settled":
        raise WrongAnswer(f"{payment_id} ended as {result['status']}")


def _order(merchant_id: str) -> NewPayment:
    return NewPayment(
        id=new_id(Prefix.PAYMENT, _now()),
        merchant_id=merchant_id,
        amount=AMOUNT,
        settle_currency="CNY",
        source_country="DE",
        destination_country="CN",
        payment_token="pm_card_visa",  # noqa: S106 — a public test token
        instrument=new_id(Prefix.REQUEST, _now()),
    )


def _accept(connection: Connection, new: NewPayment, now: datetime) -> PaymentRow:
    """What the API's accepting transaction does."""
    idempotency.claim(connection, new.merchant_id, new.id, "0" * 64, new.id, now)
    return payments.accept(connection, new, now)


def _line(line_id: str, payment_id: str) -> SettlementLine:
    fee = Money(320, AMOUNT.currency)
    return SettlementLine(
        line_id=line_id, batch_id="po_benchmark", kind="charge", provider_kind="charge", provider_reference=None,
        effect_key=f"{payment_id}:sale:1", payment_id=payment_id, gross=AMOUNT, fee=fee, net=AMOUNT - fee,
        converted_from=None, rate=None, available_at=_now(), created_at=_now(),
    )  # fmt: skip


def _stage(connection: Connection, line: SettlementLine, now: datetime) -> None:
    settlement.stage(connection, "stripe", [line], [], line.batch_id, now)


def _now() -> datetime:
    return datetime.now(UTC)
