"""What only the demo can prove: each order ended as its scenario says, and repeats got the first answer."""

from collections.abc import Iterable, Mapping, Sequence

from api.cli.audit.evidence import Paid, Returned
from api.cli.audit.proofs import Proof, proof
from api.cli.demo.drive import Tale
from api.cli.demo.scenarios import SCENARIOS
from api.cli.demo.shop import Json, Sent


def endings_are_as_told(
    tales: Sequence[Tale], payments: Iterable[Paid], refunds: Iterable[Returned]
) -> Proof:
    """Status, reason, and what was captured and refunded of each order; and one payment for each, never two."""
    by_reference: dict[str, list[Paid]] = {}
    for payment in payments:
        by_reference.setdefault(payment.reference, []).append(payment)
    by_payment: dict[str, list[Returned]] = {}
    for refund in refunds:
        by_payment.setdefault(refund.payment_id, []).append(refund)
    against = [
        f"{tale.order.id} ({tale.order.scenario}{f', {tale.payment_id}' if tale.payment_id else ''}): {wrong}"
        for tale in tales
        for wrong in _wrong_with(tale, by_reference.pop(tale.order.id, []), by_payment)
    ]
    against += [f"nobody ordered {it.id} ({it.reference})" for extra in by_reference.values() for it in extra]
    return proof("each order ended as its scenario says", len(tales), "orders", against)


def _wrong_with(tale: Tale, made: Sequence[Paid], refunds: Mapping[str, Sequence[Returned]]) -> list[str]:
    scenario = SCENARIOS[tale.order.scenario]
    surprises = [tale.surprise] if tale.surprise else []
    wanted = 0 if scenario.ending is None else 1
    if len(made) != wanted:
        return [*surprises, f"became {len(made)} payments, not {wanted}"]
    if wanted == 0:
        return surprises
    (payment,) = made
    # A refund that was refused for the merchant's balance or the limit is kept, as failed; it is none of these.
    ended = sorted(
        it.status for it in refunds.get(payment.id, ()) if it.id in tale.refund_ids or it.status != "failed"
    )
    facts = {
        "status": (payment.status, scenario.ending),
        "reason": (payment.reason, scenario.reason),
        "decline": (payment.decline, scenario.decline),
        "amount": (payment.amount, tale.order.amount),
        "captured": (payment.captured, scenario.captured.of(tale.order.amount)),
        "refunded": (payment.refunded, scenario.refunded.of(tale.order.amount)),
        "refunds": (ended, sorted(scenario.refunds)),
    }
    return surprises + [
        f"{name} is {is_}, not {should}" for name, (is_, should) in facts.items() if is_ != should
    ]


def decisions(sent: Iterable[Sent]) -> list[Json]:
    """What operators were told of the decisions they took."""
    decided = (it for it in sent if it.path.endswith(":decide"))
    return [answer.document for it in decided for answer in it.answers if answer.status == 200]


def repeats_are_equal(sent: Sequence[Sent]) -> Proof:
    """A request that was carried out and sent again gets the bytes it got before. "Not yet" is no answer."""
    against, compared = [], 0
    for request in sent:
        final = [(answer.status, answer.body) for answer in request.answers if not answer.is_not_yet]
        compared += max(0, len(final) - 1)
        if len(set(final)) > 1:
            against.append(
                f"{request.shop.name}, key {request.key}, {request.path}: {len(set(final))} different answers"
            )
        elif len(final) < 2:
            against.append(f"{request.shop.name}, key {request.key}, {request.path}: was not answered twice")
    claim = "a repeated request gets byte for byte the first answer"
    return proof(claim, compared, "repeats", against)
