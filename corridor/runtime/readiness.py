"""Tells the supervisor that this process does its work now: it creates the file the supervisor named.

A worker has no port to knock on, and a process that merely lives may still be importing.
"""

from corridor.runtime.settings import Settings


def announce(settings: Settings) -> None:
    """Say "ready". Without a supervisor (no `CORRIDOR_READY_FILE`) there is nobody to tell."""
    if settings.ready_file is not None:
        settings.ready_file.touch()
