"""The tables of one run, for people; the same figures are in its JSON."""

from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.scale import tuned as settings_table
from benchmarks.scale.weighing import FLAT, QUICK_MS
from corridor.runtime.settings import Settings


def tuned(settings: Settings) -> list[dict[str, str]]:
    return [asdict(one) for one in settings_table.table(settings)]


def show(console: Console, result: dict[str, Any]) -> None:
    """Print what was measured; parts that were left out are left out."""
    if "fills" in result:
        for fill in result["fills"]:
            console.print(
                f"{fill['payments']:,} payments, {fill['rows']:,} rows in {fill['seconds']} s. {fill['proof']}"
            )
    if "costs" in result:
        _show_weighed(console, result["costs"], "What one payment costs, ms")
    if "lists" in result:
        _show_weighed(
            console, result["lists"], f"Lists and looks, ms (flat: ≤ {FLAT}×, quick: p95 ≤ {QUICK_MS:.0f} ms)"
        )
        _show_plans(console, result["plans"])
    if "workers" in result:
        _show_crew(console, result["workers"])
    if "memory" in result:
        _show_memory(console, result["memory"])
    if "settings" in result:
        _show_settings(console, result["settings"])
    if result["load_before"] > 0.5:
        console.print(
            f"[yellow]The machine was busy (load {result['load_before']}): trust ratios more than times."
        )


def _show_weighed(console: Console, weighed: dict[str, Any], title: str) -> None:
    sizes = list(next(iter(weighed.values()))["by_size"])
    heads = [f"{name} {int(size):,}" for size in sizes for name in ("p50", "p95")]
    table = Table("", *heads, "ratio", "work ratio", "", title=title)
    for name, one in weighed.items():
        cells = [f"{one['by_size'][size][figure]:.1f}" for size in sizes for figure in ("p50_ms", "p95_ms")]
        verdict = " ".join(
            word for word, held in (("steep", one["flat"]), ("slow", one["quick"])) if not held
        )
        work = "" if one["work_ratio"] is None else f"{one['work_ratio']:.2f}"
        table.add_row(
            name, *cells, f"{one['ratio']:.2f}", work, f"[bold red]{verdict}" if verdict else "held"
        )
    console.print(table)


def _show_plans(console: Console, plans: dict[str, list[str]]) -> None:
    for name, lines in plans.items():
        console.print(f"\n[bold]{name}[/bold], as the largest database runs it:")
        for line in lines:
            console.print(line, markup=False, highlight=False)


def _show_crew(console: Console, crew: dict[str, Any]) -> None:
    table = Table(
        "", "payments/s", "answer p50", "p95", "CPU ms each", title=f"{crew['in_flight']} in flight"
    )
    for name in ("one_worker", "two_workers", "spread_merchants", "hot_merchant"):
        one = crew[name]
        cpu = ", ".join(f"{who} {used}" for who, used in one["cpu_ms_each"].items())
        table.add_row(
            name.replace("_", " "),
            str(one["per_second"]),
            str(one["answer_p50_ms"]),
            str(one["answer_p95_ms"]),
            cpu,
        )
    console.print(table)
    for name in ("two_workers_ratio", "hot_merchant_ratio", "hot_account_ratio"):
        console.print(f"{name.replace('_', ' ')}: {crew[name]}")


def _show_memory(console: Console, memory: dict[str, Any]) -> None:
    names = ("payments", "megabytes", "blocks", "tasks", "descriptors", "threads")
    table = Table(*names, title=f"One worker, {memory['cached_workflows']} workflows cached")
    for sample in memory["samples"]:
        table.add_row(*(f"{sample[name]:,.0f}" for name in names))
    console.print(table)
    console.print(f"for 1,000 payments while the cache fills: {memory['growth_while_cache_fills']}")
    console.print(f"for 1,000 payments once it is full: {memory['growth_with_full_cache']}")
    console.print(f"in the later half of that: {memory['growth_in_the_later_half']}")


def _show_settings(console: Console, rows: list[dict[str, str]]) -> None:
    table = Table("where", "setting", "value", "because", title="Tuned settings")
    for row in rows:
        table.add_row(*row.values())
    console.print(table)
