"""The fake liquidity providers and the fake merchant, over real HTTP."""

from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from standardwebhooks.webhooks import Webhook

from corridor.sandbox.config import SandboxConfig
from corridor.sandbox.embedded import EmbeddedSandbox
from corridor.sandbox.liquidity.houses import HOUSES
from corridor.sandbox.liquidity.prices import wander
from corridor.sandbox.rates import load_rates
from tests.unit.sandbox_stand import Answer, Stand


@pytest.fixture(scope="module")
def stand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    with EmbeddedSandbox(SandboxConfig(port=0, data_dir=tmp_path_factory.mktemp("sandbox"))) as sandbox:
        stand = Stand(sandbox)
        yield stand
        stand.close()


def _ask(stand: Stand, house: str = "atlas", **changes: Any) -> Answer:
    asked = {
        "sell_currency": "EUR",
        "buy_currency": "CNY",
        "side": "sell",
        "amount": "100.00",
        "lock_seconds": 60,
    }
    return stand.http.post(f"/lp/{house}/v1/quotes", json={**asked, **changes})


def _accept(stand: Stand, quote: str, reference: str, house: str = "atlas") -> Answer:
    return stand.http.post(f"/lp/{house}/v1/quotes/{quote}/accept", json={"reference": reference})


@pytest.mark.parametrize("house", ["atlas", "borealis"])
def test_quote_stays_near_the_newest_published_reference(stand: Stand, house: str) -> None:
    quote = _ask(stand, house).json()
    reference, rate, mid = Decimal("7.4326"), Decimal(quote["rate"]), Decimal(quote["mid"])
    assert quote["mid_as_of"] == load_rates().day.isoformat()
    assert abs(mid / reference - 1) * 10_000 <= HOUSES[house].wander_bps
    cost = (1 - rate / mid) * 10_000
    assert abs(cost - Decimal(quote["spread_bps"]) - Decimal(quote["premium_bps"])) < Decimal("0.01")
    assert Decimal(quote["buy_amount"]) <= 100 * rate < Decimal(quote["buy_amount"]) + Decimal("0.01")


def test_fixed_buy_side_is_rounded_up_so_that_the_promise_can_be_kept(stand: Stand) -> None:
    quote = _ask(stand, side="buy", buy_currency="JPY", amount="10001").json()
    sell, rate = Decimal(quote["sell_amount"]), Decimal(quote["rate"])
    assert quote["buy_amount"] == "10001"
    assert sell * rate >= 10_001 > (sell - Decimal("0.01")) * rate


def test_price_wanders_from_second_to_second_and_repeats_for_a_seed() -> None:
    walk = [wander("seed", HOUSES["atlas"], "EUR", "CNY", second) for second in range(200)]
    assert walk == [wander("seed", HOUSES["atlas"], "EUR", "CNY", second) for second in range(200)]
    assert len(set(walk)) > 150
    assert max(abs(step) for step in walk) <= 3
    assert wander("seed", HOUSES["atlas"], "CNY", "EUR", 7) == -walk[7]


def test_acceptance_is_idempotent_by_reference_and_a_quote_deals_once(stand: Stand) -> None:
    quote = _ask(stand).json()["quote_id"]
    first = _accept(stand, quote, "deal-1")
    assert first.status_code == 200
    assert _accept(stand, quote, "deal-1").json() == first.json()
    other = _accept(stand, quote, "deal-2")
    assert (other.status_code, other.json()["error"]["code"]) == (409, "quote_already_used")
    fills = stand.http.get("/lp/atlas/v1/fills", params={"reference": "deal-1"}).json()["data"]
    assert [fill["fill_id"] for fill in fills] == [first.json()["fill_id"]]


def test_expired_quote_is_refused(stand: Stand) -> None:
    quote = _ask(stand, lock_seconds=5).json()
    assert datetime.fromisoformat(quote["expires_at"]) > datetime.fromisoformat(quote["quoted_at"])
    stand.control("POST", "/clock", json={"advance_seconds": 6})
    answer = _accept(stand, quote["quote_id"], "late")
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "quote_expired")
    assert stand.http.get(f"/lp/atlas/v1/quotes/{quote['quote_id']}").json()["status"] == "expired"


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"buy_currency": "TRY"}, "pair_not_quoted"),
        ({"buy_currency": "KWD"}, "pair_not_quoted"),
        ({"buy_currency": "RUB"}, "pair_not_quoted"),
        ({"lock_seconds": 3600}, "lock_too_long"),
        ({"amount": "0.01"}, "amount_too_small"),
        ({"amount": "10.001"}, "amount_precision"),
    ],
)
def test_house_refuses_what_it_does_not_deal_in(stand: Stand, changes: dict[str, Any], code: str) -> None:
    answer = _ask(stand, **changes)
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, code)


def test_faults_reach_one_house_and_not_the_other(stand: Stand) -> None:
    stand.fault("no_quote", "lp.atlas.quote")
    stand.fault("status", "lp.borealis.accept", status=500, effect=True)
    assert _ask(stand).json()["error"]["code"] == "pair_not_quoted"
    quote = _ask(stand, "borealis").json()["quote_id"]
    assert _accept(stand, quote, "unknown-1", "borealis").status_code == 500
    fills = stand.http.get("/lp/borealis/v1/fills", params={"reference": "unknown-1"}).json()["data"]
    assert len(fills) == 1


def test_merchant_keeps_verified_deliveries_and_can_fail_on_request(stand: Stand) -> None:
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    stand.http.put("/merchant/webhooks/shop", json={"secret": secret, "fail_next": 1})
    body, sent = '{"type":"payment.captured"}', datetime.now(UTC)
    headers = {"webhook-id": "msg_1", "webhook-timestamp": str(int(sent.timestamp()))}
    signed = {**headers, "webhook-signature": Webhook(secret).sign("msg_1", sent, body)}
    answers = [
        stand.http.post("/merchant/webhooks/shop", content=text, headers=signed).status_code
        for text in (body, body, '{"type":"forged"}')
    ]
    assert answers == [500, 200, 400]
    kept = stand.http.get("/merchant/deliveries", params={"name": "shop"}).json()["data"]
    assert [(row["verified"], row["status"]) for row in kept] == [(True, 500), (True, 204), (False, 400)]
    assert kept[1]["event"] == {"type": "payment.captured"}
