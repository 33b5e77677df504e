# ruff: noqa: S101 - a test suite that ships, so that adapters kept elsewhere can run it
"""The claims every adapter must make true, run against a provider (its sandbox) that can be made to fail.

An adapter's test module subclasses `ProviderConformance`, supplies a `harness` fixture and adds what is special to
its protocol.
"""

import asyncio
from datetime import timedelta

from corridor.domain.effect import Operation, effect_key
from corridor.domain.money import Money
from corridor.domain.outcome import DeclineCategory, Outcome
from corridor.domain.settlement import SettlementBatch, SettlementPage
from corridor.providers.conformance_harness import Case, Fault, Harness
from corridor.providers.port import Authorise, LookUpFailed, SignatureInvalid

NEVER_ISSUED = "pm_never_issued"


class AnswersConform:
    """Answers that arrive are judged as what they are."""

    async def test_sale_is_approved_with_amount_and_reference(self, harness: Harness) -> None:
        case = Case.new(harness)
        answer = await case.send(case.authorise(capture=True))
        assert answer.outcome is Outcome.APPROVED
        assert answer.amount == harness.amount
        assert answer.provider_reference is not None
        assert answer.evidence.http_status is not None
        assert await case.moved(Operation.CAPTURE) == [harness.amount.minor]

    async def test_authorisation_holds_and_says_until_when(self, harness: Harness) -> None:
        case = Case.new(harness)
        answer = await case.send(case.authorise(capture=False))
        assert answer.outcome is Outcome.APPROVED
        assert answer.authorization_expires_at is not None
        assert answer.authorization_expires_at > harness.now()
        assert await case.moved(Operation.CAPTURE) == []

    async def test_every_decline_class_is_told_apart(self, harness: Harness) -> None:
        for token, category in harness.declining_tokens.items():
            case = Case.new(harness)
            answer = await case.send(case.authorise(capture=True, token=token))
            assert answer.outcome is Outcome.DECLINED, token
            assert answer.decline is not None
            assert answer.decline.category is category, token
            assert await case.moved(Operation.CAPTURE) == [], token

    async def test_challenge_gives_a_page_for_the_buyer(self, harness: Harness) -> None:
        case = Case.new(harness)
        answer = await case.send(case.authorise(capture=True, token=harness.challenging_token))
        assert answer.outcome is Outcome.ACTION_REQUIRED
        assert answer.action is not None
        assert answer.action.url.startswith("http")
        assert await case.moved(Operation.CAPTURE) == []

    async def test_unknown_token_is_a_technical_decline(self, harness: Harness) -> None:
        case = Case.new(harness)
        answer = await case.send(case.authorise(capture=True, token=NEVER_ISSUED))
        assert answer.outcome is Outcome.DECLINED
        assert answer.decline is not None
        assert answer.decline.category is DeclineCategory.TECHNICAL

    async def test_unmapped_status_is_pending(self, harness: Harness) -> None:
        case = Case.new(harness)
        await harness.inject(Fault.UNKNOWN_STATUS)
        answer = await case.send(case.authorise(capture=True))
        assert answer.outcome is Outcome.PENDING
        assert answer.provider_reference is not None

    async def test_another_amount_than_asked_is_never_booked(self, harness: Harness) -> None:
        case = Case.new(harness)
        await harness.inject(Fault.WRONG_AMOUNT)
        answer = await case.send(case.authorise(capture=True))
        assert answer.outcome is Outcome.UNKNOWN
        assert "amount_mismatch" in answer.evidence.note
        assert not answer.repeat_is_safe


