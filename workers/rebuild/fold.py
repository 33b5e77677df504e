"""What many histories say together: every posting, payment, refund, effect and settlement row once, by business key.

A capture is told twice by the branches of a reset, and by a resumed payment's second run; each fact is kept under its
own key (posting key, effect key, object and event number), so it counts once however often it is told. Nothing is
computed by today's rules: what is here was said by a step's result.

Runs are read in any order, mostly the newest first, and a resumed one tells what became of things that only the run
before it began. So nothing that is told is judged by what is known so far: each kind lies on a shelf of its own, and
what belongs to nothing is found when the last run is read.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from activities.contracts import (
    CLOSE_BATCH,
    DECIDE_REVIEW,
    FIND_BATCHES,
    IMPORT_PAGE,
    EffectPlan,
    Executed,
    Former,
    Moved,
    Prepared,
    ReviewDecided,
    ReviewOpened,
    Standing,
)
from corridor.domain.accepted import NewPayment, NewRefund
from corridor.domain.outcome import ProviderAnswer
from corridor.domain.payment import StatusReason
from corridor.domain.posting import Posting
from corridor.domain.quote import Quote
from corridor.domain.settlement import BadRow, SettlementBatch, SettlementLine
from workers.histories.reading import Reading, StepTaken
from workers.rebuild.shelf import Shelf
from workflows import names
from workflows.messages import PaymentStart, RefundStart


@dataclass(frozen=True)
class Booked:
    """A posting as a history tells it; `posted_at` is None in histories of builds that did not tell it."""

    posting: Posting
    posted_at: datetime | None
    workflow_id: str


@dataclass
class Carried:
    """One payment or refund: what was accepted, and where each step left it, by the number of its last event.

    `former` are events that a step found recorded: its own first try, or another step, may have told no history of them.
    """

    accepted: NewPayment | NewRefund | None = None
    accepted_at: datetime | None = None
    started_at: datetime | None = None
    standings: dict[int, list[tuple[datetime, Standing]]] = field(default_factory=dict)
    former: dict[int, Former] = field(default_factory=dict)
    quotes: dict[str, Quote] = field(default_factory=dict)
    newest_run_at: datetime | None = None
    """When the last of its runs began that was read."""
    told_lines: frozenset[tuple[str, str]] = frozenset()
    """Settlement rows that run was told of. What a lost one was told, the next import tells its successor."""

    @property
    def sequence(self) -> int:
        return max(self.standings, default=1)

    @property
    def events(self) -> list[int]:
        """Numbers of the events after the first that are told of, in order."""
        return sorted({*self.standings, *self.former} - {1})

    def told(self, sequence: int) -> Standing | Former:
        """What is told of event `sequence`: as it is recorded, where a step told that, else by how it left the row."""
        return self.former.get(sequence) or self.first(sequence)

    def first(self, sequence: int) -> Standing:
        """As event `sequence` left it."""
        return min(self.standings[sequence], key=lambda told: told[0])[1]

    def last(self, sequence: int) -> Standing:
        """As it stood before the next event: some columns are filled in without one (the route, the lock)."""
        return max(self.standings[sequence], key=lambda told: told[0])[1]


@dataclass
class EffectTold:
    """A declared effect."""

    plan: EffectPlan
    payment_id: str

    @property
    def object_id(self) -> str:
        return self.plan.effect_key.partition(":")[0]


@dataclass
class FateTold:
    """What is recorded of an effect's fate, as the workflow named here was told of it."""

    workflow_id: str
    answer: ProviderAnswer | None = None
    resolved_at: datetime | None = None
    told_at: datetime | None = None


@dataclass(frozen=True)
class Closing:
    """What may have ended a review."""

    at: datetime
    decision: str
    decided_by: str
    note: str


@dataclass(frozen=True)
class Decision(Closing):
    """A person's word, as the workflow named here was told it."""

    workflow_id: str


@dataclass
class ReviewTold:
    """A question to a person."""

    review_id: str
    payment_id: str
    object_id: str
    reason: str
    created_at: datetime


@dataclass(frozen=True)
class LineTold:
    provider: str
    batch_id: str
    row: SettlementLine | BadRow
    staged_at: datetime | None


@dataclass
class BatchTold:
    """A batch as it was found, and its last closing: one that a row was left over of is closed again."""

    provider: str
    batch: SettlementBatch | None = None
    closed_at: datetime | None = None
    told_at: datetime | None = None
    """When the server was told of that closing: the clocks of two workers do not say which came last."""


