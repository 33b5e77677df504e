"""One way to stop: whatever signal asks a command to end, and however a shell started it."""

import signal
import subprocess
import sys

import pytest

WAITS = """
import signal, sys
from api.cli.stopping import all_signals_interrupt
signal.signal(signal.SIGINT, signal.SIG_IGN)  # as a shell does for what it starts in the background
all_signals_interrupt()
try:
    print("ready", flush=True)
    while True:
        signal.pause()
except KeyboardInterrupt:
    print("cleaned up", flush=True)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda it: it.name)
def test_every_signal_that_asks_to_end_ends_a_command_in_order(number: signal.Signals) -> None:
    with subprocess.Popen([sys.executable, "-c", WAITS], stdout=subprocess.PIPE, text=True) as waiting:  # noqa: S603
        assert waiting.stdout is not None
        assert waiting.stdout.readline() == "ready\n"
        waiting.send_signal(number)
        assert waiting.communicate(timeout=20)[0] == "cleaned up\n"
    assert waiting.returncode == 0
