"""The books once more, from histories alone, and beside the live ones: the oracle that is neither our rows nor theirs."""

from collections.abc import Collection
from pathlib import Path

from api.cli.audit.proofs import Proof, proof
from corridor.runtime import client as temporal_client
from corridor.runtime.histories import from_server
from corridor.runtime.settings import Settings
from corridor.storage.database import Database
from workers import wiring
from workers.rebuild import rebuild
from workers.rebuild.fold import Books
from workers.rebuild.rebuild import Rebuilt


async def from_histories(settings: Settings, into: Path) -> Rebuilt:
    """Everything Temporal tells, in a new SQLite file, compared with the installation's own database."""
    wired, target = wiring.build(settings), Database(f"sqlite:///{into}")
    try:
        client = await temporal_client.connect(settings)
        rebuilt = Rebuilt(Books())
        await rebuild.fold(from_server(client, rebuild.CARRIES_MONEY), client.data_converter, rebuilt)
        await rebuild.write(rebuilt, target, wired.edge.providers)
        await rebuild.beside_live(rebuilt, target, wired.edge.database)
        return rebuilt
    finally:
        await target.close()
        await wired.close()


def rebuilds(rebuilt: Rebuilt, broken_off: Collection[str] = ()) -> Proof:
    """Row by row, in all that histories can tell.

    `broken_off`: payments and refunds whose workflow was terminated or reset. The last step may have committed and told
    no history; the one that goes on tells how it found the row. What differs of those is noted.
    """
    tables = [] if rebuilt.comparison is None else rebuilt.comparison.tables
    against = [*rebuilt.problems, *rebuilt.sealed]
    noted: list[str] = []
    for table in tables:
        for difference in table.differences:
            is_excused = any(owner in broken_off for owner in difference.owners)
            (noted if is_excused else against).append(str(difference))
        rows = table.different + table.only_live + table.only_rebuilt
        if further := rows - len({it.key for it in table.differences}):
            against.append(f"{table.table}: {further} further rows that are not listed")
    notes = [f"of one that was broken off: {text}" for text in noted]
    ahead = [] if rebuilt.comparison is None else rebuilt.comparison.ahead
    notes += (
        [f"{len(ahead)} objects went on after these histories: no verdict on their rows"] if ahead else []
    )
    claim = "the books rebuilt from histories alone are the live ones, row by row"
    return proof(claim, len(rebuilt.books.postings), "postings", against, notes)
