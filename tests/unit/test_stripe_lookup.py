"""Finding an effect by our own reference: present, absent, and the difference between absent and not readable."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from corridor.domain.effect import Operation
from corridor.domain.ids import Prefix, new_id
from corridor.domain.money import Money
from corridor.domain.outcome import Outcome
from corridor.providers.port import LookedUp, LookUp, LookUpFailed
from corridor.providers.stripe.adapter import StripeProvider

NOW = datetime(2026, 10, 1, 12, tzinfo=UTC)


class Account:
    """Just enough of Stripe's lists to page through; remembers what was asked."""

    def __init__(self, intents: list[dict[str, Any]], *, page: int = 100, indexed: bool = True) -> None:
        self.intents, self.page, self.indexed = intents, page, indexed
        self.asked: list[httpx.URL] = []
        self.fail: Callable[[httpx.URL], httpx.Response | None] = lambda _url: None

    def answer(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request.url)
        failure = self.fail(request.url)
        if failure is not None:
            return failure
        tail = request.url.path.rsplit("/", 1)[1]
        if tail == "search":
            found = [row for row in self.intents if self.indexed and self._named(request, row)]
            return httpx.Response(200, json={"object": "search_result", "has_more": False, "data": found})
        if tail in ("payment_intents", "refunds"):
            return httpx.Response(200, json=self._list(request.url.params.get("starting_after")))
        known = [row for row in self.intents if row["id"] == tail]
        return (
            httpx.Response(200, json=known[0])
            if known
            else httpx.Response(404, json={"error": {"type": "x"}})
        )

    def _named(self, request: httpx.Request, row: dict[str, Any]) -> bool:
        query = request.url.params["query"]
        return any(query == f"metadata['{key}']:'{value}'" for key, value in row["metadata"].items())

    def _list(self, cursor: str | None) -> dict[str, Any]:
        ids = [row["id"] for row in self.intents]
        start = 0 if cursor is None else ids.index(cursor) + 1
        rows = self.intents[start : start + self.page]
        return {"object": "list", "data": rows, "has_more": start + self.page < len(ids)}

    def paths(self) -> list[str]:
        return [url.path.removeprefix("/v1/") for url in self.asked]


def intent(number: int, **changes: Any) -> dict[str, Any]:
    return {
        "id": f"pi_{number}",
        "object": "payment_intent",
        "status": "succeeded",
        "amount": 1_000,
        "amount_received": 1_000,
        "currency": "eur",
        "metadata": {"corridor_payment": f"pay_{number}", "corridor_effect": f"pay_{number}:sale:1"},
        **changes,
    }


def wanted(number: int = 1, age_seconds: int = 5, **changes: Any) -> LookUp:
    values = {
        "effect_key": f"pay_{number}:sale:1",
        "operation": Operation.SALE,
        "payment_id": f"pay_{number}",
        "declared_at": NOW - timedelta(seconds=age_seconds),
        "amount": Money(1_000, "EUR"),
        **changes,
    }
    return LookUp.model_validate(values)


async def look_up(account: Account, what: LookUp) -> LookedUp:
    stripe = StripeProvider(
        base_url="https://stripe.test",
        secret_key=SecretStr("sk_test_x"),
        webhook_secrets=[],
        clock=lambda: NOW,
        transport=httpx.MockTransport(account.answer),
    )
    try:
        return await stripe.look_up(what)
    finally:
        await stripe.close()


async def test_fresh_effect_is_found_in_the_list_without_asking_search() -> None:
    account = Account([intent(3), intent(2), intent(1)], page=1)
    found = await look_up(account, wanted(1))
    assert found.answer is not None
    assert (found.answer.outcome, found.answer.provider_reference) == (Outcome.APPROVED, "pi_1")
    assert account.paths() == ["payment_intents"] * 3 + ["payment_intents/pi_1"]
    assert account.asked[0].params["created[gte]"] == str(int(NOW.timestamp()) - 65)
    assert account.asked[1].params["starting_after"] == "pi_3"


async def test_older_effect_is_found_by_search_and_read_fresh() -> None:
    account = Account([intent(1)])
    assert (await look_up(account, wanted(1, age_seconds=60))).answer is not None
    assert account.paths() == ["payment_intents/search", "payment_intents/pi_1"]
    assert account.asked[1].params["expand[0]"] == "latest_charge"


async def test_search_that_lags_is_made_good_by_the_list() -> None:
    account = Account([intent(1)], indexed=False)
    assert (await look_up(account, wanted(1, age_seconds=3_600))).answer is not None
    assert account.paths() == ["payment_intents/search", "payment_intents", "payment_intents/pi_1"]


async def test_an_effect_our_clock_hides_from_the_list_is_found_by_search() -> None:
    """Declared by a process whose clock runs ten minutes ahead: the list would begin after the effect was made."""
    account = Account([intent(1)])
    account.fail = lambda url: (
        httpx.Response(200, json={"object": "list", "data": [], "has_more": False})
        if url.path == "/v1/payment_intents"
        else None
    )
    assert (await look_up(account, wanted(1, age_seconds=-600))).answer is not None
    assert account.paths() == ["payment_intents", "payment_intents/search", "payment_intents/pi_1"]


