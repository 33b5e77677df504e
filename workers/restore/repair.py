"""Repair: one payment's rows, and its refunds', brought up to what their histories recorded; in one transaction.

Nothing is assumed about clocks. Every recorded step says where it left its objects, down to the number of their last
event, and a step counts as repeated only if it leaves them exactly there and made exactly the postings it made then;
where steps of a payment and of its refunds compete, these numbers say which came first. So an event number never
gets another meaning, and a difference is found and undone, never written over.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError
from temporalio.exceptions import ApplicationError

from activities import contracts, standing
from activities.contracts import Declared, Standing
from activities.edge import Edge
from activities.errors import CaptureNotKnown
from corridor.domain.failure import InvariantBroken, Refused
from corridor.domain.payment import RefundStatus
from corridor.ledger import store
from corridor.storage import payments
from workers.histories.reading import Reading, StepTaken
from workers.restore.gaps import Gap, GapKind
from workers.restore.picture import Picture, differences, look
from workers.restore.retake import NotTold, Retake
from workers.restore.rows_again import make_rows
from workflows.messages import ReviewCommand, SettlementFact

DIVERGED = (
    "a repair stops its workflow if that still runs; compare `corridor timeline` with the provider's dashboard before"
    " `corridor resume`: that looks up what the database knows and may send anew what it does not, and leaves a payment"
    " whose workflow has ended to you"
)

UNDER_WAY = (
    "its refund's workflow is stopped, and the payment's own finds out what its call has done; `corridor resume` begins"
    " the refund again, which waits until then"
)
CALLS = (contracts.EXECUTE.name, contracts.LOOK_UP.name)
"""Steps that ask a provider: what one has done is told by its answer, and its workflow takes it until there is one."""


@dataclass(frozen=True)
class Family:
    """A payment and its refunds: the readings of each one's runs, oldest first. The payment's may be gone."""

    payment_id: str
    payment: list[Reading] = field(default_factory=list)
    refunds: dict[str, list[Reading]] = field(default_factory=dict)

    @property
    def object_ids(self) -> list[str]:
        return [self.payment_id, *self.refunds]

    @property
    def runs(self) -> dict[str, list[Reading]]:
        """Of each object, the payment first."""
        return {self.payment_id: self.payment, **self.refunds}

    @property
    def readings(self) -> list[Reading]:
        return [it for runs in self.runs.values() for it in runs]

    @property
    def reached(self) -> dict[str, int]:
        """The number of each object's newest event that any step tells of; a refund's steps tell of the payment too."""
        highest: dict[str, int] = {}
        for it in self.readings:
            for step in it.steps:
                for stood in getattr(step.result, "stands", ()):
                    highest[stood.object_id] = max(stood.sequence, highest.get(stood.object_id, 0))
        return highest


@dataclass(frozen=True)
class Repaired:
    """What came of one payment: the gaps there were, what the database knows now, and which runs are ahead of it."""

    gaps: list[Gap]
    after: Picture
    ahead: list[Reading] = field(default_factory=list)


@dataclass(frozen=True)
class Recorded:
    """A completed step of one object, in which of its runs, and the command or fact that led to it."""

    object_id: str
    run: int
    step: StepTaken
    cause: ReviewCommand | SettlementFact | None

    @property
    def label(self) -> str:
        return f"{self.step.name} of {self.object_id}"

    @property
    def stands(self) -> tuple[Standing, ...]:
        """Where it says that it left the payment and the refund; empty of builds that did not tell."""
        return getattr(self.step.result, "stands", ())

    @property
    def moment(self) -> datetime:
        """When it was, for trying the likelier order first; the numbers decide."""
        result: Any = self.step.result
        if isinstance(result, Declared):
            return result.plan.declared_at
        return getattr(result, "resolved_at", None) or (self.stands[-1].at if self.stands else self.step.at)


class Differs(Exception):
    """The step would leave other rows than it left then."""


def repair(connection: Connection, family: Family, edge: Edge, before: Picture) -> Repaired:
    """Take every recorded step the database does not know. `before` is what it knew; undone by its caller's rollback."""
    made = make_rows(connection, family.payment_id, family.payment, family.refunds)
    if any(not gap.is_provable and gap.kind is not GapKind.KEY_TAKEN for gap in made):
        return Repaired(made, look(connection, family.object_ids))
    point = connection.begin_nested()
    taken = _retake(connection, family, edge, before, is_believing=True)
    if taken.refusal is None:
        point.commit()
    else:
        # What was believed is not borne out; a person goes on from what needs no belief.
        point.rollback()
        taken = _retake(connection, family, edge, before, is_believing=False)
    refused = [] if taken.refusal is None else [taken.refusal]
    return Repaired([*made, *differences(before, taken.after), *refused], taken.after, taken.ahead)


