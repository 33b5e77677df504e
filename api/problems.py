"""Problems: the one table of error codes, and how each becomes an RFC 9457 `application/problem+json` answer."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from starlette.responses import Response

from corridor.domain.failure import Refusal, Refused, invariant

MEDIA_TYPE = "application/problem+json"
TYPE_BASE = "https://docs.corridor.example/problems"

Retry = Literal["never", "same_key", "new_key", "after"]
MoneyState = Literal["not_moved", "moved", "unknown"]


@dataclass(frozen=True)
class Kind:
    """What a code means: HTTP status, title, whether the client's retry may end otherwise, and whether money moved.

    `new_key`: another request is needed, under a key of its own. `same_key`: repeat this one as it is. `after`: what it
    waits for must change first. Money is `unknown` where this request, or an earlier one that it met, may have moved it.
    """

    status: int
    title: str
    retry: Retry = "never"
    money_state: MoneyState = "not_moved"


KINDS: Mapping[str, Kind] = {
    "malformed_json": Kind(400, "Body is not acceptable JSON"),
    "invalid_parameter": Kind(400, "A parameter has an unacceptable value"),
    "missing_parameter": Kind(400, "A required parameter is missing"),
    "unknown_field": Kind(400, "The body has a field nobody reads"),
    "invalid_currency": Kind(400, "Not an ISO 4217 currency"),
    "invalid_country": Kind(400, "Not an ISO 3166-1 country"),
    "amount_out_of_range": Kind(400, "Amount out of range"),
    "currency_exponent_mismatch": Kind(400, "Exponent is not the currency's"),
    "invalid_cursor": Kind(400, "Cursor does not belong to this list"),
    "idempotency_key_missing": Kind(400, "Idempotency-Key is missing"),
    "idempotency_key_invalid": Kind(400, "Idempotency-Key is malformed"),
    "unsupported_version": Kind(400, "Unknown API version"),
    "account_data_not_accepted": Kind(400, "A card number was sent"),
    "authentication_required": Kind(401, "No API key was sent"),
    "credential_invalid": Kind(401, "API key is not valid"),
    "credential_revoked": Kind(401, "API key was revoked"),
    "signature_invalid": Kind(401, "Signature does not verify"),
    "permission_denied": Kind(403, "This key may not do that"),
    "mode_mismatch": Kind(403, "Key of the other mode"),
    "not_found": Kind(404, "No such object"),
    "method_not_allowed": Kind(405, "Method not allowed here"),
    "state_conflict": Kind(409, "Not possible in this state", "new_key"),
    "outcome_unknown": Kind(409, "An effect is unresolved", "after", "unknown"),
    "review_already_decided": Kind(409, "Review was decided before"),
    "idempotency_in_flight": Kind(409, "First request still runs", "same_key", "unknown"),
    "event_cursor_expired": Kind(410, "Events at this position are not kept"),
    "etag_mismatch": Kind(412, "Object changed meanwhile", "after"),
    "body_too_large": Kind(413, "Body too large"),
    "unsupported_media_type": Kind(415, "Body is not application/json"),
    "idempotency_key_reused": Kind(422, "Key used with another request", "new_key"),
    "quote_expired": Kind(422, "Quote has expired", "new_key"),
    "quote_already_used": Kind(422, "Quote was used before", "new_key"),
    "quote_currency_mismatch": Kind(422, "Quote is for something else", "new_key"),
    "slippage_exceeded": Kind(422, "Rate moved beyond the limit", "new_key"),
    "rate_unavailable": Kind(422, "Nobody offers this rate now", "after"),
    "corridor_not_enabled": Kind(422, "Corridor is not enabled"),
    "no_route": Kind(422, "No provider can do this"),
    "limit_exceeded": Kind(422, "Over a limit", "new_key"),
    "refund_exceeds_captured": Kind(422, "More than is left to refund", "new_key"),
    "capture_exceeds_authorized": Kind(422, "More than was authorised", "new_key"),
    "authorization_expired": Kind(422, "Authorisation has lapsed", "new_key"),
    "insufficient_available": Kind(422, "Balance does not suffice", "new_key"),
    "webhook_url_not_allowed": Kind(422, "URL cannot be delivered to", "new_key"),
    "if_match_required": Kind(428, "If-Match is missing"),
    "concurrency_limited": Kind(429, "Too many requests at once", "same_key", "unknown"),
    "internal_error": Kind(500, "Our error", "same_key", "unknown"),
    "unavailable": Kind(503, "Temporarily unavailable", "same_key"),
}

RETRY_AFTER_SECONDS: Mapping[str, int] = {
    "idempotency_in_flight": 1,
    "concurrency_limited": 1,
    "unavailable": 2,
    "rate_unavailable": 5,
}


@dataclass(frozen=True)
class FieldError:
    """One wrong field: a JSON Pointer into the body, or `query/limit`, `header/If-Match` outside it."""

    pointer: str
    code: str
    detail: str

    def view(self) -> dict[str, str]:
        return {"pointer": self.pointer, "code": self.code, "detail": self.detail}


@dataclass
class Problem(Exception):
    """An answer other than success. `facts` become members of the problem document.

    `retry` and `money_state` are those of the kind, but for a case that knows better.
    """

    code: str
    detail: str
    errors: Sequence[FieldError] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    retry: Retry | None = None
    money_state: MoneyState | None = None

    def __post_init__(self) -> None:
        invariant(self.code in KINDS, f"problem {self.code} is in the table")

    @property
    def kind(self) -> Kind:
        return KINDS[self.code]

    def document(self, instance: str, request_id: str) -> dict[str, Any]:
        """All members; ours stand after those of RFC 9457 and win over facts of the same name."""
        return {
            "type": f"{TYPE_BASE}/{self.code}",
            "title": self.kind.title,
            "status": self.kind.status,
            "detail": self.detail,
            "instance": instance,
            "code": self.code,
            "request_id": request_id,
            "doc_url": f"{TYPE_BASE}/{self.code}",
            "errors": [error.view() for error in self.errors],
            "retry": self.retry or self.kind.retry,
            "money_state": self.money_state or self.kind.money_state,
            **{name: value for name, value in self.facts.items() if name not in _MEMBERS},
        }

    def text(self, instance: str, request_id: str) -> str:
        """The document as the bytes sent and, for refused commands, frozen."""
        return json.dumps(self.document(instance, request_id), ensure_ascii=False, separators=(",", ":"))

    def response(self, instance: str, request_id: str) -> Response:
        headers = dict(self.headers)
        if self.code in RETRY_AFTER_SECONDS:
            headers.setdefault("Retry-After", str(RETRY_AFTER_SECONDS[self.code]))
        return Response(self.text(instance, request_id), self.kind.status, headers, MEDIA_TYPE)


_MEMBERS = frozenset(
    {
        "type",
        "title",
        "status",
        "detail",
        "instance",
        "code",
        "request_id",
        "doc_url",
        "errors",
        "retry",
        "money_state",
    }
)

CODE_OF: Mapping[Refusal, str] = {refusal: refusal.value for refusal in Refusal}
"""Refusals are spelled like the codes they show as; a new one without an entry in `KINDS` fails the test."""


def of_refusal(refused: Refused) -> Problem:
    """The problem a domain refusal shows as."""
    code = CODE_OF[refused.code]
    errors = [FieldError(refused.pointer, code, refused.detail)] if refused.pointer is not None else []
    return Problem(code, refused.detail, errors, refused.facts)
