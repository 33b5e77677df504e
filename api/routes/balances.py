"""Balances: what we owe the merchant, per currency, straight from the ledger."""

from collections import defaultdict

from fastapi import APIRouter, Response
from sqlalchemy import Connection

from api.auth import AsMerchant
from api.dependencies import Deps
from api.paging import listing
from api.responses import ok
from api.schemas.balance import BalanceList
from api.schemas.problem import problems
from corridor.domain.money import zero
from corridor.ledger import chart, store
from corridor.storage.records import Json, money_view

router = APIRouter(tags=["balances"])


@router.get("/v1/balances", responses={200: {"model": BalanceList}, **problems()})
async def list_balances(merchant: AsMerchant, deps: Deps) -> Response:
    return ok(listing(await deps.database.read(_balances, merchant.id), has_more=False, next_cursor=None))


def _balances(connection: Connection, merchant_id: str) -> list[Json]:
    """Ledger accounts of a merchant are our debts, hence negative; merchants see them as theirs."""
    names = {
        chart.pending(merchant_id): "pending",
        chart.available(merchant_id): "available",
        chart.reserved(merchant_id): "reserved",
    }
    found: dict[str, Json] = defaultdict(dict)
    for balance in store.balances(connection, f"merchant/{merchant_id}/"):
        found[balance.currency][names[balance.account.rpartition("/")[0]]] = money_view(-balance.amount)
    return [
        {
            "currency": currency,
            **{name: found[currency].get(name, money_view(zero(currency))) for name in names.values()},
        }
        for currency in sorted(found)
    ]
