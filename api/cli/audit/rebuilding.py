"""The books once more, from histories alone, and beside the live ones: the oracle that is neither our rows nor theirs."""

from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path

from api.cli.audit.proofs import Proof, proof
from corridor.runtime import client as temporal_client
from corridor.runtime.histories import from_server, of_workflows
from corridor.runtime.settings import Settings
from corridor.storage.database import Database
from workers import wiring
from workers.rebuild import rebuild
from workers.rebuild.compare import TableReport
from workers.rebuild.fold import Books
from workers.rebuild.rebuild import Rebuilt

_MONEY = frozenset(
    {
        "postings", "entries", "account_balances", "payments", "refunds", "effects", "settlement_lines",
        "settlement_batches",
    }
)  # fmt: skip


async def from_histories(settings: Settings, into: Path) -> Rebuilt:
    """Everything Temporal tells, in a new SQLite file, compared with the installation's own database."""
    wired, target = wiring.build(settings), Database(f"sqlite:///{into}")
    try:
        client = await temporal_client.connect(settings)
        converter, live = client.data_converter, wired.edge.database
        rebuilt = Rebuilt(Books())
        await rebuild.fold(from_server(client, rebuild.CARRIES_MONEY), converter, rebuilt)
        await rebuild.catch_up(rebuilt, live, lambda ids: of_workflows(client, ids), converter)
        await rebuild.write(rebuilt, target, wired.edge.providers)
        await rebuild.beside_live(rebuilt, target, live)
        return rebuilt
    finally:
        await target.close()
        await wired.close()


def rebuilds(rebuilt: Rebuilt) -> Proof:
    """Row by row, in all that histories can tell."""
    against = [*rebuilt.problems, *rebuilt.sealed]
    for table in _tables(rebuilt):
        against += [f"{table.table}: {difference}" for difference in table.differences]
    claim = "the books rebuilt from histories alone are the live ones, row by row"
    return proof(claim, len(rebuilt.books.postings), "postings", against)


def money_is_rebuilt(rebuilt: Rebuilt, broken_off: Collection[str] = ()) -> Proof:
    """The rows that say where money is, after a run in which processes were killed in the middle of steps.

    `broken_off`: payments and refunds whose workflow was terminated or reset. The last step may have committed and told
    no history, and where it was the payment's last there is none that goes on and tells it. What differs or is missing
    of those is noted, with the balances that lack just that. So are the tables that say what was told to whom: a step
    that is taken again after a kill tells its event as the row stands by then, and why a refund was refused is in the
    API's answer alone. A history that this build cannot read is excused by nothing: this build wrote it.
    """
    unread = frozenset(rebuilt.unread.values())
    excused = [it for it in rebuilt.problems if it not in unread and any(one in it for one in broken_off)]
    against = [*(it for it in rebuilt.problems if it not in excused), *rebuilt.sealed]
    notes, lacking = list(excused), Counter[str]()
    for table in _tables(rebuilt):
        rows = table.different + table.only_live + table.only_rebuilt
        if table.table not in _MONEY:
            notes += [f"{rows} rows of {table.table} differ in what was told"] if rows else []
            continue
        for difference in table.differences:
            account, minor = difference.money or ("", 0)
            is_excused = any(owner in broken_off for owner in difference.owners) or (
                table.table == "account_balances" and minor != 0 and lacking[account] == minor
            )
            if is_excused and table.table == "entries":
                lacking[account] += minor
            (notes if is_excused else against).append(str(difference))
        if further := rows - len({it.key for it in table.differences}):
            against.append(f"{table.table}: {further} further rows that are not listed")
    for object_id in [] if rebuilt.comparison is None else rebuilt.comparison.ahead:
        told = f"{object_id}: the database tells more of it than its histories"
        (notes if object_id in broken_off else against).append(told)
    claim = "ledger, payments, refunds and effects rebuilt from histories alone are the live ones, row by row"
    return proof(claim, len(rebuilt.books.postings), "postings", against, notes)


def _tables(rebuilt: Rebuilt) -> Sequence[TableReport]:
    return [] if rebuilt.comparison is None else rebuilt.comparison.tables
