"""The proofs: each takes records and finds every counterexample to one claim. Pure; nothing is read here.

A proof about nothing proves nothing: where there was nothing to look at, that is the counterexample.
"""

from collections import Counter
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass

from api.cli.audit.evidence import Effect, Movement, Paid, Posted, Received, Returned, Told
from corridor.domain.money import Money
from corridor.domain.payment import RefundStatus, Status
from corridor.ledger.report import FaultKind, Report
from corridor.runtime.replay import Replayed, Verdict


@dataclass(frozen=True)
class Proof:
    """One claim, what it was checked on, and what contradicts it. `notes` explain; they contradict nothing."""

    claim: str
    looked_at: str
    counterexamples: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def holds(self) -> bool:
        return not self.counterexamples


def proof(claim: str, count: int, of_what: str, against: Iterable[str], notes: Iterable[str] = ()) -> Proof:
    nothing = () if count else (f"there were no {of_what} to look at",)
    return Proof(claim, f"{count} {of_what}", (*nothing, *against), tuple(notes))


_ABOUT_BALANCES = (FaultKind.WRONG_BALANCE, FaultKind.OVERDRAWN)
_ABOUT_SEALS = (FaultKind.BROKEN_SEAL, FaultKind.NEVER_SEALED)


def postings_balance(ledger: Report) -> Proof:
    """Per currency, recomputed from the bare entries, with the digest each posting was made with."""
    other = (*_ABOUT_BALANCES, *_ABOUT_SEALS)
    faults = [str(fault) for fault in ledger.faults if fault.kind not in other]
    return proof("every ledger posting balances in every currency", ledger.postings, "postings", faults)


def balances_are_folds(ledger: Report) -> Proof:
    faults = [str(fault) for fault in ledger.faults if fault.kind in _ABOUT_BALANCES]
    off = [
        f"{currency}: all accounts sum to {minor}" for currency, minor in ledger.totals_minor.items() if minor
    ]
    return proof("balances equal the fold of their entries", ledger.accounts, "accounts", [*faults, *off])


def seal_is_unbroken(ledger: Report, *, is_at_rest: bool = False) -> Proof:
    """`is_at_rest`: nothing was posted for so long that the sealer must have come by, and none may be left over.

    The ledger's own proof counts what lies near the newest posting as waiting, however long it has lain there.
    """
    against = [str(fault) for fault in ledger.faults if fault.kind in _ABOUT_SEALS]
    claim = "the hash chain over the postings is unbroken"
    if is_at_rest:
        claim += ", and every posting is in it"
        against += (
            [f"{ledger.unsealed} postings are in no seal, the oldest of {ledger.oldest_unsealed_at}"]
            if ledger.unsealed
            else []
        )
    return proof(claim, ledger.seals, "seals", against)


def clearing_is_explained(ledger: Report, refunds: Sequence[Returned]) -> Proof:
    """Open money at the provider is a refund it has made and not netted in a payout yet; suspense has no excuse."""
    waiting = {
        refund.id: refund.amount
        for refund in refunds
        if refund.status == RefundStatus.SUCCEEDED and not refund.is_reported
    }
    against, notes = [], []
    for item in ledger.open_items:
        text = f"{item.account}: {item.open_minor} minor units of {item.object_id}"
        expected = waiting.get(item.object_id)
        path, _, currency = item.account.rpartition("/")
        if path.startswith("clearing/") and expected == Money(-item.open_minor, currency):
            notes.append(f"{text}: refunded, not in a payout yet")
        else:
            against.append(text)
    if ledger.open_item_count > len(ledger.open_items):
        against.append(f"{ledger.open_item_count} open items, too many to list")
    return proof("clearing and suspense are zero or explained", ledger.postings, "postings", against, notes)


# --- the provider's books ----------------------------------------------------------------------------------------


