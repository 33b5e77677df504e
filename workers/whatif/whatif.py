"""What if: recorded decisions under a changed policy, payment by payment and in money. Sends and writes nothing.

Every decision is first decided again under its *own* policy from its recorded inputs; one that does not come out bit
for bit is unfaithful, and says that the records are no full account of the past. Then the changed policy decides. What it
would have asked and nobody did is not observable: it is counted, and never guessed. Buyers, merchants, reviewers and
providers are taken to have acted as they did.
"""

from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime

from temporalio.client import Client
from temporalio.service import RPCError

from corridor.domain.effect import EffectState
from corridor.risk import recorded
from corridor.runtime.refused import SettingsRefused
from corridor.storage.database import Database
from corridor.storage.records import Json
from workers.timeline import history as timeline_history
from workers.timeline.timeline import in_short
from workers.whatif import fx as whatif_fx
from workers.whatif import past as whatif_past
from workers.whatif import retry as whatif_retry
from workers.whatif.finding import Finding, Judged, Result
from workers.whatif.past import Past
from workers.whatif.policy import Change, known
from workers.whatif.retry import Carried
from workers.whatif.risk import RiskReplay

Connect = Callable[[], Awaitable[Client]]


@dataclass
class Faith:
    """Whether the records reproduce themselves under the policies they were made with."""

    decisions: int = 0
    quotes: int = 0
    unfaithful: list[str] = field(default_factory=list)
    not_checkable: int = 0
    """Decided under a policy that is not installed here, or quoted before evidence was kept."""

    def check(self, past: Past) -> None:
        base = known().get(past.recorded.policy_version)
        if base is None:
            self.not_checkable += 1
        else:
            self.decisions += 1
            if not recorded.is_reproduced(base[0], past.recorded):
                self.unfaithful.append(past.payment.id)
        self.not_checkable += sum(not whatif_fx.has_evidence(quote) for quote in past.quotes)
        if all(whatif_fx.has_evidence(quote) for quote in past.quotes):
            self.quotes += len(past.quotes)
            self.unfaithful += whatif_fx.unfaithful(past)


@dataclass(frozen=True)
class Report:
    """What would have changed since a day."""

    policy: str
    sections: tuple[str, ...]
    since: datetime
    until: datetime
    faith: Faith
    judged: tuple[Judged, ...]
    undecided: tuple[str, ...]
    without_history: str | None

    def counts(self, section: str | None = None) -> dict[str, int]:
        """Payments per result, as a whole or in one section (where an earlier one did not end it)."""
        found = Counter(str(result) for judged in self.judged for result in _results(judged, section))
        return {str(result): found[str(result)] for result in Result}

    def reasons(self, result: Result) -> dict[str, int]:
        """Why, most frequent first."""
        found = Counter(
            f"{it.section}: {it.why}"
            for judged in self.judged
            for it in judged.findings
            if it.result is result
        )
        return dict(found.most_common())

    def totals(self) -> dict[str, dict[str, int]]:
        """Minor units by currency and figure; would be less was. Only payments that can be told as a whole."""
        sums: dict[str, Counter[str]] = {}
        for difference in (it for judged in self.judged for it in judged.money):
            sums.setdefault(difference.amount.currency, Counter())[difference.figure] += (
                difference.amount.minor
            )
        return {currency: dict(figures) for currency, figures in sorted(sums.items())}

    def document(self) -> Json:
        told = [it for it in self.judged if it.result is not Result.UNCHANGED]
        return {
            "policy": self.policy,
            "since": self.since.isoformat(),
            "until": self.until.isoformat(),
            "payments": len(self.judged),
            "counts": self.counts(),
            "sections": {section: self.counts(section) for section in self.sections},
            "changed_because": self.reasons(Result.CHANGED),
            "not_observable_because": self.reasons(Result.NOT_OBSERVABLE),
            "difference_minor": self.totals(),
            "undecided": list(self.undecided),
            "faithful": {
                "decisions": self.faith.decisions,
                "quotes": self.faith.quotes,
                "unfaithful_count": len(self.faith.unfaithful),
                "unfaithful": self.faith.unfaithful,
                "not_checkable": self.faith.not_checkable,
            },
            "history_problem": self.without_history,
            "told": [it.document() for it in told],
        }


def _results(judged: Judged, section: str | None) -> list[Result]:
    if section is None:
        return [judged.result]
    return [it.result for it in judged.findings if it.section == section]


async def replay(
    database: Database, connect: Connect, change: Change, since: datetime, until: datetime
) -> Report:
    """Judge every payment accepted in [since, until). Raises `DatabaseUnavailable`."""
    histories = (
        await _Histories.open(connect) if change.document.retry is not None else _Histories(None, None)
    )
    risk, faith, judged = RiskReplay(change), Faith(), []
    async for past in _pasts(database, since, until):
        faith.check(past)
        judged.append(Judged.of(past, tuple([it async for it in _findings(past, change, risk, histories)])))
    return Report(
        policy=change.version,
        sections=_sections(change),
        since=since,
        until=until,
        faith=faith,
        judged=tuple(judged),
        undecided=tuple(await database.read(whatif_past.undecided, since, until)),
        without_history=histories.problem,
    )


def _sections(change: Change) -> tuple[str, ...]:
    """Limits are risk rules: they are judged, and reported, with them."""
    named = ("risk" if section == "limits" else section for section in change.sections)
    return tuple(dict.fromkeys(named))


async def _pasts(database: Database, since: datetime, until: datetime) -> AsyncIterator[Past]:
    after = None
    while True:
        page = await database.read(whatif_past.page, since, until, after)
        for past in page.pasts:
            yield past
        if page.after is None:
            return
        after = page.after


async def _findings(
    past: Past, change: Change, risk: RiskReplay, histories: "_Histories"
) -> AsyncIterator[Finding]:
    """Section by section, until one says that the payment would not have been made."""
    judged = risk.judge(past) if change.changes_risk else None
    found = [] if judged is None else [judged]
    if change.document.fx is not None and not _ends(found):
        found.append(whatif_fx.judge(past, change.document.fx))
    if change.document.retry is not None and not _ends(found):
        sent = await histories.of(past)
        found.append(whatif_retry.judge(sent, change.document.retry, _sent(past)))
    risk.remember(past, judged, ends_otherwise=any(it.section == "fx" and _stops(it) for it in found))
    for finding in found:
        yield finding


def _ends(found: list[Finding]) -> bool:
    return any(it.ends_payment for it in found)


def _stops(finding: Finding) -> bool:
    return finding.ends_payment or finding.result is Result.NOT_OBSERVABLE


def _sent(past: Past) -> list[str]:
    return [row.key for row in past.effects if row.state != EffectState.DECLARED]


@dataclass
class _Histories:
    """Tries and looks are kept in the workflows' histories; what is not there any more is not observable."""

    client: Client | None
    problem: str | None

    @staticmethod
    async def open(connect: Connect) -> "_Histories":
        try:
            return _Histories(await connect(), None)
        except (RuntimeError, RPCError, SettingsRefused) as error:
            return _Histories(None, f"Temporal cannot be reached: {in_short(error)}")

    async def of(self, past: Past) -> list[Carried]:
        if self.client is None:
            return []
        objects = list(dict.fromkeys([past.payment.id, *(row.object_id for row in past.effects)]))
        try:
            stories = [await timeline_history.of_payment(self.client, object_id, ()) for object_id in objects]
        except RPCError as error:
            self.client, self.problem = None, f"Temporal went away: {error.message}"
            return []
        return [effect for story in stories for effect in whatif_retry.carried(story)]
