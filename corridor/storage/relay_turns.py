"""Whose turn it is: relay jobs that only one process may do at a time, guarded inside their own transaction.

On PostgreSQL by an advisory lock that ends with the transaction (a crash frees it); SQLite has one writer anyway.
"""

from enum import IntEnum

from sqlalchemy import Boolean, Connection, func, select

ADVISORY_CLASS = 0x52454C59
"""First half of the lock's key ("RELY"), so that it meets no other user of advisory locks."""


class Job(IntEnum):
    """Second half of the key; never renumbered, or two versions would hold different locks."""

    SEQUENCE_EVENTS = 1
    DISPATCH_EVENTS = 2


def is_mine(connection: Connection, job: Job) -> bool:
    """True when this transaction may do the job; False means another one is doing it right now."""
    if connection.dialect.name != "postgresql":
        return True
    free = func.pg_try_advisory_xact_lock(ADVISORY_CLASS, int(job), type_=Boolean)
    return bool(connection.execute(select(free)).scalar_one())
