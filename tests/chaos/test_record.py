"""The record of a run: families are counted from faults that exist, and the page says what its figures leave out."""

import os
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from api.cli.audit.evidence import Evidence, Paid
from api.cli.audit.proofs import Proof
from corridor.domain.money import Money
from corridor.ledger.report import Report
from corridor.sandbox.faults import FaultKind
from tests.chaos.forking import STARTS, fork
from tests.chaos.journal import Journal
from tests.chaos.liveness import Moving, Recovery
from tests.chaos.plan import Act, Kind, expand
from tests.chaos.profile import PROFILES
from tests.chaos.record import Record, processor_seconds, share_to_succeed

NOTHING = Evidence(
    ledger=Report(), postings=(), effects=(), payments=(), refunds=(), events=(), batches={}, quotes={}, locks=(),
    reviews=(), operators=frozenset(), acts=(), deliveries=0, undelivered=(), judged=frozenset(),
    movements=(), received=(), taken=(), inbox=(), queue={},
    read_at=datetime(2026, 11, 20, 13, tzinfo=UTC),
)  # fmt: skip
BY_PROVIDER = {"latency": 3, "status 429": 5, "status 503": 7, "status 500": 11, "timeout_after_effect": 13}
RECOVERY = Recovery({"pay_late": "processing", "pay_soon": "authorized", "pay_taken": "captured"})


@pytest.fixture
def record(tmp_path: Path) -> Iterator[Record]:
    journal = Journal(tmp_path / "events.jsonl")
    plan = expand(1, PROFILES["slice"], "sqlite")
    for kind in (Kind.HOSTILE_INPUT, Kind.FORGED_WEBHOOK, Kind.RECEIVER):
        journal.act(next(act for act in plan.acts if act.kind is kind), fired=True)
    yield Record(
        plan=plan, begun=datetime(2026, 11, 23, tzinfo=UTC), proofs=(Proof("it holds", "1 thing"),),
        evidence=NOTHING, journal=journal, recovery=RECOVERY, by_provider=BY_PROVIDER, on_the_wire={},
        answers={"200": 1, "429": 17, "503": 19}, pressure={}, decisions={}, skipped=(), storage="in memory",
        load=0.0, seconds={},
    )  # fmt: skip
    journal.close()


def test_a_provider_that_is_slow_or_refuses_is_counted_from_faults_that_exist(record: Record) -> None:
    families = record.by_number()
    assert families["F16 the provider slow, or refusing with 429 or 503"] == 3 + 5 + 7
    assert families["F8 provider misbehaves"] == sum(BY_PROVIDER.values())
    assert {name.partition(" ")[0] for name in BY_PROVIDER} <= set(FaultKind)


def test_a_limit_of_ours_is_told_from_an_outage(record: Record) -> None:
    counts = record.by_number()
    assert counts["F16 answered 429 by us: beyond a limit"] == 17
    assert counts["F16 answered 503 by us: overloaded, or what we need was away"] == 19


def test_recovery_is_of_those_that_waited_for_us(record: Record) -> None:
    recovery = Recovery(RECOVERY.open_then)
    recovery.note({"pay_late": "processing"}, 2.0)
    recovery.note({}, 40.0)
    figures = replace(record, recovery=recovery).figures()
    assert (figures["open_when_faults_ended"], figures["of_these_waiting_for_us"]) == (3, 2)
    assert (figures["recovery_p50_seconds"], figures["recovery_p99_seconds"]) == (40.0, 40.0)


def test_the_page_says_whether_all_was_terminal_within_the_aim(record: Record) -> None:
    soon, late = Recovery(RECOVERY.open_then), Recovery(RECOVERY.open_then)
    soon.note({}, 29.0)
    late.note({}, 31.0)
    assert "The aim of 30 s for that is reached" in replace(record, recovery=soon).page()
    assert "terminal after 31.0 s (p99)" in replace(record, recovery=late).page()
    assert "The aim of 30 s for that is not reached" in replace(record, recovery=late).page()
    stuck = Moving(
        {"pay_late": "processing"}, refunds=0, webhooks=0, scheduled=0, payouts=0, provider_webhooks=0
    )
    left = replace(record, recovery=replace(soon, left=stuck))
    assert "The aim of 30 s for that is not reached" in left.page()


