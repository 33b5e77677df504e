"""The proof of the ledger: recompute everything from bare rows, trust nothing, and name the first bad row.

It reads in pages, on one snapshot, in memory bounded by the page and the listing limits. Balances are compared
with the fold of entries inside the database.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from sqlalchemy import BigInteger, ColumnElement, Connection, Select, case, cast, func, or_, select, text

from corridor.domain.failure import InvariantBroken
from corridor.ledger.chart import RETURNS_TO_ZERO, currency_of, never_in_debit
from corridor.ledger.report import LISTED, Fault, FaultKind, OpenItem, Report, TrialBalanceLine
from corridor.ledger.seal import GENESIS, LOOK_BACK, link
from corridor.ledger.store import digest_of
from corridor.storage.ledger_tables import account_balances, accounts, entries, ledger_seals, postings

PAGE = 2000


def verify(connection: Connection) -> Report:
    """Prove the whole ledger. On PostgreSQL it must open its transaction: the snapshot is fixed here.

    Checked: every posting balances per currency, is complete and has the digest of its rows; every entry's account
    exists; balances equal the fold of entries; no merchant account is in debit; the seal's chain is unbroken.
    """
    _fix_snapshot(connection)
    report = Report()
    _prove_postings(connection, report)
    _prove_balances(connection, report)
    _prove_seals(connection, report)
    _list_open_items(connection, report)
    return report


def trial_balance(connection: Connection) -> list[TrialBalanceLine]:
    """Debits, credits and the maintained balance of every account, in order of name."""
    return [
        TrialBalanceLine(row.account, int(row.debit), int(row.credit), int(row.stored))
        for row in connection.execute(_comparison().order_by(accounts.c.account))
    ]


def _fix_snapshot(connection: Connection) -> None:
    """SQLite's read transaction is a snapshot already; PostgreSQL's default gives every statement its own."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"))


def _prove_postings(connection: Connection, report: Report) -> None:
    for page, legs in _pages(connection):
        by_posting: dict[int, list[Any]] = {row.id: [] for row in page}
        for leg in legs:
            report.entries += 1
            if leg.posting_id in by_posting:
                by_posting[leg.posting_id].append(leg)
            else:
                report.add(
                    Fault(
                        FaultKind.ORPHANED_LEG, f"of posting id {leg.posting_id}", None, leg.leg, leg.account
                    )
                )
        for row in page:
            report.postings += 1
            for fault in _faults_of(row, by_posting[row.id]):
                report.add(fault)


def _pages(connection: Connection) -> Iterator[tuple[Sequence[Any], Sequence[Any]]]:
    """Pages of postings in order of id, each with every entry up to its last id; the last takes the rest."""
    last = None
    while True:
        heads = select(postings).order_by(postings.c.id).limit(PAGE)
        legs = (
            select(entries, accounts.c.currency)
            .outerjoin(accounts, accounts.c.account == entries.c.account)
            .order_by(entries.c.posting_id, entries.c.leg)
        )
        if last is not None:
            heads, legs = heads.where(postings.c.id > last), legs.where(entries.c.posting_id > last)
        page = connection.execute(heads).all()
        is_last = len(page) < PAGE
        yield (
            page,
            connection.execute(legs if is_last else legs.where(entries.c.posting_id <= page[-1].id)).all(),
        )
        if is_last:
            return
        last = page[-1].id


def _faults_of(head: Any, legs: Sequence[Any]) -> Iterator[Fault]:
    """What is wrong with one posting, the most telling first."""
    for expected, leg in enumerate(legs):
        if leg.leg != expected:
            yield Fault(FaultKind.MISSING_LEG, "is not there", head.key, expected)
            return
    for leg in legs:
        if leg.currency is None or leg.currency != currency_of(leg.account):
            detail = f"there is no account {leg.account} of that currency"
            yield Fault(FaultKind.UNKNOWN_ACCOUNT, detail, head.key, leg.leg, leg.account)
    sums = _sums(legs)
    off = {currency: total for currency, total in sums.items() if total != 0}
    pairs = [(leg.account, leg.amount_minor) for leg in legs]
    if digest_of(head.key, head.kind, head.object_id, pairs) != head.digest:
        yield _alteration(head, pairs, off)
    if off or not legs:
        yield Fault(FaultKind.UNBALANCED, f"legs leave {off} minor units", head.key)


def _sums(legs: Iterable[Any]) -> dict[str, int]:
    sums: dict[str, int] = {}
    for leg in legs:
        currency = currency_of(leg.account)
        sums[currency] = sums.get(currency, 0) + leg.amount_minor
    return sums


def _alteration(head: Any, pairs: list[tuple[str, int]], off: dict[str, int]) -> Fault:
    """Name the one leg whose amount was changed, where undoing the imbalance restores the digest."""
    for leg, (account, minor) in enumerate(pairs):
        was = minor - off.get(currency_of(account), 0)
        restored = [*pairs[:leg], (account, was), *pairs[leg + 1 :]]
        if was != minor and digest_of(head.key, head.kind, head.object_id, restored) == head.digest:
            return Fault(FaultKind.ALTERED_LEG, f"was {was}, is {minor} minor units", head.key, leg, account)
    return Fault(FaultKind.ALTERED_POSTING, "its rows do not have the digest it was posted with", head.key)


