"""The report: figures per corridor, the slowest and the retried payments, and the proofs; as data and as text."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from io import StringIO
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from api.cli.audit.evidence import Evidence, Paid, Posted
from api.cli.audit.histories import Retries
from api.cli.audit.proofs import Proof
from api.cli.demo.disturb import Disturbance
from api.cli.demo.drive import Tale
from corridor.domain.money import Money
from corridor.domain.payment import RefundStatus

SLOWEST = 5
LISTED = 5
WIDTH = 168

Json = dict[str, Any]


@dataclass(frozen=True)
class Line:
    """One corridor. Amounts are strings per currency: amounts of different currencies are never added."""

    corridor: str
    orders: int
    payments: int
    collected: tuple[str, ...]
    settled: tuple[str, ...]
    fees: tuple[str, ...]
    fx_spread: tuple[str, ...]
    provider_fees: tuple[str, ...]
    refunds: tuple[str, ...]


@dataclass(frozen=True)
class Noted:
    """A payment worth a look in the Temporal UI."""

    order: str
    scenario: str
    payment: str
    what: str
    link: str


@dataclass(frozen=True)
class Report:
    """Everything that is printed."""

    market_day: date
    database: str
    seconds: Mapping[str, float]
    answer_seconds: Mapping[str, float]
    corridors: tuple[Line, ...]
    scenarios: Mapping[str, int]
    disturbances: tuple[Disturbance, ...]
    slowest: tuple[Noted, ...]
    retried: tuple[Noted, ...]
    proofs: tuple[Proof, ...]
    data_dir: str
    look_around: str

    @property
    def holds(self) -> bool:
        return all(proof.holds for proof in self.proofs)

    def document(self) -> Json:
        """The report as one JSON document."""
        proofs = [{**asdict(proof), "holds": proof.holds} for proof in self.proofs]
        return {**asdict(self), "proofs": proofs, "holds": self.holds}


def corridor_lines(tales: Sequence[Tale], evidence: Evidence) -> tuple[Line, ...]:
    """The table's rows, from the payments' rows and the postings of the ledger."""
    postings: dict[str, list[Posted]] = {}
    payment_of = {refund.id: refund.payment_id for refund in evidence.refunds}
    for posting in evidence.postings:
        owner = payment_of.get(posting.object_id, posting.object_id)
        postings.setdefault(owner, []).append(posting)
    lines = []
    for corridor in sorted({tale.order.corridor for tale in tales}):
        paid = [payment for payment in evidence.payments if payment.corridor == corridor]
        booked = [posting for payment in paid for posting in postings.get(payment.id, ())]
        orders = sum(tale.order.corridor == corridor for tale in tales)
        lines.append(_line(corridor, orders, paid, booked, evidence))
    return tuple(lines)


def _line(
    corridor: str, orders: int, paid: Sequence[Paid], booked: Sequence[Posted], evidence: Evidence
) -> Line:
    ids = {payment.id for payment in paid}
    returned = [
        refund.amount
        for refund in evidence.refunds
        if refund.payment_id in ids and refund.status == RefundStatus.SUCCEEDED
    ]
    return Line(
        corridor=corridor,
        orders=orders,
        payments=len(paid),
        collected=_texts(payment.captured for payment in paid),
        settled=_texts(payment.settled for payment in paid if payment.settled is not None),
        fees=_booked(booked, "income/fees", -1),
        fx_spread=_booked(booked, "income/fx_spread", -1),
        provider_fees=_booked(booked, "expense/provider_fees", 1),
        refunds=_texts(returned),
    )


def _booked(postings: Iterable[Posted], prefix: str, sign: int) -> tuple[str, ...]:
    return _texts(
        Money(sign * minor, currency)
        for posting in postings
        for currency, minor in posting.on(prefix).items()
    )


def _texts(amounts: Iterable[Money]) -> tuple[str, ...]:
    """One text per currency; zero is left out."""
    sums: dict[str, Money] = {}
    for amount in amounts:
        known = sums.get(amount.currency)
        sums[amount.currency] = amount if known is None else known + amount
    return tuple(f"{it.major():,} {it.currency}" for _, it in sorted(sums.items()) if not it.is_zero)


def slowest(tales: Sequence[Tale], link: Mapping[str, str]) -> tuple[Noted, ...]:
    """The payments whose buyers waited longest for the first answer."""
    paid = sorted((it for it in tales if it.payment_id), key=lambda it: it.seconds, reverse=True)
    return tuple(
        _noted(tale, f"{tale.seconds:.2f} s{f', sent {tale.sends}×' if tale.sends > 1 else ''}", link)
        for tale in paid[:SLOWEST]
    )


def retried(
    tales: Sequence[Tale], retries: Mapping[str, Retries], link: Mapping[str, str]
) -> tuple[Noted, ...]:
    """Payments that did not go through at the first try, with what their histories show."""
    found = []
    for tale in tales:
        workflows = [f"payment-{tale.payment_id}", *(f"refund-{it}" for it in tale.refund_ids)]
        what = [f"{it.partition('-')[0]}: {retries[it]}" for it in workflows if it in retries]
        waits_for_buyer = tale.order.scenario.startswith("challenge")
        troubled = any(
            it.again or it.lost or (it.looks and not waits_for_buyer)
            for it in map(retries.get, workflows)
            if it
        )
        if tale.payment_id and troubled:
            found.append(_noted(tale, "; ".join(what), link))
    return tuple(found)


def _noted(tale: Tale, what: str, link: Mapping[str, str]) -> Noted:
    payment = tale.payment_id or ""
    return Noted(tale.order.id, tale.order.scenario, payment, what, link[payment])


def text(report: Report) -> str:
    """The report for people; proofs come last, each on a line of its own."""
    out = Console(file=StringIO(), width=WIDTH, highlight=False, markup=False, emoji=False)
    out.print(_heading(report))
    out.print(_corridor_table(report.corridors))
    _list(out, f"slowest {len(report.slowest)} answers", report.slowest)
    _list(out, f"{len(report.retried)} retried payments", report.retried)
    for proof in report.proofs:
        out.print(_proof_text(proof), soft_wrap=True)
    out.print(f"\ndata: {report.data_dir}\nlook around: {report.look_around}", soft_wrap=True)
    file = out.file
    return file.getvalue() if isinstance(file, StringIO) else ""


def _heading(report: Report) -> str:
    answers = ", ".join(f"{name} {seconds:.2f} s" for name, seconds in report.answer_seconds.items())
    steps = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in report.seconds.items())
    orders = sum(line.orders for line in report.corridors)
    broken = "; ".join(
        f"{it.what} after {it.after_orders} orders, back in {it.ready_after_seconds:.1f} s"
        for it in report.disturbances
    )
    return (
        f"{orders} orders, {len(report.corridors)} corridors, {len(report.scenarios)} scenarios, {report.database}\n"
        f"rates: European Central Bank, {report.market_day.isoformat()}, the newest day in the installed package\n"
        f"disturbed: {broken}\nanswers: {answers}\ntime: {steps}\n"
    )


def _corridor_table(lines: Sequence[Line]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("corridor", no_wrap=True)
    for name in ("orders", "collected", "settled", "our fees", "FX spread", "provider's fees", "refunds"):
        table.add_column(name, justify="right", no_wrap=True)
    for line in lines:
        amounts = (line.collected, line.settled, line.fees, line.fx_spread, line.provider_fees, line.refunds)
        table.add_row(line.corridor, str(line.orders), *("\n".join(texts) or "–" for texts in amounts))
    return table


def _list(out: Console, title: str, noted: Sequence[Noted]) -> None:
    out.print(f"{title}:")
    for it in noted:
        out.print(f"  {it.order} {it.scenario}: {it.what}  {it.link}", soft_wrap=True)
    out.print()


def _proof_text(proof: Proof) -> str:
    if proof.holds:
        lines = [f"proof: {proof.claim}: holds ({proof.looked_at})", *(f"  note: {it}" for it in proof.notes)]
        return "\n".join(lines)
    lines = [
        f"proof: {proof.claim}: DOES NOT HOLD, {len(proof.counterexamples)} counterexamples ({proof.looked_at})"
    ]
    lines += [f"  counterexample: {it}" for it in proof.counterexamples[:LISTED]]
    if len(proof.counterexamples) > LISTED:
        lines.append(f"  … and {len(proof.counterexamples) - LISTED} more")
    return "\n".join(lines)