class RepeatsConform:
    """However often the frozen bytes are sent, the effect happens once."""

    async def test_same_key_twice_is_one_effect(self, harness: Harness) -> None:
        case = Case.new(harness)
        sale = case.authorise(capture=True)
        first, second = await case.send(sale), await case.send(sale)
        assert (first.outcome, first.provider_reference) == (second.outcome, second.provider_reference)
        assert await case.moved(Operation.CAPTURE) == [harness.amount.minor]

    async def test_same_key_at_the_same_time_is_one_effect(self, harness: Harness) -> None:
        case = Case.new(harness)
        sale = case.authorise(capture=True)
        answers = await asyncio.gather(*(case.send(sale) for _ in range(4)))
        assert {answer.outcome for answer in answers} <= {Outcome.APPROVED, Outcome.UNKNOWN}
        assert all(answer.repeat_is_safe for answer in answers if answer.outcome is Outcome.UNKNOWN)
        assert await case.moved(Operation.CAPTURE) == [harness.amount.minor]

    async def test_frozen_bytes_are_sent_unchanged(self, harness: Harness) -> None:
        case = Case.new(harness)
        sale = case.authorise(capture=True)
        request = harness.provider.freeze(sale)
        await harness.provider.send(sale.effect_key, Operation.SALE, request)
        assert harness.provider.freeze(sale) == request, "freezing has no hidden input"
        call = harness.sent[-1]
        assert (call.effect_key, call.body) == (sale.effect_key, request.body.encode())
        assert call.path.endswith(request.path)

    async def test_changed_bytes_under_a_used_key_never_move_money_again(self, harness: Harness) -> None:
        case = Case.new(harness)
        sale = case.authorise(capture=True)
        await case.approved(sale)
        smaller = sale.model_copy(update={"amount": _part(harness.amount, 2)})
        answer = await case.send(smaller)
        assert answer.outcome is not Outcome.APPROVED
        assert await case.moved(Operation.CAPTURE) == [harness.amount.minor]


class UnknownsConform:
    """A broken exchange is unknown, and the look-up by our own reference tells what became of it."""

    async def test_timeout_after_the_effect_is_unknown_and_then_found(self, harness: Harness) -> None:
        case = Case.new(harness)
        await harness.inject(Fault.TIMEOUT_AFTER_EFFECT)
        sale = case.authorise(capture=True)
        assert await self._is_unknown(case, sale, repeat_is_safe=True)
        found = await case.look_up(sale)
        assert found.answer is not None
        assert found.answer.outcome is Outcome.APPROVED
        assert await case.moved(Operation.CAPTURE) == [harness.amount.minor]

    async def test_repeat_after_a_timeout_finds_the_first_effect(self, harness: Harness) -> None:
        case = Case.new(harness)
        await harness.inject(Fault.TIMEOUT_AFTER_EFFECT)
        sale = case.authorise(capture=True)
        assert await self._is_unknown(case, sale, repeat_is_safe=True)
        assert (await case.send(sale)).outcome is Outcome.APPROVED
        assert await case.moved(Operation.CAPTURE) == [harness.amount.minor]

    async def test_reset_before_the_effect_is_unknown_and_then_absent(self, harness: Harness) -> None:
        case = Case.new(harness)
        await harness.inject(Fault.RESET_BEFORE_EFFECT)
        sale = case.authorise(capture=True)
        assert await self._is_unknown(case, sale, repeat_is_safe=True)
        assert (await case.look_up(sale)).answer is None
        assert await case.moved(Operation.CAPTURE) == []

    async def test_stored_500_is_looked_up_and_found(self, harness: Harness) -> None:
        case = Case.new(harness)
        await harness.inject(Fault.STORED_500_AFTER_EFFECT)
        sale = case.authorise(capture=True)
        assert await self._is_unknown(case, sale, repeat_is_safe=True)
        found = await case.look_up(sale)
        assert found.answer is not None
        assert found.answer.outcome is Outcome.APPROVED

    async def test_stored_500_without_effect_is_looked_up_and_absent(self, harness: Harness) -> None:
        case = Case.new(harness)
        await harness.inject(Fault.STORED_500_WITHOUT_EFFECT)
        sale = case.authorise(capture=True)
        assert await self._is_unknown(case, sale, repeat_is_safe=True)
        repeated = await case.send(sale)
        if harness.provider.contract.stores_5xx:
            spent = (repeated.outcome, repeated.evidence.replayed, repeated.repeat_is_safe)
            assert spent == (Outcome.UNKNOWN, True, False)
            assert (await case.look_up(sale)).answer is None
        assert await case.moved(Operation.CAPTURE) == []

    async def test_rate_limit_executes_nothing_and_may_be_repeated(self, harness: Harness) -> None:
        case = Case.new(harness)
        await harness.inject(Fault.RATE_LIMITED)
        sale = case.authorise(capture=True)
        limited = await case.send(sale)
        assert limited.outcome is Outcome.NOT_SENT
        assert limited.repeat_is_safe
        assert limited.retry_after_seconds is not None
        assert await case.moved(Operation.CAPTURE) == []
        assert (await case.send(sale)).outcome is Outcome.APPROVED

    async def test_garbage_is_unknown_and_the_repeat_reads_the_stored_answer(self, harness: Harness) -> None:
        case = Case.new(harness)
        await harness.inject(Fault.GARBAGE_BODY)
        sale = case.authorise(capture=True)
        assert await self._is_unknown(case, sale, repeat_is_safe=True)
        assert (await case.send(sale)).outcome is Outcome.APPROVED
        assert await case.moved(Operation.CAPTURE) == [harness.amount.minor]

    async def test_look_up_that_fails_says_nothing_about_the_effect(self, harness: Harness) -> None:
        case = Case.new(harness)
        sale = case.authorise(capture=True)
        await case.approved(sale)
        await harness.inject(Fault.LOOK_UP_REFUSED)
        try:
            found = await case.look_up(sale)
        except LookUpFailed:
            return
        raise AssertionError(f"a refused look-up answered {found}")

    @staticmethod
    async def _is_unknown(case: Case, sale: Authorise, *, repeat_is_safe: bool) -> bool:
        answer = await case.send(sale)
        return answer.outcome is Outcome.UNKNOWN and answer.repeat_is_safe is repeat_is_safe


