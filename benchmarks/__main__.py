"""`python -m benchmarks [--quick] [--json FILE]`: our payment against a bare workflow of the same durable shape.

Held to the limits is the contender `payment`: accept, start, early answer and frozen answer with the real workflow,
activities, database and encryption, while provider and market answer inside the worker, as the bare workflow's
activity calls nobody either. `sandbox` makes both calls over HTTP, `api` is `POST /v1/payments` on top of that;
`sealed` is the bare workflow behind our data converter.
"""

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console
from rich.table import Table

from benchmarks import figures
from benchmarks.rounds import IN_FLIGHT, Heats, Meter, Plan, race
from benchmarks.stage import Stage, contenders, process_ids, stage

REPOSITORY = Path(__file__).parent.parent
FULL = Plan(rounds=5, counts=(20, 64, 128))
QUICK = Plan(rounds=2, counts=(15, 32, 64))
HISTORIES = {False: 200, True: 50}
WAITING = {False: 500, True: 100}
LIMITS: dict[str, tuple[str, float]] = {
    "answer_p50_ratio": ("≤", 1.3),
    "throughput_ratio": ("≥", 0.7),
    "history_events": ("≤", 26),
    "history_bytes": ("≤", 24 * 1024),
    "db_transactions_before_answer": ("≤", 3),
    "replay_per_second": ("≥", 100),
    "posting_cost_ratio_1e6_to_1e3": ("≤", 1.15),
}

talk = Console(stderr=True)


@dataclass(frozen=True)
class Options:
    quick: bool
    json: Path | None
    posting_cost: bool


def main() -> None:
    """Run, print, and write the JSON; exits with 0 whatever the figures are."""
    options = _options()
    result: dict[str, Any] = {
        "quick": options.quick,
        "processors": os.cpu_count(),
        "load_before": os.getloadavg()[0],
    }
    with (
        tempfile.TemporaryDirectory(prefix="corridor-bench-") as directory,
        stage(Path(directory), talk.print) as on,
    ):
        result |= asyncio.run(_measure(on, options.quick))
    if options.posting_cost:
        talk.print("posting cost")
        result |= _posting_cost(options.quick)
    _show(result)
    text = json.dumps(result, indent=2)
    if options.json is not None:
        options.json.write_text(text + "\n", "utf-8")
    else:
        print(text)


def _options() -> Options:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--quick", action="store_true", help="fewer rounds, a ledger of 1e5 instead of 1e6 postings"
    )
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="write the result there, not to standard output"
    )
    parser.add_argument("--no-posting-cost", action="store_true", help="leave the ledger's own benchmark out")
    given = parser.parse_args()
    return Options(given.quick, given.json, not given.no_posting_cost)


async def _measure(on: Stage, quick: bool) -> dict[str, Any]:
    async with contenders(on) as running:
        bare, sealed, payment, _, _ = running
        heats = await race(running, QUICK if quick else FULL, _meter(on), talk.print)
        ended = [answered.id for answered in heats["payment"][IN_FLIGHT[-1]].answers][-HISTORIES[quick] :]
        talk.print("calls, memory, histories, replay, transactions")
        result = _ratios(heats) | await figures.calls_alone(on, 30)
        result["worker_megabytes_per_1000_payments"] = {
            one.name: await figures.megabytes_per_thousand(one, on.workers.pid(one.name), WAITING[quick])
            for one in (bare, sealed, payment)
        }
        histories = await figures.histories_of(payment.client, ended)
        result |= figures.history_size(on, histories[-1])
        result |= await figures.replay_rates(payment.client, histories)
        result |= await figures.transactions_before_answer(on)
    return result


def _meter(on: Stage) -> Meter:
    processes = {name: psutil.Process(pid) for name, pid in process_ids(on).items() if pid is not None}
    return lambda: {name: sum(process.cpu_times()[:2]) for name, process in processes.items()}


def _ratios(heats: Heats) -> dict[str, Any]:
    loads = {name: {load: heat.as_data() for load, heat in own.items()} for name, own in heats.items()}
    alone, many = IN_FLIGHT[0], IN_FLIGHT[-1]

    def ratio(one: str, other: str, load: int, figure: str) -> float:
        quotient: float = loads[one][load][figure] / loads[other][load][figure]
        return round(quotient, 2)

    speed = "completed_per_second"
    return {
        "answer_p50_ratio": ratio("payment", "bare", alone, "answer_p50_ms"),
        "answer_p50_ratio_to_sealed": ratio("payment", "sealed", alone, "answer_p50_ms"),
        "start_p50_ratio": ratio("payment", "bare", alone, "start_p50_ms"),
        "answer_p50_ratio_with_sandbox": ratio("sandbox", "bare", alone, "answer_p50_ms"),
        "answer_p50_ratio_over_http": ratio("api", "bare", alone, "answer_p50_ms"),
        "throughput_ratio": ratio("payment", "bare", many, speed),
        "throughput_ratio_to_sealed": ratio("payment", "sealed", many, speed),
        "throughput_ratio_with_sandbox": ratio("sandbox", "bare", many, speed),
        "throughput_ratio_over_http": ratio("api", "bare", many, speed),
        "cpu_ratio": round(_cpu(loads["payment"][many]) / _cpu(loads["bare"][many]), 2),
        "loads": loads,
    }


def _cpu(heat: dict[str, Any]) -> float:
    """Milliseconds of processor for one payment in all processes together."""
    total: float = sum(heat["cpu_ms_each"].values())
    return total


def _posting_cost(quick: bool) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.posting_cost", *(["--quick"] if quick else [])]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, check=True, text=True)  # noqa: S603 — ours
    found: dict[str, Any] = json.loads(done.stdout)
    return {"posting_cost_ratio_1e6_to_1e3": found["posting_cost_ratio_1e6_to_1e3"], "posting_cost": found}


def _show(result: dict[str, Any]) -> None:
    console = Console()
    held = Table("figure", "measured", "limit", "", title="Held to")
    for name, (sign, limit) in LIMITS.items():
        if name in result:
            value = result[name]
            kept = value <= limit if sign == "≤" else value >= limit
            held.add_row(name, f"{value:,}", f"{sign} {limit:,}", "held" if kept else "[bold red]not held")
    times = Table(
        "contender",
        "in flight",
        "answer p50",
        "p99",
        "start p50",
        "completed/s",
        "CPU each",
        title="Times in ms",
    )
    for name, loads in result["loads"].items():
        for load, heat in loads.items():
            cells = (
                heat["answer_p50_ms"],
                heat["answer_p99_ms"],
                heat["start_p50_ms"],
                heat["completed_per_second"],
            )
            times.add_row(name, str(load), *map(str, cells), f"{_cpu(heat):.0f}")
    console.print(held)
    console.print(times)
    if result["load_before"] > 0.5:
        console.print(
            f"[yellow]The machine was busy (load {result['load_before']:.1f}): trust cpu_ratio more than times."
        )


if __name__ == "__main__":
    main()
