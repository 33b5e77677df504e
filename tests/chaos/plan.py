"""The plan of a run: one seed expands into arrivals and faults. Pure; the same seed makes the same plan."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from random import Random
from typing import Any

from tests.chaos import arrivals
from tests.chaos.arrivals import Arrival
from tests.chaos.faults import failover, hostile, network, rollout, temporal, webhooks
from tests.chaos.profile import PROCESSES, Profile

Json = dict[str, Any]

QUIET_START_SECONDS = 2.0
LONG_PAUSE_SECONDS = 17.0
"""Longer than a provider activity may run (8 s call + 7 s to record), so that a second attempt meets the first."""


class Kind(StrEnum):
    """Kinds of faults a plan holds besides those that arrive with a card."""

    KILL = "kill"
    PAUSE = "pause"
    NETWORK = "network"
    RECEIVER = "receiver"
    LIQUIDITY = "liquidity"
    FORGED_WEBHOOK = "forged_webhook"
    HOSTILE_INPUT = "hostile_input"
    FULL_DISK = "full_disk"
    CLOCK_SKEW = "clock_skew"
    FAILOVER = "failover"
    TERMINATE = "terminate"
    RESET = "reset"
    TEMPORAL_LOST = "temporal_lost"
    ROLLOUT = "rollout"
    RESTORE = "restore"


@dataclass(frozen=True)
class Act:
    """One planned fault: when, of what kind, against whom, and the words its performer needs."""

    at_seconds: float
    kind: Kind
    target: str
    words: Mapping[str, str | int | float]

    @property
    def name(self) -> str:
        """Kind and variety, as the report counts them."""
        variety = self.words.get("fault") or self.target
        return f"{self.kind}:{variety}"


@dataclass(frozen=True)
class Plan:
    """Everything a run will do, in order of time."""

    seed: int
    database: str
    profile: Profile
    arrivals: tuple[Arrival, ...]
    acts: tuple[Act, ...]
    rush_at_seconds: float

    @property
    def counts(self) -> Counter[str]:
        return Counter(act.name for act in self.acts)

    def is_in_rush(self, arrival: Arrival) -> bool:
        return 0 <= arrival.at_seconds - self.rush_at_seconds <= arrivals.BURST_SECONDS

    def document(self) -> Json:
        """For the report: every act, and the arrivals by story and fault."""
        return {
            "seed": self.seed,
            "database": self.database,
            "profile": asdict(self.profile),
            "digest": self.digest(),
            "acts": [asdict(act) for act in self.acts],
            "acts_by_name": dict(sorted(self.counts.items())),
            "arrivals_by_story": dict(Counter(it.story.value for it in self.arrivals)),
            "arrivals_by_fault": dict(Counter(it.fault for it in self.arrivals if it.fault)),
        }

    def digest(self) -> str:
        """Two runs with the same digest did the same things at the same planned times."""
        text = json.dumps(
            [[repr(it) for it in self.arrivals], [asdict(it) for it in self.acts]], sort_keys=True
        )
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def lines(self) -> Iterator[str]:
        """The plan for people, before it begins."""
        faulty = sum(bool(it.fault) for it in self.arrivals)
        yield (
            f"seed {self.seed} on {self.database}: {len(self.arrivals)} payments in {self.profile.safety_seconds} s,"
            f" {faulty} with a provider fault of their own; {len(self.acts)} further faults (plan {self.digest()})"
        )
        for kind in Kind:
            counts = Counter(act.target for act in self.acts if act.kind is kind)
            if counts:
                yield f"  {kind}: " + ", ".join(f"{name} {count}" for name, count in sorted(counts.items()))


def expand(seed: int, profile: Profile, database: str) -> Plan:
    """Draw the whole run. Each part has a generator of its own, so that one more kill moves no arrival."""

    def random(part: str) -> Random:
        return Random(f"{seed}:{part}")  # noqa: S311 — a plan, not a secret

    acts = [
        *_kills(random("kills"), profile, database),
        *_pauses(random("pauses"), profile),
        *_skews(random("skews"), profile),
        *_of_kind(random("network"), profile, Kind.NETWORK, profile.network, _network_of(database)),
        *_of_kind(random("receiver"), profile, Kind.RECEIVER, profile.receiver, _receiver),
        *_of_kind(random("liquidity"), profile, Kind.LIQUIDITY, profile.liquidity, _liquidity),
        *_of_kind(random("forged"), profile, Kind.FORGED_WEBHOOK, profile.forged_webhooks, _forged),
        *_of_kind(random("hostile"), profile, Kind.HOSTILE_INPUT, profile.hostile_inputs, _hostile),
        *_of_kind(random("disk"), profile, Kind.FULL_DISK, profile.full_disks, _full_disk),
        *_failovers(random("failovers"), profile, database),
        *_of_kind(random("terminations"), profile, Kind.TERMINATE, profile.terminations, temporal.draw),
        *_of_kind(random("resets"), profile, Kind.RESET, profile.resets, temporal.draw),
        *_losses(random("losses"), profile),
        *_rollouts(random("rollouts"), profile),
        *_restores(random("restores"), profile),
    ]
    orders = arrivals.draw(random("arrivals"), profile.payments, profile.safety_seconds)
    rush_at = arrivals.rush_at(random("arrivals"), profile.safety_seconds)
    return Plan(seed, database, profile, orders, tuple(sorted(acts, key=lambda act: act.at_seconds)), rush_at)


def _kills(random: Random, profile: Profile, database: str) -> Iterator[Act]:
    for name in PROCESSES:
        for _ in range(profile.kills[name]):
            yield Act(_moment(random, profile), Kind.KILL, name, {})
    if database == "postgresql":
        for number in range(profile.database_kills):
            target = "database" if number % 4 == 0 else "database-backend"
            yield Act(_moment(random, profile), Kind.KILL, target, {})


def _pauses(random: Random, profile: Profile) -> Iterator[Act]:
    for number in range(profile.pauses):
        target = PROCESSES[number % len(PROCESSES)]
        # Six and the number of processes have no common divisor, so the long ones go round among all of them.
        is_long = number % 6 == 1
        seconds = LONG_PAUSE_SECONDS if is_long else round(random.uniform(0.5, 6), 1)
        yield Act(_moment(random, profile, seconds), Kind.PAUSE, target, {"seconds": seconds})


def _skews(random: Random, profile: Profile) -> Iterator[Act]:
    """The second worker and the API start with wrong clocks, the worker's by an hour or a day, and are set right later.

    Setting a clock right is a polite restart, as a deploy would be.
    """
    far = random.choice((3_600, -3_600, 86_400, -86_400))
    near = random.choice((-1, 1)) * random.randint(5, 20)
    for target, seconds in (("worker-2", far), ("api", near)):
        until = round(random.uniform(0.55, 0.75) * profile.safety_seconds, 3)
        yield Act(0.0, Kind.CLOCK_SKEW, target, {"seconds": seconds, "until_seconds": until})


def _losses(random: Random, profile: Profile) -> Iterator[Act]:
    """Temporal's store, late enough that much has ended and early enough that much is still to come."""
    turn = profile.safety_seconds / max(1, profile.temporal_losses)
    for number in range(profile.temporal_losses):
        at = round((number + random.uniform(0.55, 0.8)) * turn, 3)
        yield Act(at, Kind.TEMPORAL_LOST, "temporal", {})


