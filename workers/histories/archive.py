"""The archive of histories: write-once files, each sealed, and a manifest whose lines are chained by hash.

Temporal forgets a closed run after its retention, and a history cannot be imported again; an archive is what audit,
replay and rebuild read later. Payloads in a history are sealed by the codec already, but ids, search attributes, memos,
failure types and times are not, and together they tell who sold how much where; so the file is sealed whole once more,
under the same key ring and bound to its own name. Keys must be kept as long as the archive, and apart from it.

The manifest is readable without a key and holds nothing a Temporal operator does not see, so anybody can check it:
each line has the digest of its file and the hash of the line before. What a chain cannot show is an end that was cut
off: `head.sealed` names the last line, and whoever wants to be sure keeps the hash that each export prints elsewhere.
"""

import errno
import fcntl
import hashlib
import json
import os
import zlib
from collections.abc import AsyncIterator, Container, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from cryptography.exceptions import InvalidTag
from google.protobuf.json_format import MessageToJson
from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import History
from temporalio.client import WorkflowHistory

from corridor.runtime.histories import Run, Unopened
from corridor.storage.sealing import Sealer
from workers.histories import labels

MANIFEST = "manifest.jsonl"
HEAD = "head.sealed"
LOCK = ".lock"
GENESIS = "0" * 64
_ENDED = "EVENT_TYPE_WORKFLOW_EXECUTION_"


class ArchiveInUse(Exception):
    """Another export writes to this archive now."""


class ArchiveDamaged(Exception):
    """The archive does not hold what its manifest says; the message names the first bad line."""


@dataclass(frozen=True)
class Line:
    """One archived version of one run. A run that went on is archived again as a later line."""

    number: int
    workflow_id: str
    run_id: str
    type: str
    status: str
    events: int
    last_event_at: str
    file: str
    bytes: int
    sha256: str
    """Of the file as it lies there, so it can be checked without a key."""
    history_sha256: str
    """Of the history's JSON inside, which survives a change of keys."""
    keys: tuple[str, ...]
    """Ids of all keys it takes: the file's own first, then those of the payloads."""
    builds: tuple[str, ...]
    exported_at: str
    exported_by: str
    previous: str
    hash: str = ""

    @property
    def object_id(self) -> str:
        """The payment, refund, settlement's provider or delivery."""
        return self.workflow_id.partition("-")[2]

    def chained(self) -> "Line":
        """With its own hash: SHA-256 over 0x00 and the canonical line, the previous hash included."""
        told = {name: value for name, value in asdict(self).items() if name != "hash"}
        canonical = json.dumps(told, sort_keys=True, separators=(",", ":"))
        return replace(self, hash=hashlib.sha256(b"\x00" + canonical.encode()).hexdigest())

    def written(self) -> str:
        return json.dumps({"object_id": self.object_id, **asdict(self)}, separators=(",", ":")) + "\n"

    @staticmethod
    def read(text: str) -> "Line":
        """Raises `ValueError`, `KeyError` or `TypeError` for what is not a line."""
        told: dict[str, Any] = json.loads(text)
        told.pop("object_id")
        return Line(**{**told, "keys": tuple(told["keys"]), "builds": tuple(told["builds"])})


@dataclass(frozen=True)
class Verified:
    """What was checked: lines, files, and how many histories were opened. `bad` names the first line that is wrong."""

    lines: int
    bytes: int
    opened: int
    head: str
    bad: str | None = None

    @property
    def holds(self) -> bool:
        return self.bad is None


