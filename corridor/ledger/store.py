"""The ledger's store: write a posting once, keep balances in step in the same transaction, and read them back.

Two properties shape the statements. Unrelated payments never wait for each other: an account that every payment
touches keeps its balance in shards, and a transaction writes to a shard no other open transaction holds. And money
limits hold under races: an account that may not go into debit has exactly one balance row, which is locked before
it is judged. The cost of a posting depends on its number of legs alone, never on how many there are already.
"""

import hashlib
import json
import zlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    ColumnElement,
    Connection,
    Integer,
    Row,
    bindparam,
    cast,
    func,
    insert,
    literal,
    select,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite

from corridor.domain.failure import Refusal, Refused, invariant
from corridor.domain.money import Money
from corridor.domain.posting import Entry, Posting
from corridor.ledger.chart import currency_of, never_in_debit
from corridor.storage.ledger_tables import account_balances, accounts, entries, postings

LIMIT_SHARD = 0
SHARDS = 64
"""More than the connections one database serves posting transactions with; beyond it they wait, nothing breaks."""

ADVISORY_CLASS = 0x4C454447
"""First half of the ledger's PostgreSQL advisory lock keys ("LEDG"); the second half is a shard, 0 the sealer."""


@dataclass(frozen=True)
class Posted:
    """What `post` left behind. `was_new` is False when the same posting had been written before."""

    posting: Posting
    was_new: bool


@dataclass(frozen=True)
class Written:
    """A posting as it stands in the books, and when it was written."""

    posting: Posting
    posted_at: datetime


@dataclass(frozen=True)
class Balance:
    """An account's debits minus credits in minor units; what we owe a merchant is negative."""

    account: str
    currency: str
    minor: int

    @property
    def amount(self) -> Money:
        return Money(self.minor, self.currency)


@dataclass(frozen=True)
class LedgerEntry:
    """One leg as it stands in the books."""

    posting_key: str
    kind: str
    leg: int
    account: str
    amount: Money
    posted_at: datetime


def post(connection: Connection, posting: Posting, now: datetime) -> Posted:
    """Write `posting` and move its balances; posting the same again returns the first and changes nothing.

    Raises `Refused(INSUFFICIENT_AVAILABLE)`, with nothing written, when an account that may not go into debit
    would; `InvariantBroken` when the key stands for another posting, or an account is not in the chart.
    """
    changes = _net_changes(posting)
    shortfall = _shortfall(connection, changes)
    if shortfall is not None:
        if _is_known(connection, posting):
            return Posted(posting, was_new=False)
        raise shortfall
    claimed = connection.execute(
        _statements(connection.dialect.name).claim, _posting_row(posting, now)
    ).one_or_none()
    if claimed is None:
        invariant(_is_known(connection, posting), f"posting {posting.key} is neither new nor known")
        return Posted(posting, was_new=False)
    _write_legs(connection, posting, claimed.id)
    _move_balances(connection, changes, claimed.shard or _shard_by_hash(posting.key))
    return Posted(posting, was_new=True)


def digest(posting: Posting) -> str:
    """SHA-256 of the canonical posting; equal digests mean equal content."""
    return digest_of(
        posting.key,
        posting.kind,
        posting.object_id,
        [(leg.account, leg.amount.minor) for leg in posting.entries],
    )


def digest_of(key: str, kind: str, object_id: str, legs: Iterable[tuple[str, int]]) -> str:
    """The digest from bare rows, for whoever checks what is stored without trusting it."""
    canonical = ["corridor.posting.v1", key, kind, object_id, [[account, minor] for account, minor in legs]]
    return hashlib.sha256(json.dumps(canonical, separators=(",", ":")).encode()).hexdigest()


def balance(connection: Connection, account: str) -> Money:
    """Debits minus credits of one account; zero for one never posted to."""
    total = connection.execute(
        select(cast(func.coalesce(func.sum(account_balances.c.balance_minor), 0), BigInteger)).where(
            account_balances.c.account == account
        )
    ).scalar_one()
    return Money(int(total), currency_of(account))


