"""What a drill measured: RPO, RTO, effects, and every payment before and after. Pure; made from a run's records."""

from collections import Counter
from dataclasses import dataclass

from api.cli.audit.evidence import Movement
from api.cli.audit.proofs import Proof
from api.cli.drill.crowd import Deal
from api.cli.drill.disasters import Recovered, Scenario
from api.cli.drill.exercise import Run, proven
from api.cli.drill.standing import Moment
from corridor.domain.payment import Status

NEVER = "–"


@dataclass(frozen=True)
class Line:
    """One payment through the disaster; `effects` counts movements of its buyer's money at the provider."""

    reference: str
    kind: str
    payment_id: str
    at_t0: str
    damaged: str
    recovered: str
    ended: str
    effects: int


@dataclass(frozen=True)
class Account:
    """One disaster. RPO counts what clients had been told before T0 and nobody knew after the recovery."""

    scenario: Scenario
    seed: int
    purchases: int
    waiting_at_t0: int
    backup_age_seconds: float | None
    acknowledged: int
    told_events: int
    unknown_after_damage: int
    rpo_payments: tuple[str, ...]
    rpo_events: tuple[str, ...]
    released_seconds: float
    first_new_seconds: float | None
    all_ended_seconds: float
    effects_by_recovery: int
    duplicated: tuple[str, ...]
    lost: tuple[str, ...]
    in_review: tuple[str, ...]
    recovery: Recovered
    proofs: tuple[Proof, ...]
    lines: tuple[Line, ...]

    @property
    def holds(self) -> bool:
        bad = (self.rpo_payments, self.rpo_events, self.duplicated, self.lost, self.recovery.left)
        clean = not any(bad) and not self.effects_by_recovery and not self.recovery.second_run
        return clean and all(proof.holds for proof in self.proofs)


def of(run: Run) -> Account:
    """Count."""
    t0, people = run.clock.disaster, run.people
    acknowledged = [deal for deal in people.deals if deal.was_acknowledged(t0)]
    after = run.moments.get("recovered", run.moments["at the end"])
    damaged = run.moments.get("damaged", run.moments["at T0"])
    told = run.received_before or run.moments["at T0"].told
    ended = run.moments["at the end"]
    return Account(
        scenario=run.scenario,
        seed=run.seed,
        purchases=len(run.purchases),
        waiting_at_t0=sum(_waits(deal, run.moments["at T0"]) for deal in acknowledged),
        backup_age_seconds=t0 - run.clock.backup if run.scenario is Scenario.DATABASE_RESTORED else None,
        acknowledged=len(acknowledged),
        told_events=len(told),
        unknown_after_damage=sum(_is_unknown(deal, damaged) for deal in acknowledged),
        rpo_payments=tuple(f"{it.payment_id}" for it in acknowledged if _is_unknown(it, after)),
        rpo_events=tuple(sorted(told - after.told)),
        released_seconds=run.clock.released - t0,
        first_new_seconds=_first_new(people.deals, t0),
        all_ended_seconds=run.clock.quiet - t0,
        effects_by_recovery=_of_ours(run.books_after) - _of_ours(run.books_before),
        duplicated=tuple(_twice(run)),
        lost=tuple(_lost(acknowledged, ended)),
        in_review=tuple(
            sorted(name for name, it in ended.objects.items() if it.status == Status.REQUIRES_REVIEW)
        ),
        recovery=run.recovered,
        proofs=proven(run),
        lines=tuple(_lines(run)),
    )


def _waits(deal: Deal, moment: Moment) -> bool:
    stood = moment.objects.get(deal.payment_id or "")
    return stood is not None and stood.status in (
        Status.AUTHORIZED,
        Status.REQUIRES_ACTION,
        Status.REQUIRES_REVIEW,
    )


def _is_unknown(deal: Deal, moment: Moment) -> bool:
    """The moment's database does not know the payment as far as its merchant had been told."""
    answer, stood = deal.answer, moment.objects.get(deal.payment_id or "")
    return stood is None or (answer is not None and stood.sequence < answer.document["last_sequence"])


def _first_new(deals: list[Deal], t0: float) -> float | None:
    """From T0 to the first answer of a payment that was asked for after it."""
    new = [
        deal.answered_at - t0
        for deal in deals
        if deal.asked_at is not None
        and deal.asked_at > t0
        and deal.answered_at is not None
        and deal.answer is not None
        and deal.answer.status == 201
    ]
    return min(new, default=None)


def _of_ours(books: tuple[Movement, ...]) -> int:
    """Movements somebody here caused; fees, payouts and refunds that fail later are the provider's own."""
    return sum(it.kind in ("authorise", "capture", "cancel", "refund") for it in books)


def _twice(run: Run) -> list[str]:
    movements = run.evidence.movements if run.evidence is not None else ()
    counts = Counter((it.kind, it.key) for it in movements if it.kind not in ("fee", "payout"))
    return [f"{kind} {key}: {count} times" for (kind, key), count in sorted(counts.items()) if count > 1]


def _lost(acknowledged: list[Deal], ended: Moment) -> list[str]:
    """Acknowledged payments that are neither at an end nor in a review somebody owns."""
    good = {status for status in Status if status.is_terminal} | {Status.REQUIRES_REVIEW}
    return [
        str(deal.payment_id)
        for deal in acknowledged
        if (stood := ended.objects.get(deal.payment_id or "")) is None or stood.status not in good
    ]


def _lines(run: Run) -> list[Line]:
    movements = run.evidence.movements if run.evidence is not None else ()
    effects = Counter(it.key.partition(":")[0] for it in movements if it.kind in ("capture", "refund"))
    by_reference = {
        stood.reference: name for name, stood in run.moments["at the end"].objects.items() if stood.reference
    }
    return [
        Line(
            reference=deal.purchase.name,
            kind=deal.purchase.kind.value,
            payment_id=(payment_id := by_reference.get(deal.purchase.name, "")),
            at_t0=_at(run, "at T0", payment_id),
            damaged=_at(run, "damaged", payment_id),
            recovered=_at(run, "recovered", payment_id),
            ended=_at(run, "at the end", payment_id),
            effects=effects[payment_id],
        )
        for deal in run.people.deals
    ]


def _at(run: Run, moment: str, payment_id: str) -> str:
    if moment not in run.moments:
        moment = "at T0"
    return str(run.moments[moment].objects.get(payment_id, NEVER))
