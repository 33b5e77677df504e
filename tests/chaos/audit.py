"""The judgement at the end: every invariant, with the provider's own books as the oracle."""

import asyncio
import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from pathlib import Path

from api.cli.audit import holds, promises, proofs, rates, rest
from api.cli.audit.evidence import Evidence, Kept, Ordered, Received, Returned
from api.cli.audit.gathering import gather
from api.cli.audit.proofs import Proof, proof
from api.cli.audit.rebuilding import from_histories, money_is_rebuilt
from api.cli.demo import proofs as shop_proofs
from api.cli.demo.shop import Json, Sent, Shop, repeat_all
from corridor.domain.money import Money
from corridor.runtime.replay import Replayed
from tests.chaos import endings, leaks, liveness
from tests.chaos.arrivals import SUBSCRIBERS
from tests.chaos.clerk import Clerk
from tests.chaos.desk import acts_are_on_record
from tests.chaos.faults import temporal
from tests.chaos.faults.hostile import CANARY_CARD
from tests.chaos.journal import Journal
from tests.chaos.leaks import Sample
from tests.chaos.liveness import Recovery
from tests.chaos.plan import Kind, Plan
from tests.chaos.shopping import Street
from tests.chaos.stand import Stand
from tests.chaos.watch import Watch, WentBack

FORGED = "evt_forged_"
MOST_REBUILT = 3_000
"""Payments of a run whose books are rebuilt from histories: a smoke's."""
CREATING = ("/v1/payments", "/v1/refunds")


@dataclass(frozen=True)
class Run:
    """Everything a finished run left to be judged."""

    plan: Plan
    stand: Stand
    street: Street
    clerk: Clerk
    watch: Watch
    journal: Journal
    recovery: Recovery
    samples: Mapping[str, Sample]
    answers: Mapping[str, int]
    """How often the API answered with which status, before the audit."""


async def judge(run: Run) -> tuple[tuple[Proof, ...], Evidence]:
    """Send every request once more, read both sides, replay every history, and prove."""
    await run.watch.last_look()
    sent = await repeat_all([*run.stand.shops.values(), *run.stand.operators])
    await liveness.until_sealed(run.stand.database)
    evidence = await gather(run.stand.database, run.stand.sandbox)
    histories = await temporal.replay_all(run.stand)
    rebuilt = await from_histories(run.stand.settings, _beside(run.stand)) if is_rebuilt(run) else None
    names = {run.stand.keys.merchants[name]: name for name in SUBSCRIBERS}
    told = [it for it in evidence.events if it.merchant_id in names]
    ledger = evidence.ledger
    found = (
        proofs.postings_balance(ledger),
        proofs.balances_are_folds(ledger),
        proofs.seal_is_unbroken(ledger, is_at_rest=True),
        proofs.clearing_is_explained(ledger, evidence.refunds),
        proofs.books_agree(evidence.movements, evidence.effects, evidence.postings),
        proofs.fees_and_payouts_agree(evidence.movements, evidence.postings, evidence.batches),
        promises.money_moved_within_limits(
            evidence.movements, {it.key: it.payment_id for it in evidence.effects}
        ),
        holds.holds_are_released(evidence.payments, evidence.effects, evidence.movements),
        holds.endings_leave_nothing_open(evidence.payments, evidence.effects),
        promises.failures_are_proven(evidence.payments, evidence.effects, evidence.judged),
        promises.steps_are_declared(evidence.events),
        promises.rows_say_what_was_told_last(evidence.payments, evidence.refunds, evidence.events),
        rates.conversions_are_as_locked(evidence),
        promises.decisions_are_on_record(
            decisions(run.stand.operators),
            evidence.reviews,
            evidence.operators,
            evidence.acts,
            decisions_sent(run.stand.operators),
        ),
        acts_are_on_record(run.stand.desk.given, evidence.acts, run.watch.returns),
        proofs.nothing_is_left_open(evidence.payments, evidence.refunds),
        nothing_moves(run.recovery),
        endings.endings_are_explained(run.plan.arrivals, evidence.payments),
        endings.good_orders_succeed(
            run.plan.arrivals, evidence.payments, run.journal.last_of(Kind.CLOCK_SKEW)
        ),
        *_answers(run.street, held_to(sent, run.watch), evidence),
        nobody_was_surprised(run.street, run.watch.returns),
        promises.commands_are_reflected(
            ordered(run.street.shops.values()), evidence.payments, with_a_person(run.watch)
        ),
        promises.provider_webhooks_are_kept(
            evidence.taken,
            {it.event_id for it in evidence.inbox},
            [(it.copied_at, it.released_at) for it in run.watch.returns],
        ),
        rest.inbox_is_worked_off(genuine(evidence.inbox), evidence.queue, evidence.read_at, skews(run.plan)),
        proofs.events_have_no_gap(evidence.events, _sequences(evidence)),
        proofs.webhooks_arrived(in_time(evidence.received), told, names, waiting(evidence, skews(run.plan))),
        promises.events_keep_their_names(evidence.received, evidence.events),
        histories_replay(histories.replayed, evidence, run.stand.lost_with_temporal),
        *([] if rebuilt is None else [money_is_rebuilt(rebuilt, broken_off(run.journal, evidence.refunds))]),
        nothing_was_our_error(run.answers, is_held=run.plan.profile.fails_on_our_error),
        watched(run.watch, run.journal.violations),
        recovered(run.recovery, run.plan.profile.recovers_within_seconds),
        leaks.nothing_grew(
            run.samples, leaks.sample(run.stand.pids(), await asyncio.to_thread(run.stand.tasks))
        ),
        leaks.nothing_grows_with_age(run.stand.lives),
        leaks.secrets_are_nowhere(_canaries(run.stand), run.stand.directories()),
    )
    return found, evidence


