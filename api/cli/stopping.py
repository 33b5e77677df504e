"""One way to stop a command that runs for a while: whatever signal asks, it ends as Ctrl-C ends it."""

import signal


def all_signals_interrupt() -> None:
    """From here on SIGINT, SIGTERM and SIGHUP raise `KeyboardInterrupt`; asyncio turns it into a cancellation.

    A shell that starts a command in the background has it ignore SIGINT, so SIGINT is given its meaning back.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: signal.raise_signal(signal.SIGINT))