def _comparison() -> Select[Any]:
    """Every account with the fold of its entries and its maintained balance, computed by the database."""
    folded = (
        select(
            entries.c.account,
            _sum(case((entries.c.amount_minor > 0, entries.c.amount_minor), else_=0)).label("debit"),
            _sum(case((entries.c.amount_minor < 0, -entries.c.amount_minor), else_=0)).label("credit"),
        )
        .group_by(entries.c.account)
        .subquery()
    )
    kept = (
        select(account_balances.c.account, _sum(account_balances.c.balance_minor).label("stored"))
        .group_by(account_balances.c.account)
        .subquery()
    )
    return (
        select(
            accounts.c.account,
            func.coalesce(folded.c.debit, 0).label("debit"),
            func.coalesce(folded.c.credit, 0).label("credit"),
            func.coalesce(kept.c.stored, 0).label("stored"),
        )
        .outerjoin(folded, folded.c.account == accounts.c.account)
        .outerjoin(kept, kept.c.account == accounts.c.account)
    )


def _sum(amount: ColumnElement[int]) -> ColumnElement[int]:
    return cast(func.sum(amount), BigInteger)


def _prove_balances(connection: Connection, report: Report) -> None:
    for row in connection.execute(_comparison().order_by(accounts.c.account)):
        report.accounts += 1
        folded = row.debit - row.credit
        currency = currency_of(row.account)
        report.totals_minor[currency] = report.totals_minor.get(currency, 0) + row.stored
        if folded != row.stored:
            detail = f"stored {row.stored}, entries fold to {folded} minor units"
            report.add(Fault(FaultKind.WRONG_BALANCE, detail, account=row.account))
        if folded > 0 and _is_limited(row.account):
            report.add(Fault(FaultKind.OVERDRAWN, f"{folded} minor units in debit", account=row.account))


def _is_limited(account: str) -> bool:
    try:
        return never_in_debit(account)
    except InvariantBroken:
        # An account outside the chart has no limit of its own; its legs were never written by `post`.
        return False


def _prove_seals(connection: Connection, report: Report) -> None:
    previous = GENESIS
    for row in _sealed_rows(connection):
        report.seals += 1
        fault = _fault_of_seal(report.seals, previous, row)
        if fault is not None:
            report.add(fault)
            break
        previous = row.hash
    newest = connection.execute(select(func.max(ledger_seals.c.posting_id))).scalar_one() or 0
    unsealed = (select(postings).outerjoin(ledger_seals, ledger_seals.c.posting_id == postings.c.id)).where(
        ledger_seals.c.posting_id.is_(None)
    )
    waiting = unsealed.with_only_columns(func.count(), func.min(postings.c.posted_at).label("oldest"))
    report.unsealed, oldest = connection.execute(waiting).one()
    report.oldest_unsealed_at = oldest.isoformat() if oldest is not None else None
    for row in connection.execute(unsealed.where(postings.c.id <= newest - LOOK_BACK).limit(LISTED)):
        report.add(Fault(FaultKind.NEVER_SEALED, f"posting id {row.id} lies under the sealed ones", row.key))


def _sealed_rows(connection: Connection) -> Iterator[Any]:
    """Seals in order of number with the posting each stands for, page by page."""
    sealed = (
        select(ledger_seals, postings.c.id, postings.c.key, postings.c.digest, postings.c.posted_at)
        .outerjoin(postings, postings.c.id == ledger_seals.c.posting_id)
        .order_by(ledger_seals.c.seal_number)
        .limit(PAGE)
    )
    page = connection.execute(sealed).all()
    while page:
        yield from page
        page = connection.execute(sealed.where(ledger_seals.c.seal_number > page[-1].seal_number)).all()


def _fault_of_seal(expected: int, previous: str, row: Any) -> Fault | None:
    if row.seal_number != expected:
        return Fault(FaultKind.BROKEN_SEAL, f"seal {expected} is missing")
    if row.id is None:
        return Fault(
            FaultKind.BROKEN_SEAL, f"seal {expected} stands for posting id {row.posting_id}, which is gone"
        )
    if link(previous, expected, row.id, row.digest, row.posted_at) != row.hash:
        return Fault(FaultKind.BROKEN_SEAL, f"seal {expected} does not follow from its posting", row.key)
    return None


def _list_open_items(connection: Connection, report: Report) -> None:
    open_minor = _sum(entries.c.amount_minor)
    items = (
        select(
            entries.c.account,
            postings.c.object_id,
            open_minor.label("open_minor"),
            func.min(postings.c.posted_at).label("since"),
        )
        .join(postings, postings.c.id == entries.c.posting_id)
        .where(or_(*(entries.c.account.startswith(f"{kind}/") for kind in sorted(RETURNS_TO_ZERO))))
        .group_by(entries.c.account, postings.c.object_id)
        .having(open_minor != 0)
    )
    report.open_item_count = connection.execute(
        select(func.count()).select_from(items.subquery())
    ).scalar_one()
    for row in connection.execute(
        items.order_by(func.min(postings.c.posted_at), postings.c.object_id).limit(LISTED)
    ):
        report.open_items.append(
            OpenItem(row.account, row.object_id, int(row.open_minor), row.since.isoformat())
        )