def balances(connection: Connection, prefix: str) -> list[Balance]:
    """Balances of every account whose name begins with `prefix` (`merchant/mer_…/`), in order of name."""
    invariant(prefix != "", "balances are asked for by a prefix; the whole book is the trial balance")
    beyond = prefix[:-1] + chr(ord(prefix[-1]) + 1)
    account = account_balances.c.account
    rows = connection.execute(
        select(account, cast(func.sum(account_balances.c.balance_minor), BigInteger).label("minor"))
        .where(account >= prefix, account < beyond)
        .group_by(account)
        .order_by(account)
    )
    return [Balance(row.account, currency_of(row.account), int(row.minor)) for row in rows]


def posting_by_key(connection: Connection, key: str) -> Posting | None:
    """The posting written under `key`, or None."""
    found = written(connection, [key])
    return found[0].posting if found else None


def written(connection: Connection, keys: Sequence[str]) -> list[Written]:
    """The postings there are under these keys, in the order of `keys`."""
    if not keys:
        return []
    legs: dict[str, list[Row[Any]]] = defaultdict(list)
    for row in connection.execute(_WRITTEN, {"keys": list(keys)}):
        legs[row.key].append(row)
    return [_written(legs[key]) for key in keys if key in legs]


def _written(legs: Sequence[Row[Any]]) -> Written:
    head = legs[0]
    found = tuple(Entry(account=leg.account, amount=_amount(leg.account, leg.amount_minor)) for leg in legs)
    return Written(
        Posting(key=head.key, kind=head.kind, object_id=head.object_id, entries=found), head.posted_at
    )


def entries_of(connection: Connection, object_id: str) -> list[LedgerEntry]:
    """Every leg that was posted for a payment, a refund or a report line, oldest posting first."""
    rows = connection.execute(
        select(postings.c.key, postings.c.kind, postings.c.posted_at, entries)
        .join(entries, entries.c.posting_id == postings.c.id)
        .where(postings.c.object_id == object_id)
        .order_by(postings.c.id, entries.c.leg)
    )
    return [
        LedgerEntry(
            row.key, row.kind, row.leg, row.account, _amount(row.account, row.amount_minor), row.posted_at
        )
        for row in rows
    ]


@dataclass(frozen=True)
class _Statements:
    claim: Any
    open_accounts: Any
    add_balances: Any


@cache
def _statements(dialect: str) -> _Statements:
    """The statements that differ between the databases; built once, so that each is compiled once."""
    upsert = postgresql.insert if dialect == "postgresql" else sqlite.insert
    shard = _free_shard() if dialect == "postgresql" else literal(1)
    add = upsert(account_balances)
    return _Statements(
        claim=upsert(postings)
        .on_conflict_do_nothing(index_elements=["key"])
        .returning(postings.c.id, shard.label("shard")),
        open_accounts=upsert(accounts).on_conflict_do_nothing(index_elements=["account"]),
        add_balances=add.on_conflict_do_update(
            index_elements=["account", "shard"],
            set_={"balance_minor": account_balances.c.balance_minor + add.excluded.balance_minor},
        ),
    )


def _free_shard() -> ColumnElement[int]:
    """The lowest shard no other open PostgreSQL transaction holds, ours until this one ends; null if all are held."""
    shard = func.generate_series(1, SHARDS, type_=Integer).column_valued("shard")
    is_free = func.pg_try_advisory_xact_lock(ADVISORY_CLASS, shard, type_=Boolean)
    return select(shard).where(is_free).limit(1).scalar_subquery()


_WRITTEN = (
    select(postings.c.key, postings.c.kind, postings.c.object_id, postings.c.posted_at)
    .add_columns(entries.c.account, entries.c.amount_minor)
    .join(entries, entries.c.posting_id == postings.c.id)
    .where(postings.c.key.in_(bindparam("keys", expanding=True)))
    .order_by(postings.c.id, entries.c.leg)
)
_INSERT_LEGS = insert(entries)
_LIMITED = (
    select(account_balances.c.account, account_balances.c.balance_minor)
    .where(account_balances.c.account.in_(bindparam("accounts", expanding=True)))
    .where(account_balances.c.shard == LIMIT_SHARD)
    .order_by(account_balances.c.account)
    .with_for_update()
)
_TAKE_FROM_LIMITED = (
    update(account_balances)
    .where(account_balances.c.account == bindparam("of_account"), account_balances.c.shard == LIMIT_SHARD)
    .values(balance_minor=account_balances.c.balance_minor + bindparam("taken_minor"))
)


