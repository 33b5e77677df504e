"""Every proof of the demo holds on a small true world, and names the planted counterexample on a false one."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from api.cli.audit import proofs
from api.cli.audit.evidence import Effect, Movement, Paid, Posted, Received, Returned, Told
from api.cli.audit.proofs import Proof
from api.cli.demo import proofs as demo_proofs
from api.cli.demo.drive import Tale
from api.cli.demo.orders import SELLERS, Order
from api.cli.demo.shop import Answer, Sent, Shop
from corridor.domain.money import Money
from corridor.ledger.report import Fault, FaultKind, OpenItem, Report
from corridor.runtime.replay import Replayed, Verdict


def eur(minor: int) -> Money:
    return Money(minor, "EUR")


def assert_contradicted(proof: Proof, *words: str) -> None:
    assert not proof.holds
    assert any(all(word in found for word in words) for found in proof.counterexamples), proof.counterexamples


# --- the ledger --------------------------------------------------------------------------------------------------

SOUND = Report(postings=3, entries=8, accounts=5, seals=3, totals_minor={"EUR": 0})


def faulty(kind: FaultKind) -> Report:
    return replace(SOUND, fault_count=1, faults=[Fault(kind, "planted", "pay_1:sale:1")])


@pytest.mark.parametrize(
    "proof", [proofs.postings_balance, proofs.balances_are_folds, proofs.seal_is_unbroken]
)
def test_a_sound_ledger_is_proven(proof: Callable[[Report], Proof]) -> None:
    assert proof(SOUND).holds


@pytest.mark.parametrize(
    "proof", [proofs.postings_balance, proofs.balances_are_folds, proofs.seal_is_unbroken]
)
def test_an_empty_ledger_proves_nothing(proof: Callable[[Report], Proof]) -> None:
    assert not proof(Report()).holds


@pytest.mark.parametrize("kind", list(FaultKind))
def test_every_kind_of_fault_contradicts_exactly_one_proof(kind: FaultKind) -> None:
    found = faulty(kind)
    verdicts = [
        proofs.postings_balance(found),
        proofs.balances_are_folds(found),
        proofs.seal_is_unbroken(found),
    ]
    (contradicted,) = [proof for proof in verdicts if not proof.holds]
    assert_contradicted(contradicted, "planted", "pay_1:sale:1")


def test_accounts_that_do_not_sum_to_zero_contradict_the_balances() -> None:
    assert_contradicted(proofs.balances_are_folds(replace(SOUND, totals_minor={"JPY": 5})), "JPY", "5")


def test_a_posting_outside_the_chain_is_named_once_nothing_is_posted_any_more() -> None:
    waiting = replace(SOUND, postings=4, unsealed=1, oldest_unsealed_at="2026-11-20T12:00:00+00:00")
    assert proofs.seal_is_unbroken(waiting).holds, "the newest wait a moment to be sealed"
    assert proofs.seal_is_unbroken(SOUND, is_at_rest=True).holds
    assert_contradicted(proofs.seal_is_unbroken(waiting, is_at_rest=True), "1 postings", "2026-11-20")


REFUND = Returned("rfd_1", "pay_1", "succeeded", 3, eur(600), is_reported=False)


def open_item(account: str = "clearing/stripe/EUR", object_id: str = "rfd_1", minor: int = -600) -> Report:
    return replace(SOUND, open_item_count=1, open_items=[OpenItem(account, object_id, minor, "now")])


def test_a_refund_that_no_payout_told_of_explains_clearing() -> None:
    proof = proofs.clearing_is_explained(open_item(), [REFUND])
    assert proof.holds
    assert "rfd_1" in proof.notes[0]


@pytest.mark.parametrize(
    ("ledger", "refund"),
    [
        (open_item(), replace(REFUND, is_reported=True)),
        (open_item(), replace(REFUND, status="failed")),
        (open_item(minor=-601), REFUND),
        (open_item(object_id="pay_1", minor=600), REFUND),
        (open_item(account="suspense/EUR"), REFUND),
        (open_item(account="clearing/stripe/USD"), REFUND),
        (replace(open_item(), open_item_count=2), REFUND),
    ],
)
def test_anything_else_open_at_the_provider_is_a_counterexample(ledger: Report, refund: Returned) -> None:
    assert not proofs.clearing_is_explained(ledger, [refund]).holds


# --- both sides' books -------------------------------------------------------------------------------------------

SALE, HOLD, VOID = "pay_1:sale:1", "pay_2:authorise:1", "pay_2:void:1"
EFFECTS = (
    Effect(SALE, "pay_1", "sale", "approved", eur(1000)),
    Effect(HOLD, "pay_2", "authorise", "approved", eur(500)),
    Effect(VOID, "pay_2", "void", "approved", eur(500)),
    Effect("rfd_1:refund:1", "pay_1", "refund", "approved", eur(600)),
    # A challenge nobody answered: nothing was held, so its void moves nothing at the provider.
    Effect("pay_3:sale:1", "pay_3", "sale", "action_required", eur(700)),
    Effect("pay_3:void:1", "pay_3", "void", "approved", eur(700)),
)
POSTINGS = (
    Posted(SALE, "capture", "pay_1", (("clearing/stripe/EUR", 1000), ("merchant/mer_1/pending/EUR", -1000))),
    Posted(
        "pay_1:settle:txn_1",
        "settle",
        "pay_1",
        (("bank/main/EUR", 970), ("expense/provider_fees/EUR", 30), ("clearing/stripe/EUR", -1000)),
    ),
    Posted(
        "rfd_1:refund:1",
        "refund",
        "rfd_1",
        (("merchant/mer_1/reserved/EUR", 600), ("clearing/stripe/EUR", -600)),
    ),
    Posted(
        "rfd_1:came_back",
        "refund_failed",
        "rfd_1",
        (("clearing/stripe/EUR", 600), ("merchant/mer_1/pending/EUR", -600)),
    ),
)
MOVEMENTS = (
    Movement("authorise", SALE, eur(1000)),
    Movement("capture", SALE, eur(1000)),
    Movement("fee", "pay_1", eur(30)),
    Movement("authorise", HOLD, eur(500)),
    Movement("cancel", VOID, eur(500)),
    Movement("refund", "rfd_1:refund:1", eur(600)),
    Movement("refund_failed", "rfd_1:came_back", eur(600)),
    Movement("payout", "po_1", eur(970)),
)
BATCHES = {"po_1": eur(970)}


def test_equal_books_agree() -> None:
    assert proofs.books_agree(MOVEMENTS, EFFECTS, POSTINGS).holds
    assert proofs.fees_and_payouts_agree(MOVEMENTS, POSTINGS, BATCHES).holds


@pytest.mark.parametrize("number", [0, 1, 3, 4, 5, 6])
def test_an_effect_that_happened_twice_is_named(number: int) -> None:
    twice = [*MOVEMENTS, MOVEMENTS[number]]
    assert_contradicted(proofs.books_agree(twice, EFFECTS, POSTINGS), MOVEMENTS[number].key, "2 times")


def test_a_refund_that_came_back_before_we_knew_of_it_is_two_movements_and_none_of_ours() -> None:
    """Its answer was lost, and the look found it failed: both sides hold what they held."""
    declined = Effect("rfd_2:refund:1", "pay_1", "refund", "declined", eur(200))
    there = Movement("refund", "rfd_2:refund:1", eur(200))
    back = Movement("refund_failed", "rfd_2:came_back", eur(200))
    assert proofs.books_agree([*MOVEMENTS, there, back], [*EFFECTS, declined], POSTINGS).holds
    for wrong in ([there], [back], [there, there, back], [there, replace(back, amount=eur(199))]):
        proof = proofs.books_agree([*MOVEMENTS, *wrong], [*EFFECTS, declined], POSTINGS)
        assert_contradicted(proof, "rfd_2", "we know nothing")


@pytest.mark.parametrize("number", [0, 1, 3, 4, 5, 6])
def test_an_effect_the_provider_does_not_have_is_named(number: int) -> None:
    lost = [it for it in MOVEMENTS if it is not MOVEMENTS[number]]
    proof = proofs.books_agree(lost, EFFECTS, POSTINGS)
    assert_contradicted(proof, MOVEMENTS[number].key, "the provider knows nothing")


@pytest.mark.parametrize("number", [0, 1, 3, 4, 5, 6])
def test_another_amount_or_currency_is_named(number: int) -> None:
    for amount in (
        Money(MOVEMENTS[number].amount.minor + 1, "EUR"),
        Money(MOVEMENTS[number].amount.minor, "USD"),
    ):
        changed = [replace(it, amount=amount) if it is MOVEMENTS[number] else it for it in MOVEMENTS]
        assert_contradicted(
            proofs.books_agree(changed, EFFECTS, POSTINGS), MOVEMENTS[number].key, str(amount)
        )


def test_money_that_moved_without_our_knowing_is_named() -> None:
    stray = [*MOVEMENTS, Movement("capture", "pi_stray", eur(1))]
    assert_contradicted(proofs.books_agree(stray, EFFECTS, POSTINGS), "pi_stray", "we know nothing")


def test_a_capture_that_was_never_posted_is_named() -> None:
    assert_contradicted(
        proofs.books_agree(MOVEMENTS, EFFECTS, POSTINGS[1:]), "capture", SALE, "we know nothing"
    )


def test_books_without_a_single_effect_prove_nothing() -> None:
    assert not proofs.books_agree([], [], []).holds
    assert not proofs.fees_and_payouts_agree([], [], {}).holds


def test_another_fee_payout_or_bank_balance_is_named() -> None:
    fee = [replace(it, amount=eur(29)) if it.kind == "fee" else it for it in MOVEMENTS]
    assert_contradicted(proofs.fees_and_payouts_agree(fee, POSTINGS, BATCHES), "fees of pay_1", "29", "30")
    assert_contradicted(proofs.fees_and_payouts_agree(MOVEMENTS, POSTINGS, {}), "payout po_1")
    assert_contradicted(
        proofs.fees_and_payouts_agree(MOVEMENTS, POSTINGS[:1], BATCHES), "payouts to bank", "970"
    )


# --- the orders --------------------------------------------------------------------------------------------------


def order(scenario: str = "plain", number: int = 1) -> Order:
    return Order(f"ord-{number}", SELLERS[2], "US", eur(1000), "visa", "a belt", scenario)


PAID = Paid(
    id="pay_1",
    reference="ord-1",
    corridor="US-EUR>PT-EUR",
    status="settled",
    reason=None,
    decline=None,
    sequence=3,
    amount=eur(1000),
    captured=eur(1000),
    refunded=eur(0),
    settled=eur(980),
)


def test_an_order_that_ended_as_told_is_proven() -> None:
    assert demo_proofs.endings_are_as_told([Tale(order(), "pay_1")], [PAID], []).holds
    assert proofs.nothing_is_left_open([PAID], [REFUND]).holds


@pytest.mark.parametrize(
    "change",
    [
        {"status": "captured"},
        {"reason": "not_sent"},
        {"decline": "soft"},
        {"amount": eur(1001)},
        {"captured": eur(600)},
        {"refunded": eur(1)},
    ],
)
def test_another_ending_is_named(change: dict[str, object]) -> None:
    proof = demo_proofs.endings_are_as_told([Tale(order(), "pay_1")], [replace(PAID, **change)], [])
    assert_contradicted(proof, "ord-1", *change)


def test_two_payments_for_one_order_are_named_and_none_too() -> None:
    tale = Tale(order(), "pay_1")
    assert_contradicted(
        demo_proofs.endings_are_as_told([tale], [PAID, replace(PAID, id="pay_2")], []), "2 payments"
    )
    assert_contradicted(demo_proofs.endings_are_as_told([tale], [], []), "0 payments")


def test_a_payment_nobody_ordered_is_named() -> None:
    stray = replace(PAID, id="pay_9", reference="ord-9")
    assert_contradicted(demo_proofs.endings_are_as_told([Tale(order(), "pay_1")], [PAID, stray], []), "pay_9")


def test_an_order_refused_at_the_door_must_not_become_a_payment() -> None:
    tale = Tale(order("over_limit"))
    assert demo_proofs.endings_are_as_told([tale], [], []).holds
    assert_contradicted(demo_proofs.endings_are_as_told([tale], [PAID], []), "1 payments, not 0")


def test_a_refund_too_many_or_in_another_state_is_named() -> None:
    tale = Tale(order("refund_part_early"), "pay_1", ["rfd_1"])
    refunded = replace(PAID, refunded=eur(600))
    assert demo_proofs.endings_are_as_told([tale], [refunded], [REFUND]).holds
    for refunds in ([], [REFUND, replace(REFUND, id="rfd_2")], [replace(REFUND, status="failed")]):
        assert_contradicted(demo_proofs.endings_are_as_told([tale], [refunded], refunds), "refunds")


def test_what_surprised_the_merchant_is_a_counterexample() -> None:
    tale = Tale(order(), "pay_1", surprise="cancel was answered 500")
    assert_contradicted(demo_proofs.endings_are_as_told([tale], [PAID], []), "answered 500")


@pytest.mark.parametrize(
    "status", ["processing", "requires_action", "requires_review", "authorized", "captured"]
)
def test_a_payment_that_still_waits_is_named(status: str) -> None:
    assert_contradicted(proofs.nothing_is_left_open([replace(PAID, status=status)], []), "pay_1", status)


@pytest.mark.parametrize("status", ["processing", "requires_review"])
def test_a_refund_that_still_waits_is_named(status: str) -> None:
    assert_contradicted(
        proofs.nothing_is_left_open([PAID], [replace(REFUND, status=status)]), "rfd_1", status
    )


# --- answers, events, webhooks, histories ------------------------------------------------------------------------


def sent(*answers: tuple[int, bytes]) -> Sent:
    shop = Shop("porto-leather", None, "cor_test")  # type: ignore[arg-type] — nothing is sent here
    return Sent(
        shop, "/v1/payments", b"{}", "ord-1", [Answer(status, body, 0.1, 1) for status, body in answers]
    )


def test_the_same_bytes_twice_are_proven_and_not_yet_is_no_answer() -> None:
    assert demo_proofs.repeats_are_equal([sent((202, b"a"), (201, b"b"), (201, b"b"))]).holds


def test_that_nobody_knows_yet_is_no_answer_either() -> None:
    unknown = [(409, f'{{"code": "outcome_unknown", "request_id": "req_{n}"}}'.encode()) for n in (1, 2)]
    assert demo_proofs.repeats_are_equal([sent((202, b"a"), *unknown, (200, b"b"), (200, b"b"))]).holds
    assert_contradicted(demo_proofs.repeats_are_equal([sent((202, b"a"), *unknown)]), "not answered twice")


@pytest.mark.parametrize(
    "answers",
    [
        ((201, b"a"), (201, b"a ")),
        ((201, b"a"), (200, b"a")),
        ((201, b"a"),),
        ((202, b"a"), (202, b"a")),
    ],
)
def test_other_bytes_another_status_or_no_second_answer_are_named(
    answers: tuple[tuple[int, bytes], ...],
) -> None:
    assert_contradicted(demo_proofs.repeats_are_equal([sent(*answers)]), "ord-1")


EVENTS = tuple(Told(f"evt_{n}", "mer_1", "pay_1", n, position=n + 10) for n in (1, 2, 3))
TAKEN = tuple(Received("porto-leather", it.id, it.object_id, it.sequence, True, 204) for it in EVENTS)
NAMES = {"mer_1": "porto-leather"}


def test_a_gap_free_sequence_is_proven() -> None:
    assert proofs.events_have_no_gap(EVENTS, {"pay_1": 3}).holds
    assert proofs.webhooks_arrived([*TAKEN, TAKEN[0]], EVENTS, NAMES).holds, "at least once is enough"


@pytest.mark.parametrize(
    "events",
    [
        EVENTS[1:],
        EVENTS[:2],
        EVENTS[::2],
        (*EVENTS, EVENTS[2]),
        (*EVENTS[:2], replace(EVENTS[2], sequence=2)),
    ],
)
def test_a_missing_or_doubled_event_is_named(events: tuple[Told, ...]) -> None:
    assert_contradicted(proofs.events_have_no_gap(events, {"pay_1": 3}), "pay_1")


def test_an_object_without_any_event_is_named() -> None:
    assert_contradicted(proofs.events_have_no_gap(EVENTS, {"pay_1": 3, "pay_2": 1}), "pay_2")


def test_an_event_without_a_place_or_with_anothers_is_named() -> None:
    unplaced = (*EVENTS[:2], replace(EVENTS[2], position=None))
    shared = (*EVENTS[:2], replace(EVENTS[2], position=12))
    assert_contradicted(proofs.events_have_no_gap(unplaced, {"pay_1": 3}), "evt_3", "no place")
    assert_contradicted(proofs.events_have_no_gap(shared, {"pay_1": 3}), "place 12")


def test_a_forged_webhook_is_named() -> None:
    forged = [*TAKEN, replace(TAKEN[0], is_verified=False, status=400)]
    assert_contradicted(proofs.webhooks_arrived(forged, EVENTS, NAMES), "evt_1", "does not verify")


@pytest.mark.parametrize(
    "received",
    [
        TAKEN[:2],
        (*TAKEN[:2], replace(TAKEN[2], status=500)),
        (*TAKEN[:2], replace(TAKEN[2], merchant="fjord-design")),
    ],
)
def test_an_event_that_its_merchant_never_took_is_named(received: tuple[Received, ...]) -> None:
    assert_contradicted(proofs.webhooks_arrived(received, EVENTS, NAMES), "evt_3", "porto-leather never took")


def test_an_event_sent_to_another_merchant_is_named() -> None:
    stray = [*TAKEN, replace(TAKEN[0], merchant="fjord-design")]
    assert_contradicted(proofs.webhooks_arrived(stray, EVENTS, NAMES), "fjord-design", "not its own")


def test_a_history_that_does_not_fit_or_is_missing_is_named() -> None:
    fits = Replayed("payment-pay_1", "run", Verdict.FITS)
    assert proofs.histories_replay([fits], ["payment-pay_1"]).holds
    broken = replace(fits, verdict=Verdict.NONDETERMINISTIC, reason="reordered")
    assert_contradicted(proofs.histories_replay([broken], []), "payment-pay_1", "reordered")
    assert_contradicted(proofs.histories_replay([fits], ["payment-pay_2"]), "payment-pay_2", "no history")
    assert not proofs.histories_replay([], []).holds