async def test_absence_needs_search_and_a_list_read_to_its_end() -> None:
    account = Account([intent(3), intent(2)], page=1)
    found = await look_up(account, wanted(1, age_seconds=3_600))
    assert found.answer is None
    assert account.paths() == ["payment_intents/search", "payment_intents", "payment_intents"]


@pytest.mark.parametrize(
    "failure",
    [
        httpx.Response(403, json={"error": {"type": "invalid_request_error"}}),
        httpx.Response(404, json={"error": {"type": "invalid_request_error"}}),
        httpx.Response(500),
        httpx.Response(200, text="<html>"),
        httpx.Response(200, json={"object": "payment_intent"}),
        httpx.Response(200, json={"object": "list", "data": []}),
        httpx.Response(200, json={"object": "list", "data": [None], "has_more": False}),
        httpx.Response(200, json={"object": "list", "data": [], "has_more": True}),
    ],
)
async def test_list_that_cannot_be_read_is_no_absence(failure: httpx.Response) -> None:
    account = Account([])
    account.fail = lambda url: failure if url.path.endswith("/payment_intents") else None
    with pytest.raises(LookUpFailed):
        await look_up(account, wanted(1, age_seconds=3_600))


async def test_reference_stripe_denies_is_a_failed_look_up_and_no_absence() -> None:
    with pytest.raises(LookUpFailed):
        await look_up(Account([]), wanted(1, provider_reference="pi_1"))


async def test_broken_connection_is_a_failed_look_up() -> None:
    account = Account([])

    def broken(url: httpx.URL) -> httpx.Response | None:
        raise httpx.ReadError("reset")

    account.fail = broken
    with pytest.raises(LookUpFailed):
        await look_up(account, wanted(1))


async def test_found_with_another_amount_is_unknown_with_evidence() -> None:
    found = await look_up(Account([intent(1, amount=900, amount_received=900)]), wanted(1))
    assert found.answer is not None
    assert found.answer.outcome is Outcome.UNKNOWN
    assert found.evidence.note.startswith("amount_mismatch")


@pytest.mark.parametrize(
    ("operation", "status", "outcome"),
    [
        (Operation.CAPTURE, "succeeded", Outcome.APPROVED),
        (Operation.CAPTURE, "requires_capture", None),
        (Operation.CAPTURE, "processing", None),
        (Operation.CAPTURE, "canceled", Outcome.DECLINED),
        (Operation.CAPTURE, "status_of_tomorrow", Outcome.PENDING),
        (Operation.VOID, "canceled", Outcome.APPROVED),
        (Operation.VOID, "requires_capture", None),
        (Operation.VOID, "requires_payment_method", None),
        (Operation.VOID, "processing", Outcome.PENDING),
        (Operation.VOID, "succeeded", Outcome.DECLINED),
    ],
)
async def test_capture_and_void_are_read_from_the_intents_state(
    operation: Operation, status: str, outcome: Outcome | None
) -> None:
    payment_id = new_id(Prefix.PAYMENT, NOW - timedelta(days=2))
    account = Account([intent(1, status=status, metadata={"corridor_payment": payment_id})], indexed=False)
    what = wanted(1, operation=operation, payment_id=payment_id, effect_key=f"{payment_id}:{operation}:1")
    for reference in ("pi_1", None):
        found = await look_up(account, what.model_copy(update={"provider_reference": reference}))
        assert (found.answer.outcome if found.answer else None) is outcome
    listed = next(url for url in account.asked if url.path.endswith("/payment_intents"))
    since = int((NOW - timedelta(days=2)).timestamp())
    assert listed.params["created[gte]"] == str(since - 60), (
        "the intent is as old as its payment, not as its capture"
    )


async def test_capture_is_looked_up_on_the_attempt_that_may_have_moved_money() -> None:
    marks = {"corridor_payment": "pay_1"}
    attempts = [intent(2, status="requires_payment_method", metadata=marks), intent(1, metadata=marks)]
    found = await look_up(
        Account(attempts), wanted(1, operation=Operation.CAPTURE, effect_key="pay_1:capture:1")
    )
    assert found.answer is not None
    assert found.answer.provider_reference == "pi_1"


def refund(number: int, **changes: Any) -> dict[str, Any]:
    marks = {"corridor_effect": f"rfd_{number}:refund:1"}
    return {"id": f"re_{number}", "object": "refund", "status": "succeeded", "amount": 400, "currency": "eur",
            "metadata": marks, **changes}  # fmt: skip


async def test_refund_is_found_by_its_intent_by_time_or_by_its_own_id() -> None:
    what = wanted(1, operation=Operation.REFUND, effect_key="rfd_1:refund:1", amount=Money(400, "EUR"))
    for reference, asked in ((None, "created[gte]"), ("pi_9", "payment_intent"), ("re_1", None)):
        account = Account([refund(2), refund(1)])
        found = await look_up(account, what.model_copy(update={"provider_reference": reference}))
        assert found.answer is not None
        assert (found.answer.outcome, found.answer.amount) == (Outcome.APPROVED, Money(400, "EUR"))
        assert (asked in account.asked[0].params) if asked else account.paths() == ["refunds/re_1"]


async def test_refund_of_somebody_else_is_not_ours() -> None:
    what = wanted(1, operation=Operation.REFUND, effect_key="rfd_1:refund:1", provider_reference="pi_9")
    assert (await look_up(Account([refund(2), refund(3)]), what)).answer is None
