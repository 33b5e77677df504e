"""Risk decisions in the database: one row per payment, with what was known and under which policy."""

from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, bindparam, insert, select

from corridor.domain.failure import invariant
from corridor.risk.decide import Decision, Verdict
from corridor.risk.decide import decide as judge
from corridor.risk.facts import gather
from corridor.risk.policy import Policy
from corridor.risk.valuation import Valuation
from corridor.storage.tables import risk_decisions

_VERDICT = select(risk_decisions.c.decision).where(risk_decisions.c.payment_id == bindparam("wanted"))
_COLUMNS = ("payment_id", "decision", "policy_version", "reasons", "inputs", "decided_at")
_INSERT_FIRST = insert(risk_decisions).from_select(
    _COLUMNS,
    select(*(bindparam(name, type_=risk_decisions.c[name].type) for name in _COLUMNS)).where(
        ~_VERDICT.with_only_columns(risk_decisions.c.id).exists()
    ),
)
"""Built once: building a statement anew and finding it in SQLAlchemy's cache takes longer than running it."""


def decide_payment(
    connection: Connection, payment: Row[Any], policy: Policy, valuation: Valuation, now: datetime
) -> Decision:
    """Gather, decide and record in the caller's write transaction; `payment` is its row."""
    decision = judge(policy, gather(connection, payment, policy, valuation))
    record(connection, payment.id, decision, now)
    return decision


def record(connection: Connection, payment_id: str, decision: Decision, now: datetime) -> None:
    """Keep the decision with its reasons, its policy and its inputs. A payment is decided once."""
    kept = connection.execute(
        _INSERT_FIRST,
        {
            "wanted": payment_id,
            "payment_id": payment_id,
            "decision": str(decision.verdict),
            "policy_version": decision.policy_version,
            "reasons": [reason.as_data() for reason in decision.reasons],
            "inputs": decision.inputs,
            "decided_at": now,
        },
    )
    invariant(kept.rowcount == 1, f"{payment_id} already has a risk decision")


def verdict_of(connection: Connection, payment_id: str) -> Verdict | None:
    """The recorded verdict, or None when the payment was not judged yet."""
    found = connection.execute(_VERDICT, {"wanted": payment_id}).scalar_one_or_none()
    return None if found is None else Verdict(found)
