"""Sending and looking up under a changed retry policy, from the tries and looks that the workflows' histories hold.

A look-up that did not find an effect says that no earlier one would have; one that found it says that no later one
would have missed it. What lies between the two, and what a call never made would have brought, is not observable.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import accumulate, pairwise

from activities.contracts import EXECUTE, LOOK_UP
from corridor.domain.outcome import Outcome
from corridor.domain.sending import SendPolicy
from workers.timeline.story import Happening
from workers.whatif.finding import Finding, Result
from workers.whatif.policy import RetrySection

NO_HISTORY = "its workflow's history is not at hand: tries are kept there"
FEWER_SENDS = "it was decided by a try that would not have been made"
MORE_SENDS = "every try was used up: another one was never made"
BETWEEN_LOOKS = "a look-up would have fallen between the last miss and the first sight"
LATER_LOOKS = "its absence was concluded: nobody looked later"
FALSE_ABSENCE = "the money moved, and the shorter schedule would have taken it for never sent"
NEVER_FOUND = "a person would have been asked: the shorter schedule would not have seen it"
_UNPROVEN = (None, Outcome.UNKNOWN)


@dataclass(frozen=True)
class Look:
    """One look-up after an unknown outcome; `offset_ms` counts from the end of the last try to the answer."""

    offset_ms: int
    outcome: str | None


@dataclass(frozen=True)
class Carried:
    """One effect as it was carried out: how often it was sent, what that brought, and every look after it."""

    effect: str
    sends: int
    outcome: str | None
    looks: tuple[Look, ...]
    policy: SendPolicy | None
    """The one in force, as the step that declared the effect returned it."""


def carried(story: Iterable[Happening]) -> list[Carried]:
    """The effects of a payment's (or refund's) history, in the order they were sent."""
    told = list(story)
    plans = [it.facts["plan"] for it in told if "plan" in it.facts]
    policies = {plan["effect_key"]: SendPolicy.model_validate(plan["policy"]) for plan in plans}
    steps = [it for it in told if it.facts.get("activity") in (EXECUTE.name, LOOK_UP.name)]
    starts = [number for number, it in enumerate(steps) if it.facts["activity"] == EXECUTE.name]
    return [_carried(steps[begin:end], policies) for begin, end in pairwise([*starts, len(steps)])]


def _carried(steps: Sequence[Happening], policies: Mapping[str, SendPolicy]) -> Carried:
    sent, *later = steps
    key = sent.facts.get("effect_key", "")
    looks = [it for it in later if it.facts.get("effect_key") == key]
    return Carried(
        effect=key,
        sends=sent.facts["tries"],
        outcome=sent.facts.get("outcome"),
        looks=tuple(Look(_milliseconds(sent.at, it.at), it.facts.get("outcome")) for it in looks),
        policy=policies.get(key),
    )


def _milliseconds(begin: datetime, end: datetime) -> int:
    return (end - begin) // (datetime.resolution * 1000)


def judge(effects: Sequence[Carried], section: RetrySection, expected: Sequence[str]) -> Finding:
    """`expected` are the effects the database knows to have been sent."""
    known = {it.effect for it in effects if it.policy is not None}
    if missing := [key for key in expected if key not in known]:
        return Finding("retry", Result.NOT_OBSERVABLE, "?", "?", NO_HISTORY, ", ".join(missing))
    findings = [_judged(it, section, it.policy) for it in effects if it.policy is not None]
    worst = max(findings, key=lambda it: list(Result).index(it.result), default=None)
    return worst or Finding("retry", Result.UNCHANGED, "nothing sent", "nothing sent")


def _judged(effect: Carried, section: RetrySection, policy: SendPolicy) -> Finding:
    was = f"{effect.effect.partition(':')[2]}: sent {effect.sends}×, {effect.outcome or 'no answer'}"

    def told(result: Result, would_be: str, why: str = "", detail: str = "") -> Finding:
        return Finding("retry", result, was, would_be, why, detail)

    wanted = section.maximum_attempts
    if wanted is not None and wanted < effect.sends:
        return told(Result.NOT_OBSERVABLE, f"sent {wanted}×", FEWER_SENDS)
    exhausted = effect.outcome in _UNPROVEN and effect.sends >= policy.maximum_attempts
    if wanted is not None and wanted > policy.maximum_attempts and exhausted:
        return told(Result.NOT_OBSERVABLE, f"sent up to {wanted}×", MORE_SENDS)
    if section.lookup_delays_seconds is None or effect.outcome not in _UNPROVEN or not effect.looks:
        return told(Result.UNCHANGED, "the same")
    result, why, detail = _looked(effect, section.lookup_delays_seconds, policy)
    return told(result, f"looked up {len(section.lookup_delays_seconds)}×", why, detail)


def _looked(effect: Carried, delays: Sequence[int], policy: SendPolicy) -> tuple[Result, str, str]:
    """What the other schedule would have seen of an effect whose sending proved nothing."""
    offsets = [1000 * seconds for seconds in accumulate(delays)]
    found = next((it for it in effect.looks if _is_sight(it.outcome)), None)
    misses = [it.offset_ms for it in effect.looks if not _is_sight(it.outcome)]
    last_miss = max((it for it in misses if found is None or it < found.offset_ms), default=-1)
    if found is None:
        if all(offset <= last_miss for offset in offsets):
            return Result.UNCHANGED, "", "the same was missed at every look"
        return Result.NOT_OBSERVABLE, LATER_LOOKS, ""
    for offset in offsets:
        if last_miss < offset < found.offset_ms:
            return Result.NOT_OBSERVABLE, BETWEEN_LOOKS, ""
        if offset >= found.offset_ms:
            return Result.UNCHANGED, "", f"seen {_seconds(offset - found.offset_ms)} s later"
    if policy.absence_is_proof:
        return Result.CHANGED, FALSE_ABSENCE, f"seen {_seconds(found.offset_ms)} s after the last try"
    return Result.CHANGED, NEVER_FOUND, f"seen {_seconds(found.offset_ms)} s after the last try"


def _is_sight(outcome: str | None) -> bool:
    """The provider knew the effect, whatever had become of it; `not_sent` is a conclusion, not a sight."""
    return outcome is not None and outcome not in (Outcome.UNKNOWN, Outcome.NOT_SENT)


def _seconds(milliseconds: int) -> str:
    return f"{milliseconds // 1000}.{milliseconds % 1000:03}"
