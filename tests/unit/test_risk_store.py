"""Claims about facts and decisions in the database: windows, turns under a race, and what is kept."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import Connection, event, select

from corridor.domain.failure import InvariantBroken
from corridor.domain.money import Money
from corridor.risk.decide import Decision, Facts, Velocity, Verdict
from corridor.risk.facts import gather
from corridor.risk.policy import Policy, shipped
from corridor.risk.store import decide_payment, record, verdict_of
from corridor.risk.valuation import Valuation, unvalued
from corridor.storage.database import Database
from corridor.storage.payments import load
from corridor.storage.tables import merchants, payments, risk_decisions

NOW = datetime(2026, 11, 22, 9, 0, tzinfo=UTC)
POLICY: Policy = shipped().in_force(NOW)
VALUATION = Valuation({"USD": Decimal("1.1172"), "JPY": Decimal("175.68")}, "ECB 2026-10-30")
DECLINE_ABOVE = 12  # instrument-10m
REVIEW_ABOVE = 8


def add_payment(connection: Connection, number: int, **changed: Any) -> None:
    """Payment `number` is created that many seconds after NOW, unless said otherwise."""
    created_at = changed.pop("created_at", NOW + timedelta(seconds=number))
    facts: dict[str, Any] = {
        "id": f"pay_{number:03}",
        "merchant_id": "mer_1",
        "status": "processing",
        "currency": "EUR",
        "amount_minor": 10_000,
        "settle_currency": "CNY",
        "source_country": "DE",
        "destination_country": "CN",
        "corridor": "DE-EUR>CN-CNY",
        "capture_method": "automatic",
        "payment_token": "pm_card_visa",
        "instrument": "card_1",
        "payer_reference": "buyer_1",
        "slippage_max_bps": 50,
        "slippage_policy": "requote",
        "extra": {},
        "sequence": 1,
        "created_at": created_at,
        "updated_at": created_at,
    }
    connection.execute(payments.insert().values(**{**facts, **changed}))


def add_merchants(connection: Connection) -> None:
    for merchant_id in ("mer_1", "mer_2"):
        connection.execute(
            merchants.insert().values(
                id=merchant_id,
                name="A shop",
                country="CN",
                settle_currency="CNY",
                fee_bps=90,
                fx_markup_bps=30,
                created_at=NOW,
            )
        )


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    opened = Database(database_url)
    await opened.write(add_merchants)
    yield opened
    await opened.close()


async def add(database: Database, *numbers: int, **changed: Any) -> None:
    def work(connection: Connection) -> None:
        for number in numbers:
            add_payment(connection, number, **changed)

    await database.write(work)


async def facts_of(database: Database, number: int, valuation: Valuation = VALUATION) -> Facts:
    return await database.write(_gather, f"pay_{number:03}", valuation)


def _gather(connection: Connection, payment_id: str, valuation: Valuation) -> Facts:
    return gather(connection, load(connection, payment_id), POLICY, valuation)


async def seen(database: Database, number: int, rule_id: str, valuation: Valuation = VALUATION) -> Velocity:
    facts = await facts_of(database, number, valuation)
    return {it.rule_id: it for it in facts.velocities}[rule_id]


async def decide(database: Database, number: int) -> Decision:
    return await database.write(_decide, f"pay_{number:03}")


def _decide(connection: Connection, payment_id: str) -> Decision:
    return decide_payment(connection, load(connection, payment_id), POLICY, VALUATION, NOW)


async def test_a_payment_alone_counts_itself(database: Database) -> None:
    await add(database, 1, currency="USD", amount_minor=11_172)
    facts = await facts_of(database, 1)
    assert facts.value == Money(10_000, "EUR")
    assert {(it.rule_id, it.count) for it in facts.velocities} == {
        (rule_id, 1) for rule_id in ("instrument-10m", "instrument-24h", "payer-1h", "merchant-1m")
    }
    assert (await seen(database, 1, "payer-1h")).amount == Money(10_000, "EUR")


async def test_a_window_ends_at_the_payment_and_begins_just_after_its_length_before(
    database: Database,
) -> None:
    await add(database, 1, created_at=NOW)
    await add(database, 2, created_at=NOW + timedelta(seconds=600))
    await add(database, 3, created_at=NOW + timedelta(seconds=599))
    assert (await seen(database, 2, "instrument-10m")).count == 2, "exactly 600 s ago is outside"
    assert (await seen(database, 3, "instrument-10m")).count == 2, "a later payment does not count against it"


async def test_payments_of_one_instant_are_ordered_by_id(database: Database) -> None:
    await add(database, 1, 2, 3, created_at=NOW)
    assert [(await seen(database, number, "instrument-10m")).count for number in (1, 2, 3)] == [1, 2, 3]


async def test_scopes_count_only_their_own(database: Database) -> None:
    await add(database, 1, instrument="card_2")
    await add(database, 2, merchant_id="mer_2")
    await add(database, 3, payer_reference="buyer_2")
    await add(database, 4)
    counts = {it.rule_id: it.count for it in (await facts_of(database, 4)).velocities}
    assert counts == {"instrument-10m": 3, "instrument-24h": 3, "payer-1h": 2, "merchant-1m": 3}


async def test_without_a_payer_the_payer_rules_are_not_observed(database: Database) -> None:
    await add(database, 1, payer_reference=None)
    assert "payer-1h" not in {it.rule_id for it in (await facts_of(database, 1)).velocities}
    assert (await decide(database, 1)).verdict is Verdict.ACCEPT


async def test_failed_attempts_count_as_attempts_but_not_as_money(database: Database) -> None:
    await add(database, 1, 2, status="failed")
    await add(database, 3)
    velocity = await seen(database, 3, "payer-1h")
    assert (velocity.count, velocity.amount) == (3, Money(10_000, "EUR"))


async def test_sums_are_valued_per_currency_and_name_what_has_no_value(database: Database) -> None:
    await add(database, 1, currency="JPY", amount_minor=17_568)
    await add(database, 2, currency="CLF", amount_minor=1)
    await add(database, 3)
    velocity = await seen(database, 3, "payer-1h")
    assert (velocity.amount, velocity.unvalued) == (Money(20_000, "EUR"), ("CLF",))


async def test_without_reference_rates_other_currencies_wait_for_a_person(database: Database) -> None:
    await add(database, 1, currency="USD")
    facts = await facts_of(database, 1, unvalued("none: too old"))
    assert (facts.value, facts.valuation) == (None, "none: too old")


async def test_counting_stops_one_past_the_highest_limit(database: Database) -> None:
    await add(database, *range(1, 21))
    assert (await seen(database, 20, "instrument-10m")).count == DECLINE_ABOVE + 1
    assert (await seen(database, 20, "instrument-24h")).count == 20


async def test_a_card_testers_burst_is_stopped_at_the_limit_to_the_payment(database: Database) -> None:
    """All rows exist before the first is judged, and they are judged at once, in any order."""
    numbers = range(1, 21)
    await add(database, *numbers, amount_minor=100)
    decisions = await asyncio.gather(*(decide(database, number) for number in reversed(numbers)))
    verdicts = [decision.verdict for decision in decisions]
    assert verdicts.count(Verdict.ACCEPT) <= REVIEW_ABOVE
    assert verdicts.count(Verdict.ACCEPT) + verdicts.count(Verdict.REVIEW) <= DECLINE_ABOVE


async def test_in_order_exactly_as_many_pass_as_the_limit_says(database: Database) -> None:
    await add(database, *range(1, 16), amount_minor=100)
    verdicts = [(await decide(database, number)).verdict for number in range(1, 16)]
    assert verdicts == [Verdict.ACCEPT] * 8 + [Verdict.REVIEW] * 4 + [Verdict.DECLINE] * 3


async def test_a_row_that_arrives_late_sees_what_was_let_through_meanwhile(database: Database) -> None:
    """Created first by its clock, committed last: without what was let through it would be number one again."""
    later = range(2, 2 + DECLINE_ABOVE)
    await add(database, *later, amount_minor=100)
    for number in later:
        await decide(database, number)
    await add(database, 1, amount_minor=100)
    assert (await decide(database, 1)).verdict is Verdict.DECLINE


async def test_racing_arrivals_never_pass_the_limit(database: Database) -> None:
    """Each row is inserted and judged by its own task, with clocks that run backwards against the arrival."""

    async def arrive(number: int) -> Verdict:
        await add(database, number, amount_minor=100, created_at=NOW - timedelta(milliseconds=number))
        return (await decide(database, number)).verdict

    verdicts = await asyncio.gather(*(arrive(number) for number in range(1, 19)))
    assert verdicts.count(Verdict.ACCEPT) <= REVIEW_ABOVE
    assert 1 <= len(verdicts) - verdicts.count(Verdict.DECLINE) <= DECLINE_ABOVE


async def test_payments_of_one_card_take_turns_and_others_do_not_wait(postgres_database: str) -> None:
    """Number 2 is judged but not committed: 1, created earlier, must wait for it; 3, another card, must not."""
    database = Database(postgres_database)
    await database.write(add_merchants)
    await add(database, 1, 2, payer_reference=None)
    await add(database, 3, instrument="card_2", payer_reference=None)
    async with database.engine.begin() as uncommitted:
        await uncommitted.run_sync(_decide, "pay_002")
        first = asyncio.create_task(decide(database, 1))
        async with asyncio.timeout(20):
            assert (await decide(database, 3)).verdict is Verdict.ACCEPT
        done, _ = await asyncio.wait({first}, timeout=0.5)
        assert not done
    velocities: Any = (await first).inputs["velocities"]
    await database.close()
    assert next(it["count"] for it in velocities if it["rule"] == "instrument-10m") == 2


async def test_a_genuine_buyer_passes_while_the_burst_is_stopped(database: Database) -> None:
    await add(database, *range(1, 21), amount_minor=100, payer_reference=None)
    await add(database, 21, instrument="card_of_a_buyer", payer_reference="buyer_9")
    for number in range(1, 21):
        await decide(database, number)
    assert (await decide(database, 21)).verdict is Verdict.ACCEPT


async def test_a_decision_is_kept_with_reasons_policy_and_inputs(database: Database) -> None:
    await add(database, 1, amount_minor=600_000, source_country="KP", corridor="KP-EUR>CN-CNY")
    decision = await decide(database, 1)
    row = await database.read(lambda connection: connection.execute(select(risk_decisions)).one())
    assert (row.payment_id, row.decision, row.policy_version) == ("pay_001", "decline", POLICY.version)
    assert row.reasons == [reason.as_data() for reason in decision.reasons]
    assert [reason["code"] for reason in row.reasons] == ["country_blocked", "amount_above_review"]
    assert row.inputs == decision.inputs
    assert (row.inputs["value"], row.inputs["valuation"]) == ("6000.00 EUR", "ECB 2026-10-30")
    assert row.decided_at == NOW


async def test_a_payment_is_decided_once(database: Database) -> None:
    await add(database, 1)
    assert await database.read(verdict_of, "pay_001") is None
    decision = await decide(database, 1)
    assert await database.read(verdict_of, "pay_001") is Verdict.ACCEPT
    with pytest.raises(InvariantBroken):
        await database.write(record, "pay_001", decision, NOW)


async def test_velocity_reads_search_an_index_up_to_the_window(sqlite_database: str) -> None:
    """The statements really sent are explained: a scan would make every payment pay for all the others."""
    opened = Database(sqlite_database)
    sent: list[tuple[str, Any]] = []

    def note(connection: Any, cursor: Any, statement: str, parameters: Any, *rest: Any) -> None:
        if "created_at >" in statement:
            sent.append((statement, parameters))

    def plans(connection: Connection) -> list[list[str]]:
        add_merchants(connection)
        add_payment(connection, 1)
        _gather(connection, "pay_001", VALUATION)
        explained = [
            connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {it}", values) for it, values in tuple(sent)
        ]
        return [[row[3] for row in rows if "payments" in row[3]] for rows in explained]

    event.listen(opened.sync_engine, "before_cursor_execute", note)
    found = await opened.write(plans)
    await opened.close()
    summed = sum(rule.limits_amount for rule in POLICY.rules.velocity)
    assert [len(plan) for plan in found] == [len(POLICY.rules.velocity), *([1] * summed)]
    searches = [search for plan in found for search in plan]
    assert all("INDEX" in search and "created_at>?" in search for search in searches), searches
