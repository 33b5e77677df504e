"""`corridor up`: the embedded stack in the foreground, until Ctrl-C or SIGTERM."""

import signal
import threading
from collections.abc import Mapping
from types import FrameType

from api.cli import output
from api.cli.exit_codes import ExitCode
from corridor.runtime import settings
from corridor.runtime.ports import PortTaken
from corridor.runtime.process import ChildFailed
from corridor.runtime.stack import AlreadyRunning, Stack
from corridor.runtime.temporal_server import ServerMissing


class _Stopped(BaseException):
    """A signal arrived while the stack was still starting. Not an `Exception`: no handler may swallow it."""


def run(given: Mapping[str, object], *, sandbox: bool) -> ExitCode:
    """Start, report, wait for a signal, stop."""
    asked_to_stop = threading.Event()
    starting = True

    def on_signal(_number: int, _frame: FrameType | None) -> None:
        first = not asked_to_stop.is_set()
        asked_to_stop.set()
        if starting and first:
            raise _Stopped

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, on_signal)
    stack = Stack(settings.load(**given), sandbox=sandbox, say=output.talk)
    try:
        stack.start()
        starting = False
        output.pairs(stack.addresses())
        output.talk("Ctrl-C stops everything")
        asked_to_stop.wait()
    except _Stopped:
        return ExitCode.OK
    except (AlreadyRunning, PortTaken) as error:
        output.talk(f"corridor: {error}")
        return ExitCode.CONFLICT
    except (ChildFailed, ServerMissing) as error:
        output.talk(f"corridor: {error}")
        return ExitCode.UNAVAILABLE
    finally:
        output.talk("stopping")
        stack.stop()
    return ExitCode.OK
