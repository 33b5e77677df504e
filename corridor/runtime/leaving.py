"""How a program that used Temporal's client ends: with its own status, whatever the client's threads do."""

import atexit
import os
import sys
from typing import NoReturn

_CLIENT = "temporalio.bridge.temporal_sdk_bridge"


def leave(status: str | int | None) -> NoReturn:
    """End with `status`, as `sys.exit` takes it.

    The client keeps threads that now and then abort the interpreter while it is taken down (PyGILState_Release, status
    134), after all work was done; so where it was used, nothing is taken down.
    """
    if _CLIENT not in sys.modules:
        sys.exit(status)
    atexit._run_exitfuncs()  # noqa: SLF001 — what `sys.exit` would run, and `os._exit` does not
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status if isinstance(status, int) else int(status is not None))
