"""The proofs about payments that collected nothing: the buyer's money is free again, and no call of theirs is open.

Pure, like the others. What our own void says of itself counts for nothing here; the provider's books do.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from api.cli.audit.evidence import Effect, Movement, Paid
from api.cli.audit.proofs import Proof, proof
from corridor.domain.effect import EffectState, Operation
from corridor.domain.money import Money
from corridor.domain.payment import Status

_COLLECTED = (Status.CAPTURED, Status.SETTLED)
_NOT_COLLECTED = (Status.FAILED, Status.CANCELED, Status.EXPIRED)
_ENDED_OTHERWISE = (Status.CANCELED, Status.EXPIRED)


@dataclass
class _Hold:
    """One authorisation at the provider, and what became of it there."""

    key: str
    amount: Money
    payment_id: str | None
    released: list[Money] = field(default_factory=list)
    is_captured: bool = False


def holds_are_released(
    payments: Iterable[Paid], effects: Iterable[Effect], movements: Iterable[Movement]
) -> Proof:
    """By the provider's books: what was authorised was captured for its payment, or released, all of it and once.

    An authorisation that lapsed at the provider is released there by itself, and its books say so in the same words.
    Payments that are still open may hold what they do; that they are open is another proof's matter.
    """
    rows = {it.id: it for it in payments}
    holds = _holds(movements, {it.key: it.payment_id for it in effects})
    released = sum(bool(hold.released) for hold in holds)
    against = [wrong for hold in holds if (wrong := _wrong_with(hold, rows)) is not None]
    claim = "no payment that collected nothing holds the buyer's money"
    return proof(claim, len(holds), "authorisations", against, [f"{released} were released"])


def _holds(movements: Iterable[Movement], payment_of: Mapping[str, str]) -> list[_Hold]:
    """Lines of one authorisation carry the provider's own id of it, whoever or whatever caused them."""
    movements = list(movements)
    found: dict[str, _Hold] = {}
    for it in movements:
        if it.kind == "authorise":
            found[it.hold or it.key] = _Hold(it.key, it.amount, payment_of.get(it.key))
    for it in movements:
        hold = found.get(it.hold or it.key)
        if hold is not None and it.kind == "cancel":
            hold.released.append(it.amount)
        elif hold is not None and it.kind == "capture":
            hold.is_captured = True
    return list(found.values())


def _wrong_with(hold: _Hold, payments: Mapping[str, Paid]) -> str | None:
    payment = payments.get(hold.payment_id or "")
    status = None if payment is None else Status(payment.status)
    if hold.is_captured and not hold.released:
        is_taken = payment is None or status in _NOT_COLLECTED
        return f"{hold.key}: captured, and {_whose(payment)}" if is_taken else None
    if hold.released not in ([], [hold.amount]) or hold.is_captured:
        what = "captured, and " if hold.is_captured else ""
        return f"{hold.key}: {what}{', '.join(map(str, hold.released))} released of {hold.amount}"
    is_open = status is not None and not status.is_terminal and status not in _COLLECTED
    if hold.released or is_open:
        return None
    return f"{hold.key}: the provider holds {hold.amount} of the buyer's, and {_whose(payment)}"


def _whose(payment: Paid | None) -> str:
    return "we have no such payment" if payment is None else f"{payment.id} is {payment.status}"


def endings_leave_nothing_open(payments: Sequence[Paid], effects: Iterable[Effect]) -> Proof:
    """When a payment has ended, the fate of every call of it is known, or can matter no more.

    A void that the provider confirmed ends what it undid: an attempt that nobody answered cannot become money after it,
    and an earlier void that nobody answered was made again. What was collected ends its own voids. Failed payments have
    a stricter proof of their own.
    """
    rows = {it.id: it for it in payments}
    effects = list(effects)
    confirmed = {
        it.payment_id
        for it in effects
        if it.operation == Operation.VOID and it.state == EffectState.APPROVED and it.is_answered
    }
    against, called_off = [], Counter[str]()
    for it in effects:
        payment = rows.get(it.payment_id)
        if payment is None or EffectState(it.state).is_final:
            continue
        is_void = it.operation == Operation.VOID
        if (payment.status in _ENDED_OTHERWISE and it.payment_id in confirmed) or (
            payment.status in _COLLECTED and is_void
        ):
            called_off[f"{it.operation} {it.state}"] += 1
        elif payment.status in (*_ENDED_OTHERWISE, Status.SETTLED):
            against.append(f"{it.key} is {it.state}, and {payment.id} is {payment.status}")
    ended = sum(Status(it.status).is_terminal for it in payments)
    notes = [f"{count} times {what}, called off" for what, count in sorted(called_off.items())]
    return proof("no call of a payment that has ended is open", ended, "ended payments", against, notes)
