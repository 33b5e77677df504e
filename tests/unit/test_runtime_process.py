"""Supervision with real child processes: back-off, crashes, orphans, leftovers."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from corridor.runtime import ports
from corridor.runtime.process import ChildFailed, Program, Supervisor, kill_leftovers

IDLE = "import time, pathlib, os; pathlib.Path(os.environ['READY']).touch(); time.sleep(60)"
STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); " + IDLE


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def supervisor(tmp_path: Path, said: list[str]) -> Iterator[Supervisor]:
    supervisor = Supervisor(tmp_path / "run", said.append)
    supervisor.open()
    yield supervisor
    supervisor.close()


def _program(tmp_path: Path, code: str = IDLE, name: str = "child") -> Program:
    ready = tmp_path / f"{name}.ready"
    return Program(
        name=name,
        argv=[sys.executable, "-c", code],
        environment={**os.environ, "READY": str(ready)},
        log=tmp_path / "logs" / f"{name}.log",
        is_ready=ready.exists,
        ready_file=ready,
    )


def _started(supervisor: Supervisor, program: Program) -> int:
    supervisor.add(program)
    supervisor.wait_ready([program.name], 10)
    pid = supervisor.pid(program.name)
    assert pid is not None
    return pid


def _eventually(claim: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not claim():
        assert time.monotonic() < deadline, "did not come true in time"
        time.sleep(0.02)


def _is_running(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def test_a_killed_child_comes_back(supervisor: Supervisor, tmp_path: Path, said: list[str]) -> None:
    first = _started(supervisor, _program(tmp_path))
    supervisor.kill("child")
    supervisor.wait_ready(["child"], 10)
    assert supervisor.pid("child") not in (None, first)
    assert any("SIGKILL" in line for line in said)


def test_a_child_killed_by_somebody_else_comes_back(supervisor: Supervisor, tmp_path: Path) -> None:
    first = _started(supervisor, _program(tmp_path))
    os.kill(first, signal.SIGKILL)
    _eventually(lambda: supervisor.pid("child") not in (None, first))


def test_children_come_back_although_one_could_not_be_started_for_a_while(
    supervisor: Supervisor, tmp_path: Path, said: list[str]
) -> None:
    """A full disk refuses the log of a new process; the thread that starts them must outlive that."""
    first = _started(supervisor, _program(tmp_path))
    logs = tmp_path / "logs"
    logs.rename(tmp_path / "elsewhere")
    logs.touch()
    supervisor.kill("child")
    _eventually(lambda: any("cannot be started" in line for line in said))
    logs.unlink()
    supervisor.wait_ready(["child"], 10)
    assert supervisor.pid("child") not in (None, first)


def test_restart_returns_when_the_successor_is_ready(supervisor: Supervisor, tmp_path: Path) -> None:
    first = _started(supervisor, _program(tmp_path))
    supervisor.restart("child")
    assert supervisor.pid("child") not in (None, first)
    assert not _is_running(first)


def test_a_child_that_cannot_start_is_reported_with_the_end_of_its_log(
    supervisor: Supervisor, tmp_path: Path
) -> None:
    supervisor.add(_program(tmp_path, "raise SystemExit('no such corridor')"))
    with pytest.raises(ChildFailed, match="no such corridor"):
        supervisor.wait_ready(["child"], 10)


def test_restarts_of_a_crashing_child_slow_down(
    supervisor: Supervisor, tmp_path: Path, said: list[str]
) -> None:
    supervisor.add(_program(tmp_path, "raise SystemExit(3)"))
    _eventually(lambda: len(said) >= 3)
    assert [line.rpartition("in ")[2] for line in said[:3]] == ["0.2 s", "0.4 s", "0.8 s"]


def test_a_child_that_ignores_the_polite_signal_is_killed(
    supervisor: Supervisor, tmp_path: Path, said: list[str]
) -> None:
    pid = _started(supervisor, _program(tmp_path, STUBBORN))
    begun = time.monotonic()
    supervisor.stop(["child"], grace_seconds=0.3)
    assert time.monotonic() - begun < 20
    assert not _is_running(pid)
    assert said == ["child did not stop in time: killed"]


def test_a_stopped_child_stays_down(supervisor: Supervisor, tmp_path: Path) -> None:
    _started(supervisor, _program(tmp_path))
    supervisor.stop(["child"], grace_seconds=2)
    time.sleep(0.5)
    assert supervisor.pid("child") is None


@pytest.mark.skipif(sys.platform != "linux", reason="the parent-death signal exists on Linux only")
def test_children_die_with_a_supervisor_that_is_killed(tmp_path: Path) -> None:
    script = f"""
import os, sys, time
from pathlib import Path
from corridor.runtime.process import Program, Supervisor
s = Supervisor(Path({str(tmp_path)!r}) / "run", print)
s.open()
p = Path({str(tmp_path)!r}) / "r"
s.add(Program("child", [sys.executable, "-c", {IDLE!r}], {{**os.environ, "READY": str(p)}}, p.with_name("log"), p.exists))
s.wait_ready(["child"], 10)
Path({str(tmp_path)!r}, "pid").write_text(str(s.pid("child")))
time.sleep(60)
"""
    parent = subprocess.Popen(  # noqa: S603
        [sys.executable, "-c", script]
    )
    try:
        _eventually(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text() != "", 20)
        child = int((tmp_path / "pid").read_text())
        assert _is_running(child)
    finally:
        parent.kill()
        parent.wait()
    _eventually(lambda: not _is_running(child))
    assert (tmp_path / "run" / "child.pid").exists()


def test_leftovers_are_ended_only_if_they_are_who_the_file_says(tmp_path: Path) -> None:
    bystander = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    leftover = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        started = psutil.Process(bystander.pid).create_time()
        (tmp_path / "reused.pid").write_text(f'{{"pid": {bystander.pid}, "started": {started - 60}}}')
        started = psutil.Process(leftover.pid).create_time()
        (tmp_path / "real.pid").write_text(f'{{"pid": {leftover.pid}, "started": {started}}}')
        (tmp_path / "half-written.pid").write_text('{"pid"')
        kill_leftovers(tmp_path, lambda _: None)
        assert not _is_running(leftover.pid)
        assert bystander.poll() is None
        assert list(tmp_path.glob("*.pid")) == []
    finally:
        for process in (bystander, leftover):
            process.kill()
            process.wait()


def test_a_taken_port_is_named_with_its_setting(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ports.PortTaken, match=rf"port {port} \(API\) is taken.*CORRIDOR_API_PORT"):
            ports.require_free("127.0.0.1", [ports.Claim(port, "API", "api_port")])


def test_one_port_for_two_servers_is_refused() -> None:
    (port,) = ports.free_ports(1)
    claims = [ports.Claim(port, "API", "api_port"), ports.Claim(port, "codec server", "codec_port")]
    with pytest.raises(ports.PortTaken, match="wanted twice"):
        ports.require_free("127.0.0.1", claims)


def test_only_the_process_that_was_meant_is_killed(supervisor: Supervisor, tmp_path: Path) -> None:
    first = _started(supervisor, _program(tmp_path))
    assert supervisor.kill("child", first)
    supervisor.wait_ready(["child"], 10)
    second = supervisor.pid("child")
    assert not supervisor.kill("child", first), "it is dead"
    assert supervisor.pid("child") == second, "and whoever came in its place lives"
