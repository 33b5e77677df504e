"""The control API: plant faults, move time, settle now, and read the books for the proof."""

from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Query
from pydantic import BaseModel, ConfigDict, Field

from corridor.sandbox.faults import FaultRule
from corridor.sandbox.stripe import movements
from corridor.sandbox.stripe.provider import StripeSandbox
from corridor.sandbox.stripe.tokens import SANDBOX_SUFFIX, TEST_CARDS, TOKEN_FAULTS

Document = dict[str, Any]


class ClockAdvance(BaseModel):
    """How far to move time."""

    model_config = ConfigDict(extra="forbid")
    advance_seconds: int = Field(ge=0)


class TokenFaults(BaseModel):
    """Whether the faults named in test tokens are met."""

    model_config = ConfigDict(extra="forbid")
    in_force: bool


class WebhookEndpoint(BaseModel):
    """Where Stripe events go from now on."""

    model_config = ConfigDict(extra="forbid")
    url: str
    secret: str = Field(min_length=1)


def control_router(stripe: StripeSandbox) -> APIRouter:
    """All routes under `/control`; they act on the sandbox, never on Corridor."""
    router = APIRouter(prefix="/control", tags=["control"])
    _add_fault_routes(router, stripe)
    _add_time_routes(router, stripe)
    _add_book_routes(router, stripe)
    return router


def _add_fault_routes(router: APIRouter, stripe: StripeSandbox) -> None:
    @router.post("/faults", status_code=201)
    async def plant_fault(rule: FaultRule) -> FaultRule:
        """Put a fault rule in force."""
        return stripe.rules.add(rule)

    @router.get("/faults")
    async def list_faults() -> list[FaultRule]:
        """All rules with their counters."""
        return stripe.rules.standing()

    @router.delete("/faults")
    async def clear_faults() -> dict[str, int]:
        """Remove every rule."""
        return {"removed": stripe.rules.clear()}

    @router.delete("/faults/{rule_id}")
    async def clear_fault(rule_id: str) -> dict[str, int]:
        """Remove one rule."""
        removed = stripe.rules.clear(rule_id)
        if not removed:
            raise HTTPException(404, f"no fault rule {rule_id}")
        return {"removed": removed}

    @router.put("/token_faults")
    async def set_token_faults(wanted: TokenFaults) -> TokenFaults:
        """Off: a token with a fault in its name is the plain one from now on, and until a restart."""
        stripe.rules.token_faults_in_force = wanted.in_force
        return wanted

    @router.get("/faults/fired")
    async def fired_faults() -> Document:
        """How often each fault really fired at the fake Stripe, by kind and operation, and with which status."""
        sql = "SELECT kind, operation, cause, COUNT(*) AS count FROM fired_faults GROUP BY kind, operation, cause"
        rows = await stripe.books.run(lambda connection: [dict(row) for row in connection.execute(sql)])
        by_kind: dict[str, int] = {}
        by_status: dict[str, int] = {}
        for row in rows:
            by_kind[row["kind"]] = by_kind.get(row["kind"], 0) + row["count"]
            if status := row["cause"].partition(" ")[2]:
                by_status[status] = by_status.get(status, 0) + row["count"]
        return {"by_kind": by_kind, "by_status": by_status, "detail": rows}

    @router.get("/tokens")
    async def tokens() -> Document:
        """The test tokens, and the faults that can be appended to any of them."""
        return {
            "cards": {token: card.last4 for token, card in TEST_CARDS.items()},
            "fault_suffix": f"<token>{SANDBOX_SUFFIX}[capture|cancel|refund]<fault>",
            "faults": {name: fault.model_dump(mode="json") for name, fault in TOKEN_FAULTS.items()},
        }


def _add_time_routes(router: APIRouter, stripe: StripeSandbox) -> None:
    @router.get("/health")
    async def health() -> Document:
        """Ready when this answers."""
        return {"status": "ok", "market_day": stripe.rates.day.isoformat(), "now": stripe.clock.seconds()}

    @router.get("/clock")
    async def clock() -> dict[str, int]:
        """The sandbox's time and its distance from the machine's."""
        return {"now": stripe.clock.seconds(), "offset_seconds": stripe.clock.offset_milliseconds // 1000}

    @router.post("/clock")
    async def advance(change: ClockAdvance) -> dict[str, int]:
        """Move time forward and run everything that became due."""
        await stripe.advance_clock(change.advance_seconds)
        while await stripe.tick():
            continue
        return {"now": stripe.clock.seconds(), "offset_seconds": stripe.clock.offset_milliseconds // 1000}

    @router.post("/settle")
    async def settle() -> dict[str, list[str]]:
        """Make everything collected available, pay it out, and complete the payouts."""
        return {"payouts": await stripe.settle_now()}

    @router.put("/webhook_endpoint")
    async def set_webhook_endpoint(endpoint: WebhookEndpoint) -> dict[str, str]:
        """Send Stripe events to this URL from now on."""
        await stripe.set_endpoint(endpoint.url, endpoint.secret)
        return {"url": endpoint.url}


def _add_book_routes(router: APIRouter, stripe: StripeSandbox) -> None:
    @router.get("/books")
    async def books(
        after: Annotated[int, Query(ge=0)] = 0,
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
        effect: str | None = None,
        metadata_key: str | None = None,
        metadata_value: str | None = None,
    ) -> Document:
        """The movements, effect by effect; all about one payment with metadata_key and metadata_value."""
        if (metadata_key is None) != (metadata_value is None):
            raise HTTPException(422, "metadata_key and metadata_value go together")
        wanted = None if metadata_key is None or metadata_value is None else (metadata_key, metadata_value)
        return await stripe.books.run(
            lambda c: movements.page(c, after=after, limit=limit, effect=effect, metadata=wanted)
        )

    @router.get("/books/summary")
    async def books_summary() -> Document:
        """Totals per effect and currency."""
        return await stripe.books.run(movements.summary)

    @router.get("/webhooks")
    async def webhooks() -> Document:
        """The delivery queue by state, and the latest failures."""
        states = "SELECT state, COUNT(*) AS count FROM deliveries GROUP BY state"
        failing = (
            "SELECT event_id, attempts, state, last_result FROM deliveries"
            " WHERE attempts > 0 AND state <> 'delivered' ORDER BY sequence DESC LIMIT 20"
        )
        counts = await stripe.books.run(lambda c: {row["state"]: row["count"] for row in c.execute(states)})
        latest = await stripe.books.run(lambda c: [dict(row) for row in c.execute(failing)])
        return {"endpoint": stripe.endpoint.url, "states": counts, "failing": latest}

    @router.get("/webhooks/delivered")
    async def delivered(
        after: Annotated[int, Query(ge=0)] = 0, limit: Annotated[int, Query(ge=1, le=1000)] = 100
    ) -> Document:
        """Deliveries that the receiver answered with 2xx, and when, in pages."""
        page = (
            "SELECT sequence, event_id, due_ms AS at_ms FROM deliveries"
            " WHERE state = 'delivered' AND sequence > ? ORDER BY sequence LIMIT ?"
        )
        found = await stripe.books.run(lambda c: [dict(row) for row in c.execute(page, (after, limit))])
        return {"data": found, "next_after": found[-1]["sequence"] if found else after}
