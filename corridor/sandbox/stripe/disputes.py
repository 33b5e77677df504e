"""Disputes opened by the dispute test cards, and decided by Stripe's magic evidence texts."""

from corridor.sandbox.stripe import settlement
from corridor.sandbox.stripe.errors import Answer, Document, invalid_request
from corridor.sandbox.stripe.events import emit
from corridor.sandbox.stripe.tokens import test_card
from corridor.sandbox.stripe.work import Work, new_id

OPEN = frozenset({"needs_response", "warning_needs_response"})
EVIDENCE_DAYS = 9


def open_dispute(work: Work, charge_id: str) -> None:
    """The cardholder complains; unless it is only an inquiry, the money and a fee leave the balance at once."""
    charge = work.get("charge", charge_id)
    card = test_card(work.private("payment_intent", charge["payment_intent"])["card"])
    dispute = _dispute(work, charge, card.dispute or "general", inquiry=card.inquiry)
    charge["disputed"] = True
    work.save(charge)
    if not card.inquiry:
        _move(work, dispute, "dispute", -1, fee_usd=work.config.dispute_fee_usd_minor)
    work.insert(dispute, owner=charge["payment_intent"])
    emit(work, "charge.dispute.created", dispute)
    if not card.inquiry:
        emit(work, "charge.dispute.funds_withdrawn", dispute)


def update(work: Work, params: Document, dispute_id: str) -> Answer:
    """Keep evidence; on submit the magic text decides (docs.stripe.com/testing#disputes)."""
    dispute = _open(work, dispute_id)
    dispute["evidence"].update(params.get("evidence", {}))
    dispute["evidence_details"]["has_evidence"] = bool(dispute["evidence"])
    if params.get("submit"):
        dispute["evidence_details"]["submission_count"] += 1
        verdicts = {"winning_evidence": "won", "losing_evidence": "lost"}
        return _close(
            work, dispute, verdicts.get(dispute["evidence"].get("uncategorized_text", ""), "under_review")
        )
    work.save(dispute)
    emit(work, "charge.dispute.updated", dispute)
    return Answer(200, dispute)


def close(work: Work, _params: Document, dispute_id: str) -> Answer:
    """Accept the dispute as lost."""
    return _close(work, _open(work, dispute_id), "lost")


def _open(work: Work, dispute_id: str) -> Document:
    dispute = work.get("dispute", dispute_id)
    if dispute["status"] not in OPEN:
        raise invalid_request("This dispute is already closed.", code="dispute_already_closed")
    return dispute


def _close(work: Work, dispute: Document, status: str) -> Answer:
    inquiry = dispute["status"].startswith("warning")
    dispute["status"] = "warning_closed" if inquiry and status != "under_review" else status
    if status == "won" and not inquiry:
        _move(work, dispute, "dispute_reversed", 1)
        emit(work, "charge.dispute.funds_reinstated", dispute)
    work.save(dispute)
    closed = dispute["status"] in ("won", "lost", "warning_closed")
    emit(work, "charge.dispute.closed" if closed else "charge.dispute.updated", dispute)
    return Answer(200, dispute)


def _move(work: Work, dispute: Document, effect: str, sign: int, fee_usd: int = 0) -> None:
    currency = settlement.settlement_currency(work, dispute["currency"])
    amount, rate = settlement.in_settlement(work, sign * dispute["amount"], dispute["currency"], currency)
    fee = work.exchange.from_usd(fee_usd, currency)
    transaction = settlement.book(work, "adjustment", dispute["id"], amount, currency, fee=fee, rate=rate)
    dispute["balance_transactions"].append(transaction)
    work.move(effect, dispute["payment_intent"], dispute, dispute["amount"], dispute["currency"])
    if fee:
        work.move("fee", dispute["payment_intent"], dispute, fee, currency)


def _dispute(work: Work, charge: Document, reason: str, *, inquiry: bool) -> Document:
    due_by = work.now + EVIDENCE_DAYS * 86_400
    return {
        "id": new_id("dp"),
        "object": "dispute",
        "amount": charge["amount_captured"] - charge["amount_refunded"],
        "balance_transactions": [],
        "charge": charge["id"],
        "created": work.now,
        "currency": charge["currency"],
        "evidence": {},
        "evidence_details": {
            "due_by": due_by,
            "has_evidence": False,
            "past_due": False,
            "submission_count": 0,
        },
        "is_charge_refundable": inquiry,
        "livemode": False,
        "metadata": {},
        "payment_intent": charge["payment_intent"],
        "payment_method_details": {
            "card": {
                "brand": "visa",
                "case_type": "inquiry" if inquiry else "chargeback",
                "network_reason_code": "10.4",
            },
            "type": "card",
        },
        "reason": reason,
        "status": "warning_needs_response" if inquiry else "needs_response",
    }
