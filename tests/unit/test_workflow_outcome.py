"""News that arrives while a call is under way: what it may be about decides whether it still counts."""

from datetime import UTC, datetime

import pytest
from temporalio import workflow

from activities.contracts import EffectPlan, Executed
from corridor.domain.effect import Operation
from corridor.domain.money import Money
from corridor.domain.outcome import Outcome
from corridor.domain.payment import RefundStatus, Status
from corridor.domain.sending import SendPolicy
from workflows import outcome as outcomes
from workflows import steps
from workflows.hints import Hints
from workflows.messages import ProviderHint
from workflows.outcome import carry_out

PLAN = EffectPlan(
    effect_key="rfd_1:refund:1",
    operation=Operation.REFUND,
    provider="stripe",
    amount=Money(1_000, "EUR"),
    policy=SendPolicy(
        maximum_attempts=4, initial_interval_seconds=1, maximum_interval_seconds=10, give_up_after_seconds=3600,
        lookup_delays_seconds=(1,), absence_is_proof=True,
    ),
    call_timeout_seconds=8,
    declared_at=datetime(2026, 11, 20, tzinfo=UTC),
)  # fmt: skip


@pytest.mark.parametrize(("outcome", "is_kept"), [(Outcome.APPROVED, True), (Outcome.ACTION_REQUIRED, False)])
async def test_news_of_a_proven_effect_may_be_of_what_came_after_it(
    outcome: Outcome, is_kept: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A refund that came back at once: its webhook can be quicker than the step that sent the refund."""
    hints = Hints()

    async def send(*_: object) -> Executed:
        hints.receive(ProviderHint(provider_event_id="evt_refund_failed"))
        return Executed(
            outcome=outcome, status=Status.CAPTURED, sequence=3, refund_status=RefundStatus.SUCCEEDED
        )

    monkeypatch.setattr(steps, "send", send)
    monkeypatch.setattr(outcomes, "_is_reset", lambda: False)  # asks the workflow's own event loop
    await carry_out(PLAN, hints)
    assert hints._news is is_kept


async def test_news_that_come_together_with_a_command_are_kept_for_the_next_wait(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whoever answers the command does not look: the payment would wait for a whole look's interval."""

    async def at_once(*_: object, **__: object) -> None:
        pass

    monkeypatch.setattr(workflow, "wait_condition", at_once)
    monkeypatch.setattr(workflow, "patched", lambda _: True)
    hints = Hints()
    hints.receive(ProviderHint(provider_event_id="evt_1"))
    assert await hints.wait(3600, "a review", lambda: True)
    assert hints._news
    assert await hints.wait(3600, "a review")
    assert not hints._news
