"""Tells the supervisor whether this process does its work: by the file the supervisor named.

A worker has no port to knock on, and a process that merely lives may still be importing.
"""

from corridor.runtime.settings import Settings


def announce(settings: Settings) -> None:
    """Say "ready". Without a supervisor (no `CORRIDOR_READY_FILE`) there is nobody to tell."""
    if settings.ready_file is not None:
        settings.ready_file.touch()


def withdraw(settings: Settings) -> None:
    """Say "not any more"; safe where it was never said."""
    if settings.ready_file is not None:
        settings.ready_file.unlink(missing_ok=True)