@dataclass(frozen=True)
class Taken:
    """What the database knows when the steps have been taken again: all of them, or as far as the `refusal` of one.

    `ahead`: the run of that step, with those that went on from there.
    """

    after: Picture
    refusal: Gap | None = None
    ahead: list[Reading] = field(default_factory=list)


def _retake(
    connection: Connection, family: Family, edge: Edge, before: Picture, *, is_believing: bool
) -> Taken:
    """Take the steps again in an order in which every one fits.

    A step that was repeated tells of events that others had made by then, and may be believed where no order fits. Those
    others must come, or it is a step that was refused.
    """
    retake = Retake(connection, edge, family.payment_id)
    queues = [
        [it for it in recorded(runs, object_id) if not _is_past(it, before)]
        for object_id, runs in family.runs.items()
    ]
    furthest: dict[str, tuple[int, Recorded]] = {}
    while heads := sorted((queue for queue in queues if queue), key=lambda queue: queue[0].moment):
        queue, refusal = _fitting(connection, retake, family.payment_id, heads)
        if queue is None and any(_go_on_resumed(connection, family, it) for it in heads):
            furthest.clear()
            continue
        if queue is None and is_believing:
            queue, _ = _fitting(connection, retake, family.payment_id, heads, is_believed=True)
        if queue is None:
            ahead = [run for head in heads for run in _from_there_on(family, head[0])]
            gap = _refused(family, refusal, [head[0].object_id for head in heads])
            return Taken(look(connection, family.object_ids), gap, ahead)
        taken = queue.pop(0)
        for stood in taken.stands:
            if stood.sequence > furthest.get(stood.object_id, (0, taken))[0]:
                furthest[stood.object_id] = stood.sequence, taken
    after = look(connection, family.object_ids)
    for object_id, (sequence, it) in furthest.items():
        if (now := after.sequence(object_id)) < sequence:
            found = f"{it.label}: {object_id} would be at event {now}, it was at {sequence}"
            return Taken(after, _refused(family, found, [it.object_id]), _from_there_on(family, it))
    return Taken(after)


def _fitting(
    connection: Connection,
    retake: Retake,
    payment_id: str,
    heads: list[list[Recorded]],
    *,
    is_believed: bool = False,
) -> tuple[list[Recorded] | None, str]:
    """Of queues that are not empty the one whose first step was taken, or else why the first one's was not."""
    refusals = []
    for queue in heads:
        refusal = _try(connection, retake, queue[0], payment_id, is_believed=is_believed)
        if refusal is None:
            return queue, ""
        refusals.append(f"{queue[0].label}: {refusal}")
    return None, refusals[0]


def _refused(family: Family, found: str, object_ids: Sequence[str]) -> Gap:
    """What refunds were told of a payment whose own call has not told yet, that call will tell when it is repeated."""
    is_under_way = bool(family.payment) and any(
        step.ending == "open" and step.name in CALLS for step in family.payment[-1].steps
    )
    if is_under_way and family.payment_id not in object_ids:
        return Gap(GapKind.UNDER_WAY, family.payment_id, found, UNDER_WAY)
    return Gap(GapKind.DIVERGED, family.payment_id, found, DIVERGED)


def _from_there_on(family: Family, it: Recorded) -> list[Reading]:
    return family.runs[it.object_id][it.run :]


def _go_on_resumed(connection: Connection, family: Family, queue: list[Recorded]) -> bool:
    """Leave out what an object's runs did before one of them was resumed from a database that did not know it either.

    False where none was, or from a newer database: that one knew more than is here.
    """
    runs = family.runs[queue[0].object_id]
    for number in range(queue[0].run + 1, len(runs)):
        resume = runs[number].start.resume
        # A reset's run copies its start, and was made from what the run before it had done by then.
        if not resume or runs[number].first_run_id == runs[queue[0].run].first_run_id:
            continue
        # A refund is resumed by its id alone: its first step asks the database where it stands.
        if resume is True or payments.load(connection, family.payment_id).sequence >= resume.sequence:
            queue[:] = [it for it in queue if it.run >= number]
            return True
    return False


def _is_past(it: Recorded, before: Picture) -> bool:
    """The database knows a later event of everything this step touched, so it knows the step."""
    return bool(it.stands) and all(stood.sequence < before.sequence(stood.object_id) for stood in it.stands)