Objects = Shelf[str, Carried]


@dataclass
class Books:
    """The fold. `conflicts` are facts told in two ways; `silent` are workflows of builds that told too little.

    What grows with the number of payments lies on shelves, so memory does not.
    """

    payments: Objects = field(default_factory=Shelf)
    refunds: Objects = field(default_factory=Shelf)
    postings: Shelf[str, Booked] = field(default_factory=Shelf)
    effects: Shelf[str, EffectTold] = field(default_factory=Shelf)
    fates: Shelf[str, FateTold] = field(default_factory=Shelf)
    lines: Shelf[tuple[str, str], LineTold] = field(default_factory=Shelf)
    batches: Shelf[tuple[str, str], BatchTold] = field(default_factory=Shelf)
    reviews: Shelf[str, ReviewTold] = field(default_factory=Shelf)
    decisions: Shelf[str, Decision] = field(default_factory=Shelf)
    withdrawals: Shelf[str, list[Closing]] = field(default_factory=Shelf)
    conflicts: list[str] = field(default_factory=list)
    silent: set[str] = field(default_factory=set)
    histories: int = 0

    def add(self, reading: Reading) -> None:
        """Take in one run. The same run again, grown or not, adds what is new."""
        self._take(reading)
        self.histories += 1
        self.spill()

    def spill(self) -> None:
        """Between two runs, and between two objects that are written: what is in hand goes back to its shelf."""
        for value in vars(self).values():
            if isinstance(value, Shelf):
                value.spill()

    def _take(self, reading: Reading) -> None:
        match reading.start:
            case PaymentStart() as start:
                self._carry(self.payments, start.payment_id, start, reading)
                if start.resume is not None:
                    self._plan(start.resume.plan, start.payment_id)
                    self._plan(start.resume.undo, start.payment_id)
            case RefundStart() as start:
                self._carry(self.refunds, start.refund_id, start, reading)
        for step in reading.steps:
            if step.ending == "completed" and step.result is not None:
                self._step(reading, step)

    def _carry(self, into: Objects, object_id: str, start: Any, reading: Reading) -> None:
        """The earliest run knows best what was accepted: a resumed one was started from a row that had changed."""
        carried = into.setdefault(object_id, Carried())
        if carried.started_at is None or reading.started_at < carried.started_at:
            carried.started_at = reading.started_at
            if start.accepted is not None:
                carried.accepted, carried.accepted_at = start.accepted, start.accepted_at
        if carried.newest_run_at is None or reading.started_at >= carried.newest_run_at:
            carried.newest_run_at, carried.told_lines = reading.started_at, _facts(reading)
        if start.accepted is None:
            self.silent.add(reading.workflow_id)

    def _step(self, reading: Reading, step: StepTaken) -> None:
        if step.name == IMPORT_PAGE.name:
            return self._page(step)
        if step.name in (FIND_BATCHES.name, CLOSE_BATCH.name):
            self._batches(step)
        result = step.result
        payment_id = getattr(reading.start, "payment_id", "")
        self._plan(getattr(result, "plan", None), payment_id)
        self._book(reading, result)
        self._stand(reading, result, step.at)
        executed = result if isinstance(result, Executed) else getattr(result, "executed", None)
        if isinstance(executed, Executed):
            key = step.given.effect_key if step.given is not None else getattr(result, "effect_key", None)
            if executed is not result:
                self._book(reading, executed)
                self._stand(reading, executed, step.at)
            self._outcome(reading, key, executed, step.at)
        self._review(reading, step)
        quote = getattr(result, "quote", None)
        if quote is not None and payment_id in self.payments:
            self.payments[payment_id].quotes[quote.id] = quote

    def _review(self, reading: Reading, step: StepTaken) -> None:
        result, payment_id = step.result, getattr(reading.start, "payment_id", "")
        match result:
            case Prepared(review_id=str() as review_id):
                self._opened(review_id, payment_id, payment_id, StatusReason.RISK_REVIEW, result.stands, None)
            case ReviewOpened(review_id=str() as review_id, reason=StatusReason() as reason):
                self._opened(review_id, payment_id, reading.object_id, reason, result.stands, result.at)
            case ReviewDecided(at=datetime() as at):
                self._decided(reading, step, at)
            case Moved() if result.stands:
                (standing,) = result.stands
                why = str(standing.row.get("status_reason"))
                closing = Closing(standing.at, "withdrawn", "payment", why)
                self.withdrawals.setdefault(payment_id, []).append(closing)

    def _opened(
        self,
        review_id: str,
        payment_id: str,
        object_id: str,
        reason: str,
        stands: Sequence[Standing],
        at: datetime | None,
    ) -> None:
        """Opened with the event that shows the object as waiting, where it was not waiting already."""
        shown = [it.at for it in stands if it.object_id == object_id and it.event.endswith("requires_review")]
        moment = shown[0] if shown else at
        if moment is not None:
            told = ReviewTold(review_id, payment_id, object_id, reason, moment)
            self.reviews.setdefault(review_id, told)

    def _decided(self, reading: Reading, step: StepTaken, at: datetime) -> None:
        """By the person whose command it was: they are carried out in the order in which they came."""
        number = reading.of(DECIDE_REVIEW).index(step)
        for command in reading.decisions[number : number + 1]:
            said = Decision(at, command.decision, command.decided_by, command.note, reading.workflow_id)
            self.decisions.setdefault(command.review_id, said)

    def _plan(self, plan: EffectPlan | None, payment_id: str) -> None:
        if plan is not None:
            self.effects.setdefault(plan.effect_key, EffectTold(plan, payment_id))

    def _book(self, reading: Reading, result: Any) -> None:
        made: tuple[Posting, ...] = getattr(result, "postings", ())
        times: tuple[datetime, ...] = getattr(result, "posted_at", ())
        if made and len(times) != len(made):
            self.silent.add(reading.workflow_id)
        for number, posting in enumerate(made):
            at = times[number] if number < len(times) else None
            known = self.postings.get(posting.key)
            if known is not None and known.posting != posting:
                self.conflicts.append(
                    f"posting {posting.key}: {reading.workflow_id} tells another than {known.workflow_id}"
                )
            elif known is None or (known.posted_at is None and at is not None):
                self.postings[posting.key] = Booked(posting, at, reading.workflow_id)

    def _stand(self, reading: Reading, result: Any, at: datetime) -> None:
        told: Iterable[Standing] = getattr(result, "stands", ())
        if hasattr(result, "stands") and not told:
            self.silent.add(reading.workflow_id)
        for standing in told:
            into = self.refunds if standing.object_id.startswith("rfd_") else self.payments
            carried = into.setdefault(standing.object_id, Carried())
            moments = carried.standings.setdefault(standing.sequence, [])
            if all(known != standing for _, known in moments):
                moments.append((at, standing))
            for former in standing.former:
                carried.former.setdefault(former.sequence, former)

    def _outcome(self, reading: Reading, key: str | None, executed: Executed, at: datetime) -> None:
        """The latest word on an effect; a proof is never replaced by less."""
        if key is None:
            self.conflicts.append(f"{reading.workflow_id} tells of an effect and not of which")
            return
        fate = self.fates.setdefault(key, FateTold(reading.workflow_id))
        if fate.resolved_at is not None and executed.resolved_at is None:
            return
        if fate.told_at is None or at >= fate.told_at:
            fate.answer, fate.resolved_at = executed.answer, executed.resolved_at
            fate.told_at = at

    def _page(self, step: StepTaken) -> None:
        given, page = step.given, step.result
        for row in (*page.lines, *page.bad_rows):
            key = (given.provider, row.line_id)
            self.lines.setdefault(key, LineTold(given.provider, given.batch_id, row, page.staged_at))

    def _batches(self, step: StepTaken) -> None:
        if step.name == FIND_BATCHES.name:
            for batch in step.result.found:
                key = (step.given.provider, batch.batch_id)
                told = self.batches.setdefault(key, BatchTold(step.given.provider))
                told.batch = told.batch or batch
            return
        key = (step.given.provider, step.given.batch_id)
        told = self.batches.setdefault(key, BatchTold(step.given.provider))
        if step.result.closed_at is not None and (told.told_at is None or step.at >= told.told_at):
            told.closed_at, told.told_at = step.result.closed_at, step.at


def _facts(reading: Reading) -> frozenset[tuple[str, str]]:
    """The settlement rows that a run was told of; a reset brings along what the run before it was told."""
    facts = [it.argument for it in reading.signals if it.name == names.SETTLEMENT_FACT]
    return frozenset((fact.provider, fact.line_id) for fact in facts)
