"""The operator of a run: decides every review as a careful person would, unknown outcomes from the provider's books."""

import asyncio
from collections import Counter
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import httpx

from api.cli.audit.gathering import movement
from api.cli.demo.shop import Answer, NoAnswer, Shop
from tests.chaos.arrivals import Story
from tests.chaos.shopping import Order, Surprise
from tests.chaos.watch import WentBack

Json = dict[str, Any]

LOOK_SECONDS = 1.0
CONSIDERATION_LOOKS = 2
"""A person does not decide in the second a review appears; what still is under way comes in meanwhile."""
AGAIN_AFTER_LOOKS = 8
"""A review that is still open so long after its decision is decided anew: the workflow that was told of it is gone."""
STALE_EVERY = 3
_OTHER = {"approve": "decline", "decline": "approve", "found": "absent", "absent": "found"}
_LOST = frozenset({"review_already_decided", "state_conflict"})
"""Refusals of a decision that came second, or after evidence had answered the question."""


@dataclass(frozen=True)
class Unlike:
    """Two answers to one key that are not the same bytes, and the moments between which they were given."""

    begun: datetime
    ended: datetime
    text: str

    def is_explained(self, returns: Sequence[WentBack]) -> bool:
        """The first was lost with its database; what had been looked up until then is in no history (docs/recovery.md)."""
        return any(back.copied_at < self.ended and self.begun < back.released_at for back in returns)


@dataclass
class Clerk:
    """Two operators at one desk and their mistakes (F18): both at once, a double click, a page that is out of date.

    `second` only appears where both decide the same review at once.
    """

    first: Shop
    second: Shop
    sandbox: httpx.AsyncClient
    orders: list[Order]
    decided: Counter[str] = field(default_factory=Counter)
    surprises: list[str] = field(default_factory=list)
    unlike: list[Unlike] = field(default_factory=list)
    _seen: Counter[str] = field(default_factory=Counter)
    _fresh: dict[str, str] = field(default_factory=dict)
    _open: set[str] = field(default_factory=set)

    def found(self, returns: Sequence[WentBack]) -> list[str]:
        """All that must not have happened, by a database that went back so often."""
        return [*self.surprises, *(it.text for it in self.unlike if not it.is_explained(returns))]

    async def work(self) -> None:
        """Until canceled: look at the open reviews, decide those that have been open for a moment."""
        async with asyncio.TaskGroup() as pages:
            while True:
                await self._patiently(self._look(pages))
                await asyncio.sleep(LOOK_SECONDS)

    async def _look(self, pages: asyncio.TaskGroup) -> None:
        """Each review is a page of its own: one whose payment has lost its workflow holds up no other."""
        listed = await self.first.get("/v1/reviews", limit=100)
        stories = {order.payment_id: order.arrival.story for order in self.orders if order.payment_id}
        for review in listed["data"]:
            self._seen[review["id"]] += 1
            if self._seen[review["id"]] > CONSIDERATION_LOOKS and review["id"] not in self._open:
                pages.create_task(self._patiently(self._on_its_page(review, stories)))
        if len(self._fresh) >= STALE_EVERY:
            review_id, decision = self._fresh.popitem()
            self._fresh.clear()
            pages.create_task(self._patiently(self._decide_what_is_decided(review_id, decision)))

    async def _on_its_page(self, review: Json, stories: Mapping[str, Story]) -> None:
        self._open.add(review["id"])
        try:
            await self._decide(review, stories)
        finally:
            self._open.discard(review["id"])

    async def _patiently(self, work: Coroutine[None, None, None]) -> None:
        """What got no answer is tried again at a later look; what must not happen is kept for the report."""
        try:
            await work
        except (NoAnswer, httpx.HTTPError):
            await asyncio.sleep(LOOK_SECONDS)
        except Surprise as surprise:
            self.surprises.append(str(surprise))

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
        """Clicked twice: one key, so one answer, unless there was none yet (202)."""
        round_number = self._seen[review_id] // AGAIN_AFTER_LOOKS
        key = f"{review_id}-{who.name}-{body['decision']}-{round_number}"
        path = f"/v1/reviews/{review_id}:decide"
        begun = datetime.now(UTC)
        answer, second = await asyncio.gather(who.post(path, body, key), who.post(path, body, key))
        self.decided["clicked twice"] += 1
        done = [it for it in (answer, second) if it.status == 200]
        refused = 400 in (answer.status, second.status) or 409 in (answer.status, second.status)
        if done and refused:
            raise Surprise(
                f"review {review_id}: two clicks were answered {answer.status} and {second.status}"
            )
        if done and done[0].body != done[-1].body:
            text = f"review {review_id}: two clicks were answered {done[0].body!r} and {done[-1].body!r}"
            self.unlike.append(Unlike(begun, datetime.now(UTC), text))
        if answer.status not in (200, 202) and answer.code not in _LOST:
            raise Surprise(
                f"review {review_id}: {body['decision']} was answered {answer.status} {answer.code}"
            )
        self.decided[body["decision"] if answer.status < 300 else "too late"] += 1
        if answer.status == 200 and len(self._fresh) < STALE_EVERY:
            self._fresh[review_id] = body["decision"]
        return answer

    async def _decide_what_is_decided(self, review_id: str, decision: str) -> None:
        """From a page that is out of date: the contrary of what was decided, which must change nothing."""
        body = {"decision": _OTHER[decision], "note": "from a page of an hour ago"}
        if body["decision"] == "found":
            body["provider_reference"] = "pi_of_an_hour_ago"
        key = f"{review_id}-stale-{decision}"
        answer = await self.second.post(f"/v1/reviews/{review_id}:decide", body, key)
        if answer.code not in _LOST:
            raise Surprise(f"review {review_id} was {decision}, then {body['decision']}: {answer.status}")
        self.decided["stale"] += 1

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
