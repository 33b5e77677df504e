"""What workflows ask of activities: durable names, inputs, results. Importable from workflow code.

Names carry a version; arguments only ever grow by optional fields, a new meaning gets a new name. Money steps
return the postings they made, so that the ledger can be rebuilt from histories alone. For the same reason a result
names what a history would not know otherwise (a local step's input is not kept in it): the quote, the review's
reason, the settlement row, and where the step left its objects (`stands`).
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, Literal, TypeVar

from pydantic import ConfigDict, Field

from corridor.domain.effect import Operation
from corridor.domain.money import Money
from corridor.domain.outcome import Evidence, Frozen, Outcome, ProviderAnswer
from corridor.domain.payment import RefundStatus, Status, StatusReason
from corridor.domain.posting import Posting
from corridor.domain.quote import Quote
from corridor.domain.sending import SendPolicy
from corridor.domain.settlement import BadRow, SettlementBatch, SettlementLine

In = TypeVar("In", bound=Frozen)
Out = TypeVar("Out", bound=Frozen)


class Message(Frozen):
    """What one build writes into a history and another reads: what a newer one added, an older one ignores.

    Otherwise the first field added to a result would strand every payment under way when a worker is rolled back.
    """

    model_config = ConfigDict(extra="ignore")


@dataclass(frozen=True)
class Step(Generic[In, Out]):
    """An activity as the workflow sees it: its durable name and the type of its result."""

    name: str
    takes: type[In]
    gives: type[Out]


class Former(Message):
    """An event of an object, as it is recorded; `shown` is what it says of the object."""

    sequence: int
    event: str
    at: datetime
    shown: dict[str, Any]


class Standing(Message):
    """A payment or refund as a step left it: its last event, and the columns of its row that change over its life.

    Columns that are null or zero are left out. Every step tells where it left its objects, so their rows and events
    can be made again from histories alone. A step that is taken again finds what came after it as well, and tells of
    the events before: the history may have lost the answer that told of them first.
    """

    object_id: str
    sequence: int
    event: str
    at: datetime
    row: dict[str, Any]
    former: tuple[Former, ...] = ()


class EffectPlan(Message):
    """A declared effect and how it may be sent; the policy is data in the history, so replay never re-derives it."""

    effect_key: str
    operation: Operation
    provider: str
    amount: Money
    policy: SendPolicy
    call_timeout_seconds: float
    declared_at: datetime


class PrepareIn(Message):
    """What is asked of the market before the transaction begins comes along, so no row is read for it."""

    payment_id: str
    amount: Money
    settle_currency: str
    approved_review: str | None = None
    """The review a person approved; risk is not asked again."""


class Prepared(Message):
    verdict: Literal["proceed", "review", "declined"]
    status: Status
    sequence: int
    plan: EffectPlan | None = None
    review_id: str | None = None
    reasons: tuple[str, ...] = ()
    quote: Quote | None = None
    """The rate the payment holds, without the offers it was compared with."""
    stands: tuple[Standing, ...] = ()


class DeclareIn(Message):
    """Declare the next effect of a payment or refund: `number` makes the key, `amount` is what it moves."""

    payment_id: str
    object_id: str
    operation: Operation
    number: int
    amount: Money | None = None
    """None: everything that is left to capture, or the authorised amount to void."""


class Declared(Message):
    plan: EffectPlan


class ExecuteIn(Message):
    effect_key: str
    may_be_under_way: bool | None = None
    """An earlier try, of this run or of one that was lost or reset, may still be running at the provider."""


class LookUpIn(Message):
    effect_key: str
    absence_is_proof: bool = False
    """True on the last look of a consistent look-up: not finding the effect then proves it was never made."""


class Executed(Message):
    """What is now known of an effect, and what the payment became by it.

    `quote_expired` means that this try sent nothing: the lock would have run out before the call's own deadline. With
    `not_sent` no earlier try did either; with `unknown` one may be under way.
    """

    outcome: Outcome
    status: Status
    sequence: int
    refund_status: RefundStatus | None = None
    postings: tuple[Posting, ...] = ()
    quote_expired: bool = False
    amount_mismatch: bool = False
    action_url: str | None = None
    authorization_expires_at: datetime | None = None
    settle_by: datetime | None = None
    evidence: Evidence | None = None
    answer: ProviderAnswer | None = None
    """All that is recorded of the effect; `outcome` and the like are what the workflow goes by."""
    resolved_at: datetime | None = None
    posted_at: tuple[datetime, ...] = ()
    """When each of `postings` was written."""
    stands: tuple[Standing, ...] = ()
    key_is_spent: bool = False
    """The provider answered this key for good and did nothing: only another key can still bring the effect about."""


class RequoteIn(Message):
    payment_id: str


class Requoted(Message):
    """A new lock inside the merchant's slippage limit, or the reason there is none."""

    accepted: bool
    reason: StatusReason | None = None
    quote_id: str | None = None
    slippage_bps: str | None = None
    quote: Quote | None = None
    stands: tuple[Standing, ...] = ()


class MoveIn(Message):
    """A transition no provider call causes (canceled before anything was sent, abandoned, expired)."""

    payment_id: str
    to: Status
    reason: StatusReason


