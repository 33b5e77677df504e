"""How large a run is: what each profile asks for, before the seed says when and where."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

PROCESSES = ("temporal", "worker", "worker-2", "api", "sandbox")


@dataclass(frozen=True)
class Profile:
    """Counts of one run. Kills are by process; `safety_seconds` is how long faults and arrivals go on."""

    name: str
    payments: int
    safety_seconds: int
    kills: Mapping[str, int]
    pauses: int
    network: int
    receiver: int
    liquidity: int
    forged_webhooks: int
    hostile_inputs: int
    full_disks: int
    database_kills: int
    failovers: int
    terminations: int
    resets: int
    temporal_losses: int
    rollouts: int
    restores: int = 0
    recovers_within_seconds: float | None = 30.0
    """Held to; None where the machine has other things to do and the time is only told."""
    fails_on_our_error: bool = True
    """Whether an answer of 500 fails the run. In the small one it is noted: it stands in every test run's way."""
    needs_every_kind: bool = True
    """Whether a run counts only if each planned kind of fault met something: too much to ask of a minute."""
    seconds_on: Mapping[str, int] = field(default_factory=dict)
    """By database, where one of them carries less a second than the other."""
    least_kills: int = 0
    least_other_faults: int = 0
    """What is published of such a run; one in which less met its target does not count. 0: nothing is published."""

    @property
    def as_asked(self) -> str:
        """The options that give this profile, at this size."""
        whole = PROFILES[self.name]
        words = [f"--profile {self.name}"]
        if self.payments != whole.payments:
            words.append(f"--payments {self.payments}")
        if self.safety_seconds not in (whole.safety_seconds, *whole.seconds_on.values()):
            words.append(f"--minutes {self.safety_seconds / 60:g}")
        return " ".join(words)

    def on(self, database: str) -> "Profile":
        """The same faults and orders, in the time that this database needs for them."""
        return replace(self, safety_seconds=self.seconds_on.get(database, self.safety_seconds))

    def sized(self, payments: int | None, minutes: float | None) -> "Profile":
        """The same mixture at another size: counts follow the payments, the length is as asked."""
        wanted = self.payments if payments is None else payments
        seconds = self.safety_seconds if minutes is None else round(minutes * 60)
        if (wanted, seconds) == (self.payments, self.safety_seconds):
            return self

        def share(count: int) -> int:
            return max(1, round(count * wanted / self.payments))

        return replace(
            self,
            payments=wanted,
            safety_seconds=seconds,
            least_kills=0,
            least_other_faults=0,
            kills={name: share(count) for name, count in self.kills.items()},
            pauses=share(self.pauses),
            network=share(self.network),
            receiver=share(self.receiver),
            liquidity=share(self.liquidity),
            forged_webhooks=share(self.forged_webhooks),
            hostile_inputs=share(self.hostile_inputs),
            full_disks=share(self.full_disks),
            database_kills=share(self.database_kills),
            failovers=share(self.failovers),
            terminations=share(self.terminations),
            resets=share(self.resets),
            temporal_losses=share(self.temporal_losses) if self.temporal_losses else 0,
            rollouts=share(self.rollouts) if self.rollouts else 0,
            restores=share(self.restores) if self.restores else 0,
        )


PROFILES: dict[str, Profile] = {
    # What `make test` has time for, in about a minute and a half.
    "slice": Profile(
        name="slice",
        payments=90,
        safety_seconds=35,
        recovers_within_seconds=None,
        fails_on_our_error=False,
        needs_every_kind=False,
        kills={"temporal": 2, "worker": 2, "worker-2": 1, "api": 2, "sandbox": 1},
        pauses=3,
        network=36,
        receiver=4,
        liquidity=3,
        forged_webhooks=8,
        hostile_inputs=14,
        full_disks=1,
        database_kills=2,
        failovers=1,
        terminations=3,
        resets=2,
        temporal_losses=0,
        rollouts=0,
    ),
    # Ten minutes. What takes the whole installation away for a while is in `disasters` and in the soak. Temporal is
    # one process here, and nothing moves while it starts, and a worker costs seconds of a core until it works again; with
    # more than this, and with every edge at fault all the time, a run measures how long an outage is and not what comes
    # of the payments in it.
    "smoke": Profile(
        name="smoke",
        payments=2_100,
        safety_seconds=450,
        least_kills=150,
        least_other_faults=2_000,
        kills={"temporal": 7, "worker": 28, "worker-2": 28, "api": 56, "sandbox": 45},
        pauses=26,
        network=200,
        receiver=90,
        liquidity=50,
        forged_webhooks=560,
        hostile_inputs=580,
        full_disks=6,
        database_kills=20,
        failovers=2,
        terminations=24,
        resets=12,
        temporal_losses=0,
        rollouts=0,
    ),
    # Half of a soak: the smoke's mixture five times over, and all that takes the installation away besides. A whole
    # one goes through it on SQLite, whose file is restored from a copy, and on PostgreSQL, which fails over to a standby
    # in step and to one that fell behind.
    # What lasts longer than a backlog may grow must leave room for it to shrink: workers live nearly twice as long as
    # in the smoke, and the kills they are spared meet the API and the provider. Two cores carry 2.5 orders a second on
    # SQLite, and 2 on PostgreSQL, which has a standby and starts more slowly after a kill; with more, orders give up.
    "soak": Profile(
        name="soak",
        payments=10_050,
        safety_seconds=4_200,
        seconds_on={"postgresql": 4_800},
        least_kills=750,
        least_other_faults=10_000,
        kills={"temporal": 60, "worker": 150, "worker-2": 150, "api": 295, "sandbox": 190},
        pauses=125,
        network=1_000,
        receiver=450,
        liquidity=250,
        forged_webhooks=2_600,
        hostile_inputs=2_700,
        full_disks=30,
        database_kills=130,
        failovers=4,
        terminations=100,
        resets=50,
        temporal_losses=2,
        rollouts=2,
        restores=2,
    ),
}
PROFILES["disasters"] = replace(
    PROFILES["slice"],
    name="disasters",
    payments=120,
    safety_seconds=90,
    temporal_losses=1,
    rollouts=1,
    restores=1,
)
"""The slice with all that takes the installation away: Temporal's store lost, a rollout, a database that is older."""
