"""The operator of a run: decides every review as a careful person would, unknown outcomes from the provider's books."""

import asyncio
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx

from api.cli.audit.evidence import movement
from api.cli.demo.shop import Answer, NoAnswer, Shop
from tests.chaos.arrivals import Story
from tests.chaos.shopping import Order, Surprise

Json = dict[str, Any]

LOOK_SECONDS = 1.0
CONSIDERATION_LOOKS = 2
"""A person does not decide in the second a review appears; what still is under way comes in meanwhile."""
_LOST = frozenset({"review_already_decided", "state_conflict"})
"""Refusals of a decision that came second, or after evidence had answered the question."""


@dataclass
class Clerk:
    """Two operators at one desk: `second` only appears where both decide the same review at once (F18)."""

    first: Shop
    second: Shop
    sandbox: httpx.AsyncClient
    orders: list[Order]
    decided: Counter[str] = field(default_factory=Counter)
    surprises: list[str] = field(default_factory=list)
    _seen: Counter[str] = field(default_factory=Counter)

    async def work(self) -> None:
        """Until canceled: look at the open reviews, decide those that have been open for a moment."""
        while True:
            try:
                await self._look()
            except (NoAnswer, httpx.HTTPError):
                await asyncio.sleep(LOOK_SECONDS)
            except Surprise as surprise:
                self.surprises.append(str(surprise))
            await asyncio.sleep(LOOK_SECONDS)

    async def _look(self) -> None:
        listed = await self.first.get("/v1/reviews", limit=100)
        stories = {order.payment_id: order.arrival.story for order in self.orders if order.payment_id}
        for review in listed["data"]:
            self._seen[review["id"]] += 1
            if self._seen[review["id"]] > CONSIDERATION_LOOKS:
                await self._decide(review, stories)

    async def _decide(self, review: Json, stories: Mapping[str, Story]) -> None:
        if review["reason"] == "risk_review":
            await self._decide_risk(review, stories.get(review["payment"]))
            return
        if review["reason"] == "compensation_stuck":
            await self._send(
                self.first, review["id"], {"decision": "approve", "note": "try to undo it again"}
            )
            return
        found = await self._at_the_provider(review["evidence"].get("effect", ""), review["payment"])
        decision: Json = {"decision": "absent", "note": "not in the provider's books"}
        if found is not None:
            decision = {"decision": "found", "note": "in the provider's books", "provider_reference": found}
        await self._send(self.first, review["id"], decision)

    async def _decide_risk(self, review: Json, story: Story | None) -> None:
        decision = "decline" if story is Story.REVIEW_DECLINED else "approve"
        body: Json = {"decision": decision, "note": "checked with the buyer by telephone"}
        if story is Story.REVIEW_DECIDED_TWICE:
            other: Json = {"decision": "decline", "note": "does not look right"}
            await asyncio.gather(
                self._send(self.first, review["id"], body), self._send(self.second, review["id"], other)
            )
            self.decided["twice at once"] += 1
        else:
            await self._send(self.first, review["id"], body)

    async def _send(self, who: Shop, review_id: str, body: Json) -> Answer:
        key = f"{review_id}-{who.name}-{body['decision']}"
        answer = await who.post(f"/v1/reviews/{review_id}:decide", body, key)
        if answer.status not in (200, 202) and answer.code not in _LOST:
            raise Surprise(
                f"review {review_id}: {body['decision']} was answered {answer.status} {answer.code}"
            )
        self.decided[body["decision"] if answer.status < 300 else "too late"] += 1
        return answer

    async def _at_the_provider(self, effect_key: str, payment_id: str) -> str | None:
        """The provider's own id of what this effect moved, or None: its books are the fact."""
        answer = await self.sandbox.get(
            "/control/books",
            params={"metadata_key": "corridor_payment", "metadata_value": payment_id, "limit": 100},
        )
        answer.raise_for_status()
        for row in answer.json()["data"]:
            if movement(row).key == effect_key:
                return str(row["intent"] if row["effect"] != "refund" else row["object_id"])
        return None
