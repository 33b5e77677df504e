"""What Stripe can do and what it promises about repeats."""

from corridor.domain.effect import Operation
from corridor.providers.port import Capabilities, IdempotencyContract
from corridor.providers.stripe.currencies import CURRENCIES

PROVIDER = "stripe"

API_VERSION = "2026-10-28.endive"
"""The version this adapter was written against; sent with every call, so the account's default never decides."""

CALL_TIMEOUT_SECONDS = 8.0
"""Every method of the adapter ends within this. Stripe's own card calls answer within a few seconds."""

CAPABILITIES = Capabilities(
    provider=PROVIDER,
    rail="card",
    operations=frozenset(Operation),
    currencies=CURRENCIES,
    partial_capture=True,
    partial_refund=True,
    authorization_life_seconds=7 * 86_400,
    call_timeout_seconds=CALL_TIMEOUT_SECONDS,
)
"""One capture per authorisation; what is not captured is released. Online authorisations live seven days unless the
charge says otherwise in `capture_before` (https://docs.stripe.com/payments/place-a-hold-on-a-payment-method)."""

CONTRACT = IdempotencyContract(
    key_life_seconds=86_400,
    stores_5xx=True,
    lookup_by_our_reference=True,
    lookup_lag_seconds=5,
    lookup_is_consistent=True,
    longest_call_seconds=80,
    horizon_seconds=86_400,
)
"""Keys may be pruned once they are 24 hours old, and the first answer is kept whatever it was, a 500 included
(https://docs.stripe.com/api/idempotent_requests). Effects are found by our metadata: lists show a new object at once,
search lags up to a minute, longer in trouble (https://docs.stripe.com/search#data-freshness), so absence is only
claimed from a complete list. Stripe's own client libraries wait 80 seconds for an answer
(https://github.com/stripe/stripe-python#configuring-automatic-retries), so a call may run as long after we gave up."""
