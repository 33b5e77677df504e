"""Failover of the database (F12): a primary, its synchronous standby, and the address at which clients find the primary.

A commit is acknowledged when the standby has it, so whatever anybody was told is on the server that is promoted. A
standby that was not in step when its primary was lost is never promoted; whoever runs servers for real has the same rule.

An asynchronous standby is the other way to run servers: nobody waits for it, and what it lacks is lost when it is
promoted. That is a database that came back older (F13), and is recovered as one.
"""

import contextlib
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any, Self

from corridor.runtime.postgres import STANDBY, Postgres, PostgresFailed
from tests.chaos.proxy.fault import Edge, Framing
from tests.chaos.proxy.proxy import FaultProxy

Json = dict[str, Any]

FENCED, NOT_FENCED = "fenced", "old_primary_not_fenced"
ADDRESS = "database-address"
"""The edge that leads those who are not under test to the primary; it carries no faults."""
LOOK_SECONDS = 0.1
KEEP_SECONDS = 0.5
PROMOTED_WITHIN_SECONDS = 60.0
IN_STEP_WITHIN_SECONDS = 30.0
REBUILT_WITHIN_SECONDS = 60.0
_WITNESS = "witness"
_RECEIVES = "SELECT count(*) FROM pg_stat_wal_receiver"
_IN_STEP = (
    "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync' AND state = 'streaming'"
    " AND flush_lsn >= '{position}'::pg_lsn"
)


class Acknowledged(Exception):
    """A primary without its standby said of a commit that it was kept."""


def draw(random: Random, number: int) -> Json:
    """Both varieties in turn. Clients reach the standby before it is promoted; an old primary outlives that."""
    if number % 2 == 0:
        return {"fault": FENCED, "seconds": round(random.uniform(0.2, 1.5), 1)}
    return {"fault": NOT_FENCED, "seconds": round(random.uniform(3, 6), 1)}