def books_agree(
    movements: Iterable[Movement], effects: Sequence[Effect], postings: Iterable[Posted]
) -> Proof:
    """Effect by effect, both ways: every movement is ours exactly once, at our amount, and every one of ours is there.

    Money that moved is compared with the ledger; holds and releases, which move none, with the effects.
    """
    theirs = [((it.kind, it.key), it.amount) for it in movements if it.kind not in ("fee", "payout")]
    ours = {**_moved(postings), **_held(effects)}
    undone = _undone_unseen(theirs, effects)
    theirs = [it for it in theirs if it[0] not in undone]
    against = [
        f"{kind} {key}: in the provider's books {count} times"
        for (kind, key), count in Counter(name for name, _ in theirs).items()
        if count > 1
    ]
    for (kind, key), amount in theirs:
        if (kind, key) not in ours:
            against.append(f"{kind} {key}: the provider moved {amount}, we know nothing of it")
        elif ours[kind, key] != amount:
            against.append(f"{kind} {key}: the provider moved {amount}, we hold {ours[kind, key]}")
    missing = ours.keys() - {name for name, _ in theirs}
    against += [
        f"{kind} {key}: we hold {ours[kind, key]}, the provider knows nothing of it"
        for kind, key in sorted(missing)
    ]
    claim = "the provider's own books equal the ledger's view, effect by effect"
    return proof(claim, len(theirs), "effects", against)


def _undone_unseen(
    theirs: Sequence[tuple[tuple[str, str], Money]], effects: Sequence[Effect]
) -> set[tuple[str, str]]:
    """Refunds that came back before their outcome was known to us, both movements of each: to us they were declined.

    Together they moved nothing, and the settlement rows of both meet on the clearing account.
    """
    moved, times = dict(theirs), Counter(name for name, _ in theirs)
    undone: set[tuple[str, str]] = set()
    for effect in effects:
        there = ("refund", effect.key)
        back = ("refund_failed", f"{effect.key.partition(':')[0]}:came_back")
        once_each = times[there] == times[back] == 1
        if effect.state == "declined" and once_each and moved[there] == moved[back] == effect.amount:
            undone |= {there, back}
    return undone


_MOVES = {"capture": 1, "refund": -1, "refund_failed": 1}


def _moved(postings: Iterable[Posted]) -> dict[tuple[str, str], Money]:
    """What the ledger says the provider holds for us, by the effect that put it there or took it."""
    found = {}
    for posting in postings:
        if posting.kind in _MOVES:
            ((currency, minor),) = posting.on("clearing/").items()
            found[posting.kind, posting.key] = Money(_MOVES[posting.kind] * minor, currency)
    return found


def _held(effects: Sequence[Effect]) -> dict[tuple[str, str], Money]:
    """Authorisations that were approved, and the voids of those that held money without taking it."""
    approved = [effect for effect in effects if effect.state == "approved"]
    first = [effect for effect in approved if effect.operation in ("authorise", "sale")]
    only_held = {effect.payment_id for effect in first if effect.operation == "authorise"}
    voids = [it for it in approved if it.operation == "void" and it.payment_id in only_held]
    return {
        **{("authorise", effect.key): effect.amount for effect in first},
        **{("cancel", effect.key): effect.amount for effect in voids},
    }


def fees_and_payouts_agree(
    movements: Iterable[Movement], postings: Sequence[Posted], batches: Mapping[str, Money]
) -> Proof:
    """The provider's fee of each payment, each payout, and what all payouts brought to our bank account."""
    movements = list(movements)
    theirs = _sums((it.key, it.amount) for it in movements if it.kind == "fee")
    ours = _sums(
        (posting.object_id, Money(minor, currency))
        for posting in postings
        if posting.kind == "settle"
        for currency, minor in posting.on("expense/provider_fees").items()
    )
    payouts = {it.key: it.amount for it in movements if it.kind == "payout"}
    banked = _sums(
        ("bank", Money(minor, currency)) for it in postings for currency, minor in it.on("bank/").items()
    )
    paid_out = _sums(("bank", amount) for amount in payouts.values())
    against = [
        *_differences("fees of", theirs, ours),
        *_differences("payout", _sums(payouts.items()), _sums(batches.items())),
        *_differences("payouts to", paid_out, banked),
    ]
    claim = "the provider's fees and payouts equal the ledger's"
    return proof(claim, len(theirs) + len(payouts), "fees and payouts", against)


def _sums(amounts: Iterable[tuple[str, Money]]) -> dict[tuple[str, str], int]:
    """Minor units by (key, currency); what sums to zero is left out."""
    sums: Counter[tuple[str, str]] = Counter()
    for key, amount in amounts:
        sums[key, amount.currency] += amount.minor
    return {name: minor for name, minor in sums.items() if minor}


