"""The proof about rates holds on conversions as they were locked, and names every one that was made otherwise."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from api.cli.audit.evidence import Effect, Evidence, Lock, Movement, Posted, Returned
from api.cli.audit.proofs import Proof
from api.cli.audit.rates import conversions_are_as_locked
from corridor.domain.money import Money
from corridor.domain.quote import Quote, Slippage
from corridor.ledger.report import Report

AT = datetime(2026, 11, 20, 12, tzinfo=UTC)
QUOTE = Quote(
    id="qte_1",
    merchant_id="mer_1",
    sell_amount=Money(10_000, "EUR"),
    buy_amount=Money(16_830, "JPY"),
    mid_amount=Money(17_000, "JPY"),
    client_rate=Decimal("168.30"),
    mid_rate=Decimal(170),
    mid_source="atlas",
    mid_as_of="2026-11-20",
    spread_bps=100,
    liquidity_provider="atlas",
    liquidity_reference="a-1",
    lock_seconds=600,
    valid_from=AT,
    expires_at=AT + timedelta(seconds=600),
)
LOCK = Lock("pay_1", QUOTE, is_used=True, promised=QUOTE, slippage=Slippage(max_bps=50))
PROVIDER = (("bank/main/EUR", 4_850), ("expense/provider_fees/EUR", 150), ("clearing/stripe/EUR", -5_000))
SETTLED = Posted(
    "pay_1:settle:txn_1",
    "settle",
    "pay_1",
    (
        *PROVIDER,
        ("merchant/mer_1/pending/EUR", 5_000),
        ("fx/position/EUR", -5_000),
        ("fx/position/JPY", 8_500),
        ("merchant/mer_1/pending/JPY", -8_500),
        ("merchant/mer_1/pending/JPY", 85),
        ("income/fx_spread/JPY", -85),
        ("merchant/mer_1/pending/JPY", 76),
        ("income/fees/JPY", -76),
        ("merchant/mer_1/pending/JPY", 8_339),
        ("merchant/mer_1/available/JPY", -8_339),
    ),
)
REFUNDED = Posted(
    "rfd_1:refund:1",
    "refund",
    "rfd_1",
    (
        ("merchant/mer_1/reserved/JPY", 1_683),
        ("fx/position/JPY", -1_683),
        ("fx/position/EUR", 1_000),
        ("clearing/stripe/EUR", -1_000),
    ),
)
NOTHING = Evidence(
    ledger=Report(), postings=(), effects=(), payments=(), refunds=(), events=(), batches={}, quotes={},
    locks=(), reviews=(), operators=frozenset(), acts=(), deliveries=0, undelivered=(), judged=frozenset(),
    movements=(), received=(), taken=(), inbox=(), queue={},
    read_at=datetime(2026, 11, 20, 13, tzinfo=UTC),
)  # fmt: skip
TRUE = replace(
    NOTHING,
    postings=(SETTLED, REFUNDED),
    effects=(Effect("pay_1:sale:1", "pay_1", "sale", "approved", Money(10_000, "EUR")),),
    refunds=(Returned("rfd_1", "pay_1", "succeeded", 2, Money(1_000, "EUR"), is_reported=False),),
    locks=(LOCK,),
    movements=(Movement("capture", "pay_1:sale:1", Money(10_000, "EUR"), AT + timedelta(seconds=5)),),
)


def leg(posting: Posted, account: str, minor: int) -> Posted:
    """The posting with another amount on this account."""
    return replace(posting, legs=tuple((name, minor if name == account else it) for name, it in posting.legs))


def assert_contradicted(proof: Proof, *words: str) -> None:
    assert not proof.holds
    assert any(all(word in found for word in words) for found in proof.counterexamples), proof.counterexamples


def test_what_was_converted_as_it_was_locked_holds() -> None:
    proof = conversions_are_as_locked(TRUE)
    assert proof.holds, proof.counterexamples
    assert proof.looked_at == "2 conversions"


def test_a_run_without_a_conversion_proves_nothing() -> None:
    assert not conversions_are_as_locked(NOTHING).holds


def planted_postings() -> Iterator[tuple[Posted, str]]:
    yield leg(SETTLED, "merchant/mer_1/available/JPY", -8_338), "8414"
    yield leg(SETTLED, "income/fx_spread/JPY", -84), "84 of spread"
    yield leg(SETTLED, "fx/position/JPY", 8_501), "position took"
    yield leg(REFUNDED, "fx/position/JPY", -1_686), "given back"
    yield replace(SETTLED, legs=(*SETTLED.legs, ("rounding/JPY", 2))), "rounding"


@pytest.mark.parametrize(("posting", "words"), list(planted_postings()))
def test_another_amount_than_the_locked_one_is_named(posting: Posted, words: str) -> None:
    others = tuple(it for it in TRUE.postings if it.key != posting.key)
    assert_contradicted(
        conversions_are_as_locked(replace(TRUE, postings=(*others, posting))), posting.key, words
    )


def test_one_unit_may_stand_in_the_rounding_account() -> None:
    rounded = replace(SETTLED, legs=(*SETTLED.legs, ("rounding/JPY", 1)))
    assert conversions_are_as_locked(replace(TRUE, postings=(rounded, REFUNDED))).holds


def test_what_the_provider_converts_itself_is_not_the_merchants_conversion() -> None:
    theirs = (
        ("bank/main/USD", 5_300),
        ("expense/provider_fees/USD", 200),
        ("fx/position/USD", -5_500),
        ("fx/position/EUR", 5_000),
        ("clearing/stripe/EUR", -5_000),
    )
    legs = (*theirs, *SETTLED.legs[len(PROVIDER) :])
    proof = conversions_are_as_locked(replace(TRUE, postings=(replace(SETTLED, legs=legs), REFUNDED)))
    assert proof.holds, proof.counterexamples


def test_a_conversion_without_a_lock_is_named() -> None:
    assert_contradicted(conversions_are_as_locked(replace(TRUE, locks=())), "pay_1:settle", "without a lock")


@pytest.mark.parametrize(
    ("lock", "words"),
    [
        (replace(LOCK, is_used=False), "not marked as used"),
        (replace(LOCK, promised=None), "is gone"),
        (replace(LOCK, quote=QUOTE.model_copy(update={"client_rate": Decimal("168.31")})), "at 168.31"),
        (
            replace(LOCK, quote=QUOTE.model_copy(update={"mid_rate": Decimal(160)})),
            "better than the market",
        ),
    ],
)
def test_a_lock_that_cannot_be_right_is_named(lock: Lock, words: str) -> None:
    assert_contradicted(conversions_are_as_locked(replace(TRUE, locks=(lock,))), "qte_1", words)


def promised(rate: str) -> Quote:
    return QUOTE.model_copy(update={"id": "qte_0", "client_rate": Decimal(rate)})


def test_another_rate_within_the_slippage_allowed_holds() -> None:
    for rate in ("169.14", "150"):
        lock = replace(LOCK, promised=promised(rate))
        assert conversions_are_as_locked(replace(TRUE, locks=(lock,))).holds, rate


@pytest.mark.parametrize(
    ("rate", "slippage"), [("169.20", Slippage(max_bps=50)), ("168.31", Slippage(policy="reject"))]
)
def test_another_rate_than_the_merchant_allowed_is_named(rate: str, slippage: Slippage) -> None:
    lock = replace(LOCK, promised=promised(rate), slippage=slippage)
    assert_contradicted(conversions_are_as_locked(replace(TRUE, locks=(lock,))), "qte_0 became qte_1")


def test_money_taken_after_the_lock_had_run_out_is_named() -> None:
    late = replace(TRUE.movements[0], at=QUOTE.expires_at + timedelta(milliseconds=1))
    false = replace(TRUE, movements=(late,))
    assert_contradicted(conversions_are_as_locked(false), "pay_1:sale:1", "had run out")


def test_no_clock_of_a_process_excuses_a_late_capture() -> None:
    """However early the lock was made, and by whomever: it is the database's clock that judges whether it holds."""
    early = QUOTE.model_copy(update={"valid_from": AT - timedelta(days=1), "expires_at": AT})
    false = replace(TRUE, locks=(replace(LOCK, quote=early, promised=early),))
    assert_contradicted(conversions_are_as_locked(false), "pay_1:sale:1", "had run out")
