"""A drill's report for a terminal."""

from api.cli.drill.account import Account

PROBLEMS_SHOWN = 5


def text(accounts: list[Account]) -> str:
    """The figures of every disaster, then what does not hold."""
    parts = [_head()] + [_row(it) for it in accounts]
    for it in accounts:
        parts.append("")
        parts.append(f"{it.scenario}, seed {it.seed}: {it.scenario.says}")
        parts += [f"  {line}" for line in figures(it)]
        parts += [
            f"  proof: {proof.claim}: {_verdict(proof.holds)} ({proof.looked_at})" for proof in it.proofs
        ]
        for proof in it.proofs:
            parts += [f"    AGAINST {against}" for against in proof.counterexamples[:PROBLEMS_SHOWN]]
    return "\n".join(parts)


def figures(it: Account) -> list[str]:
    """What was counted, in sentences."""
    lines = [
        f"{it.purchases} purchases; at T0 {it.acknowledged} were acknowledged, {it.waiting_at_t0} of them in long waits",
        f"RPO: {len(it.rpo_payments)} payments and {len(it.rpo_events)} of {it.told_events} events told before T0",
        f"RTO: workers and API back after {_seconds(it.released_seconds)}, first new payment"
        f" {_seconds(it.first_new_seconds)}, everything ended {_seconds(it.all_ended_seconds)}",
        f"provider effects made by the recovery: {it.effects_by_recovery}; duplicated effects: {len(it.duplicated)};"
        f" lost payments: {len(it.lost)}; in an owned review: {len(it.in_review)}",
    ]
    if it.backup_age_seconds is not None:
        lines.append(
            f"the backup was {it.backup_age_seconds:.0f} s old: {it.unknown_after_damage} acknowledged payments were"
            " unknown or behind"
        )
    if it.recovery.counts:
        lines.append(
            "recovered: " + ", ".join(f"{count} {what}" for what, count in it.recovery.counts.items())
        )
    if it.recovery.second_run is not None:
        lines.append(f"a second restore-check found {len(it.recovery.second_run)} gaps")
        lines += [f"STILL {gap}" for gap in it.recovery.second_run]
    lines += [f"NEEDS A PERSON {gap}" for gap in it.recovery.left]
    lines += [f"DUPLICATED {effect}" for effect in it.duplicated] + [f"LOST {name}" for name in it.lost]
    return lines


def _head() -> str:
    return f"{'disaster':<20}{'RPO payments':>14}{'RPO events':>12}{'RTO first':>12}{'RTO all':>10}{'twice':>7}{'lost':>6}  "


def _row(it: Account) -> str:
    return (
        f"{it.scenario:<20}{len(it.rpo_payments):>14}{len(it.rpo_events):>12}{_seconds(it.first_new_seconds):>12}"
        f"{_seconds(it.all_ended_seconds):>10}{len(it.duplicated):>7}{len(it.lost):>6}  {_verdict(it.holds)}"
    )


def _seconds(value: float | None) -> str:
    return "never" if value is None else f"{value:.1f} s"


def _verdict(holds: bool) -> str:
    return "holds" if holds else "DOES NOT HOLD"