def test_the_page_shows_the_notes_of_proofs(record: Record) -> None:
    excused = Proof("every history replays", "9 histories", notes=("4 histories were lost",))
    many = Proof("clearing is explained", "1 postings", notes=tuple(f"item {n}" for n in range(12)))
    page = replace(record, proofs=(excused, many)).page()
    assert "noted, every history replays: 4 histories were lost" in page
    assert "item 9" in page
    assert "item 10" not in page
    assert "noted, clearing is explained: 2 more" in page


def test_the_page_says_where_data_lies_and_how_processes_start(record: Record) -> None:
    page = record.page()
    assert "Where the data lies: in memory" in page
    assert STARTS in page


def test_the_page_tells_single_requests_and_rules_from_faults_that_met_something(record: Record) -> None:
    told = f"Of the {3 + sum(BY_PROVIDER.values())} other faults 2 are single requests"
    assert told in record.page()
    assert "1 are rules given to the sandbox" in record.page()


def test_the_page_tells_why_payments_ended_as_they_did(record: Record) -> None:
    zero = Money(0, "EUR")
    failed = Paid(
        "pay_1", "o-1", "DE-EUR>CN-CNY", "failed", "rate_unavailable", None, 2, zero, zero, zero, None
    )
    evidence = replace(
        NOTHING, payments=(failed, replace(failed, id="pay_2"), replace(failed, reason="not_sent"))
    )
    page = replace(record, evidence=evidence).page()
    assert "| payments by reason | failed not_sent: 1, failed rate_unavailable: 2 |" in page


def test_the_page_tells_how_much_later_than_planned_the_faults_ended(record: Record) -> None:
    planned = record.plan.profile.safety_seconds
    late = replace(RECOVERY, faults_ended_at_seconds=planned + 70.2)
    shown = replace(record, recovery=late)
    assert f"planned to end after {planned} s and the last was over 70.2 s later" in shown.page()
    assert shown.figures()["faults_ended_at_seconds"] == planned + 70.2


def test_more_must_succeed_where_no_clock_makes_rates_run_out(record: Record) -> None:
    skews = {
        seconds: Act(0.0, Kind.CLOCK_SKEW, target, {"seconds": seconds, "until_seconds": 20.0})
        for target, seconds in (("worker-2", -3_600), ("api", 12), ("worker", 86_400))
    }
    behind = replace(record.plan, acts=(skews[-3_600], skews[12]))
    ahead = replace(record.plan, acts=tuple(skews.values()))
    assert (share_to_succeed(behind), share_to_succeed(ahead)) == (70, 50)
    zero = Money(0, "EUR")
    good = Paid("pay_1", "order-1", "DE-EUR>CN-CNY", "settled", None, None, 2, zero, zero, zero, None)
    lost = replace(good, status="failed", reason="rate_unavailable")
    evidence = replace(NOTHING, payments=(*[good] * 60, *[lost] * 40))
    for plan, is_told in ((behind, True), (ahead, False)):
        told = list(replace(record, plan=plan, evidence=evidence).vacuities())
        assert ("only 60 of 100 payments succeeded" in told) is is_told


def test_a_run_with_fewer_faults_than_are_published_does_not_count(record: Record) -> None:
    met = record.other_faults.total()
    floors = replace(record.plan.profile, least_kills=1, least_other_faults=met + 1)
    told = set(replace(record, plan=replace(record.plan, profile=floors)).vacuities())
    missing = {
        "only 0 kills, of at least 1 that are published",
        f"only {met} other faults, of at least {met + 1} that are published",
    }
    assert missing <= told
    assert not missing & set(record.vacuities())


def test_processor_time_counts_what_the_fork_server_has_started(tmp_path: Path) -> None:
    """The fork server lives on, so the operating system has not added its children to ours."""
    _measure_something(tmp_path)  # by then the server is up, and what it imports is behind it
    ours, all_of_it = sum(os.times()[:4]), processor_seconds()
    _measure_something(tmp_path)
    ours, all_of_it = sum(os.times()[:4]) - ours, processor_seconds() - all_of_it
    assert all_of_it > ours


def _measure_something(tmp_path: Path) -> None:
    forked = fork("timeit", {}, tmp_path / "log")
    forked.join()
    assert forked.exitcode == 0, (tmp_path / "log").read_text()