class LaterOperationsConform:
    """Capture, void and refund act on what exists, and are found again without an answer."""

    async def test_partial_capture_takes_that_much_and_releases_the_rest(self, harness: Harness) -> None:
        case, part = Case.new(harness), _part(harness.amount, 3)
        reference = await case.approved(case.authorise(capture=False))
        answer = await case.send(case.capture(reference, part))
        assert (answer.outcome, answer.amount) == (Outcome.APPROVED, part)
        assert await case.moved(Operation.CAPTURE) == [part.minor]

    async def test_capture_lost_on_the_way_back_is_found(self, harness: Harness) -> None:
        case = Case.new(harness)
        reference = await case.approved(case.authorise(capture=False))
        capture = case.capture(reference, harness.amount)
        assert (await case.look_up(capture, reference)).answer is None, "not captured yet"
        await harness.inject(Fault.TIMEOUT_AFTER_EFFECT)
        assert (await case.send(capture)).outcome is Outcome.UNKNOWN
        for known in (reference, None):
            found = await case.look_up(capture, known)
            assert found.answer is not None, known
            assert found.answer.outcome is Outcome.APPROVED

    async def test_capture_after_void_is_declined(self, harness: Harness) -> None:
        case = Case.new(harness)
        reference = await case.approved(case.authorise(capture=False))
        await case.approved(case.void(reference))
        answer = await case.send(case.capture(reference, harness.amount))
        assert answer.outcome is Outcome.DECLINED
        assert await case.moved(Operation.CAPTURE) == []

    async def test_void_lost_on_the_way_back_is_found(self, harness: Harness) -> None:
        case = Case.new(harness)
        reference = await case.approved(case.authorise(capture=False))
        void = case.void(reference)
        assert (await case.look_up(void, reference)).answer is None, "not voided yet"
        await harness.inject(Fault.TIMEOUT_AFTER_EFFECT)
        assert (await case.send(void)).outcome is Outcome.UNKNOWN
        found = await case.look_up(void, reference)
        assert found.answer is not None
        assert found.answer.outcome is Outcome.APPROVED

    async def test_void_of_a_payment_already_void_is_done(self, harness: Harness) -> None:
        case = Case.new(harness)
        reference = await case.approved(case.authorise(capture=False))
        await case.approved(case.void(reference))
        key = effect_key(case.payment_id, Operation.VOID, 2)
        again = case.void(reference).model_copy(update={"effect_key": key})
        assert (await case.send(again)).outcome is Outcome.APPROVED

    async def test_void_of_captured_money_is_declined(self, harness: Harness) -> None:
        case = Case.new(harness)
        reference = await case.approved(case.authorise(capture=True))
        answer = await case.send(case.void(reference))
        assert answer.outcome is Outcome.DECLINED
        assert answer.decline is not None
        assert answer.decline.reason == "already_captured"

    async def test_void_of_nothing_is_technical(self, harness: Harness) -> None:
        case = Case.new(harness)
        reference = await case.approved(case.authorise(capture=False))
        answer = await case.send(case.void(reference[:-4] + "0000"))
        assert answer.outcome is Outcome.DECLINED
        assert answer.decline is not None
        assert answer.decline.category is DeclineCategory.TECHNICAL

    async def test_partial_refunds_add_up_and_no_more(self, harness: Harness) -> None:
        case, part = Case.new(harness), _part(harness.amount, 2)
        reference = await case.approved(case.authorise(capture=True))
        await case.approved(case.refund(reference, part))
        await case.approved(case.refund(reference, harness.amount - part))
        answer = await case.send(case.refund(reference, part))
        assert answer.outcome is Outcome.DECLINED
        assert sum(await case.moved(Operation.REFUND)) == harness.amount.minor

    async def test_refund_lost_on_the_way_back_is_found(self, harness: Harness) -> None:
        case = Case.new(harness)
        reference = await case.approved(case.authorise(capture=True))
        refund = case.refund(reference, _part(harness.amount, 4))
        assert (await case.look_up(refund, reference)).answer is None, "not refunded yet"
        await harness.inject(Fault.TIMEOUT_AFTER_EFFECT)
        assert (await case.send(refund)).outcome is Outcome.UNKNOWN
        for known in (reference, None):
            found = await case.look_up(refund, known)
            assert found.answer is not None, known
            assert (found.answer.outcome, found.answer.amount) == (Outcome.APPROVED, refund.amount)