def is_rebuilt(run: Run) -> bool:
    """Whether every history is on the server as it was, and they are few enough to be read in a minute."""
    is_whole = not run.watch.returns and not run.plan.profile.temporal_losses
    return is_whole and len(run.plan.arrivals) <= MOST_REBUILT


def broken_off(journal: Journal, refunds: Sequence[Returned]) -> set[str]:
    """Payments and refunds whose workflows were terminated or reset, as the notes of those faults name them.

    A refund's steps tell of its payment too.
    """
    kinds = (f"{Kind.TERMINATE}:", f"{Kind.RESET}:")
    struck = [it.note.partition(" ")[0] for it in journal.entries if it.fired and it.name.startswith(kinds)]
    names = {workflow_id.partition("-")[2] for workflow_id in struck}
    return names | {it.payment_id for it in refunds if it.id in names}


def _beside(stand: Stand) -> Path:
    return stand.settings.data_dir / "rebuilt.db"


def in_time(received: Sequence[Received]) -> tuple[Received, ...]:
    """Without what a receiver refused for its time stamp alone: a worker with a wrong clock had signed it (F10).

    It is sent again by the schedule, and what never arrived in time is missed by the proof all the same.
    """
    return tuple(it for it in received if it.is_verified or "timestamp" not in it.problem.lower())


def skews(plan: Plan) -> tuple[int, ...]:
    """By how many seconds clocks were wrong on purpose, each of them."""
    return tuple(int(act.words["seconds"]) for act in plan.acts if act.kind is Kind.CLOCK_SKEW)


def genuine(inbox: Sequence[Kept]) -> list[Kept]:
    """Without what was forged in the provider's name and well signed: that it is called a contradiction is right."""
    return [it for it in inbox if not it.event_id.startswith(FORGED)]


def waiting(evidence: Evidence, by: Sequence[int]) -> Set[str]:
    return rest.on_schedule(evidence.undelivered, evidence.read_at, by)


def decisions(operators: Sequence[Shop]) -> list[Json]:
    return shop_proofs.decisions(it for operator in operators for it in operator.sent.values())


def decisions_sent(operators: Sequence[Shop]) -> set[tuple[str, str | None]]:
    """Review and decision of each click, whatever became of it."""
    clicks = (it for operator in operators for it in operator.sent.values() if it.path.endswith(":decide"))
    return {(it.path.split("/")[-1].partition(":")[0], json.loads(it.body)["decision"]) for it in clicks}


def ordered(shops: Iterable[Shop]) -> list[Ordered]:
    """Captures and cancels as they were sent, each with all its answers."""
    sent = (it for shop in shops for it in shop.sent.values() if it.path.endswith((":capture", ":cancel")))
    return [_ordered(it) for it in sent]


def _ordered(sent: Sent) -> Ordered:
    payment_id, _, command = sent.path.rpartition("/")[2].partition(":")
    told = [answer.document["amount_captured"] for answer in sent.answers if answer.status == 200]
    captured = Money(told[0]["minor"], told[0]["currency"]) if told else None
    statuses = frozenset(answer.status for answer in sent.answers)
    return Ordered(payment_id, command, sent.key, statuses, captured)


def with_a_person(watch: Watch) -> set[str]:
    return {name for back in watch.returns for name in back.with_a_person}


def held_to(sent: Sequence[Sent], watch: Watch) -> list[Sent]:
    """After a restoration the keys of payments and refunds are known again, those of commands are as old as the copy."""
    return [it for it in sent if not watch.returns or it.path in CREATING]


def _answers(street: Street, sent: Sequence[Sent], evidence: Evidence) -> Iterator[Proof]:
    """What shops were told, against what exists."""
    existing = {it.id for it in evidence.payments} | {it.id for it in evidence.refunds}
    named: dict[str, set[str]] = {}
    for request in _creating(street):
        ids = {it.document["id"] for it in request.answers if it.status in (201, 202)}
        if ids:
            named[f"{request.shop.name} {request.key}"] = ids
    yield promises.acknowledged_exist({key: it for key, ids in named.items() for it in ids}, existing)
    yield promises.one_key_made_one_object(named, evidence.payments)
    yield shop_proofs.repeats_are_equal(sent)