class Cluster:
    """Two servers, of which each is started again when it ends. Methods block, may be called from any thread, and
    wait for each other: nobody kills a primary in the middle of a failover. A context manager.
    """

    def __init__(self, directory: Path, proxy: FaultProxy) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="corridor-pg-", dir=directory))
        self.directory.chmod(0o755)
        self._proxy, self._lock, self._is_over = proxy, threading.RLock(), threading.Event()
        self.primary = Postgres(self._place(), survives_crashes=True)
        self.standby: Postgres | None = None
        self._edges = [ADDRESS]
        self._port = proxy.open(Edge(ADDRESS, "127.0.0.1", self.primary.port, Framing.OPAQUE))
        self._keeper = threading.Thread(target=self._keep, name="database-keeper", daemon=True)

    def __enter__(self) -> Self:
        self.primary.query(f"CREATE DATABASE {_WITNESS}")
        self.primary.query("CREATE TABLE told (what TEXT)", database=_WITNESS)
        self._follow()
        self._keeper.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._keeper.join()
        for server in filter(None, (self.standby, self.primary)):
            server.stop()
        shutil.rmtree(self.directory, ignore_errors=True)

    def url(self) -> str:
        """Leads to whichever server is the primary, as an address that moves with it would."""
        return self.primary.url().replace(f":{self.primary.port}/", f":{self._port}/")

    @property
    def pid(self) -> int:
        """Process id of the primary."""
        return self.primary.pid

    def leads(self, *edges: str) -> None:
        """Point these edges straight at the primary, now and after every failover."""
        self._edges += edges
        self._point(self.primary)

    def crash(self, pid: int) -> bool:
        """SIGKILL to the primary, which comes back as primary. False: another than this process is primary now."""
        with self._lock:
            if self.primary.pid != pid or not self.primary.is_up:
                return False
            self.primary.crash()
            return True

    def fail_over(self, fault: str, seconds: float) -> tuple[bool, str]:
        """Lose the primary, promote its standby, and give that a standby of its own: (it was done, how long it took).

        Raises `Acknowledged` when an old primary that was not fenced kept acknowledging.
        """
        with self._lock:
            if not self._is_in_step():
                return False, "the standby was never in step, so it was not promoted"
            begun = time.monotonic()
            try:
                note = self._fenced(seconds) if fault == FENCED else self._not_fenced(seconds)
            finally:
                self._follow()
            return True, f"{note}, in step with a new standby after {time.monotonic() - begun:.1f} s"

    def fall_behind(self) -> None:
        """From here on no commit waits for the standby, and it gets nothing more: an asynchronous one at its worst."""
        with self._lock:
            standby = self.standby
            if standby is None:
                raise PostgresFailed("there is no standby to fall behind")
            self._set(lambda: self.primary, "synchronous_standby_names", "")
            self._set(lambda: standby, "primary_conninfo", "")
            if not self._until(lambda: standby.query(_RECEIVES) == "0", IN_STEP_WITHIN_SECONDS):
                raise PostgresFailed("the standby went on receiving")

    def lose_what_is_ahead(self) -> None:
        """Lose the primary and promote the standby that fell behind; then commits wait for a new one again.

        Clients must have been fenced: nothing of what they were told since then is left.
        """
        with self._lock:
            old = self._succeeded()
            old.stop_at_once()
            self._promote()
            self._point(self.primary)
            _forget(old)
            self._follow()

    def _fenced(self, seconds: float) -> str:
        """The primary is lost at once; for some seconds the address leads to a standby that takes no writes yet."""
        begun, old = time.monotonic(), self._succeeded()
        old.stop_at_once()
        self._point(self.primary)
        time.sleep(seconds)
        self._promote()
        took = time.monotonic() - begun
        _forget(old)
        return f"writable {took:.1f} s after the loss"

    def _not_fenced(self, seconds: float) -> str:
        """Clients that are connected to the old primary stay there for some seconds, and are told of no commit."""
        begun, old = time.monotonic(), self._succeeded()
        self._promote()
        took = time.monotonic() - begun
        self._point(self.primary)
        try:
            with contextlib.suppress(subprocess.TimeoutExpired, PostgresFailed):
                old.query("INSERT INTO told VALUES ('lost')", database=_WITNESS, seconds=seconds)
                raise Acknowledged("an old primary acknowledged a commit after its standby was promoted")
        finally:
            old.stop_at_once()
            _forget(old)
        return f"writable {took:.1f} s after the decision, the old primary lived {seconds} s longer"

    def _succeeded(self) -> Postgres:
        """From here on the standby is the one that counts, and is kept up; returns the one that was."""
        if self.standby is None:
            raise PostgresFailed("there is no standby to promote")
        old, self.primary, self.standby = self.primary, self.standby, None
        return old

    def _promote(self) -> None:
        def takes_writes() -> bool:
            if self.primary.query("SELECT pg_is_in_recovery()") == "t":
                self.primary.promote()
            return self.primary.query("SELECT pg_is_in_recovery()") == "f"

        if not self._until(takes_writes, PROMOTED_WITHIN_SECONDS):
            raise PostgresFailed("the standby could not be promoted")

    def _follow(self) -> None:
        """Build a standby; from when it runs, every commit waits for it."""
        if not self._until(self._has_standby, REBUILT_WITHIN_SECONDS):
            raise PostgresFailed("no new standby could be built")
        self._set(lambda: self.primary, "synchronous_standby_names", STANDBY)
        if not self._is_in_step():
            raise PostgresFailed("the new standby did not come in step")

    def _set(self, server: Callable[[], Postgres], name: str, value: str) -> None:
        """Change a setting of a running server, for good. Raises `PostgresFailed`."""
        change = f"ALTER SYSTEM SET {name} = '{value}'"
        if not (
            self._until(lambda: server().query(change) == "", IN_STEP_WITHIN_SECONDS)
            and self._until(lambda: server().query("SELECT pg_reload_conf()") == "t", IN_STEP_WITHIN_SECONDS)
        ):
            raise PostgresFailed(f"{name} could not be set")

    def _has_standby(self) -> bool:
        if self.standby is None:
            place = self._place()
            try:
                self.standby = Postgres(place, survives_crashes=True, follows=self.primary)
            except PostgresFailed:
                shutil.rmtree(place, ignore_errors=True)
                raise
        return True

    def _is_in_step(self) -> bool:
        """Whether the standby has all that was committed until now, and every commit waits for it."""

        def found() -> bool:
            position = self.primary.query("SELECT pg_current_wal_flush_lsn()")
            return self.primary.query(_IN_STEP.format(position=position)) == "1"

        return self._until(found, IN_STEP_WITHIN_SECONDS)

    def _until(self, is_so: Callable[[], bool], within_seconds: float) -> bool:
        """Ask until it is so: a server that recovers, or whose disk is full, does not answer."""
        deadline = time.monotonic() + within_seconds
        while time.monotonic() < deadline:
            self._revive()
            with contextlib.suppress(PostgresFailed, subprocess.TimeoutExpired):
                if is_so():
                    return True
            time.sleep(LOOK_SECONDS)
        return False

    def _keep(self) -> None:
        while not self._is_over.wait(KEEP_SECONDS):
            with self._lock:
                self._revive()

    def _revive(self) -> None:
        """Start again what has ended by itself, as a service manager would; a full disk can end a standby."""
        for server in filter(None, (self.primary, self.standby)):
            if not server.is_up:
                with contextlib.suppress(PostgresFailed):
                    server.start_again()

    def _point(self, server: Postgres) -> None:
        for edge in self._edges:
            self._proxy.point(edge, "127.0.0.1", server.port)

    def _place(self) -> Path:
        return Path(tempfile.mkdtemp(prefix="server-", dir=self.directory))


def _forget(old: Postgres) -> None:
    """Its data are another history now. Its programs stay: those who follow it run them."""
    shutil.rmtree(old.directory / "data", ignore_errors=True)