def _differences(
    what: str, theirs: Mapping[tuple[str, str], int], ours: Mapping[tuple[str, str], int]
) -> list[str]:
    return [
        f"{what} {key}: the provider says {theirs.get((key, currency), 0)}, we hold {ours.get((key, currency), 0)}"
        f" minor units of {currency}"
        for key, currency in sorted(theirs.keys() | ours.keys())
        if theirs.get((key, currency), 0) != ours.get((key, currency), 0)
    ]


# --- what became of the orders -----------------------------------------------------------------------------------


def nothing_is_left_open(payments: Sequence[Paid], refunds: Sequence[Returned]) -> Proof:
    """The run waited until everything should have ended: no state that waits for something is expected."""
    ended = (RefundStatus.SUCCEEDED, RefundStatus.FAILED)
    against = [
        f"{payment.id} ({payment.reference}) is {payment.status}: {payment.reason}"
        for payment in payments
        if not Status(payment.status).is_terminal
    ]
    against += [f"{it.id} of {it.payment_id} is {it.status}" for it in refunds if it.status not in ended]
    return proof("no payment is in a non-terminal state unexpectedly", len(payments), "payments", against)


# --- what merchants were told ------------------------------------------------------------------------------------


def events_have_no_gap(events: Iterable[Told], sequences: Mapping[str, int]) -> Proof:
    """`sequences`: the last sequence of each payment and refund, as its own row says."""
    events = list(events)
    by_object: dict[str, list[int]] = {object_id: [] for object_id in sequences}
    for event in events:
        by_object.setdefault(event.object_id, []).append(event.sequence)
    against = []
    for object_id, seen in by_object.items():
        expected = list(range(1, sequences.get(object_id, max(seen, default=0)) + 1))
        if sorted(seen) != expected:
            against.append(f"{object_id} has the events {sorted(seen)}, not 1 to {len(expected)}")
    places = [event.position for event in events]
    against += [f"event {it.id} has no place in the feed" for it in events if it.position is None]
    against += [
        f"place {place} was given {n} times" for place, n in Counter(places).items() if place and n > 1
    ]
    return proof("event sequences have no gap", len(events), "events", against)


def webhooks_arrived(
    received: Sequence[Received],
    events: Sequence[Told],
    merchant_names: Mapping[str, str],
    undelivered: Container[str] = frozenset(),
) -> Proof:
    """Every event at its own merchant at least once, well signed. `merchant_names`: receiver's name by merchant id.

    `undelivered`: ids of events whose delivery waits for a later attempt of its schedule; they are noted.
    """
    against = [
        f"{it.merchant} was sent event {it.event_id} with a signature that does not verify"
        for it in received
        if not it.is_verified
    ]
    taken = {
        (it.merchant, it.event_id, it.object_id, it.sequence)
        for it in received
        if it.is_verified and it.status < 300
    }
    wanted = {(merchant_names[it.merchant_id], it.id, it.object_id, it.sequence) for it in events}
    missing = sorted(wanted - taken)
    waiting = [name for name in missing if name[1] in undelivered]
    against += [
        f"{merchant} never took event {event_id}, number {sequence} of {object_id}"
        for merchant, event_id, object_id, sequence in missing
        if event_id not in undelivered
    ]
    against += [
        f"{merchant} was sent {event_id}, which is not its own"
        for merchant, event_id, *_ in sorted(taken - wanted)
    ]
    claim = "every event reached its merchant, well signed, without a gap"
    notes = [f"{len(wanted)} events in {len(received)} deliveries"]
    notes += [f"{len(waiting)} wait for the next attempt of their schedule"] if waiting else []
    return proof(claim, len(received), "webhooks", against, notes)


def histories_replay(replayed: Sequence[Replayed], expected_ids: Iterable[str]) -> Proof:
    """With this build, by the real converter; and no workflow that must exist is without a history."""
    against = [
        f"{it.workflow_id} {it.run_id}: {it.verdict}: {(it.reason or '').partition(chr(10))[0]}"
        for it in replayed
        if it.verdict not in (Verdict.FITS, Verdict.SKIPPED)
    ]
    missing = set(expected_ids) - {it.workflow_id for it in replayed}
    against += [f"{workflow_id} has no history" for workflow_id in sorted(missing)]
    return proof("every history replays", len(replayed), "histories", against)
