"""Faults that can be asked for, the rules that ask for them, and which rule a call meets."""

import fnmatch
import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field


class FaultKind(StrEnum):
    """Everything the sandbox can do wrong on request."""

    LATENCY = "latency"
    STATUS = "status"
    FRONT_STATUS = "front_status"
    RESET_BEFORE_EFFECT = "reset_before_effect"
    TIMEOUT_BEFORE_EFFECT = "timeout_before_effect"
    TIMEOUT_AFTER_EFFECT = "timeout_after_effect"
    RESET_AFTER_EFFECT = "reset_after_effect"
    GARBAGE_BODY = "garbage_body"
    UNKNOWN_STATUS = "unknown_status"
    LOOKUP_LAG = "lookup_lag"
    WEBHOOK_FIRST = "webhook_first"
    WEBHOOK_DUPLICATE = "webhook_duplicate"
    WEBHOOK_DELAY = "webhook_delay"
    WEBHOOK_REORDER = "webhook_reorder"
    WEBHOOK_DROP = "webhook_drop"
    NO_QUOTE = "no_quote"


class Fault(BaseModel):
    """One fault. Only the fields its kind names are read."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: FaultKind
    milliseconds: int = Field(default=0, ge=0, description="latency (before the effect), webhook_delay")
    seconds: int = Field(default=60, ge=0, description="lookup_lag")
    status: int = Field(
        default=500,
        ge=400,
        le=599,
        description="status; front_status: said by the balancer in front, which knows no keys",
    )
    stored: bool = Field(default=False, description="status: the answer is kept under the idempotency key")
    effect: bool = Field(
        default=False, description="status: the effect happens although the answer is an error"
    )
    hold_open: bool = Field(default=True, description="timeout_*: silent open connection; false closes it")
    copies: int = Field(default=1, ge=1, description="webhook_duplicate: deliveries beyond the first")


class FaultMatch(BaseModel):
    """Which calls a rule meets; every given condition must hold."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    operation: str = Field(default="*", description="e.g. payment_intents.create, refunds.*, lp.atlas.quote")
    metadata: dict[str, str] = {}
    idempotency_key_prefix: str = ""
    nth: int | None = Field(default=None, ge=1, description="only the nth otherwise matching call")


class FaultRule(BaseModel):
    """A fault, where it applies and how often it may still fire."""

    model_config = ConfigDict(extra="forbid")

    id: str = ""
    match: FaultMatch = FaultMatch()
    fault: Fault
    times: int = Field(default=1, ge=1)
    seen: int = Field(default=0, description="calls that met the match")
    fired: int = Field(default=0, description="calls it fired on")


@dataclass(frozen=True)
class Occasion:
    """A call as rules see it. Metadata is the request's own over that of the object it acts on."""

    operation: str
    idempotency_key: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)


class FaultRules:
    """The rules now in force. They live in memory: a restarted sandbox is a healthy one."""

    token_faults_in_force: bool = True
    """Whether the faults that test tokens ask for are met; off, such a token is the plain one."""

    def __init__(self) -> None:
        self._rules: dict[str, FaultRule] = {}
        self._ids = itertools.count(1)

    def add(self, rule: FaultRule) -> FaultRule:
        """Put a rule in force and name it."""
        named = rule.model_copy(update={"id": f"flt_{next(self._ids)}", "seen": 0, "fired": 0})
        self._rules[named.id] = named
        return named

    def standing(self) -> list[FaultRule]:
        """All rules, spent ones included, so that their counters can be read."""
        return list(self._rules.values())

    def clear(self, rule_id: str | None = None) -> int:
        """Remove one rule or all of them; returns how many went."""
        gone = [rule_id] if rule_id in self._rules else ([] if rule_id else list(self._rules))
        for name in gone:
            del self._rules[name]
        return len(gone)

    def claim(self, occasion: Occasion, *, in_front: bool = False) -> list[tuple[str, Fault]]:
        """The faults this call must meet, as (rule id, fault); each claim is counted against its rule.

        `in_front` asks for those met before the provider itself sees the call, else for all others.
        """
        return [
            (rule.id, rule.fault)
            for rule in self._rules.values()
            if (rule.fault.kind is FaultKind.FRONT_STATUS) is in_front and _fires(rule, occasion)
        ]


def _fires(rule: FaultRule, occasion: Occasion) -> bool:
    if not _meets(rule.match, occasion):
        return False
    rule.seen += 1
    if rule.fired >= rule.times or (rule.match.nth is not None and rule.seen != rule.match.nth):
        return False
    rule.fired += 1
    return True


def _meets(match: FaultMatch, occasion: Occasion) -> bool:
    return (
        fnmatch.fnmatchcase(occasion.operation, match.operation)
        and occasion.idempotency_key.startswith(match.idempotency_key_prefix)
        and all(occasion.metadata.get(key) == value for key, value in match.metadata.items())
    )
