"""The exact form bytes of each call (https://docs.stripe.com/api, form encoding with bracketed keys)."""

import re
from urllib.parse import parse_qsl, urlencode

from corridor.domain.effect import FrozenRequest
from corridor.domain.failure import Refusal, Refused
from corridor.providers.port import Authorise, Capture, Instruction, Refund, Void
from corridor.providers.stripe.currencies import chargeable, to_stripe

FORM = "application/x-www-form-urlencoded"
INTENTS = "/v1/payment_intents"
REFUNDS = "/v1/refunds"

_INTENT_ID = re.compile(r"pi_[A-Za-z0-9_]{1,250}")
_SUFFIX = re.compile(r"(?=.*[A-Za-z])[^<>\\'\"*\x00-\x1f\x7f-\uffff]{1,22}")
"""Statement suffix: Latin characters, at least one letter, none of <>\\'"* , and 22 at most with its prefix."""

Pairs = list[tuple[str, str]]


def freeze(instruction: Instruction) -> FrozenRequest:
    """Fix the bytes. Raises `Refused` for what Stripe cannot express."""
    match instruction:
        case Authorise():
            return _form(INTENTS, _authorise(instruction))
        case Capture():
            return _form(
                f"{INTENTS}/{_intent_id(instruction.provider_reference)}/capture", _capture(instruction)
            )
        case Void():
            return _form(f"{INTENTS}/{_intent_id(instruction.provider_reference)}/cancel", _void(instruction))
        case Refund():
            return _form(REFUNDS, _refund(instruction))


def fields(request: FrozenRequest) -> dict[str, str]:
    """The form of a frozen request, to compare an answer with what was asked."""
    return dict(parse_qsl(request.body, keep_blank_values=True))


def _authorise(instruction: Authorise) -> Pairs:
    pairs = [
        ("amount", str(chargeable(instruction.amount))),
        ("currency", instruction.amount.currency.lower()),
        ("confirm", "true"),
        ("payment_method", instruction.payment_token),
        ("payment_method_types[0]", "card"),
        ("capture_method", "automatic" if instruction.capture else "manual"),
    ]
    if instruction.return_url is None:
        # Without a page to come back to no buyer can be challenged: decline instead of waiting for nobody.
        pairs.append(("error_on_requires_action", "true"))
    else:
        pairs.append(("return_url", instruction.return_url))
    if instruction.statement_suffix is not None:
        pairs.append(("statement_descriptor_suffix", _suffix(instruction.statement_suffix)))
    return [*pairs, *_marks(instruction.payment_id, instruction.effect_key), ("expand[0]", "latest_charge")]


def _capture(instruction: Capture) -> Pairs:
    # Metadata of a capture is merged into the intent's: a key of its own leaves the authorisation's mark in place.
    return [
        ("amount_to_capture", str(to_stripe(instruction.amount))),
        ("metadata[corridor_capture]", instruction.effect_key),
    ]


_CANCELLATION_REASONS = frozenset({"abandoned", "duplicate", "fraudulent", "requested_by_customer"})


def _void(instruction: Void) -> Pairs:
    known = instruction.reason in _CANCELLATION_REASONS
    return [("cancellation_reason", instruction.reason if known else "abandoned")]


def _refund(instruction: Refund) -> Pairs:
    return [
        ("payment_intent", _intent_id(instruction.provider_reference)),
        ("amount", str(to_stripe(instruction.amount))),
        ("reason", "requested_by_customer"),
        *_marks(instruction.payment_id, instruction.effect_key),
        ("metadata[corridor_refund]", instruction.refund_id),
    ]


def _marks(payment_id: str, effect_key: str) -> Pairs:
    return [("metadata[corridor_payment]", payment_id), ("metadata[corridor_effect]", effect_key)]


def _form(path: str, pairs: Pairs) -> FrozenRequest:
    return FrozenRequest(method="POST", path=path, body=urlencode(pairs, safe="[]"), content_type=FORM)


def _intent_id(reference: str) -> str:
    """The id as part of a path; anything that could change the path is refused."""
    if not _INTENT_ID.fullmatch(reference):
        raise Refused(Refusal.INVALID_PARAMETER, "the provider reference is not a Stripe payment intent")
    return reference


def _suffix(text: str) -> str:
    if not _SUFFIX.fullmatch(text):
        raise Refused(
            Refusal.INVALID_PARAMETER,
            "a statement suffix has 1 to 22 Latin characters, at least one of them a letter",
            pointer="/statement_suffix",
        )
    return text
