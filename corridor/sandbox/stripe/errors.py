"""Stripe's error envelope and the answers that carry it (docs.stripe.com/api/errors)."""

import json
from dataclasses import dataclass, field
from typing import Any

Document = dict[str, Any]


@dataclass(frozen=True)
class Answer:
    """An HTTP status and a JSON body, as stored under an idempotency key."""

    status: int
    body: Document

    def encoded(self) -> bytes:
        """The exact bytes sent, and kept under the idempotency key."""
        return json.dumps(self.body, ensure_ascii=False).encode()


@dataclass
class StripeError(Exception):
    """A refusal. `extra` holds further members of the error object, such as decline_code or payment_intent."""

    status: int
    type: str
    message: str
    code: str | None = None
    param: str | None = None
    extra: Document = field(default_factory=dict)

    def answer(self) -> Answer:
        """The error as Stripe sends it: absent members are left out."""
        body: Document = {"type": self.type, "message": self.message}
        if self.code is not None:
            body["code"] = self.code
            body["doc_url"] = f"https://stripe.com/docs/error-codes/{self.code.replace('_', '-')}"
        if self.param is not None:
            body["param"] = self.param
        return Answer(self.status, {"error": {**body, **self.extra}})


def invalid_request(
    message: str, *, code: str | None = None, param: str | None = None, status: int = 400, **extra: Any
) -> StripeError:
    """An `invalid_request_error`, by far the most frequent type."""
    return StripeError(status, "invalid_request_error", message, code, param, dict(extra))


def no_such(kind: str, object_id: str, param: str = "id") -> StripeError:
    """404 for an id in the path, 400 for one in a parameter, both `resource_missing`."""
    status = 404 if param in ("id", "intent") else 400
    return invalid_request(
        f"No such {kind}: '{object_id}'", code="resource_missing", param=param, status=status
    )


def unauthorized(message: str) -> StripeError:
    """401: nothing was executed and nothing is stored."""
    return StripeError(401, "invalid_request_error", message)


def api_error(status: int = 500) -> StripeError:
    """Stripe's own failure. Says nothing about whether the effect happened."""
    return StripeError(status, "api_error", "An unknown error occurred. Please try again later.")


def rate_limited() -> StripeError:
    """429: refused before execution."""
    return StripeError(
        429,
        "invalid_request_error",
        "Request rate limit exceeded. Learn more about rate limits here https://stripe.com/docs/rate-limits.",
        "rate_limit",
    )


def key_in_use() -> StripeError:
    """409: the first request with this key is still running."""
    return StripeError(
        409,
        "idempotency_error",
        "There is currently another in-progress request using this Idempotent Key (that probably means you "
        "submitted twice, and the other request is still going through).",
        "idempotency_key_in_use",
    )


def key_reused(key: str) -> StripeError:
    """400: the key belongs to a request with other parameters."""
    return StripeError(
        400,
        "idempotency_error",
        "Keys for idempotent requests can only be used with the same parameters they were first used with. "
        f"Try using a key other than '{key}' if you meant to execute a different request.",
    )
