"""Balance transactions, fees and automatic payouts: how collected money becomes a bank transfer."""

import json
from decimal import ROUND_HALF_EVEN, Decimal

from corridor.sandbox.stripe.currencies import step
from corridor.sandbox.stripe.errors import Document
from corridor.sandbox.stripe.events import emit
from corridor.sandbox.stripe.work import Work, new_id

REPORTING = {"adjustment": "dispute", "refund_failure": "refund_failure"}


def settle_charge(work: Work, charge: Document) -> None:
    """The captured amount enters the balance, less the fee; sets `balance_transaction` on the charge."""
    currency = settlement_currency(work, charge["currency"])
    gross, rate = in_settlement(work, charge["amount_captured"], charge["currency"], currency)
    fee = _fee(work, gross, currency)
    transaction = book(work, "charge", charge["id"], gross, currency, fee=fee, rate=rate)
    charge["balance_transaction"] = transaction["id"]
    work.move("fee", charge["payment_intent"], charge, fee, currency)


def settle_asynchronous_charge(work: Work, charge_id: str) -> None:
    """`automatic_async`: the balance transaction appears after the answer, with `charge.updated`."""
    charge = work.get("charge", charge_id)
    settle_charge(work, charge)
    work.save(charge)
    emit(work, "charge.updated", charge, {"balance_transaction": None})


def book(
    work: Work,
    kind: str,
    source: str,
    amount: int,
    currency: str,
    *,
    fee: int = 0,
    rate: Decimal | None = None,
) -> Document:
    """A balance transaction, pending until the settlement delay has passed."""
    transaction: Document = {
        "id": new_id("txn"),
        "object": "balance_transaction",
        "amount": amount,
        "available_on": work.now + work.config.settlement_delay_seconds,
        "balance_type": "payments",
        "created": work.now,
        "currency": currency,
        "description": None,
        # JSON has one kind of number; reading the decimal's own text keeps its digits unchanged on the wire.
        "exchange_rate": None if rate is None else json.loads(format(rate.normalize(), "f")),
        "fee": fee,
        "fee_details": _fee_details(fee, currency),
        "net": amount - fee,
        "reporting_category": REPORTING.get(kind, kind),
        "source": source,
        "status": "pending",
        "type": kind,
    }
    work.insert(transaction, subject=source)
    work.after(work.config.settlement_delay_seconds, "make_available", transaction["id"])
    return transaction


def settlement_currency(work: Work, currency: str) -> str:
    """Like for like where the account holds that currency, and where no rate is published to convert by."""
    if currency in work.config.like_for_like_currencies:
        return currency
    target = work.config.settlement_currency
    return target if work.exchange.rate(currency, target) is not None else currency


def in_settlement(work: Work, amount: int, source: str, target: str) -> tuple[int, Decimal | None]:
    """The amount in the settlement currency and the rate, which is None without a conversion."""
    if source == target:
        return amount, None
    rate = work.exchange.rate(source, target)
    if rate is None:
        raise LookupError(f"no rate from {source} to {target}")
    return work.exchange.convert(amount, source, target, rate), rate


def make_available(work: Work, transaction_id: str) -> None:
    """The settlement delay has passed."""
    transaction = work.get("balance_transaction", transaction_id)
    if transaction["status"] == "pending":
        transaction.update(status="available", available_on=min(transaction["available_on"], work.now))
        work.save(transaction)


def pay_out(work: Work) -> list[str]:
    """One automatic payout per currency over everything available and not yet paid; returns the payout ids."""
    rows = work.connection.execute(
        "SELECT document FROM objects WHERE kind = 'balance_transaction' AND owner IS NULL"
        " AND json_extract(document, '$.status') = 'available' ORDER BY sequence LIMIT 1000"
    )
    bundles: dict[str, list[Document]] = {}
    for row in rows:
        transaction = json.loads(row["document"])
        bundles.setdefault(transaction["currency"], []).append(transaction)
    # A negative bundle stays in the balance until charges outweigh it, as Stripe's own does.
    return [_payout(work, c, b) for c, b in sorted(bundles.items()) if sum(item["net"] for item in b) > 0]


def mark_paid(work: Work, payout_id: str) -> None:
    """The bank has it; reconciliation data is complete from now on."""
    payout = work.get("payout", payout_id)
    payout["status"] = "paid"
    payout["trace_id"] = {"status": "supported", "value": payout_id.removeprefix("po_")[:16].upper()}
    work.save(payout)
    emit(work, "payout.paid", dict(payout))
    payout["reconciliation_status"] = "completed"
    work.save(payout)
    emit(work, "payout.reconciliation_completed", payout)


def _payout(work: Work, currency: str, bundle: list[Document]) -> str:
    amount = sum(item["net"] for item in bundle)
    payout: Document = {
        "id": new_id("po"),
        "object": "payout",
        "amount": amount,
        "application_fee": None,
        "arrival_date": work.now + work.config.payout_transit_seconds,
        "automatic": True,
        "balance_transaction": None,
        "created": work.now,
        "currency": currency,
        "description": "STRIPE PAYOUT",
        "destination": f"ba_sandbox_{currency}",
        "failure_balance_transaction": None,
        "failure_code": None,
        "failure_message": None,
        "livemode": False,
        "metadata": {},
        "method": "standard",
        "original_payout": None,
        "reconciliation_status": "in_progress",
        "reversed_by": None,
        "source_type": "card",
        "statement_descriptor": None,
        "status": "in_transit",
        "trace_id": {"status": "pending", "value": None},
        "type": "bank_account",
    }
    own = book(work, "payout", payout["id"], -amount, currency)
    own["status"] = "available"
    work.save(own)
    payout["balance_transaction"] = own["id"]
    work.insert(payout)
    work.connection.executemany(
        "UPDATE objects SET owner = ? WHERE id = ?", [(payout["id"], item["id"]) for item in [*bundle, own]]
    )
    work.move("payout", None, payout, amount, currency)
    work.after(work.config.payout_transit_seconds, "mark_paid", payout["id"])
    emit(work, "payout.created", payout)
    return str(payout["id"])


def _fee(work: Work, gross: int, currency: str) -> int:
    share = Decimal(gross) * work.config.fee_basis_points / 10_000
    fee = share + work.exchange.from_usd(work.config.fee_fixed_usd_minor, currency)
    unit = step(currency)
    return int((fee / unit).quantize(Decimal(1), ROUND_HALF_EVEN)) * unit


def _fee_details(fee: int, currency: str) -> list[Document]:
    if fee == 0:
        return []
    description = "Stripe processing fees"
    return [
        {
            "amount": fee,
            "application": None,
            "currency": currency,
            "description": description,
            "type": "stripe_fee",
        }
    ]
