"""The endpoints of the fake Stripe: path, parameters it knows, and the function that executes it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from corridor.sandbox.stripe import disputes, intents, lists, refunds
from corridor.sandbox.stripe.errors import Answer, Document
from corridor.sandbox.stripe.forms import (
    Anything,
    Boolean,
    Integer,
    Kind,
    Metadata,
    Moment,
    Nested,
    Shape,
    Text,
    TextList,
)
from corridor.sandbox.stripe.work import Work

Execute = Callable[..., Answer]
AMOUNT = Integer(minimum=1)
PAGE: Mapping[str, Kind] = {
    "limit": Integer(minimum=1, maximum=100), "starting_after": Text(), "ending_before": Text(), "created": Moment(),
    "expand": TextList(),
}  # fmt: skip
CARD_OPTIONS = Nested(
    {
        "card": Nested(
            {
                "capture_method": Text(frozenset({"manual"})),
                "request_three_d_secure": Text(frozenset({"any", "automatic", "challenge"})),
                "statement_descriptor_suffix_kana": Text(),
                "statement_descriptor_suffix_kanji": Text(),
                "setup_future_usage": Text(),
                "network": Text(),
                "request_extended_authorization": Text(),
                "request_incremental_authorization": Text(),
                "request_multicapture": Text(),
                "request_overcapture": Text(),
                "moto": Boolean(),
            }
        )
    }
)
CAPTURE_METHOD = Text(frozenset({"automatic", "automatic_async", "manual"}))
CONFIRM: Mapping[str, Kind] = {
    "payment_method": Text(), "return_url": Text(), "off_session": Boolean(), "error_on_requires_action": Boolean(),
    "use_stripe_sdk": Boolean(), "payment_method_options": CARD_OPTIONS, "payment_method_types": TextList(),
    "capture_method": CAPTURE_METHOD, "receipt_email": Text(), "setup_future_usage": Text(), "shipping": Anything(),
    "mandate": Text(), "expand": TextList(),
}  # fmt: skip
CREATE: Mapping[str, Kind] = {
    **CONFIRM, "amount": AMOUNT, "currency": Text(), "confirm": Boolean(), "metadata": Metadata(),
    "confirmation_method": Text(frozenset({"automatic", "manual"})), "customer": Text(), "description": Text(),
    "automatic_payment_methods": Nested({"enabled": Boolean(), "allow_redirects": Text(frozenset({"always", "never"}))}),
    "statement_descriptor": Text(maximum=22), "statement_descriptor_suffix": Text(maximum=22),
    "transfer_group": Text(),
}  # fmt: skip
EXPAND: Mapping[str, Kind] = {"expand": TextList()}
REASONS = frozenset({"duplicate", "fraudulent", "requested_by_customer"})


def _no_check(_work: Work, _params: Document) -> None:
    """Operations whose parameters need no more than their shape."""


@dataclass(frozen=True)
class Operation:
    """`name` is what fault rules match. `kind` of the object named in the path, for its metadata and token."""

    name: str
    method: str
    path: str
    execute: Execute
    shape: Shape = field(default_factory=lambda: EXPAND)
    check: Callable[[Work, Document], None] = _no_check
    kind: str | None = None


def _retrieve(kind: str) -> Execute:
    def retrieve(work: Work, _params: Document, object_id: str) -> Answer:
        return Answer(200, work.get(kind, object_id, "intent" if kind == "payment_intent" else "id"))

    return retrieve


def _reader(plural: str, kind: str) -> Operation:
    return Operation(f"{plural}.retrieve", "GET", f"/{plural}/{{id}}", _retrieve(kind), kind=kind)


OPERATIONS: tuple[Operation, ...] = (
    Operation(
        "payment_intents.search",
        "GET",
        "/payment_intents/search",
        lists.search_intents,
        {"query": Text(), "limit": Integer(1, 100), "page": Text(), "expand": TextList()},
    ),
    Operation(
        "payment_intents.create", "POST", "/payment_intents", intents.create, CREATE, intents.check_create
    ),
    Operation(
        "payment_intents.list", "GET", "/payment_intents", lists.list_intents, {**PAGE, "customer": Text()}
    ),
    _reader("payment_intents", "payment_intent"),
    Operation(
        "payment_intents.update",
        "POST",
        "/payment_intents/{id}",
        intents.update,
        {"metadata": Metadata(), "description": Text(), "expand": TextList()},
        kind="payment_intent",
    ),
    Operation(
        "payment_intents.confirm",
        "POST",
        "/payment_intents/{id}/confirm",
        intents.confirm,
        CONFIRM,
        intents.check_confirm,
        "payment_intent",
    ),
    Operation(
        "payment_intents.capture",
        "POST",
        "/payment_intents/{id}/capture",
        intents.capture,
        {
            "amount_to_capture": AMOUNT,
            "final_capture": Boolean(),
            "metadata": Metadata(),
            "statement_descriptor": Text(maximum=22),
            "statement_descriptor_suffix": Text(maximum=22),
            "expand": TextList(),
        },
        kind="payment_intent",
    ),
    Operation(
        "payment_intents.cancel",
        "POST",
        "/payment_intents/{id}/cancel",
        intents.cancel,
        {"cancellation_reason": Text(REASONS | {"abandoned"}), "expand": TextList()},
        kind="payment_intent",
    ),
    Operation(
        "refunds.create",
        "POST",
        "/refunds",
        refunds.create,
        {
            "payment_intent": Text(),
            "charge": Text(),
            "amount": AMOUNT,
            "reason": Text(REASONS),
            "metadata": Metadata(),
            "instructions_email": Text(),
            "expand": TextList(),
        },
        refunds.check_create,
    ),
    Operation(
        "refunds.list",
        "GET",
        "/refunds",
        lists.list_refunds,
        {**PAGE, "payment_intent": Text(), "charge": Text()},
    ),
    _reader("refunds", "refund"),
    Operation("charges.list", "GET", "/charges", lists.list_charges, {**PAGE, "payment_intent": Text()}),
    _reader("charges", "charge"),
    Operation(
        "balance_transactions.list",
        "GET",
        "/balance_transactions",
        lists.list_transactions,
        {**PAGE, "payout": Text(), "source": Text(), "type": Text(), "currency": Text()},
    ),
    _reader("balance_transactions", "balance_transaction"),
    Operation("balance.retrieve", "GET", "/balance", lists.balance),
    Operation(
        "payouts.list",
        "GET",
        "/payouts",
        lists.list_payouts,
        {**PAGE, "status": Text(), "arrival_date": Moment()},
    ),
    _reader("payouts", "payout"),
    Operation(
        "events.list",
        "GET",
        "/events",
        lists.list_events,
        {**PAGE, "type": Text(), "types": TextList(), "delivery_success": Boolean()},
    ),
    _reader("events", "event"),
    Operation("disputes.list", "GET", "/disputes", lists.list_disputes, {**PAGE, "payment_intent": Text()}),
    _reader("disputes", "dispute"),
    Operation(
        "disputes.update",
        "POST",
        "/disputes/{id}",
        disputes.update,
        {
            "evidence": Nested({"uncategorized_text": Text(), "product_description": Text()}),
            "submit": Boolean(),
            "metadata": Metadata(),
            "expand": TextList(),
        },
        kind="dispute",
    ),
    Operation("disputes.close", "POST", "/disputes/{id}/close", disputes.close, kind="dispute"),
)
