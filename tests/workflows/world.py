"""A whole small installation in one process: real Temporal, real database, the provider sandbox over real HTTP."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import httpx
from temporalio.client import Client, WithStartWorkflowOperation
from temporalio.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.worker import Worker

from corridor.domain.ids import Prefix, new_id
from corridor.domain.money import Money
from corridor.domain.payment import CaptureMethod
from corridor.runtime.settings import Settings
from corridor.storage import effects, merchants, payments, refunds
from corridor.storage.database import Database
from corridor.storage.payments import NewPayment
from corridor.storage.refunds import NewRefund
from workers import fleet, wiring
from workers.wiring import Wiring
from workflows import names
from workflows.starts import Windows, payment_search_attributes, payment_start, refund_start


def now() -> datetime:
    return datetime.now(UTC)


@dataclass
class World:
    """What a scenario needs: accept payments, ask, wait, look into both sets of books."""

    client: Client
    wired: Wiring
    merchant_id: str
    control: httpx.AsyncClient
    windows: Windows

    @property
    def database(self) -> Database:
        return self.wired.edge.database

    async def accept(self, token: str = "pm_card_visa", **changes: Any) -> str:
        """A payment's row as the API writes it; returns the id."""
        values: dict[str, Any] = {
            "id": new_id(Prefix.PAYMENT, now()),
            "merchant_id": self.merchant_id,
            "amount": Money(10_000, "EUR"),
            "settle_currency": "CNY",
            "source_country": "DE",
            "destination_country": "CN",
            "payment_token": token,
            "instrument": new_id(Prefix.REQUEST, now()),
            "return_url": "https://shop.example/back",
            **changes,
        }
        new = NewPayment.model_validate(values)
        await self.database.write(payments.accept, new, now())
        return new.id

    async def start(self, payment_id: str) -> Any:
        """Update-with-start as the API does it; returns the early answer."""
        row = await self.database.read(payments.load, payment_id)
        operation = WithStartWorkflowOperation(
            names.PAYMENT,
            payment_start(row, self.windows),
            id=names.payment_workflow_id(payment_id),
            task_queue=names.CORE_QUEUE,
            id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
            id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
            search_attributes=payment_search_attributes(row),
        )
        return await self.client.execute_update_with_start_workflow(
            names.ACCEPT, start_workflow_operation=operation, id="accept"
        )

    async def pay(self, token: str = "pm_card_visa", **changes: Any) -> Any:
        """Accept and start; returns the row once the payment is answered."""
        payment_id = await self.accept(token, **changes)
        await self.start(payment_id)
        return await self.payment(payment_id)

    async def authorize(self, **changes: Any) -> Any:
        return await self.pay(capture_method=CaptureMethod.MANUAL, **changes)

    async def payment(self, payment_id: str) -> Any:
        return await self.database.read(payments.load, payment_id)

    async def refund(self, payment_id: str, minor: int) -> Any:
        """Accept a refund, run its workflow to the answer, return its row."""
        payment = await self.payment(payment_id)
        new = NewRefund(
            id=new_id(Prefix.REFUND, now()), payment_id=payment_id, merchant_id=payment.merchant_id,
            amount=Money(minor, payment.currency),
        )
        row = await self.database.write(refunds.accept, new, now())
        operation = WithStartWorkflowOperation(
            names.REFUND,
            refund_start(row),
            id=names.refund_workflow_id(new.id),
            task_queue=names.CORE_QUEUE,
            id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
        )
        await self.client.execute_update_with_start_workflow(
            names.ACCEPT, start_workflow_operation=operation, id="accept"
        )
        return await self.database.read(refunds.load, new.id)

    def handle(self, payment_id: str) -> Any:
        return self.client.get_workflow_handle(names.payment_workflow_id(payment_id))

    async def until(self, payment_id: str, *statuses: str, seconds: float = 30) -> Any:
        """Wait until the payment's row has one of the statuses."""
        async with asyncio.timeout(seconds):
            while (row := await self.payment(payment_id)).status not in statuses:
                await asyncio.sleep(0.1)
        return row

    async def effects(self, payment_id: str) -> list[tuple[str, str]]:
        rows = await self.database.read(effects.of_payment, payment_id)
        return [(row.key.partition(":")[2], row.state) for row in rows]

    async def moved(self, payment_id: str) -> list[tuple[str, int]]:
        """(effect, minor units) in the sandbox's own books for one payment."""
        query = {"metadata_key": "corridor_payment", "metadata_value": payment_id}
        answer = await self.control.get("/control/books", params=query)
        return [(row["effect"], row["amount"]) for row in answer.json()["data"]]

    async def settle(self) -> None:
        """Let the sandbox pay out, import the report, and return when the import has run."""
        (await self.control.post("/control/settle")).raise_for_status()
        await self.client.execute_workflow(
            names.SETTLEMENT, {"provider": "stripe"}, id=f"settlement-{new_id(Prefix.REQUEST, now())}",
            task_queue=names.CORE_QUEUE,
        )


@contextlib.asynccontextmanager
async def world(
    client: Client, settings: Settings, sandbox_url: str, windows: Windows | None = None
) -> AsyncIterator[World]:
    """Workers of both queues on one client; queues are shared by all tests of a session, so one world at a time."""
    wired = wiring.build(settings)
    merchant_id = new_id(Prefix.MERCHANT, now())
    merchant = merchants.NewMerchant(
        id=merchant_id, name="Lantern & Loom", country="CN", settle_currency="CNY", fee_bps=100, fx_markup_bps=40
    )
    await wired.edge.database.write(merchants.create_merchant, merchant, now())
    async with (
        httpx.AsyncClient(base_url=sandbox_url, timeout=30) as control,
        fleet.core_worker(wired, client),
        fleet.provider_worker(wired, client, "stripe"),
    ):
        yield World(client, wired, merchant_id, control, windows or Windows())
    await wired.close()


__all__ = ["Worker", "World", "world"]
