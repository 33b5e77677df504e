"""A whole small installation in one process: real Temporal, real database, the provider sandbox over real HTTP."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.workflowservice.v1 import ResetWorkflowExecutionRequest
from temporalio.client import Client, WithStartWorkflowOperation
from temporalio.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy

from corridor.domain.accepted import NewPayment, NewRefund
from corridor.domain.ids import Prefix, new_id
from corridor.domain.money import Money
from corridor.domain.payment import CaptureMethod
from corridor.notify.signing import new_secret
from corridor.providers.port import IdempotencyContract
from corridor.providers.registry import Registry
from corridor.providers.stripe.adapter import StripeProvider
from corridor.providers.stripe.capabilities import CONTRACT
from corridor.providers.stripe.webhooks import reduce_event
from corridor.runtime.settings import Settings
from corridor.storage import (
    effects,
    inbox,
    merchants,
    payments,
    refunds,
    reviews,
    webhook_deliveries,
    webhook_endpoints,
)
from corridor.storage.database import Database
from corridor.storage.inbox import NewProviderEvent
from workers import fleet, wiring
from workers.histories import reading
from workers.histories.reading import Reading
from workers.relay.dispatcher import Dispatcher
from workers.relay.inbox import InboxRouter
from workers.relay.sequencer import Sequencer
from workers.wiring import Wiring
from workflows import names
from workflows.messages import CancelCommand, CaptureCommand, ProviderHint, ReviewCommand, SettlementStart
from workflows.starts import Windows, payment_search_attributes, payment_start, refund_start

CALL_TIMEOUT_SECONDS = 1.5
GRACE = timedelta(seconds=3)


def now() -> datetime:
    return datetime.now(UTC)


class BriefStripe(StripeProvider):
    """The adapter with its promises on a shorter clock: every wait is there, none takes long."""

    promises: IdempotencyContract = CONTRACT.model_copy(
        update={"lookup_lag_seconds": 1, "longest_call_seconds": 6}
    )

    @property
    def contract(self) -> IdempotencyContract:
        return self.promises


@dataclass
class World:
    """What a scenario needs: accept payments, ask, wait, look into both sets of books."""

    client: Client
    wired: Wiring
    merchant_id: str
    control: httpx.AsyncClient
    windows: Windows
    stripe: BriefStripe
    strangers: list[tuple[str, int, str]] = field(default_factory=list)
    """What others did with our account at the provider: in its books, rightly not in ours."""

    @property
    def database(self) -> Database:
        return self.wired.edge.database

    async def accept(self, token: str = "pm_card_visa", **changes: Any) -> str:
        """A payment's row as the API writes it; returns the id."""
        new = self.order(token, **changes)
        await self.database.write(payments.accept, new, now())
        return new.id

    def order(self, token: str = "pm_card_visa", **changes: Any) -> NewPayment:
        """What the API accepts, before any row of it is written."""
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
        return NewPayment.model_validate(values)

    async def start(self, payment_id: str) -> Any:
        """Update-with-start as the API does it; returns the early answer."""
        row = await self.database.read(payments.load, payment_id)
        operation: WithStartWorkflowOperation[Any, Any] = WithStartWorkflowOperation(
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

    async def start_unheard(self, payment_id: str) -> None:
        """Start it as the orphan starter does, which waits for no answer."""
        row = await self.database.read(payments.load, payment_id)
        await self.client.start_workflow(
            names.PAYMENT,
            payment_start(row, self.windows),
            id=names.payment_workflow_id(payment_id),
            task_queue=names.CORE_QUEUE,
            search_attributes=payment_search_attributes(row),
        )

    async def told(self, payment_id: str) -> Reading:
        """What the history of the payment's run in force says."""
        history = await self.handle(payment_id).fetch_history()
        return await reading.read(history, self.client.data_converter)

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
        refund_id = await self.accept_refund(payment_id, minor)
        await self.start_refund(refund_id)
        return await self.database.read(refunds.load, refund_id)

    async def accept_refund(self, payment_id: str, minor: int) -> str:
        """A refund's row as the API writes it; returns the id."""
        payment = await self.payment(payment_id)
        new = NewRefund(
            id=new_id(Prefix.REFUND, now()),
            payment_id=payment_id,
            merchant_id=payment.merchant_id,
            amount=Money(minor, payment.currency),
        )
        await self.database.write(refunds.accept, new, now())
        return new.id

    async def start_refund(self, refund_id: str) -> Any:
        """Run the refund's workflow to its early answer; returns that."""
        row = await self.database.read(refunds.load, refund_id)
        operation: WithStartWorkflowOperation[Any, Any] = WithStartWorkflowOperation(
            names.REFUND,
            refund_start(row),
            id=names.refund_workflow_id(refund_id),
            task_queue=names.CORE_QUEUE,
            id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
            id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
        )
        return await self.client.execute_update_with_start_workflow(
            names.ACCEPT, start_workflow_operation=operation, id="accept"
        )

    def handle(self, payment_id: str) -> Any:
        return self.client.get_workflow_handle(names.payment_workflow_id(payment_id))

    async def reset(self, payment_id: str) -> None:
        """Take the payment's workflow back to before its last step, as an operator does."""
        await self._reset(self.handle(payment_id), -1)

    async def tasks_completed(self, payment_id: str, count: int) -> None:
        """Wait until so many tasks of the payment's workflow were completed."""
        async with asyncio.timeout(30):
            while True:
                events = (await self.handle(payment_id).fetch_history()).events
                if sum(it.HasField("workflow_task_completed_event_attributes") for it in events) >= count:
                    return
                await asyncio.sleep(0.1)

    async def begin_anew(self, payment_id: str) -> None:
        """Take the payment's workflow back to its beginning."""
        await self._reset(self.handle(payment_id), 0)

    async def reset_refund(self, refund_id: str) -> None:
        """Take the refund's workflow back to its beginning."""
        await self._reset(self.refund_handle(refund_id), 0)

    async def _reset(self, handle: Any, task: int) -> None:
        described = await handle.describe()
        history = await handle.fetch_history()
        tasks = [it for it in history.events if it.HasField("workflow_task_completed_event_attributes")]
        await self.client.workflow_service.reset_workflow_execution(
            ResetWorkflowExecutionRequest(
                namespace=self.client.namespace,
                workflow_execution=WorkflowExecution(workflow_id=described.id, run_id=described.run_id),
                reason="a test",
                workflow_task_finish_event_id=tasks[task].event_id,
                request_id=new_id(Prefix.REQUEST, now()),
            )
        )

    def refund_handle(self, refund_id: str) -> Any:
        return self.client.get_workflow_handle(names.refund_workflow_id(refund_id))

    async def ask(self, payment_id: str, update: str, command: Any) -> Mapping[str, Any]:
        """Send a command as the API does; returns its answer."""
        answer: Mapping[str, Any] = await self.handle(payment_id).execute_update(update, command)
        return answer

    async def capture(self, payment_id: str, minor: int | None = None) -> Mapping[str, Any]:
        payment = await self.payment(payment_id)
        amount = None if minor is None else Money(minor, payment.currency)
        return await self.ask(payment_id, names.CAPTURE, CaptureCommand(amount=amount))

    async def cancel(self, payment_id: str) -> Mapping[str, Any]:
        return await self.ask(payment_id, names.CANCEL, CancelCommand())

    async def decide(
        self, payment_id: str, decision: Any, provider_reference: str | None = None
    ) -> Mapping[str, Any]:
        """Answer the payment's open review as a person."""
        review = await self.review(payment_id)
        command = ReviewCommand(
            review_id=review.id,
            decision=decision,
            decided_by="ana",
            note="seen by hand",
            provider_reference=provider_reference,
        )
        return await self.ask(payment_id, names.DECIDE_REVIEW, command)

    async def decide_refund(self, refund_id: str, review_id: str, decision: Any) -> None:
        command = ReviewCommand(review_id=review_id, decision=decision, decided_by="ana", note="seen by hand")
        await self.refund_handle(refund_id).execute_update(names.DECIDE_REVIEW, command)

    async def review(self, object_id: str) -> Any:
        """The one open review of a payment or refund."""
        (review,) = await self.database.read(reviews.open_for, object_id)
        return review

    # --- the provider's side -----------------------------------------------------------------------------------

    def without_keys(self) -> None:
        """From now on the provider promises nothing about repeats: one attempt, then look-ups."""
        self.stripe.promises = self.stripe.promises.model_copy(update={"key_life_seconds": None})

    async def plant(
        self, kind: str, operation: str = "payment_intents.create", times: int = 1, **fault: Any
    ) -> None:
        """Plant a fault at the sandbox; it is met by the next `times` calls of the operation."""
        rule = {"match": {"operation": operation}, "fault": {"kind": kind, **fault}, "times": times}
        (await self.control.post("/control/faults", json=rule)).raise_for_status()

    async def heal(self) -> None:
        """Remove every planted fault."""
        (await self.control.delete("/control/faults")).raise_for_status()

    async def under_way(self, kind: str = "latency") -> None:
        """Wait until a call has met a planted fault of the kind; what comes next finds that call at the provider."""
        async with asyncio.timeout(30):
            while kind not in await self.fired():
                await asyncio.sleep(0.05)

    async def fired(self) -> Mapping[str, int]:
        """How often each kind of fault was really met; a scenario whose fault never fired proves nothing."""
        counts: Mapping[str, int] = (await self.control.get("/control/faults/fired")).json()["by_kind"]
        return counts

    async def reference_at_the_provider(self, payment_id: str) -> str:
        """What a person reads in the provider's dashboard."""
        query = {"metadata_key": "corridor_payment", "metadata_value": payment_id}
        movements = (await self.control.get("/control/books", params=query)).json()["data"]
        return str(movements[0]["intent"])

    async def finish_challenge(self, payment_id: str, ending: str = "complete") -> None:
        """The buyer at the bank's page."""
        payment = await self.payment(payment_id)
        answer = await self.control.post(f"/stripe/3ds/{payment.provider_reference}/{ending}")
        assert answer.status_code in (200, 303), answer.text

    async def hint(self, payment_id: str, event_id: str = "evt_1") -> None:
        """What the relay sends when a verified webhook names the payment."""
        await self.handle(payment_id).signal(names.PROVIDER_HINT, ProviderHint(provider_event_id=event_id))

    async def late_news(self, payment_id: str) -> None:
        """Webhooks of an earlier effect come in for three seconds."""
        for number in range(12):
            await asyncio.sleep(0.25)
            await self.hint(payment_id, f"evt_late_{number}")

    async def route_webhooks(self) -> int:
        """Store every event of the sandbox, then let the relay's router turn."""
        await self.store_webhooks()
        return await InboxRouter(self.database, self.client, lambda: now() + timedelta(seconds=2)).turn()

    async def store_webhooks(self) -> None:
        """Store every event of the sandbox as our webhook endpoint does."""
        listed = await self.control.get(
            "/stripe/v1/events",
            params={"limit": "100"},
            headers={"authorization": "Bearer sk_test_corridor_sandbox"},
        )
        for event in listed.json()["data"]:
            told = reduce_event(json.dumps(event).encode())
            new = NewProviderEvent(
                id=f"pev_{told.provider_event_id}",
                provider="stripe",
                body_sealed=b"sealed",
                **told.model_dump(),
            )
            await self.database.write(inbox.store, new, now())

    async def until(self, payment_id: str, *statuses: str, seconds: float = 30) -> Any:
        """Wait until the payment's row has one of the statuses."""
        async with asyncio.timeout(seconds):
            while (row := await self.payment(payment_id)).status not in statuses:
                await asyncio.sleep(0.1)
        return row

    async def until_refund(self, refund_id: str, *statuses: str) -> Any:
        """The same of a refund."""
        async with asyncio.timeout(30):
            while (row := await self.database.read(refunds.load, refund_id)).status not in statuses:
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
        await self.import_settlement()

    async def import_settlement(self) -> str:
        """Run one import to its end; returns its workflow id."""
        workflow_id = f"settlement-{new_id(Prefix.REQUEST, now())}"
        await self.client.execute_workflow(
            names.SETTLEMENT,
            SettlementStart(provider="stripe"),
            id=workflow_id,
            task_queue=names.SETTLEMENT_QUEUE,
        )
        return workflow_id

    async def subscribe(self, events: Sequence[str], failures: int = 0, url: str | None = None) -> None:
        """A webhook endpoint of the merchant, at the sandbox's receiver by default, which fails so often first."""
        secret = new_secret()
        endpoint_id = new_id(Prefix.WEBHOOK_ENDPOINT, now())
        sealed = self.wired.sealer.seal(secret.encode(), webhook_endpoints.place(endpoint_id))
        await self.database.write(
            webhook_endpoints.create,
            endpoint_id=endpoint_id,
            merchant_id=self.merchant_id,
            url=url or f"{self.control.base_url}/merchant/webhooks/shop",
            event_types=list(events),
            secret_sealed=sealed,
            now=now(),
        )
        settings = {"secret": secret, "fail_next": failures}
        (await self.control.put("/merchant/webhooks/shop", json=settings)).raise_for_status()

    async def dispatch(self) -> list[str]:
        """Let the relay place events and start deliveries; returns the ids of all deliveries."""
        await Sequencer(self.database).turn()
        await Dispatcher(self.database, self.client, now).turn()
        page = await self.database.read(webhook_deliveries.page, self.merchant_id, 100)
        return [row.id for row in page.rows]

    def lock(self, seconds: int) -> None:
        """From now on locks of payments without a quote of their own last this long."""
        object.__setattr__(self.wired.edge, "lock_seconds", seconds)

    def clock_of_workers(self, ahead: timedelta) -> None:
        """From now on the workers' clock is that far from ours."""
        object.__setattr__(self.wired.edge, "now", lambda: now() + ahead)


@contextlib.asynccontextmanager
async def world(
    client: Client,
    settings: Settings,
    sandbox_url: str,
    windows: Windows | None = None,
    cached_workflows: int = fleet.CACHED_WORKFLOWS,
    with_workers: bool = True,
) -> AsyncIterator[World]:
    """Workers of every queue on one client; queues are shared by all tests of a session, so one world at a time."""
    wired, stripe = _on_a_shorter_clock(wiring.build(settings), settings)
    merchant_id = new_id(Prefix.MERCHANT, now())
    merchant = merchants.NewMerchant(
        id=merchant_id,
        name="Lantern & Loom",
        country="CN",
        settle_currency="CNY",
        fee_bps=100,
        fx_markup_bps=40,
    )
    await wired.edge.database.write(merchants.create_merchant, merchant, now())
    async with contextlib.AsyncExitStack() as stack:
        control = await stack.enter_async_context(httpx.AsyncClient(base_url=sandbox_url, timeout=30))
        if with_workers:
            workers = fleet.running(wired, client, GRACE, sandboxed=True, cached_workflows=cached_workflows)
            await stack.enter_async_context(workers)
        yield World(client, wired, merchant_id, control, windows or Windows(), stripe)
    await stripe.close()
    await wired.close()


def _on_a_shorter_clock(wired: Wiring, settings: Settings) -> tuple[Wiring, BriefStripe]:
    stripe = BriefStripe(
        base_url=settings.stripe_address,
        secret_key=settings.stripe_secret_key,
        webhook_secrets=[settings.stripe_webhook_secret],
        clock=now,
        call_timeout_seconds=CALL_TIMEOUT_SECONDS,
    )
    edge = replace(wired.edge, providers=Registry([stripe]))
    return replace(wired, edge=edge), stripe