def _rollouts(random: Random, profile: Profile) -> Iterator[Act]:
    for number in range(profile.rollouts):
        at, target, words = rollout.draw(random, number, profile.rollouts, profile.safety_seconds)
        yield Act(at, Kind.ROLLOUT, target, words)


def _restores(random: Random, profile: Profile) -> Iterator[Act]:
    """Left behind early and in force a while later, each before the next loss of Temporal's store: never both at once."""
    if not profile.restores:
        return
    turn = profile.safety_seconds / max(profile.restores, profile.temporal_losses)
    for number in range(profile.restores):
        at = round((number + random.uniform(0.08, 0.15)) * turn, 3)
        yield Act(
            at, Kind.RESTORE, "database", {"seconds": round(min(60.0, random.uniform(0.15, 0.25) * turn), 1)}
        )


def _failovers(random: Random, profile: Profile, database: str) -> Iterator[Act]:
    """One after the other, for each needs the standby that was built after the one before."""
    if database != "postgresql" or not profile.failovers:
        return
    turn, first = profile.safety_seconds / profile.failovers, random.randrange(2)
    for number in range(profile.failovers):
        at = round((number + random.uniform(0.2, 0.7)) * turn, 3)
        yield Act(at, Kind.FAILOVER, "database", failover.draw(random, first + number))


def _of_kind(random: Random, profile: Profile, kind: Kind, count: int, draw: Any) -> Iterator[Act]:
    for number in range(count):
        target, words = draw(random, number)
        yield Act(_moment(random, profile), kind, target, words)


def _network_of(database: str) -> Any:
    return lambda random, number: network.draw(random, number, database)


def _receiver(random: Random, _number: int) -> tuple[str, Json]:
    return random.choice(arrivals.SUBSCRIBERS), {
        "fail_next": random.randint(1, 2),
        "status": random.choice((500, 503, 429)),
    }


def _liquidity(random: Random, _number: int) -> tuple[str, Json]:
    return random.choice(("atlas", "borealis")), {"fault": random.choice(("no_quote", "latency", "status"))}


def _forged(_random: Random, number: int) -> tuple[str, Json]:
    return "api", {"fault": webhooks.FORGERIES[number % len(webhooks.FORGERIES)]}


def _hostile(_random: Random, number: int) -> tuple[str, Json]:
    return "api", {"fault": hostile.INPUTS[number % len(hostile.INPUTS)].name}


def _full_disk(random: Random, _number: int) -> tuple[str, Json]:
    return "disk", {"seconds": round(random.uniform(1, 4), 1)}


def _moment(random: Random, profile: Profile, lasts_seconds: float = 0.0) -> float:
    last = max(QUIET_START_SECONDS, profile.safety_seconds - lasts_seconds)
    return round(random.uniform(QUIET_START_SECONDS, last), 3)
