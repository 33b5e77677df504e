"""Risk decisions in the database: one row per payment, with what was known and under which policy."""

from datetime import datetime

from sqlalchemy import Connection, select

from corridor.domain.failure import invariant
from corridor.risk.decide import Decision, Verdict
from corridor.risk.decide import decide as judge
from corridor.risk.facts import gather
from corridor.risk.policy import Policy
from corridor.risk.valuation import Valuation
from corridor.storage.tables import risk_decisions


def decide_payment(
    connection: Connection, payment_id: str, policy: Policy, valuation: Valuation, now: datetime
) -> Decision:
    """Gather, decide and record in the caller's write transaction."""
    decision = judge(policy, gather(connection, payment_id, policy, valuation))
    record(connection, payment_id, decision, now)
    return decision


def record(connection: Connection, payment_id: str, decision: Decision, now: datetime) -> None:
    """Keep the decision with its reasons, its policy and its inputs. A payment is decided once."""
    invariant(verdict_of(connection, payment_id) is None, f"{payment_id} already has a risk decision")
    connection.execute(
        risk_decisions.insert().values(
            payment_id=payment_id,
            decision=str(decision.verdict),
            policy_version=decision.policy_version,
            reasons=[reason.as_data() for reason in decision.reasons],
            inputs=decision.inputs,
            decided_at=now,
        )
    )


def verdict_of(connection: Connection, payment_id: str) -> Verdict | None:
    """The recorded verdict, or None when the payment was not judged yet."""
    found = connection.execute(
        select(risk_decisions.c.decision).where(risk_decisions.c.payment_id == payment_id)
    ).scalar_one_or_none()
    return None if found is None else Verdict(found)