def _net_changes(posting: Posting) -> dict[str, int]:
    """What each account's balance changes by, in order of name: the one order in which rows are locked."""
    sums: dict[str, int] = defaultdict(int)
    for entry in posting.entries:
        sums[entry.account] += entry.amount.minor
    return {account: sums[account] for account in sorted(sums)}


def _shortfall(connection: Connection, changes: Mapping[str, int]) -> Refused | None:
    """Lock the limited rows this posting moves and judge those it debits; None when all can bear it.

    The locks are what makes two racing requests see each other. A posting that only credits takes none here.
    """
    limited = {
        account: change for account, change in changes.items() if change != 0 and never_in_debit(account)
    }
    if all(change < 0 for change in limited.values()):
        return None
    rows = connection.execute(_LIMITED, {"accounts": list(limited)})
    held = {row.account: -row.balance_minor for row in rows}
    for account, change in limited.items():
        if change > held.get(account, 0):
            return _insufficient(account, held.get(account, 0), change)
    return None


def _insufficient(account: str, held_minor: int, wanted_minor: int) -> Refused:
    currency = currency_of(account)
    return Refused(
        Refusal.INSUFFICIENT_AVAILABLE,
        f"{Money(wanted_minor, currency)} is more than the {Money(held_minor, currency)} on this balance",
        {"account": account, "held_minor": held_minor, "wanted_minor": wanted_minor, "currency": currency},
    )


def _is_known(connection: Connection, posting: Posting) -> bool:
    """True when exactly this posting is in the books; another one under its key is our bug."""
    stored = connection.execute(
        select(postings.c.digest).where(postings.c.key == posting.key)
    ).scalar_one_or_none()
    if stored is None:
        return False
    invariant(stored == digest(posting), f"posting key {posting.key} already stands for another posting")
    return True


def _posting_row(posting: Posting, now: datetime) -> dict[str, Any]:
    return {
        "key": posting.key,
        "kind": posting.kind,
        "object_id": posting.object_id,
        "digest": digest(posting),
        "posted_at": now,
    }


def _write_legs(connection: Connection, posting: Posting, posting_id: int) -> None:
    names = sorted({entry.account for entry in posting.entries})
    connection.execute(
        _statements(connection.dialect.name).open_accounts,
        [{"account": name, "currency": currency_of(name)} for name in names],
    )
    connection.execute(
        _INSERT_LEGS,
        [
            {
                "posting_id": posting_id,
                "leg": leg,
                "account": entry.account,
                "amount_minor": entry.amount.minor,
            }
            for leg, entry in enumerate(posting.entries)
        ],
    )


def _move_balances(connection: Connection, changes: Mapping[str, int], shard: int) -> None:
    """Add each change to its row. Rows taken from exist and are locked (`_shortfall`), so they are updated."""
    added, taken = [], []
    for account, change in changes.items():
        limited = never_in_debit(account)
        if limited and change > 0:
            taken.append({"of_account": account, "taken_minor": change})
        elif change != 0:
            row_shard = LIMIT_SHARD if limited else shard
            added.append({"account": account, "shard": row_shard, "balance_minor": change})
    if taken:
        connection.execute(_TAKE_FROM_LIMITED, taken)
    if added:
        connection.execute(_statements(connection.dialect.name).add_balances, added)


def _shard_by_hash(key: str) -> int:
    """Where to queue when every shard is held: spread by key."""
    return 1 + zlib.crc32(key.encode()) % SHARDS


def _amount(account: str, minor: int) -> Money:
    return Money(minor, currency_of(account))
