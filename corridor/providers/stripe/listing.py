"""What Stripe holds of ours, effect by effect, read from its own lists: to find effects nobody here knows of."""

from collections.abc import AsyncIterator
from datetime import datetime

from corridor.providers.document import Document
from corridor.providers.port import LookUpFailed, SeenEffect
from corridor.providers.stripe.client import StripeClient
from corridor.providers.stripe.lookup import MAXIMUM_PAGES, PAGE_SIZE, read
from corridor.providers.stripe.requests import INTENTS, REFUNDS

_LISTS = {
    INTENTS: frozenset({"requires_capture", "succeeded", "processing"}),
    REFUNDS: frozenset({"succeeded", "pending", "requires_action"}),
}
"""Each list, and the statuses of objects in it that hold, took or returned money."""


async def effects_since(client: StripeClient, since: datetime) -> tuple[SeenEffect, ...]:
    """Payments and refunds created since then that moved or hold money. Raises `LookUpFailed`."""
    seen: list[SeenEffect] = []
    for path in _LISTS:
        seen += [effect async for effect in _listed(client, path, since)]
    return tuple(seen)


async def _listed(client: StripeClient, path: str, since: datetime) -> AsyncIterator[SeenEffect]:
    cursor: list[tuple[str, str]] = []
    for _ in range(MAXIMUM_PAGES):
        query = [("created[gte]", str(int(since.timestamp()))), ("limit", PAGE_SIZE), *cursor]
        page, _reply = await read(client, path, query)
        rows = [row for row in page.rows("data") if row is not None]
        for row in rows:
            if row.word("status") in _LISTS[path]:
                yield _seen(row)
        if page.flag("has_more") is False:
            return
        last = rows[-1].word("id") if rows else None
        if last is None:
            break
        cursor = [("starting_after", last)]
    raise LookUpFailed(f"GET {path}: the list could not be read to its end")


def _seen(row: Document) -> SeenEffect:
    marks = row.section("metadata")
    return SeenEffect(
        provider_reference=row.word("id") or "without an id",
        effect_key=marks.word("corridor_effect"),
        payment_id=marks.word("corridor_payment"),
        what=f"{row.word('status')}, {row.integer('amount')} {row.word('currency')} in Stripe's minor units",
    )
