"""Reading: retrieve, list with cursors, search by metadata, balance, and `expand`."""

import json
import re
from typing import Any

from corridor.sandbox.stripe.errors import Answer, Document, invalid_request
from corridor.sandbox.stripe.work import Work

COMPARISONS = {"gt": ">", "gte": ">=", "lt": "<", "lte": "<="}
CLAUSE = re.compile(r"""\s*(?:metadata\[['"](?P<key>[^'"\]]+)['"]\]|(?P<field>status|currency))\s*:\s*(?P<quote>['"])(?P<value>(?:\\.|(?!(?P=quote)).)*)(?P=quote)\s*""")  # fmt: skip
EXPANDABLE = {
    "latest_charge": "charge", "charge": "charge", "payment_intent": "payment_intent", "refund": "refund",
    "balance_transaction": "balance_transaction", "failure_balance_transaction": "balance_transaction",
}  # fmt: skip
SOURCES = {"ch": "charge", "re": "refund", "po": "payout", "dp": "dispute"}


def list_intents(work: Work, params: Document) -> Answer:
    """Newest first; not subject to the search delay."""
    return _list(work, params, "payment_intent", "/v1/payment_intents", {})


def list_refunds(work: Work, params: Document) -> Answer:
    """All refunds, or those of one intent or charge."""
    owner = params.get("payment_intent")
    if "charge" in params:
        owner = work.get("charge", params["charge"], "charge")["payment_intent"]
    return _list(work, params, "refund", "/v1/refunds", {"owner": owner})


def list_transactions(work: Work, params: Document) -> Answer:
    """The balance's movements; `payout` gives the contents of an automatic payout."""
    filters = {"owner": params.get("payout"), "subject": params.get("source")}
    inside = {"type": params.get("type"), "currency": params.get("currency")}
    return _list(work, params, "balance_transaction", "/v1/balance_transactions", filters, inside)


def list_payouts(work: Work, params: Document) -> Answer:
    """Payouts, by status if asked."""
    return _list(work, params, "payout", "/v1/payouts", {}, {"status": params.get("status")})


def list_disputes(work: Work, params: Document) -> Answer:
    """Disputes, by intent if asked."""
    return _list(work, params, "dispute", "/v1/disputes", {"owner": params.get("payment_intent")})


def list_charges(work: Work, params: Document) -> Answer:
    """Charges, by intent if asked."""
    return _list(work, params, "charge", "/v1/charges", {"owner": params.get("payment_intent")})


def list_events(work: Work, params: Document) -> Answer:
    """The catch-up path for lost webhooks; reaches back 30 days (docs.stripe.com/api/events)."""
    types = [*params.get("types", []), *([params["type"]] if "type" in params else [])]
    recent = {"gte": max(work.now - 30 * 86_400, params.get("created", {}).get("gte", 0))}
    within = {**params, "created": {**params.get("created", {}), **recent}}
    return _list(work, within, "event", "/v1/events", {"subject": types or None})


def search_intents(work: Work, params: Document) -> Answer:
    """`metadata['k']:'v' AND …`: eventually consistent, so new objects stay out for the configured lag."""
    if "query" not in params:
        raise invalid_request("Missing required param: query.", code="parameter_missing", param="query")
    where = ["o.kind = 'payment_intent'", "o.created <= ?", "o.visible_at_ms <= ?"]
    values: list[Any] = [work.now - work.config.search_lag_seconds, work.now_ms]
    for clause in _clauses(params["query"]):
        text, found = _condition(clause)
        where.append(text)
        values.extend(found)
    sql = f"SELECT o.document FROM objects o WHERE {' AND '.join(where)} ORDER BY o.sequence DESC LIMIT ?"  # noqa: S608 - only names written in this file are interpolated
    rows = work.connection.execute(sql, (*values, params.get("limit", 10))).fetchall()
    body = {
        "object": "search_result",
        "url": "/v1/payment_intents/search",
        "has_more": False,
        "next_page": None,
    }
    return Answer(200, {**body, "data": [json.loads(row["document"]) for row in rows]})


def balance(work: Work, _params: Document) -> Answer:
    """What the account holds, pending and available, by currency."""
    rows = work.connection.execute(
        "SELECT json_extract(document, '$.status') AS status, json_extract(document, '$.currency') AS currency,"
        " SUM(json_extract(document, '$.net')) AS amount FROM objects WHERE kind = 'balance_transaction'"
        " GROUP BY 1, 2 ORDER BY 2"
    )
    sides: dict[str, list[Document]] = {"available": [], "pending": []}
    for row in rows:
        sides[row["status"]].append({"amount": row["amount"], "currency": row["currency"]})
    return Answer(200, {"object": "balance", "livemode": False, **sides})


