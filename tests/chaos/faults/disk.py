"""The full disk (F11): everything the installation writes is on a file system of its own, which shrinks to what is used.

It needs a mount, in a mount namespace that ends with this program. Where that is not allowed the fault is skipped,
and the record says so.
"""

import asyncio
import ctypes
import errno
import os
import shutil
from pathlib import Path

_CLONE_NEWNS = 0x00020000
_MS_REMOUNT, _MS_REC, _MS_PRIVATE = 0x20, 0x4000, 0x40000
_MNT_DETACH = 2
ROOM_MB = 16_384


class Disk:
    """The file system below the data directory; made by the thread that starts the processes, for they inherit it."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._refused = _own_mounts() or self._size(f"{ROOM_MB}m", first=True)

    @property
    def is_ours(self) -> bool:
        return self._refused is None

    async def full(self, seconds: float) -> tuple[bool, str]:
        """Not one page for some seconds, then space again: (a write was refused meanwhile, how it went)."""
        if not self.is_ours:
            return False, "skipped"
        used = shutil.disk_usage(self._directory).used
        try:
            self._size(str(used))
            is_full = self._refuses_a_write()
            await asyncio.sleep(seconds)
        finally:
            self.clear()
        return is_full, f"full at {used >> 20} MB for {seconds} s"

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
