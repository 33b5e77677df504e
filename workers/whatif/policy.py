"""The changed policy of a what-if: one TOML document with the sections risk, limits, fx and retry, each optional.

`[risk]` is a whole policy in the format of the shipped files (it then has `effective_from`), or only what is changed;
`[limits]` names amount and velocity limits without their tables. A changed part is laid over the policy each decision
was made under. A shipped policy file is itself such a document.
"""

import hashlib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from corridor.domain.outcome import Frozen
from corridor.fx.counterfactual import Terms
from corridor.risk import policy
from corridor.risk.policy import Policy, PolicyBroken, Rules

Data = dict[str, Any]


class FxSection(Frozen):
    """Markup for every merchant (or added to what each had), limits on offers, lock and slippage."""

    markup_bps: int | None = Field(None, ge=0, le=10_000)
    markup_change_bps: int = Field(0, ge=-10_000, le=10_000)
    off_reference_max_bps: int | None = Field(None, ge=0)
    maximum_spread_bps: int | None = Field(None, ge=0)
    lock_seconds: int | None = Field(None, ge=1)
    slippage_max_bps: int | None = Field(None, ge=0)
    slippage_policy: Literal["requote", "reject"] | None = None

    @property
    def terms(self) -> Terms:
        return Terms(
            self.markup_bps, self.markup_change_bps, self.off_reference_max_bps, self.maximum_spread_bps
        )


class RetrySection(Frozen):
    """How often a money call is sent, and when an unknown outcome is looked up."""

    maximum_attempts: int | None = Field(None, ge=1)
    lookup_delays_seconds: tuple[int, ...] | None = None


class LimitsSection(Frozen):
    """Limits of one payment, and of velocity rules by their id."""

    minimum_eur: str | None = None
    review_above_eur: str | None = None
    maximum_eur: str | None = None
    velocity: dict[str, Data] = Field(default_factory=dict)

    def as_risk(self) -> Data:
        amount = self.model_dump(exclude={"velocity"}, exclude_none=True)
        rules = [{"id": rule_id, **limits} for rule_id, limits in self.velocity.items()]
        return {"amount": amount, "velocity": rules}


class Document(Frozen):
    """The file."""

    risk: Data | None = None
    limits: LimitsSection | None = None
    fx: FxSection | None = None
    retry: RetrySection | None = None


@dataclass(frozen=True)
class Change:
    """What is asked. `risk_over` makes the changed risk policy out of the one a decision was made under."""

    document: Document
    version: str

    @property
    def sections(self) -> tuple[str, ...]:
        return tuple(name for name in Document.model_fields if getattr(self.document, name) is not None)

    @property
    def changes_risk(self) -> bool:
        return self.document.risk is not None or self.document.limits is not None

    def risk_over(self, base_version: str) -> Policy:
        """Raises `PolicyBroken` if the result is no valid policy; `base_version` must be one of `known()`."""
        risk, limits = self.document.risk or {}, self.document.limits
        merged = risk if _is_whole(risk) else laid_over(known()[base_version][1], risk)
        if limits is not None:
            merged = laid_over(merged, limits.as_risk())
        try:
            return Policy(Rules.model_validate(merged), f"{self.version} over {base_version}")
        except ValidationError as error:
            raise PolicyBroken(f"over {base_version}: {error}") from error


def read(path: Path) -> Change:
    """Read and check the whole document. Raises `PolicyBroken`, also for a part that fits no known policy."""
    content = path.read_bytes()
    try:
        found = tomllib.loads(content.decode("utf-8"))
        document = Document.model_validate({"risk": found} if _is_whole(found) else found)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, ValidationError) as error:
        raise PolicyBroken(f"{path.name}: {error}") from error
    change = Change(document, f"{path.name}+{hashlib.sha256(content).hexdigest()[:12]}")
    if not change.sections:
        raise PolicyBroken(
            f"{path.name} changes nothing: it has none of the sections {', '.join(Document.model_fields)}"
        )
    if change.changes_risk:
        for version in known():
            change.risk_over(version)
    return change


@cache
def known() -> Mapping[str, tuple[Policy, Data]]:
    """Every shipped risk policy by its version, as rules and as the document it was read from."""
    files = (resources.files("corridor.risk") / "policies").iterdir()
    contents = {it.name: it.read_bytes() for it in files if it.name.endswith(".toml")}
    policies = {name: policy.read(name, content) for name, content in contents.items()}
    return {
        found.version: (found, tomllib.loads(contents[name].decode("utf-8")))
        for name, found in policies.items()
    }


def laid_over(base: Data, part: Mapping[str, Any]) -> Data:
    """Tables are merged, velocity rules by their id; everything else is replaced."""
    merged = dict(base)
    for name, value in part.items():
        old = merged.get(name)
        if name == "velocity":
            merged[name] = _rules(old or [], value)
        elif isinstance(value, dict) and isinstance(old, dict):
            merged[name] = laid_over(old, value)
        else:
            merged[name] = value
    return merged


def _rules(base: list[Data], part: list[Data]) -> list[Data]:
    changed = {rule.get("id"): rule for rule in part}
    kept = [{**rule, **changed.pop(rule["id"], {})} for rule in base]
    return [*kept, *changed.values()]


def _is_whole(risk: Mapping[str, Any]) -> bool:
    return "effective_from" in risk