class Archive:
    """One directory. `namespace` is part of what every file is bound to."""

    def __init__(self, directory: Path, sealer: Sealer, namespace: str) -> None:
        self.directory = directory
        self._sealer = sealer
        self._namespace = namespace
        self._head, self._number = GENESIS, 0
        self._versions: dict[str, tuple[int, str]] = {}

    @property
    def head(self) -> str:
        """Hash of the last line that was written or read for writing."""
        return self._head

    @contextmanager
    def writing(self) -> Iterator["Archive"]:
        """One writer at a time. Raises `ArchiveInUse`, and `ArchiveDamaged` for a manifest it must not write on."""
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        with (self.directory / LOCK).open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise ArchiveInUse(f"another export is writing to {self.directory}") from None
            self._cut_torn_line()
            for line in self.lines():
                self._know(line)
            yield self

    def holds(self, run_id: str, events: int | None) -> bool:
        """Whether the run is archived up to this many events; None: to its end."""
        known = self._versions.get(run_id)
        if known is None:
            return False
        return known[1] != "running" if events is None else known[0] >= events

    def add(self, run: Run, now: datetime, build: str) -> Line | None:
        """Archive the run as it stands; None when this version, or a longer one, is there already.

        Raises `OSError` where it cannot be written: the archive is then as it was.
        """
        if self.holds(run.run_id, len(run.history.events)):
            return None
        text = history_text(run.history)
        line = self._line(run, text, now, build)
        sealed = self._sealer.seal(zlib.compress(text, 9), self._place(line))
        digest = hashlib.sha256(sealed).hexdigest()
        line = replace(line, bytes=len(sealed), sha256=digest).chained()
        self._write_once(self.directory / line.file, sealed)
        self._append(line)
        self._know(line)
        return line

    def seal_head(self, now: datetime) -> str:
        """Note the last line in a sealed file of its own; returns its hash, to be kept elsewhere too."""
        told = {"number": self._number, "hash": self._head, "at": now.astimezone(UTC).isoformat()}
        path = self.directory / HEAD
        draft = path.with_suffix(f".{os.getpid()}.new")
        _write(draft, self._sealer.seal(json.dumps(told).encode(), f"archive/{self._namespace}/head"))
        draft.replace(path)
        return self._head

    def lines(self) -> Iterator[Line]:
        """The manifest as it stands. Raises `ArchiveDamaged` for a line that is none."""
        path = self.directory / MANIFEST
        if not path.exists():
            return
        with path.open(encoding="utf-8") as manifest:
            for number, text in enumerate(manifest, start=1):
                try:
                    yield Line.read(text)
                except (ValueError, KeyError, TypeError):
                    raise ArchiveDamaged(f"line {number}: not a line of a manifest") from None

    def newest(self) -> Iterator[Line]:
        """The last version of every run, in order of archiving; the manifest is read twice and never held."""
        last = {line.run_id: line.number for line in self.lines()}
        return (line for line in self.lines() if last.get(line.run_id) == line.number)

    def open(self, line: Line) -> Run:
        """Raises `ArchiveDamaged` for a file that is not the one archived, `KeyError` for a key that is not at hand."""
        try:
            sealed = (self.directory / line.file).read_bytes()
        except FileNotFoundError:
            raise ArchiveDamaged(f"line {line.number}: {line.file} is missing") from None
        if hashlib.sha256(sealed).hexdigest() != line.sha256:
            raise ArchiveDamaged(f"line {line.number}: {line.file} is not what was archived")
        try:
            text = zlib.decompress(self._sealer.open(sealed, self._place(line)))
        except InvalidTag:
            raise ArchiveDamaged(f"line {line.number}: {line.file} does not open in its place") from None
        if hashlib.sha256(text).hexdigest() != line.history_sha256:
            raise ArchiveDamaged(f"line {line.number}: {line.file} holds another history")
        history = WorkflowHistory.from_json(line.workflow_id, text.decode())
        return Run(history, line.run_id, line.status == "running")

    async def runs(
        self,
        since: datetime | None = None,
        types: Container[str] | None = None,
        besides: Container[str] = frozenset(),
    ) -> AsyncIterator[Run | Unopened]:
        """Every run's last version; with `since`, of those that were running then or later.

        `types`: of these workflows alone; `besides`: but for these run ids. What is not wanted is not opened.
        """
        for line in self.newest():
            recent = since is None or datetime.fromisoformat(line.last_event_at) >= since
            wanted = (types is None or line.type in types) and line.run_id not in besides
            if wanted and (recent or line.status == "running"):
                yield self._opened(line)

    def _opened(self, line: Line) -> Run | Unopened:
        """One file under a lost key is no reason to read none of the others."""
        try:
            return self.open(line)
        except KeyError as missing:
            return Unopened(line.workflow_id, line.run_id, str(missing.args[0]))

    def verify(self, *, with_keys: bool = True) -> Verified:
        """Walk the chain and every digest to the first line that is wrong; `with_keys` opens each file too."""
        checked = Verified(0, 0, 0, GENESIS)
        try:
            for line in self.lines():
                self._check(line, checked, with_keys)
                checked = replace(
                    checked, lines=line.number, bytes=checked.bytes + line.bytes,
                    opened=checked.opened + with_keys, head=line.hash,
                )  # fmt: skip
            if with_keys:
                self._check_head(checked)
        except ArchiveDamaged as damaged:
            return replace(checked, bad=str(damaged))
        except KeyError as missing:
            return replace(checked, bad=f"line {checked.lines + 1}: key {missing} is not in the ring")
        return checked

    def _check(self, line: Line, before: Verified, with_keys: bool) -> None:
        at = f"line {before.lines + 1}"
        if line.number != before.lines + 1 or line.previous != before.head:
            raise ArchiveDamaged(f"{at}: does not follow the line before it")
        if line.chained().hash != line.hash:
            raise ArchiveDamaged(f"{at}: was changed after it was written")
        if with_keys:
            self.open(line)
            return
        path = self.directory / line.file
        if not path.exists() or hashlib.sha256(path.read_bytes()).hexdigest() != line.sha256:
            raise ArchiveDamaged(f"{at}: {line.file} is missing or not what was archived")

    def _check_head(self, checked: Verified) -> None:
        path = self.directory / HEAD
        if not path.exists():
            if checked.lines:
                raise ArchiveDamaged(
                    f"line {checked.lines}: {HEAD} is missing, so an end cut off would not show"
                )
            return
        try:
            told = json.loads(self._sealer.open(path.read_bytes(), f"archive/{self._namespace}/head"))
        except InvalidTag:
            raise ArchiveDamaged(f"line {checked.lines}: {HEAD} is forged") from None
        # Lines after the head are an export that was killed before it noted them; fewer are an end cut off.
        if checked.lines < told["number"]:
            raise ArchiveDamaged(
                f"line {checked.lines + 1}: missing; the archive went to line {told['number']}"
            )

    def _line(self, run: Run, text: bytes, now: datetime, build: str) -> Line:
        first, last = run.history.events[0], run.history.events[-1]
        at, events = now.astimezone(UTC), len(run.history.events)
        return Line(
            number=self._number + 1,
            workflow_id=run.workflow_id,
            run_id=run.run_id,
            type=first.workflow_execution_started_event_attributes.workflow_type.name,
            status="running" if run.is_running else _status(last.event_type),
            events=events,
            last_event_at=last.event_time.ToDatetime(tzinfo=UTC).isoformat(),
            file=f"{at:%Y-%m-%d}/{quote(run.workflow_id, safe='')}.{run.run_id}.{events}.sealed",
            bytes=0,
            sha256="",
            history_sha256=hashlib.sha256(text).hexdigest(),
            keys=tuple(dict.fromkeys([self._sealer.current, *sorted(labels.key_ids(run.history))])),
            builds=tuple(labels.builds(run.history)),
            exported_at=at.isoformat(),
            exported_by=build,
            previous=self._head,
        )

    def _place(self, line: Line) -> str:
        return f"archive/{self._namespace}/{line.workflow_id}/{line.run_id}/{line.events}"

    def _know(self, line: Line) -> None:
        self._versions[line.run_id] = (line.events, line.status)
        self._head, self._number = line.hash, line.number

    def _write_once(self, path: Path, sealed: bytes) -> None:
        """Complete or absent. A file no line tells of was left by an export that was killed: it is made again."""
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        draft = path.with_suffix(f".{os.getpid()}.new")
        _write(draft, sealed)
        draft.chmod(0o400)
        draft.replace(path)

    def _append(self, line: Line) -> None:
        """Whole or not at all: behind part of a line on a disk that was full the next one would be unreadable, too."""
        text = line.written().encode()
        with (self.directory / MANIFEST).open("ab", buffering=0) as manifest:
            end = manifest.seek(0, os.SEEK_END)
            try:
                if manifest.write(text) < len(text):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), manifest.name)
                os.fsync(manifest.fileno())
            except OSError:
                manifest.truncate(end)
                raise

    def _cut_torn_line(self) -> None:
        """A line without its end was being written when an export was killed; it was never part of the archive."""
        path = self.directory / MANIFEST
        if not path.exists():
            return
        with path.open("rb+") as manifest:
            text = manifest.read()
            if not text.endswith(b"\n"):
                manifest.truncate(text.rfind(b"\n") + 1)


def is_archive(directory: Path) -> bool:
    """Whether the directory is one of ours, not one of plain JSON files."""
    return (directory / MANIFEST).exists()


def history_text(history: WorkflowHistory) -> bytes:
    """The history as Temporal's own tools export it, payloads sealed, in one canonical form."""
    message = History(events=history.events)
    return MessageToJson(message, indent=None, sort_keys=True).encode()


def _status(event_type: "EventType.ValueType") -> str:
    return EventType.Name(event_type).removeprefix(_ENDED).lower()


def _write(path: Path, content: bytes) -> None:
    """Leaves nothing behind where it fails: on a disk that is full the part of a file is in everybody's way."""
    try:
        with path.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        path.unlink(missing_ok=True)
        raise
