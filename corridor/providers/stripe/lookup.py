"""Finding an effect at Stripe: by its id where we have it, else by our metadata in lists and in search.

A list shows a new object at once but must be read to its end, and where it begins is said by our clock; search is quick
and knows no clock but may lag (https://docs.stripe.com/search#data-freshness). Absence is claimed only when neither
has it, so that neither a lagging index nor a clock that runs ahead can make an effect look as if it never was.
"""

from collections.abc import Callable
from datetime import datetime, timedelta

from corridor.domain.effect import Operation
from corridor.domain.failure import Refused
from corridor.domain.ids import Prefix, created_at, is_id
from corridor.domain.outcome import Evidence, Outcome
from corridor.providers.document import Document
from corridor.providers.port import LookedUp, LookUp, LookUpFailed
from corridor.providers.stripe import mapping
from corridor.providers.stripe.capabilities import CAPABILITIES
from corridor.providers.stripe.client import MaybeSent, NeverSent, Query, Reply, StripeClient
from corridor.providers.stripe.requests import INTENTS, REFUNDS

CLOCK_MARGIN = timedelta(seconds=60)
"""Stripe's clock may run behind ours by less than this."""

SEARCH_IS_FRESH_AFTER = timedelta(seconds=60)
PAGE_SIZE = "100"
MAXIMUM_PAGES = 100

Found = tuple[Document, Reply]


async def read(client: StripeClient, path: str, query: Query = ()) -> tuple[Document, Reply]:
    """GET a document. Raises `LookUpFailed` for everything but a readable 200."""
    try:
        reply = await client.get(path, query)
    except (NeverSent, MaybeSent) as failure:
        raise LookUpFailed(f"GET {path}: {failure}") from None
    if reply.status != 200 or reply.document is None:
        raise LookUpFailed(f"GET {path}: HTTP {reply.status}, request {reply.request_id}")
    return reply.document, reply


class Finder:
    """Answers `look_up`. Its caller owns the deadline."""

    def __init__(self, client: StripeClient, clock: Callable[[], datetime]) -> None:
        self._client = client
        self._clock = clock

    async def find(self, wanted: LookUp) -> LookedUp:
        """The effect's answer as of now, or None when Stripe does not know it. Raises `LookUpFailed`."""
        try:
            expected = mapping.Expected.of_look_up(wanted)
        except Refused as refused:
            raise LookUpFailed(f"Stripe cannot have this effect: {refused}") from None
        found = await (self._refund(wanted) if wanted.operation is Operation.REFUND else self._intent(wanted))
        if found is None:
            return LookedUp(
                answer=None, evidence=Evidence(seen_at=self._clock(), note="absent from complete list")
            )
        document, reply = found
        evidence = mapping.evidence_of(reply, self._clock())
        answer = mapping.judge_object(document, expected, evidence)
        waiting = mapping.NOT_YET.get(wanted.operation, frozenset())
        if answer.outcome is Outcome.PENDING and answer.evidence.provider_status in waiting:
            return LookedUp(
                answer=None, evidence=_noted(answer.evidence, f"{wanted.operation} has not happened")
            )
        return LookedUp(answer=answer, evidence=answer.evidence)

    async def state(self, operation: Operation, effect_key: str, intent_id: str) -> Found | None:
        """What decides about an operation on a known intent: the intent, or the refund with our key (None: no such)."""
        if operation is not Operation.REFUND:
            return await self._intent_by_id(intent_id)
        return await self._refund_by_key(effect_key, [("payment_intent", intent_id)])

    async def _intent_by_id(self, intent_id: str) -> Found:
        """The intent with its latest charge. Raises `LookUpFailed`, also for an id Stripe denies having issued."""
        return await read(self._client, f"{INTENTS}/{intent_id}", [("expand[0]", "latest_charge")])

    async def _intent(self, wanted: LookUp) -> Found | None:
        if wanted.provider_reference is not None:
            return await self._intent_by_id(wanted.provider_reference)
        on_existing = wanted.operation in (Operation.CAPTURE, Operation.VOID)
        key, value = (
            ("corridor_payment", wanted.payment_id) if on_existing else ("corridor_effect", wanted.effect_key)
        )
        since = _intent_since(wanted) if on_existing else wanted.declared_at
        ask_index_first = self._clock() - since >= SEARCH_IS_FRESH_AFTER
        found = await self._search(key, value) if ask_index_first else None
        found = found or await self._scan(INTENTS, key, value, _created_since(since))
        if found is None and not ask_index_first:
            found = await self._search(key, value)
        return None if found is None else await self._intent_by_id(found)

    async def _refund(self, wanted: LookUp) -> Found | None:
        reference = wanted.provider_reference
        if reference is not None and not reference.startswith("pi_"):
            return await read(self._client, f"{REFUNDS}/{reference}")
        scope = [("payment_intent", reference)] if reference else _created_since(wanted.declared_at)
        return await self._refund_by_key(wanted.effect_key, scope)

    async def _refund_by_key(self, effect_key: str, scope: Query) -> Found | None:
        found = await self._scan(REFUNDS, "corridor_effect", effect_key, scope)
        return None if found is None else await read(self._client, f"{REFUNDS}/{found}")

    async def _search(self, key: str, value: str) -> str | None:
        """The id of the object with this metadata, as far as the search index knows."""
        query = [("query", f"metadata['{key}']:'{value}'"), ("limit", PAGE_SIZE)]
        page, _ = await read(self._client, f"{INTENTS}/search", query)
        return _match(_rows(page), key, value)

    async def _scan(self, path: str, key: str, value: str, scope: Query) -> str | None:
        """The id of the object with this metadata; None only after the list was read to its end."""
        cursor: Query = []
        for _ in range(MAXIMUM_PAGES):
            page, _reply = await read(self._client, path, [*scope, ("limit", PAGE_SIZE), *cursor])
            rows = _rows(page)
            found = _match(rows, key, value)
            if found is not None or page.flag("has_more") is False:
                return found
            last = rows[-1].word("id") if rows else None
            if last is None:
                break
            cursor = [("starting_after", last)]
        raise LookUpFailed(f"GET {path}: the list could not be read to its end")


def _rows(page: Document) -> list[Document]:
    """All rows of a list; a row that cannot be read might be the one we want, so it spoils the look-up."""
    rows = page.rows("data")
    readable = [row for row in rows if row is not None]
    if page.text("object") not in ("list", "search_result") or len(readable) != len(rows):
        raise LookUpFailed("the answer is not a list of objects")
    return readable


def _match(rows: list[Document], key: str, value: str) -> str | None:
    """The newest match; an attempt that moved no money gives way to one of the same payment that may have."""
    matches = [row for row in rows if row.section("metadata").word(key) == value]
    alive = [row for row in matches if row.word("status") != "requires_payment_method"]
    return next((row.word("id") for row in alive or matches), None)


def _created_since(instant: datetime) -> Query:
    return [("created[gte]", str(int((instant - CLOCK_MARGIN).timestamp())))]


def _intent_since(wanted: LookUp) -> datetime:
    """When the intent of a capture or void may have been made: not before its payment's id."""
    if is_id(wanted.payment_id, Prefix.PAYMENT):
        return created_at(wanted.payment_id)
    return wanted.declared_at - timedelta(seconds=CAPABILITIES.authorization_life_seconds)


def _noted(evidence: Evidence, note: str) -> Evidence:
    return evidence.model_copy(update={"note": note})
