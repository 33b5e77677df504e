"""How long PostgreSQL may keep a caller waiting, and how long a lost caller may keep its locks.

Nobody says goodbye when a machine loses its power or a network drops its packets: without these limits a caller waits for
hours for an answer that cannot come, and a server keeps for hours the locks of a worker that is no more. All are in
seconds, 0 is no limit. SQLite needs none: its locks end with the process that has them.
"""

from dataclasses import dataclass

KEEPALIVE_AFTER_SECONDS = 10
KEEPALIVE_EVERY_SECONDS = 5
KEEPALIVE_PROBES = 3


@dataclass(frozen=True)
class Deadlines:
    """What one connection is held to; all but `transaction` by the server itself."""

    statement: float
    """One statement's work. Never that of a COMMIT which waits for its standby: the server exempts it."""
    lock: float
    """Waiting for one lock, of a row or an advisory one; the transaction is then tried again."""
    idle: float
    """The pause between two statements of a transaction: how long a lost or frozen process keeps its locks."""
    transaction: float
    """Ours, from BEGIN to the answer to COMMIT, for a server that has gone silent. The connection is dropped then, never
    canceled: a canceled COMMIT would show others what a standby does not have yet."""

    def of_the_server(self) -> dict[str, str]:
        """As settings of the session (PostgreSQL's manual, 19.3.2 and 19.11.1), in milliseconds where it has no unit.

        The keepalives find the dead machine behind a session that waits for nothing, in about 25 s.
        """
        return {
            "statement_timeout": _milliseconds(self.statement),
            "lock_timeout": _milliseconds(self.lock),
            "idle_in_transaction_session_timeout": _milliseconds(self.idle),
            "tcp_keepalives_idle": str(KEEPALIVE_AFTER_SECONDS),
            "tcp_keepalives_interval": str(KEEPALIVE_EVERY_SECONDS),
            "tcp_keepalives_count": str(KEEPALIVE_PROBES),
            "tcp_user_timeout": _milliseconds(
                KEEPALIVE_AFTER_SECONDS + KEEPALIVE_EVERY_SECONDS * KEEPALIVE_PROBES
            ),
        }


SERVING = Deadlines(statement=30, lock=5, idle=15, transaction=40)
"""API and workers: whoever waits longer than this asks again, and finds what was done by its key."""
UNHURRIED = Deadlines(statement=0, lock=60, idle=600, transaction=0)
"""Commands that read or write a whole database, with an operator beside them."""


def _milliseconds(seconds: float) -> str:
    return str(round(seconds * 1000))
