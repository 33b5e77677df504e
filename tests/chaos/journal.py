"""The event log of a run: every fault as it was done, every violation as it was seen, one JSON line each."""

import json
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.chaos.plan import Act, Kind


@dataclass(frozen=True)
class Entry:
    """One line. `fired`: the fault really met its target; `note` says what happened, or why it did not."""

    at_seconds: float
    name: str
    target: str
    fired: bool
    note: str = ""


class Journal:
    """Appends to a file at once, so that a run that is itself killed leaves its log."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("a", encoding="utf-8", buffering=1)
        self._begun = time.monotonic()
        self.entries: list[Entry] = []
        self.violations: list[str] = []

    def begin(self) -> None:
        """Count seconds from now: the plan's zero."""
        self._begun = time.monotonic()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._begun

    def act(self, act: Act, fired: bool, note: str = "") -> None:
        self._write(Entry(round(self.seconds, 3), act.name, act.target, fired, note))

    def note(self, name: str, target: str = "", note: str = "") -> None:
        """Something worth knowing that was no fault of ours."""
        self._write(Entry(round(self.seconds, 3), name, target, fired=False, note=note))

    def violation(self, text: str) -> None:
        """An invariant was seen broken; said once."""
        if text not in self.violations:
            self.violations.append(text)
            self.note("violation", note=text)

    def fired(self) -> Counter[str]:
        """Faults that met their target, by name."""
        return Counter(entry.name for entry in self.entries if entry.fired)

    def fired_of(self, kind: Kind) -> Counter[str]:
        """The same for one kind, by target."""
        return Counter(
            entry.target for entry in self.entries if entry.fired and entry.name.startswith(f"{kind}:")
        )

    def last_of(self, kind: Kind) -> float | None:
        """When the last fault of this kind was over, whether it met its target or not; None: there was none."""
        return max((it.at_seconds for it in self.entries if it.name.startswith(f"{kind}:")), default=None)

    def close(self) -> None:
        self._file.close()

    def _write(self, entry: Entry) -> None:
        self.entries.append(entry)
        line: Mapping[str, object] = asdict(entry)
        self._file.write(json.dumps(line) + "\n")
