"""The record of a run: families are counted from faults that exist, and the page says what its figures leave out."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from api.cli.audit.evidence import Evidence
from api.cli.audit.proofs import Proof
from corridor.ledger.report import Report
from corridor.sandbox.faults import FaultKind
from tests.chaos.forking import STARTS
from tests.chaos.journal import Journal
from tests.chaos.liveness import Recovery
from tests.chaos.plan import Kind, expand
from tests.chaos.profile import PROFILES
from tests.chaos.record import Record

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
    left = replace(record, recovery=replace(soon, left={"pay_late": "processing"}))
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
