"""Whatever is posted, in whatever order and however often: it balances, and balances equal the fold of entries."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine

from corridor.domain.failure import InvariantBroken, Refused
from corridor.domain.money import Money, zero
from corridor.domain.posting import Entry, Posting, totals
from corridor.domain.quote import Quote, client_amounts
from corridor.ledger import proof, rules, seal, store
from corridor.storage.columns import metadata
from corridor.storage.database import sync_engine

NOW = datetime(2026, 10, 30, 12, 0, tzinfo=UTC)
CHARGES = st.integers(100, 10**8)
MIDS = st.decimals("0.01", "2000", places=8)
FEES = st.integers(0, 500)


@dataclass(frozen=True)
class Line:
    gross: Money
    fee: Money
    net: Money
    converted_from: Money | None = None


def quote(sell: Money, mid: Decimal, spread_bps: int, buy: str) -> Quote:
    rate, bought, at_mid = client_amounts(sell, mid, spread_bps, buy)
    return Quote(
        id="qte_1", merchant_id="M", sell_amount=sell, buy_amount=bought, mid_amount=at_mid, client_rate=rate,
        mid_rate=mid, mid_source="ECB", mid_as_of="2026-10-30", spread_bps=spread_bps, liquidity_provider="lp",
        liquidity_reference="r", lock_seconds=60, valid_from=NOW, expires_at=NOW + timedelta(minutes=1),
    )  # fmt: skip


def fold(*postings: Posting) -> dict[str, int]:
    sums: Counter[str] = Counter()
    for each in postings:
        for entry in each.entries:
            sums[entry.account] += entry.amount.minor
    return {account: minor for account, minor in sums.items() if minor}


@given(
    CHARGES,
    CHARGES,
    MIDS,
    st.integers(0, 500),
    FEES,
    st.integers(0, 10**4),
    st.sampled_from(["CNY", "JPY", "KWD"]),
)
def test_a_settlement_balances_and_leaves_nothing_pending_of_what_it_converts(
    charged: int, remaining: int, mid: Decimal, spread_bps: int, fee_bps: int, provider_fee: int, buy: str
) -> None:
    remaining = min(remaining, charged)
    sell = Money(charged, "EUR")
    try:
        locked = quote(sell, mid, spread_bps, buy)
    except Refused:
        return
    line = Line(sell, Money(provider_fee, "EUR"), Money(charged - provider_fee, "EUR"))
    captured = rules.capture("c", "pay_1", "M", "stripe", sell)
    settled = rules.settle("s", "pay_1", "M", "stripe", line, Money(remaining, "EUR"), locked, fee_bps)
    assert all(total == 0 for total in totals(settled.entries).values())
    books = fold(captured, settled)
    assert books.get("clearing/stripe/EUR", 0) == 0
    assert books.get("merchant/M/pending/EUR", 0) == remaining - charged
    assert books.get(f"merchant/M/pending/{buy}", 0) == 0
    parts = rules.merchant_share(Money(remaining, "EUR"), locked, fee_bps)
    assert parts.at_mid == parts.spread + parts.fee + parts.net
    assert books.get(f"merchant/M/available/{buy}", 0) == -parts.net.minor
    assert books.get("fx/position/EUR", 0) == -remaining
    assert books.get(f"fx/position/{buy}", 0) == parts.at_mid.minor
    assert books.get(f"income/fx_spread/{buy}", 0) == -parts.spread.minor
    assert books.get(f"income/fees/{buy}", 0) == -parts.fee.minor


@given(st.integers(1, 10**6), st.integers(1, 10**8), st.lists(st.integers(1, 10**6), max_size=8))
def test_partial_refunds_give_back_exactly_what_was_settled_whatever_the_split(
    charged_minor: int, converted_minor: int, cuts: list[int]
) -> None:
    charged, converted = Money(charged_minor, "EUR"), Money(converted_minor, "CNY")
    refunded, given_back = zero("EUR"), zero("CNY")
    marks = sorted({cut for cut in cuts if cut < charged_minor} | {charged_minor})
    for mark in marks:
        amount = Money(mark - refunded.minor, "EUR")
        leg = rules.refund_share(charged, converted, refunded, given_back, amount)
        assert abs(leg.minor - Decimal(converted_minor) * amount.minor / charged_minor) <= 1
        refunded, given_back = refunded + amount, given_back + leg
    assert given_back == converted


@given(CHARGES, st.integers(1, 10**8), st.booleans())
def test_a_refund_released_or_failed_mirrors_what_it_took(
    amount: int, reserved: int, same_currency: bool
) -> None:
    buyer = Money(amount, "EUR")
    merchant = buyer if same_currency else Money(reserved, "CNY")
    took = [
        rules.refund_reserve_after_settlement("r", "rfd_1", "M", merchant),
        rules.refund_done_after_settlement("d", "rfd_1", "M", "stripe", merchant, buyer),
    ]
    back = rules.refund_failed_after_settlement("f", "rfd_1", "M", "stripe", merchant, buyer)
    assert fold(*took, back) == {}
    assert {entry.account for posting in took for entry in posting.entries} >= {
        entry.account for entry in back.entries
    }


@given(st.lists(st.integers(-(10**9), 10**9), min_size=2, max_size=6))
def test_legs_that_do_not_sum_to_zero_are_no_posting(minors: list[int]) -> None:
    entries = tuple(Entry(account="suspense/EUR", amount=Money(minor, "EUR")) for minor in minors)
    if sum(minors) == 0:
        assert Posting(key="k", kind="x", object_id="o", entries=entries).entries == entries
        return
    with pytest.raises(InvariantBroken):
        Posting(key="k", kind="x", object_id="o", entries=entries)


ACTS = st.tuples(
    st.sampled_from(["capture", "reserve", "release", "done", "settle"]),
    st.integers(0, 4),
    st.integers(1, 400),
)
"""(what, which payment or refund, how much); the same triple twice is a duplicate, another amount a reused key."""


def act(what: str, number: int, minor: int) -> Posting:
    payment, refund, merchant = f"pay_{number}", f"rfd_{number}", f"mer_{number % 2}"
    amount = Money(minor, "EUR")
    match what:
        case "capture":
            return rules.capture(f"{payment}:capture:1", payment, merchant, "stripe", amount)
        case "reserve":
            return rules.refund_reserve_before_settlement(f"{refund}:reserve", refund, merchant, amount)
        case "release":
            origin = f"merchant/{merchant}/pending/EUR"
            return rules.refund_release(f"{refund}:release", refund, merchant, amount, origin)
        case "done":
            return rules.refund_done_before_settlement(
                f"{refund}:refund:1", refund, merchant, "stripe", amount
            )
    line = Line(amount, zero("EUR"), amount)
    locked = quote(amount, Decimal("7.4326"), 40, "CNY")
    return rules.settle(f"{payment}:settle", payment, merchant, "stripe", line, amount, locked, 100)


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """One SQLite file for all examples; each runs in a transaction that is rolled back."""
    engine = sync_engine(f"sqlite:///{tmp_path_factory.mktemp('ledger') / 'ledger.db'}")
    with engine.begin() as connection:
        metadata.create_all(connection)
    yield engine
    engine.dispose()


@settings(max_examples=60)
@given(st.lists(ACTS, max_size=40))
def test_any_sequence_of_postings_and_duplicates_keeps_balances_equal_to_the_fold(
    engine: Engine, acts: list[tuple[str, int, int]]
) -> None:
    accepted: dict[str, Posting] = {}
    with engine.connect() as connection:
        for what, number, minor in acts:
            posting = act(what, number, minor)
            expect_new = posting.key not in accepted
            try:
                posted = store.post(connection, posting, NOW)
            except InvariantBroken:
                assert not expect_new and accepted[posting.key] != posting
                continue
            except Refused:
                after = fold(*accepted.values(), posting)
                assert expect_new
                assert any(total > 0 for account, total in after.items() if account.startswith("merchant/"))
                continue
            assert posted.was_new is expect_new
            accepted[posting.key] = posting
        expected = fold(*accepted.values())
        kept = {
            line.account: line.balance_minor for line in proof.trial_balance(connection) if line.balance_minor
        }
        assert kept == expected
        assert not any(total > 0 for account, total in expected.items() if account.startswith("merchant/"))
        seal.seal(connection, NOW + timedelta(minutes=1))
        report = proof.verify(connection)
        assert report.holds, str(report)
        assert (report.postings, report.seals) == (len(accepted), len(accepted))