def parsed(text: str) -> Document:
    """A stored document."""
    document: Document = json.loads(text)
    return document


def expand(work: Work, body: Document, paths: list[str]) -> Document:
    """Replace ids by their objects along each path; `data.` goes into every element of a list."""
    expanded: Document = json.loads(json.dumps(body))
    for path in paths:
        _expand(work, expanded, path.split("."), path)
    return expanded


def _expand(work: Work, node: Document, steps: list[str], path: str) -> None:
    step, rest = steps[0], steps[1:]
    if step == "data" and isinstance(node.get("data"), list):
        for element in node["data"]:
            _expand(work, element, rest, path)
        return
    value = node.get(step)
    if isinstance(value, str):
        kind = SOURCES.get(value.partition("_")[0]) if step == "source" else EXPANDABLE.get(step)
        if kind is None:
            raise invalid_request(f"This property cannot be expanded ({path}).", param="expand")
        node[step] = value = work.get(kind, value)
    if rest and isinstance(value, dict):
        _expand(work, value, rest, path)


def _list(
    work: Work, params: Document, kind: str, url: str, columns: Document, inside: Document | None = None
) -> Answer:
    where, values = ["kind = ?", "visible_at_ms <= ?"], [kind, work.now_ms]
    for column, wanted in columns.items():
        _filter(where, values, column, wanted)
    for member, wanted in (inside or {}).items():
        _filter(where, values, f"json_extract(document, '$.{member}')", wanted)
    for bound, value in params.get("created", {}).items():
        where.append(f"created {COMPARISONS[bound]} ?")
        values.append(value)
    backwards = "ending_before" in params
    if backwards or "starting_after" in params:
        cursor = _cursor(work, params["ending_before" if backwards else "starting_after"], kind, backwards)
        where.append(f"sequence {'>' if backwards else '<'} ?")
        values.append(cursor)
    limit = params.get("limit", 10)
    order = "ASC" if backwards else "DESC"
    sql = f"SELECT document FROM objects WHERE {' AND '.join(where)} ORDER BY sequence {order} LIMIT ?"  # noqa: S608 - only names written in this file are interpolated
    rows = work.connection.execute(sql, (*values, limit + 1)).fetchall()
    page = [json.loads(row["document"]) for row in rows[:limit]]
    data = page[::-1] if backwards else page
    return Answer(200, {"object": "list", "data": data, "has_more": len(rows) > limit, "url": url})


def _filter(where: list[str], values: list[Any], column: str, wanted: str | list[str] | None) -> None:
    if wanted is None:
        return
    patterns = [wanted] if isinstance(wanted, str) else wanted
    where.append(
        "(" + " OR ".join(f"{column} GLOB ?" if "*" in each else f"{column} = ?" for each in patterns) + ")"
    )
    values.extend(patterns)


def _cursor(work: Work, object_id: str, kind: str, backwards: bool) -> int:
    row = work.connection.execute(
        "SELECT sequence FROM objects WHERE id = ? AND kind = ?", (object_id, kind)
    ).fetchone()
    if row is None:
        param = "ending_before" if backwards else "starting_after"
        raise invalid_request(f"No such {kind}: '{object_id}'", code="resource_missing", param=param)
    return int(row["sequence"])


def _clauses(query: str) -> list[re.Match[str]]:
    clauses: list[re.Match[str]] = []
    rest = query
    while rest:
        clause = CLAUSE.match(rest)
        if clause is None:
            raise invalid_request(f"We were unable to parse your search query: {query}", param="query")
        clauses.append(clause)
        rest = rest[clause.end() :]
        if rest and not rest.upper().startswith("AND "):
            raise invalid_request(f"We were unable to parse your search query: {query}", param="query")
        rest = rest[4:]
    return clauses


def _condition(clause: re.Match[str]) -> tuple[str, list[str]]:
    value = re.sub(r"\\(.)", r"\1", clause["value"])
    if clause["key"] is not None:
        owned = "o.id IN (SELECT object_id FROM metadata_index WHERE key = ? AND value = ?)"
        return owned, [clause["key"], value]
    return f"json_extract(o.document, '$.{clause['field']}') = ?", [value]
