"""`python -m tests.chaos --profile smoke --seed 7`: one fault run; exit status 0 only if it counts and all holds."""

import argparse
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

from corridor.runtime.leaving import leave
from tests.chaos.plan import expand
from tests.chaos.profile import PROFILES
from tests.chaos.record import Record
from tests.chaos.run import directory_of
from tests.chaos.trial import trial


def main(arguments: list[str]) -> int:
    """Plan, run, record. Returns the exit status."""
    asked = _parser().parse_args(arguments)
    seed = asked.seed if asked.seed is not None else int.from_bytes(os.urandom(4), "big")
    profile = PROFILES[asked.profile].on(asked.database).sized(asked.payments, asked.minutes)
    plan = expand(seed, profile, asked.database)
    begun = time.monotonic()

    def say(text: str) -> None:
        sys.stderr.write(f"{time.monotonic() - begun:6.1f} s  {text}\n")
        sys.stderr.flush()

    for line in plan.lines():
        say(line)
    directory = directory_of(plan, asked.report)
    data_dir = Path(tempfile.mkdtemp(prefix="corridor-chaos-"))
    data_dir.chmod(0o755)  # a database server runs under an account of its own
    record = trial(plan, data_dir, directory, say)
    shutil.rmtree(data_dir, ignore_errors=True)
    _tell(record, directory)
    if not record.holds:
        say(f"the installation's data and logs are kept in {directory / 'installation'}")
    return 0 if record.holds else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--profile", choices=sorted(PROFILES), default="smoke")
    parser.add_argument("--seed", type=int, help="repeat the plan of an earlier run; default: a new one")
    parser.add_argument("--payments", type=int, help="default: the profile's; faults follow in proportion")
    parser.add_argument("--minutes", type=float, help="how long faults go on; default: the profile's")
    parser.add_argument("--database", choices=("sqlite", "postgresql"), default="sqlite")
    parser.add_argument("--report", type=Path, help="directory of the record; default: var/chaos/…")
    return parser


def _tell(record: Record, directory: Path) -> None:
    write = sys.stdout.write
    for it in record.proofs:
        write(f"proof: {'holds' if it.holds else 'DOES NOT HOLD'}: {it.claim} ({it.looked_at})\n")
        for text in it.counterexamples[:10]:
            write(f"    {text}\n")
    for reason in record.vacuities():
        write(f"the run does not count: {reason}\n")
    for name, value in record.figures().items():
        write(f"{name}: {value}\n")
    write(f"record: {directory / 'record.md'}\n")


if __name__ == "__main__":
    leave(main(sys.argv[1:]))
