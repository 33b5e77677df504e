"""Tickets: commands that came in by update and wait for the main coroutine, the only one that acts.

A handler takes a ticket and waits; it never runs an activity itself, so overlapping commands cannot race.
"""

from collections import deque
from typing import TypeVar

from temporalio import workflow

from activities.contracts import RECORD, Nothing
from corridor.domain.outcome import Frozen
from workflows.messages import CommandDone
from workflows.steps import LOCAL_TIMEOUT, regular

C = TypeVar("C", bound=Frozen)


class Ticket:
    """One command and, once the main coroutine dealt with it, its answer."""

    def __init__(self, command: Frozen) -> None:
        self.command = command
        self.done: CommandDone | None = None


class Tickets:
    """A queue of commands in the order they were accepted."""

    def __init__(self) -> None:
        self._waiting: deque[Ticket] = deque()

    async def ask(self, command: Frozen) -> CommandDone:
        """Queue the command and wait for its answer; called by update handlers."""
        ticket = Ticket(command)
        self._waiting.append(ticket)
        await workflow.wait_condition(lambda: ticket.done is not None)
        assert ticket.done is not None  # noqa: S101 (the wait's condition, said again for the type checker)
        return ticket.done

    def put(self, command: Frozen) -> None:
        """Queue a command nobody waits for."""
        self._waiting.append(Ticket(command))

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def take(self) -> Ticket | None:
        """The oldest command, or None; to be answered, not carried out."""
        return self._waiting.popleft() if self._waiting else None

    async def recorded(self) -> Ticket | None:
        """The oldest command, or None; to be carried out, so it returns once the command is in the history.

        An update that was only delivered is in no history: a worker and a server that are killed then forget it
        (github.com/temporalio/temporal, docs/architecture/workflow-update.md). A local step of that same task would
        have committed by then, and nobody would go on with what it began: a review decided, and its payment waiting
        for the decision for ever. A timer would end the task too, but the server fires none within its first second.
        """
        ticket = self.take()
        if ticket is not None and workflow.patched("commands-are-recorded"):
            await regular(
                RECORD, Nothing(), "the command is recorded before it is carried out", LOCAL_TIMEOUT
            )
        return ticket
