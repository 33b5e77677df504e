"""The frozen bytes of every call, as Stripe documents them."""

import pytest

from corridor.domain.effect import FrozenRequest, Operation
from corridor.domain.failure import Refusal, Refused
from corridor.domain.money import Money
from corridor.providers.port import Authorise, Capture, Refund, Void
from corridor.providers.stripe.mapping import Expected
from corridor.providers.stripe.requests import freeze

FORM = "application/x-www-form-urlencoded"


def authorise(**changes: object) -> Authorise:
    values = {
        "effect_key": "pay_1:sale:1",
        "payment_id": "pay_1",
        "amount": Money(1_099, "EUR"),
        "payment_token": "pm_card_visa",
        "capture": True,
        "return_url": "https://shop.example/back?o=1&x=é",
        **changes,
    }
    return Authorise.model_validate(values)


def test_sale_bytes() -> None:
    assert freeze(authorise(statement_suffix="Order 7")) == FrozenRequest(
        method="POST",
        path="/v1/payment_intents",
        content_type=FORM,
        body=(
            "amount=1099&currency=eur&confirm=true&payment_method=pm_card_visa&payment_method_types[0]=card"
            "&capture_method=automatic&return_url=https%3A%2F%2Fshop.example%2Fback%3Fo%3D1%26x%3D%C3%A9"
            "&statement_descriptor_suffix=Order+7"
            "&metadata[corridor_payment]=pay_1&metadata[corridor_effect]=pay_1%3Asale%3A1&expand[0]=latest_charge"
        ),
    )


def test_authorisation_without_a_buyer_refuses_challenges() -> None:
    body = freeze(authorise(capture=False, return_url=None)).body
    assert "capture_method=manual&error_on_requires_action=true&metadata" in body
    assert "return_url" not in body


def test_capture_bytes_leave_the_authorisations_mark_in_place() -> None:
    capture = Capture(
        effect_key="pay_1:capture:1", payment_id="pay_1", provider_reference="pi_9", amount=Money(5, "ISK")
    )
    frozen = freeze(capture)
    assert frozen.path == "/v1/payment_intents/pi_9/capture"
    assert frozen.body == "amount_to_capture=500&metadata[corridor_capture]=pay_1%3Acapture%3A1"


@pytest.mark.parametrize(
    ("reason", "sent"),
    [("duplicate", "duplicate"), ("requested_by_customer", "requested_by_customer"), ("?", "abandoned")],
)
def test_void_bytes_name_a_reason_stripe_knows(reason: str, sent: str) -> None:
    void = Void(effect_key="pay_1:void:1", payment_id="pay_1", provider_reference="pi_9", reason=reason)
    frozen = freeze(void)
    assert (frozen.path, frozen.body) == ("/v1/payment_intents/pi_9/cancel", f"cancellation_reason={sent}")


def refund(**changes: object) -> Refund:
    values = {
        "effect_key": "rfd_1:refund:1",
        "payment_id": "pay_1",
        "refund_id": "rfd_1",
        "provider_reference": "pi_9",
        "amount": Money(30, "EUR"),
        **changes,
    }
    return Refund.model_validate(values)


def test_refund_bytes_may_be_below_the_minimum_charge() -> None:
    frozen = freeze(refund())
    assert frozen.path == "/v1/refunds"
    assert frozen.body == (
        "payment_intent=pi_9&amount=30&reason=requested_by_customer&metadata[corridor_payment]=pay_1"
        "&metadata[corridor_effect]=rfd_1%3Arefund%3A1&metadata[corridor_refund]=rfd_1"
    )


@pytest.mark.parametrize("reference", ["pi_1/../../refunds", "ch_1", "pi_", "", "pi_1?expand=x", "pi_1\n"])
def test_reference_that_would_change_the_path_is_refused(reference: str) -> None:
    with pytest.raises(Refused) as refused:
        freeze(refund(provider_reference=reference))
    assert refused.value.code is Refusal.INVALID_PARAMETER


@pytest.mark.parametrize("suffix", ["", "1234", "a" * 23, "it's", "поставка", "a<b", "a\nb"])
def test_statement_suffix_networks_cannot_print_is_refused(suffix: str) -> None:
    with pytest.raises(Refused) as refused:
        freeze(authorise(statement_suffix=suffix))
    assert refused.value.pointer == "/statement_suffix"


def test_unexpressible_amounts_are_refused_before_anything_is_sent() -> None:
    with pytest.raises(Refused):
        freeze(authorise(amount=Money(49, "EUR")))
    with pytest.raises(Refused):
        freeze(refund(amount=Money(1_005, "KWD")))


def test_expectation_is_read_from_the_frozen_bytes() -> None:
    sale = freeze(authorise())
    assert Expected.of_request(Operation.SALE, "pay_1:sale:1", sale) == Expected(
        Operation.SALE, "pay_1:sale:1", 1_099, "eur"
    )
    returned = freeze(refund())
    assert Expected.of_request(Operation.REFUND, "rfd_1:refund:1", returned) == Expected(
        Operation.REFUND, "rfd_1:refund:1", 30, None, "pi_9"
    )
    void = freeze(Void(effect_key="pay_1:void:1", payment_id="pay_1", provider_reference="pi_9"))
    assert Expected.of_request(Operation.VOID, "pay_1:void:1", void) == Expected(
        Operation.VOID, "pay_1:void:1", None, None, "pi_9"
    )
