"""The full disk (F11): everything the installation writes is on a file system of its own, which shrinks to what is used.

It needs a mount, in a mount namespace that ends with this program. Where that is not allowed the fault is skipped,
and the record says so.
"""

import asyncio
import contextlib
import ctypes
import errno
import os
import re
import shutil
import sqlite3
import time
from pathlib import Path

_CLONE_NEWNS = 0x00020000
_MS_REMOUNT, _MS_REC, _MS_PRIVATE = 0x20, 0x4000, 0x40000
_MNT_DETACH = 2
ROOM_MB = 16_384
FILLS_AT_MOST = 50
LOCKED_AT_MOST_SECONDS = 0.5
COMPLAINS_WITHIN_SECONDS = 1.0
LOOK_SECONDS = 0.1
SERVER = "database"
_SIGNS = re.compile(rb"disk is full|No space left on device")
"""As SQLite says it, and the system, which PostgreSQL quotes."""


class Complaints:
    """What the installation's processes write of a full disk into their logs, from now on."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._before = {log: log.stat().st_size for log in self._logs()}

    def since(self) -> set[str]:
        """Who complained; a log that was begun anew is read from its beginning."""
        return {log.stem if log.suffix else SERVER for log in self._logs() if self._complains(log)}

    def _logs(self) -> list[Path]:
        return [*self._directory.glob("*/logs/*.log"), *self._directory.glob("*/*/log")]

    def _complains(self, log: Path) -> bool:
        with log.open("rb") as file:
            file.seek(self._before.get(log, 0))
            return _SIGNS.search(file.read()) is not None


class Disk:
    """The file system below the data directory; made by the thread that starts the processes, for they inherit it."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._refused = _own_mounts() or self._size(f"{ROOM_MB}m", first=True)

    @property
    def is_ours(self) -> bool:
        return self._refused is None

    async def full(self, seconds: float, file: Path | None = None) -> tuple[bool, str]:
        """Not one page for some seconds, then space again: (the product's database kept nothing meanwhile, how it went).

        `file`: that database, where it is one; a server tells it in its log.
        """
        if not self.is_ours:
            return False, "skipped"
        said = Complaints(self._directory)
        try:
            is_full = await asyncio.to_thread(self._fill)
            used = shutil.disk_usage(self._directory).used
            refused = await asyncio.to_thread(_is_refused, file, seconds)
        finally:
            self.clear()
        await asyncio.sleep(COMPLAINS_WITHIN_SECONDS)
        noticed = await asyncio.to_thread(said.since)
        whom = ", ".join(sorted(noticed)) or "nobody"
        is_met = is_full and (refused or SERVER in noticed)
        kept = "the database kept nothing" if is_met else "the database was not struck"
        return is_met, f"full at {used >> 20} MB for {seconds} s, {kept}; said in the logs of {whom}"

    def _fill(self) -> bool:
        """Others write meanwhile, and a size below what is used is refused: so it is tried a few times."""
        for log in self._directory.rglob("*.db-wal"):
            truncate_log(log.with_name(log.name.removesuffix("-wal")))
        for _ in range(FILLS_AT_MOST):
            if self._size(str(shutil.disk_usage(self._directory).used)) is None:
                return self._refuses_a_write()
        return False

    def clear(self) -> None:
        """Room again."""
        if self.is_ours:
            self._size(f"{ROOM_MB}m")

    @property
    def about(self) -> str:
        """For the record of a run."""
        if self.is_ours:
            return "all data directories, databases included, on a tmpfs: in memory, so a flush to disk costs nothing"
        return "all data directories, databases included, on this machine's directory for temporary files"

    def skipped(self) -> list[str]:
        return [] if self.is_ours else [f"full disk: {self._refused}"]

    def keep(self, destination: Path) -> None:
        """Copy what is on this disk to where it outlives the program."""
        shutil.copytree(self._directory, destination, dirs_exist_ok=True)

    def close(self) -> None:
        """Let go of the mount; what was on it is gone."""
        if self.is_ours:
            _library().umount2(os.fsencode(self._directory), _MNT_DETACH)

    def _refuses_a_write(self) -> bool:
        probe = self._directory / "probe"
        try:
            probe.write_bytes(b"\0" * 8192)
        except OSError as error:
            return error.errno == errno.ENOSPC
        finally:
            probe.unlink(missing_ok=True)
        return False

    def _size(self, size: str, *, first: bool = False) -> str | None:
        self._directory.mkdir(parents=True, exist_ok=True)
        options = f"size={size},mode=0755".encode()
        flags = 0 if first else _MS_REMOUNT
        done = _library().mount(b"chaos", os.fsencode(self._directory), b"tmpfs", flags, options)
        return None if done == 0 else _reason()


def truncate_log(database: Path) -> bool:
    """Empty SQLite's write-ahead log, whose pages would be written over again for a while on a disk that is full.

    False: somebody read or wrote, so it stayed as it is.
    """
    with (
        contextlib.suppress(sqlite3.Error),
        contextlib.closing(
            sqlite3.connect(f"file:{database}?mode=rw", uri=True, timeout=LOCKED_AT_MOST_SECONDS)
        ) as connection,
    ):
        (is_busy, _, _) = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        return not is_busy
    return False


def keeps(file: Path) -> bool | None:
    """Whether a change of this database can be committed now; None while others hold it. Nothing is another than before."""
    try:
        with contextlib.closing(
            sqlite3.connect(f"file:{file}?mode=rw", uri=True, timeout=LOCKED_AT_MOST_SECONDS)
        ) as connection:
            # There and back: SQLite writes nothing for a row that is given what it has.
            connection.execute("UPDATE merchants SET name = name || '.'")
            connection.execute("UPDATE merchants SET name = substr(name, 1, length(name) - 1)")
            connection.commit()
    except sqlite3.OperationalError as error:
        return False if _SIGNS.search(str(error).encode()) else None
    return True


def _is_refused(file: Path | None, seconds: float) -> bool:
    """Asked again and again for so many seconds: at first a commit may still find room where others were before it."""
    deadline, refused = time.monotonic() + seconds, False
    while time.monotonic() < deadline:
        refused = refused or (file is not None and keeps(file) is False)
        time.sleep(LOOK_SECONDS)
    return refused


def _own_mounts() -> str | None:
    """Give this thread and all it starts mounts of their own. None, or why not."""
    library = _library()
    if not hasattr(library, "unshare"):
        return "this system has no mount namespaces"
    if library.unshare(_CLONE_NEWNS) != 0:
        return _reason()
    return None if library.mount(None, b"/", None, _MS_REC | _MS_PRIVATE, None) == 0 else _reason()


def _library() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _reason() -> str:
    return f"no mount of our own ({os.strerror(ctypes.get_errno())})"