def _creating(street: Street) -> Iterator[Sent]:
    for shop in street.shops.values():
        yield from (it for it in shop.sent.values() if it.path in CREATING)


def nobody_was_surprised(street: Street, returns: Sequence[WentBack] = ()) -> Proof:
    """No good request was refused as bad, none was answered with what its state does not allow, none had no answer.

    A quote that no payment had used yet is in no history: it may be gone with the database it was given in, and only so.
    """
    surprises = [it.surprise for it in street.orders if it.surprise]
    silent = [
        f"{it.arrival.id} ({it.payment_id}) gave up: {it.gave_up}" for it in street.orders if it.gave_up
    ]
    gone = {
        f"{it.arrival.id}: the quote given at {it.quote_gone:%H:%M:%S} was not there any more": it.quote_gone
        for it in street.orders
        if it.quote_gone is not None
    }
    lost = [text for text, at in gone.items() if any(it.copied_at < at < it.released_at for it in returns)]
    missing = [text for text in gone if text not in lost]
    claim = "every order was answered, and only with what its state allows"
    return proof(claim, len(street.orders), "orders", [*surprises, *silent, *missing], lost)


def nothing_was_our_error(answers: Mapping[str, int], *, is_held: bool) -> Proof:
    """What is away or busy is said with 503 and Retry-After; 500 means that nobody had thought of it."""
    errors = [
        f"{count} answers were {status}" for status, count in answers.items() if status in ("500", "502")
    ]
    claim = "no answer was an error of ours" if is_held else "answers that were errors of ours are noted"
    return proof(
        claim, sum(answers.values()), "answers", errors if is_held else [], [] if is_held else errors
    )


def watched(watch: Watch, violations: Sequence[str]) -> Proof:
    claim = "sums, limits and transitions held at every look while faults were on"
    notes = [f"{watch.steps_seen} steps seen", f"{watch.misses} looks met a database that was down"]
    notes += map(str, watch.returns)
    return proof(claim, watch.looks, "looks", violations, notes)


def nothing_moves(recovery: Recovery) -> Proof:
    """The wait ended because everything was over, and not because nothing had changed for long."""
    left = ["nobody waited until the end"] if recovery.left is None else list(recovery.left.left())
    return proof("in the end nothing was under way any more", recovery.looks, "looks", left)


def recovered(recovery: Recovery, within_seconds: float | None) -> Proof:
    """Soon after the last fault, each payment that waited for us then had ended, or waited for others than us."""
    late = [
        f"{payment_id} took {seconds} s"
        for payment_id, seconds in recovery.decided.items()
        if within_seconds is not None and seconds > within_seconds
    ]
    late += [
        f"{payment_id} was still {status} at the end" for payment_id, status in recovery.never_ended.items()
    ]
    when = "in the end" if within_seconds is None else f"{within_seconds:.0f} s after the last fault"
    notes = [f"{len(recovery.open_then)} were open then, {len(recovery.paid_then)} of them paid out to us"]
    # What is only told is about all that were open; what is held to a time would hold of nothing if none waited for us.
    held = recovery.open_then if within_seconds is None else recovery.waited_for_us
    return proof(f"{when} no payment waited for us", len(held), "payments that did or could", late, notes)


def histories_replay(
    replayed: Sequence[Replayed], evidence: Evidence, lost_with_temporal: Collection[str]
) -> Proof:
    """What had ended before Temporal's store was lost, and after the last export, has no history: it is counted."""
    told = {it.workflow_id for it in replayed}
    wanted = list(_workflow_ids(evidence))
    gone = {it for it in wanted if it not in told and it.partition("-")[2] in lost_with_temporal}
    found = proofs.histories_replay(replayed, [it for it in wanted if it not in gone])
    return replace(found, notes=(f"{len(gone)} histories were lost with Temporal's store",))


def _sequences(evidence: Evidence) -> dict[str, int]:
    return {it.id: it.sequence for it in evidence.payments} | {it.id: it.sequence for it in evidence.refunds}


def _workflow_ids(evidence: Evidence) -> Iterator[str]:
    yield from (f"payment-{payment.id}" for payment in evidence.payments)
    yield from (f"refund-{refund.id}" for refund in evidence.refunds)


def _canaries(stand: Stand) -> dict[str, str]:
    """What was sent or is known, and must be at rest nowhere in clear."""
    keys = {f"the API key of {name}": key for name, key in stand.keys.api_keys.items()}
    return {"the card number": CANARY_CARD, "the provider's secret key":
            stand.settings.stripe_secret_key.get_secret_value(), **keys}  # fmt: skip
