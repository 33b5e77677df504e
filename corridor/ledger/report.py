"""What a proof of the ledger found, as plain data: `dataclasses.asdict` of it is JSON."""

from dataclasses import dataclass, field
from enum import StrEnum

LISTED = 100
"""Faults and open items are all counted; so many of each are listed."""


class FaultKind(StrEnum):
    """What can be wrong with the books; each is somebody's bug or somebody's tampering."""

    UNBALANCED = "unbalanced"
    MISSING_LEG = "missing_leg"
    ALTERED_LEG = "altered_leg"
    ALTERED_POSTING = "altered_posting"
    UNKNOWN_ACCOUNT = "unknown_account"
    ORPHANED_LEG = "orphaned_leg"
    WRONG_BALANCE = "wrong_balance"
    OVERDRAWN = "overdrawn"
    BROKEN_SEAL = "broken_seal"
    NEVER_SEALED = "never_sealed"


@dataclass(frozen=True)
class Fault:
    """One bad row: `posting_key` and `leg`, or `account`, or the seal named in `detail`."""

    kind: FaultKind
    detail: str
    posting_key: str | None = None
    leg: int | None = None
    account: str | None = None

    def __str__(self) -> str:
        places = (("posting", self.posting_key), ("leg", self.leg), ("account", self.account))
        where = ", ".join(f"{name} {value}" for name, value in places if value is not None)
        return f"{self.kind}: {where + ': ' if where else ''}{self.detail}"


@dataclass(frozen=True)
class OpenItem:
    """An object whose legs on a clearing or suspense account do not add up to zero (yet)."""

    account: str
    object_id: str
    open_minor: int
    since: str


@dataclass(frozen=True)
class TrialBalanceLine:
    """Totals of one account in minor units; `balance_minor` = debits − credits, as maintained on posting."""

    account: str
    debit_minor: int
    credit_minor: int
    balance_minor: int


@dataclass
class Report:
    """The proof. `holds` means no fault; open items are listed, and judged by whoever owns them."""

    postings: int = 0
    entries: int = 0
    accounts: int = 0
    seals: int = 0
    unsealed: int = 0
    oldest_unsealed_at: str | None = None
    fault_count: int = 0
    faults: list[Fault] = field(default_factory=list)
    totals_minor: dict[str, int] = field(default_factory=dict)
    open_item_count: int = 0
    open_items: list[OpenItem] = field(default_factory=list)

    @property
    def holds(self) -> bool:
        return self.fault_count == 0

    def add(self, fault: Fault) -> None:
        """Count the fault, and list it while there is room; the first bad row is the first listed."""
        self.fault_count += 1
        if len(self.faults) < LISTED:
            self.faults.append(fault)

    def __str__(self) -> str:
        verdict = "holds" if self.holds else f"does NOT hold: {self.fault_count} faults"
        lines = [
            f"ledger {verdict}: {self.postings} postings, {self.entries} entries, {self.accounts} accounts,"
            f" {self.seals} sealed, {self.unsealed} not yet sealed, {self.open_item_count} open items"
        ]
        lines += [f"  fault: {fault}" for fault in self.faults]
        lines += [
            f"  open: {item.account} {item.object_id} {item.open_minor} minor units since {item.since}"
            for item in self.open_items
        ]
        return "\n".join(lines)
