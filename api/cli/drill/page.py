"""A drill's report as one HTML file to keep: no script, nothing fetched, readable on paper and in the dark."""

from collections.abc import Iterable
from datetime import datetime
from html import escape

from api.cli.drill.account import NEVER, Account, Line
from api.cli.drill.table import figures

_STYLE = """
:root { color-scheme: light dark; --text: #1d2430; --quiet: #5b6675; --line: #d9dee6; --page: #ffffff; --soft: #f5f7fa;
  --good: #12693a; --bad: #a8201a; --mark: #8a5a00 }
@media (prefers-color-scheme: dark) { :root { --text: #e6e9ee; --quiet: #9aa5b4; --line: #343c48; --page: #14181f;
  --soft: #1c222b; --good: #5fd08f; --bad: #ff8a80; --mark: #f0b955 } }
* { box-sizing: border-box }
body { margin: 0 auto; padding: 2.5rem 1.5rem 4rem; max-width: 72rem; background: var(--page); color: var(--text);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif }
h1 { font-size: 1.7rem; margin: 0 } h2 { font-size: 1.2rem; margin: 2.5rem 0 .25rem }
h3 { font-size: .95rem; margin: 1.5rem 0 .4rem; color: var(--quiet); font-weight: 600 }
p { margin: .25rem 0 } .quiet { color: var(--quiet) } .good { color: var(--good) } .bad { color: var(--bad) }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(9.5rem, 1fr)); gap: .75rem; margin: 1rem 0 }
.figure { border: 1px solid var(--line); border-radius: 6px; padding: .7rem .9rem; background: var(--soft) }
.figure b { display: block; font-size: 1.5rem; line-height: 1.2; font-variant-numeric: tabular-nums }
.figure span { color: var(--quiet); font-size: .85rem }
table { border-collapse: collapse; width: 100%; font-size: .86rem; font-variant-numeric: tabular-nums }
th, td { text-align: left; padding: .3rem .6rem .3rem 0; border-bottom: 1px solid var(--line); vertical-align: top }
th { color: var(--quiet); font-weight: 600 } td.n, th.n { text-align: right }
.changed { color: var(--mark); font-weight: 600 } code { font-size: .82em; color: var(--quiet); white-space: nowrap }
.state { white-space: nowrap }
ol, ul { margin: .3rem 0; padding-left: 1.3rem } .wide { overflow-x: auto }
@media print { body { padding: 0; max-width: none; font-size: 10pt } .figure { background: none } tr { break-inside: avoid }
  h2 { break-after: avoid } }
"""


def html(accounts: list[Account], begun: datetime) -> str:
    """The whole page."""
    holds = bool(accounts) and all(it.holds for it in accounts)
    verdict = "everything held" if holds else "something did not hold"
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Recovery drill {begun:%Y-%m-%d %H:%M}</title><style>{_STYLE}</style></head><body>"
        f"<h1>Recovery drill: {_mark(holds, verdict)}</h1>"
        f'<p class="quiet">{begun:%Y-%m-%d %H:%M} UTC · {len(accounts)} disaster{"s" if len(accounts) != 1 else ""},'
        " each on a running installation of its own with payments in flight</p>"
        f"{_overview(accounts)}{''.join(map(_disaster, accounts))}</body></html>\n"
    )


def _overview(accounts: list[Account]) -> str:
    head = (
        "Disaster",
        "RPO payments",
        "RPO events",
        "RTO first new",
        "RTO all ended",
        "Effects twice",
        "Lost",
        "",
    )
    rows = [
        (
            escape(it.scenario),
            str(len(it.rpo_payments)),
            str(len(it.rpo_events)),
            _seconds(it.first_new_seconds),
            _seconds(it.all_ended_seconds),
            str(len(it.duplicated)),
            str(len(it.lost)),
            _mark(it.holds, "holds" if it.holds else "does not hold"),
        )
        for it in accounts
    ]
    return (
        _table(head, rows)
        + '<p class="quiet">RPO: what clients had been told before T0 and nobody knew after the recovery. RTO: from T0 to'
        " the first answered payment that was asked for after it, and until everything had ended.</p>"
    )


def _disaster(it: Account) -> str:
    figure = (
        (str(len(it.rpo_payments)), f"payments lost of {it.acknowledged} acknowledged"),
        (str(len(it.rpo_events)), f"events lost of {it.told_events} told"),
        (_seconds(it.first_new_seconds), "to the first new payment"),
        (_seconds(it.all_ended_seconds), "until everything had ended"),
        (str(len(it.duplicated)), "effects made twice"),
        (str(it.effects_by_recovery), "effects made by the recovery"),
    )
    cards = "".join(f'<div class="figure"><b>{b}</b><span>{escape(span)}</span></div>' for b, span in figure)
    steps = "".join(f"<li>{escape(step)}</li>" for step in it.scenario.runbook)
    return (
        f"<section><h2>{escape(it.scenario)} {_mark(it.holds, '✓' if it.holds else '✗')}</h2>"
        f'<p>T0: {escape(it.scenario.says)}.</p><p class="quiet">Seed {it.seed}, {it.purchases} purchases.</p>'
        f'<div class="figures">{cards}</div>'
        f"<h3>What was counted</h3>{_list(figures(it))}"
        f"<h3>Runbook</h3><ol>{steps}</ol>{_gaps(it)}{_proofs(it)}{_payments(it)}</section>"
    )


def _gaps(it: Account) -> str:
    if not it.recovery.counts:
        return ""
    rows = [(escape(what.replace("_", " ")), str(count)) for what, count in it.recovery.counts.items()]
    return f"<h3>What the recovery did</h3>{_table(('What', 'How many'), rows)}"


def _proofs(it: Account) -> str:
    rows = []
    for proof in it.proofs:
        against = _list(proof.counterexamples) if proof.counterexamples else ""
        verdict = _mark(proof.holds, "holds" if proof.holds else "does not hold")
        rows.append((escape(proof.claim) + against, escape(proof.looked_at), verdict))
    return f"<h3>Proofs</h3>{_table(('Claim', 'Looked at', ''), rows)}"


def _payments(it: Account) -> str:
    head = (
        "Order",
        "What it does",
        "At T0",
        "After the damage",
        "After the recovery",
        "At the end",
        "Money moved",
    )
    legend = "#n is the number of the last event; a state the damage took back is marked."
    return f'<h3>Every payment</h3><p class="quiet">{legend}</p>{_table(head, map(_line, it.lines))}'


def _line(it: Line) -> tuple[str, ...]:
    """A state the damage took back is marked."""
    who = f"{escape(it.reference)}<br><code>{escape(it.payment_id or NEVER)}</code>"
    states = (
        _state(it.at_t0),
        _state(it.damaged, " changed" if it.damaged != it.at_t0 else ""),
        _state(it.recovered),
        _state(it.ended),
    )
    return (who, escape(it.kind), *states, f"{it.effects}×")


def _state(text: str, mark: str = "") -> str:
    return f'<span class="state{mark}">{escape(text)}</span>'


def _table(head: Iterable[str], rows: Iterable[tuple[str, ...]]) -> str:
    """Cells are HTML already; the head is text."""
    top = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return f'<div class="wide"><table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'


def _list(items: Iterable[str]) -> str:
    return f"<ul>{''.join(f'<li>{escape(item)}</li>' for item in items)}</ul>"


def _mark(holds: bool, text: str) -> str:
    return f'<span class="{"good" if holds else "bad"}">{escape(text)}</span>'


def _seconds(value: float | None) -> str:
    return "never" if value is None else f"{value:.1f} s"