def recorded(runs: list[Reading], object_id: str) -> Iterator[Recorded]:
    """The completed steps of an object's runs in order, each with its cause.

    A run made by a reset begins with a copy of the one before. Its copied steps are that run's, which went on from there:
    after what it did last they would come too late, and may not fit any more.
    """
    given: set[tuple[int, str, datetime]] = set()
    for run, reading in enumerate(runs):
        commands = reading.decisions
        facts = {
            signal.argument.line_id: signal.argument
            for signal in reading.signals
            if isinstance(signal.argument, SettlementFact)
        }
        for step in reading.steps:
            if step.ending != "completed" or step.result is None or step.name == contracts.RECORD.name:
                continue  # the last of them changes nothing
            cause: ReviewCommand | SettlementFact | None = None
            if step.name == contracts.DECIDE_REVIEW.name and commands:
                cause = commands.pop(0)
            elif step.name == contracts.SETTLE.name:
                cause = facts.get(step.result.line_id or "")
            event = step.event_id, step.name, step.at
            if event not in given:
                given.add(event)
                yield Recorded(object_id, run, step, cause)


def _try(
    connection: Connection, retake: Retake, it: Recorded, payment_id: str, *, is_believed: bool
) -> str | None:
    """None when the step could be taken again exactly; else why not, with everything undone."""
    point = connection.begin_nested()
    try:
        before = {stood.object_id: stood for stood in _standing(connection, it, payment_id)}
        retake.take(it.object_id, it.step, it.cause)
        _compare(connection, it, before, payment_id, is_believed=is_believed)
    except (
        Differs,
        NotTold,
        Refused,
        InvariantBroken,
        CaptureNotKnown,
        ApplicationError,
        IntegrityError,
    ) as error:
        point.rollback()
        return str(error).partition("\n")[0] or type(error).__name__
    point.commit()
    return None


def _standing(connection: Connection, it: Recorded, payment_id: str) -> tuple[Standing, ...]:
    if it.object_id == payment_id:
        return standing.of_payment(connection, payment_id)
    return standing.of_refund(connection, payment_id, it.object_id)


def _compare(
    connection: Connection, it: Recorded, before: dict[str, Standing], payment_id: str, *, is_believed: bool
) -> None:
    """Raises `Differs`. Of an object the step did not touch now, only its last event is compared: at the same event
    the database may know more, the route and the rate, which have no event of their own."""
    told = {stood.object_id: stood for stood in it.stands}
    for now in _standing(connection, it, payment_id):
        then = told.get(now.object_id)
        was_changed = now != before[now.object_id]
        if then is None:
            if was_changed:
                raise Differs(f"{now.object_id} would change, and the history does not say how")
        elif now.sequence < then.sequence and (
            _is_later(it.step.result, then) or (is_believed and _is_on_the_way(now, then))
        ):
            continue
        elif now.sequence < then.sequence or (was_changed and now.sequence > then.sequence):
            raise Differs(f"{now.object_id} would be at event {now.sequence}, it was at {then.sequence}")
        elif now.sequence == then.sequence and (difference := _difference(as_kept(now), then, was_changed)):
            raise Differs(f"{now.object_id}: {difference}")
    for posting in getattr(it.step.result, "postings", ()):
        if store.posting_by_key(connection, posting.key) != posting:
            raise Differs(f"posting {posting.key} is another one")


def _is_later(result: Any, stood: Standing) -> bool:
    """The step's first answer was lost; given again, it tells where others had taken the object since.

    Its own event would be of the moment at which it wrote. Which of the two is later no clock can tell.
    """
    if getattr(result, "refund_status", None) is RefundStatus.FAILED:
        return False  # it was resolved long before, and came back by this step
    posted_at = getattr(result, "posted_at", ())
    own = getattr(result, "resolved_at", None) or (posted_at[0] if posted_at else None)
    return own is not None and own != stood.at


def _is_on_the_way(now: Standing, then: Standing) -> bool:
    """The step was repeated, and tells the events that were recorded by then: the last one there is now is one of them."""
    kept = as_kept(now)
    return now.sequence == 1 or any(
        (it.sequence, it.event, it.at) == (kept.sequence, kept.event, kept.at) for it in then.former
    )


def as_kept(stood: Standing) -> Standing:
    """As it comes out of a history: times are texts there."""
    return Standing.model_validate_json(stood.model_dump_json())


def _difference(now: Standing, then: Standing, with_row: bool) -> str:
    """Empty for none."""
    if (now.event, now.at) != (then.event, then.at):
        return f"event {now.sequence} would be {now.event} of {now.at}, it was {then.event} of {then.at}"
    columns = sorted(now.row.keys() | then.row.keys()) if with_row else []
    differing = [
        f"{name} would be {now.row.get(name)}, it was {then.row.get(name)}"
        for name in columns
        if now.row.get(name) != then.row.get(name)
    ]
    return ", ".join(differing)
