"""What the trials showed: a table to read, and JSON to keep."""

import os
import platform
import statistics
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from rich.table import Table

from tests.mutants.judge import Sentence
from tests.mutants.trial import Run


def table(sentences: Sequence[Sentence]) -> Table:
    """A line for each bug: how it ended, which check noticed, after how long and how many tries."""
    made = Table(
        title="Planted bugs", title_justify="left", caption=summary(sentences), caption_justify="left"
    )
    for name in ("bug", "end", "noticed by"):
        made.add_column(name, overflow="fold")
    for name in ("seconds", "seeds", "examples"):
        made.add_column(name, justify="right")
    for one in sentences:
        first = one.findings[0] if one.findings else None
        made.add_row(
            one.mutant.name,
            one.end,
            one.detail if first is None else first.test.removeprefix("tests/"),
            f"{one.seconds:.1f}",
            "–" if one.seed is None else str(one.seed),
            "–" if first is None or first.examples is None else str(first.examples),
        )
    return made


def summary(sentences: Sequence[Sentence]) -> str:
    """Caught out of planted, and the median number of seeds until the first catch."""
    caught = [one for one in sentences if one.is_caught]
    seeds = [one.seed for one in caught if one.seed is not None]
    median = f"; median seeds to the catch {statistics.median(seeds):g}" if seeds else ""
    return f"{len(caught)} of {len(sentences)} caught{median}"


def document(sentences: Sequence[Sentence], control: Run, now: datetime) -> dict[str, Any]:
    """The record of a run."""
    caught = [one for one in sentences if one.is_caught]
    return {
        "at": now.isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "machine": f"{platform.machine()}, {os.cpu_count()} processors",
        "planted": len(sentences),
        "caught": len(caught),
        "median_seeds": statistics.median([one.seed or 1 for one in caught]) if caught else None,
        "median_seconds": statistics.median([one.seconds for one in caught]) if caught else None,
        "control": {"verdict": control.verdict, "seconds": round(control.seconds, 1)},
        "mutants": [_entry(one) for one in sentences],
    }


def _entry(one: Sentence) -> dict[str, Any]:
    return {
        "name": one.mutant.name,
        "bug": one.mutant.bug,
        "stands_for": one.mutant.stands_for,
        "files": [change.path for change in one.mutant.changes],
        "end": one.end,
        "net": one.net,
        "seconds": round(one.seconds, 2),
        "seeds": one.seed,
        "noticed_by": [
            {"test": found.test, "said": found.said, "seconds": found.seconds, "examples": found.examples}
            for found in one.findings
        ],
        "detail": one.detail,
    }