class Moved(Message):
    status: Status
    sequence: int
    stands: tuple[Standing, ...] = ()


class OpenReviewIn(Message):
    payment_id: str
    object_id: str
    reason: StatusReason
    facts: dict[str, str] = Field(default_factory=dict)
    review_id: str | None = None
    """The id of a review that is opened again after its row was lost; None: a new one."""


class ReviewOpened(Message):
    """`review_id` is None when the object has moved on and nobody needs to be asked."""

    review_id: str | None
    status: Status
    sequence: int
    reason: StatusReason | None = None
    facts: dict[str, str] = Field(default_factory=dict)
    at: datetime | None = None
    stands: tuple[Standing, ...] = ()


class DecideReviewIn(Message):
    """A person's answer. For `outcome_unknown`: `found` or `absent`, with the evidence in `note`."""

    review_id: str
    decision: Literal["approve", "decline", "found", "absent"]
    decided_by: str
    note: str = ""
    effect_key: str | None = None
    provider_reference: str | None = None


class ReviewDecided(Message):
    status: Status
    sequence: int
    executed: Executed | None = None
    """For `found` and `absent`: what the decision made of the effect."""
    effect_key: str | None = None
    at: datetime | None = None
    stands: tuple[Standing, ...] = ()


class SettleIn(Message):
    payment_id: str
    provider: str
    line_id: str


class Settled(Message):
    status: Status
    sequence: int
    postings: tuple[Posting, ...] = ()
    line_id: str | None = None
    posted_at: tuple[datetime, ...] = ()
    stands: tuple[Standing, ...] = ()


class RefundIn(Message):
    refund_id: str
    payment_id: str


class RefundReserved(Message):
    """`refused` is the stable code when the limit does not allow it; nothing was reserved then."""

    status: RefundStatus
    refused: str | None = None
    plan: EffectPlan | None = None
    postings: tuple[Posting, ...] = ()
    posted_at: tuple[datetime, ...] = ()
    stands: tuple[Standing, ...] = ()


class RefundReleased(Message):
    status: RefundStatus
    postings: tuple[Posting, ...] = ()
    posted_at: tuple[datetime, ...] = ()
    stands: tuple[Standing, ...] = ()


class BatchesIn(Message):
    provider: str


class Batches(Message):
    batch_ids: tuple[str, ...]
    found: tuple[SettlementBatch, ...] = ()
    """Of these, what the provider said of each."""


class ImportPageIn(Message):
    provider: str
    batch_id: str
    cursor: str | None = None


class ImportedPage(Message):
    line_count: int
    bad_row_count: int
    next_cursor: str | None = None
    lines: tuple[SettlementLine, ...] = ()
    bad_rows: tuple[BadRow, ...] = ()
    staged_at: datetime | None = None


class BatchIn(Message):
    provider: str
    batch_id: str


class BatchClosed(Message):
    """Control total checked, payments told, rows without a payment posted."""

    balanced: bool
    signaled: int
    unmatched: int
    postings: tuple[Posting, ...] = ()
    posted_at: tuple[datetime, ...] = ()
    closed_at: datetime | None = None


class Nothing(Message):
    """Nothing to say."""


PREPARE = Step("payment.prepare.v1", PrepareIn, Prepared)
DECLARE = Step("payment.declare.v1", DeclareIn, Declared)
EXECUTE = Step("provider.execute.v1", ExecuteIn, Executed)
LOOK_UP = Step("provider.look_up.v1", LookUpIn, Executed)
REQUOTE = Step("payment.requote.v1", RequoteIn, Requoted)
MOVE = Step("payment.move.v1", MoveIn, Moved)
OPEN_REVIEW = Step("review.open.v1", OpenReviewIn, ReviewOpened)
DECIDE_REVIEW = Step("review.decide.v1", DecideReviewIn, ReviewDecided)
SETTLE = Step("payment.settle.v1", SettleIn, Settled)
RESERVE_REFUND = Step("refund.reserve.v1", RefundIn, RefundReserved)
RELEASE_REFUND = Step("refund.release.v1", RefundIn, RefundReleased)
RECORD = Step("command.record.v1", Nothing, Nothing)
"""Changes nothing: that it is asked for ends the workflow task which brought a command (workflows/tickets.py)."""
FIND_BATCHES = Step("settlement.batches.v1", BatchesIn, Batches)
IMPORT_PAGE = Step("settlement.import_page.v1", ImportPageIn, ImportedPage)
CLOSE_BATCH = Step("settlement.close_batch.v1", BatchIn, BatchClosed)


class AttemptIn(Message):
    """Attempt `number` (from 1) of a delivery; `spread_permille` (0 to 1000) is the workflow's draw for jitter."""

    delivery_id: str
    number: int
    spread_permille: int


class Attempted(Message):
    """`retry_in_seconds` is None when the delivery is over: delivered, given up, or its endpoint disabled."""

    result: Literal["delivered", "retry", "failed", "closed"]
    retry_in_seconds: int | None = None
    status_code: int | None = None


ATTEMPT_WEBHOOK = Step("webhook.attempt.v1", AttemptIn, Attempted)
