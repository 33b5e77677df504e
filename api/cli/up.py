"""`corridor up`: the embedded stack in the foreground, until Ctrl-C or SIGTERM."""

import asyncio
import signal
import threading
from collections.abc import Mapping
from datetime import UTC, date, datetime
from types import FrameType

from api.cli import output
from api.cli.exit_codes import ExitCode
from corridor.fx.ecb import EcbRates
from corridor.runtime import rates, settings
from corridor.runtime.ports import PortTaken
from corridor.runtime.process import ChildFailed
from corridor.runtime.settings import Settings
from corridor.runtime.stack import AlreadyRunning, Stack
from corridor.runtime.temporal_server import ServerMissing
from corridor.storage.database import Database, DatabaseUnavailable


class _Stopped(BaseException):
    """A signal arrived while the stack was still starting. Not an `Exception`: no handler may swallow it."""


def market_day(text: str) -> date:
    """A published day as `YYYY-MM-DD`, or `newest`: the last one in the installed rates. Raises `ValueError`."""
    return EcbRates().newest_day() if text == "newest" else date.fromisoformat(text)


async def known_rates(loaded: Settings) -> EcbRates:
    """The packaged rates, and what the installation has downloaded since. Raises `DatabaseUnavailable`."""
    known, database = EcbRates(max_age_days=loaded.rate_max_age_hours // 24), Database(loaded.database)
    try:
        await rates.learn(known, database)
    finally:
        await database.close()
    return known


def rates_in_force(loaded: Settings, now: datetime, newest: date) -> tuple[str, bool]:
    """Which day's rates conversions are held to, and whether any is possible; said at every start.

    `newest` is the last day whose rates are known here.
    """
    if loaded.market_day is not None:
        fixed = f"market day: {loaded.market_day}, fixed by a setting"
        return f"{fixed}; rates of that day are used as if it were today", True
    if (now.astimezone(UTC).date() - newest).days * 24 > loaded.rate_max_age_hours:
        remedy = ", or start with --market-day newest to try things out" if loaded.mode == "sandbox" else ""
        return (
            f"market day: today, but the newest known rates are of {newest}, older than the "
            f"{loaded.rate_max_age_hours} h of rate_max_age_hours: conversions are refused until a worker has "
            f"downloaded newer ones from reference_rates_url{remedy}",
            False,
        )
    return f"market day: today; the newest known rates are of {newest}", True


HELD = ("sandbox",)
"""What runs beside Temporal when nothing of ours may move: the provider is not ours."""


def run(given: Mapping[str, object], *, sandbox: bool, hold: bool = False) -> ExitCode:
    """Start, report, wait for a signal, stop. `hold`: without workers and API, for work on the installation."""
    asked_to_stop = threading.Event()
    starting = True

    def on_signal(_number: int, _frame: FrameType | None) -> None:
        first = not asked_to_stop.is_set()
        asked_to_stop.set()
        if starting and first:
            raise _Stopped

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, on_signal)
    loaded = settings.load(**given)
    stack = Stack(loaded, sandbox=sandbox, say=output.talk, only=HELD if hold else None)
    try:
        stack.start()
        starting = False
        output.pairs(stack.addresses())
        newest = asyncio.run(known_rates(loaded)).newest_day()
        output.talk(rates_in_force(loaded, datetime.now(UTC), newest)[0])
        output.talk("Ctrl-C stops everything")
        asked_to_stop.wait()
    except _Stopped:
        return ExitCode.OK
    except (AlreadyRunning, PortTaken) as error:
        output.talk(f"corridor: {error}")
        return ExitCode.CONFLICT
    except (ChildFailed, ServerMissing, DatabaseUnavailable) as error:
        output.talk(f"corridor: {error}")
        return ExitCode.UNAVAILABLE
    finally:
        output.talk("stopping")
        stack.stop()
    return ExitCode.OK
