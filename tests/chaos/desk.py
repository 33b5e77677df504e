"""What the harness does as an operator, held against the installation's own record of operators' acts (I18)."""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from api.cli.audit.evidence import Acted
from api.cli.audit.proofs import Proof, proof
from corridor.storage.operator_acts import OK, REVIEW_DECIDE
from tests.chaos.watch import WentBack

RESTORE_CHECK = "restore-check"


@dataclass
class Given:
    """One try of a command; `is_done` where it said that it had done what it was told."""

    command: str
    begun: datetime
    ended: datetime
    is_done: bool = False

    def holds(self, moment: datetime) -> bool:
        return self.begun <= moment <= self.ended

    def is_lost_with(self, back: WentBack) -> bool:
        """On record in a database that was exchanged for an older one. The recovery itself is on the new one's."""
        until = back.struck_at if self.command == RESTORE_CHECK else back.released_at
        return self.ended > back.copied_at and self.begun < until


@dataclass
class Desk:
    """Every command that was given, in its order, with the moments between which it must be on record."""

    given: list[Given] = field(default_factory=list)

    @contextlib.contextmanager
    def gives(self, command: str) -> Iterator[Given]:
        """Whoever gives it says inside whether it was done."""
        now = datetime.now(UTC)
        one = Given(command, now, datetime.max.replace(tzinfo=UTC))
        self.given.append(one)
        try:
            yield one
        finally:
            one.ended = datetime.now(UTC)


def acts_are_on_record(
    given: Sequence[Given], acts: Sequence[Acted], returns: Sequence[WentBack] = ()
) -> Proof:
    """Each command that was done has an act of its own, begun while it ran; and nobody gave any other.

    An act whose end could not be written, because the database was down by then, says so by having none: that counts
    as on record. What was on record in a database that came back older (docs/recovery.md) is lost with it.
    """
    commands = sorted((it for it in acts if it.command != REVIEW_DECIDE), key=lambda it: it.at)
    left = [it for it in commands if it.outcome in (OK, None)]
    lost, against = 0, []
    for one in sorted((it for it in given if it.is_done), key=lambda it: it.ended):
        own = next((it for it in left if it.command == one.command and one.holds(it.at)), None)
        if own is not None:
            left.remove(own)
        elif any(one.is_lost_with(back) for back in returns):
            lost += 1
        else:
            against.append(f"{one.command} was done at {one.begun}, and is on no record")
    against += [
        f"{it.id}: {it.who} gave {it.command} at {it.at}, and nobody did"
        for it in commands
        if not any(one.command == it.command and one.holds(it.at) for one in given)
    ]
    without_end = sum(it.outcome is None for it in commands)
    notes = [f"{without_end} without an end", f"{lost} lost with a database that came back older"]
    return proof("every command of an operator is on record, and nothing else", len(commands), "acts", against,
                 notes)  # fmt: skip