class FactsConform:
    """Webhooks are verified before they are read; settlement reports add up."""

    async def test_signed_webhook_names_its_effect(self, harness: Harness) -> None:
        key = effect_key(Case.new(harness).payment_id, Operation.SALE, 1)
        headers, body = harness.webhook(key, timedelta(seconds=1))
        event = harness.provider.read_webhook(headers, body, harness.now())
        assert event.effect_key == key
        assert event.provider_event_id

    async def test_altered_or_old_webhook_is_refused(self, harness: Harness) -> None:
        key = effect_key(Case.new(harness).payment_id, Operation.SALE, 1)
        headers, body = harness.webhook(key, timedelta(seconds=1))
        old_headers, old_body = harness.webhook(key, timedelta(hours=1))
        for case in ((headers, body + b" "), ({}, body), (old_headers, old_body)):
            try:
                harness.provider.read_webhook(*case, harness.now())
            except SignatureInvalid:
                continue
            raise AssertionError(f"a webhook that does not verify was read: {case}")

    async def test_settlement_rows_add_up_to_what_was_paid_out(self, harness: Harness) -> None:
        case = Case.new(harness)
        sale = case.authorise(capture=True)
        reference = await case.approved(sale)
        refund = case.refund(reference, _part(harness.amount, 4))
        await case.approved(refund)
        seen: set[str | None] = set()
        for batch in await self._batches(harness):
            pages = await self._pages(harness, batch)
            lines = [line for page in pages for line in page.lines if line.kind != "payout"]
            assert not [row for page in pages for row in page.bad_rows]
            assert sum(line.net.minor for line in lines) == batch.total.minor
            seen |= {line.effect_key for line in lines}
        assert {sale.effect_key, refund.effect_key} <= seen

    async def test_bad_row_is_kept_with_its_reason_and_good_rows_go_on(self, harness: Harness) -> None:
        for _ in range(2):
            case = Case.new(harness)
            await case.approved(case.authorise(capture=True))
        batch = (await self._batches(harness))[-1]
        healthy = await self._pages(harness, batch)
        await harness.inject(Fault.BAD_SETTLEMENT_ROW)
        damaged = await self._pages(harness, batch)
        bad_rows = [row for page in damaged for row in page.bad_rows]
        assert len(bad_rows) == 1
        assert bad_rows[0].reason
        assert sum(len(page.lines) for page in damaged) == sum(len(page.lines) for page in healthy) - 1

    @staticmethod
    async def _batches(harness: Harness) -> tuple[SettlementBatch, ...]:
        await harness.settle()
        batches = await harness.provider.settlement_batches(harness.now() - timedelta(days=1))
        assert batches, "the provider paid out"
        return batches

    @staticmethod
    async def _pages(harness: Harness, batch: SettlementBatch) -> list[SettlementPage]:
        pages = [await harness.provider.settlement_page(batch.batch_id, None)]
        while (cursor := pages[-1].next_cursor) is not None:
            pages.append(await harness.provider.settlement_page(batch.batch_id, cursor))
        return pages


class ProviderConformance(
    AnswersConform, RepeatsConform, UnknownsConform, LaterOperationsConform, FactsConform
):
    """The whole suite; a test module subclasses this one."""


def _part(amount: Money, divisor: int) -> Money:
    """A fraction that any currency's smallest step divides."""
    return Money(amount.minor // divisor // 1000 * 1000, amount.currency)
