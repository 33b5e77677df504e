"""The demo's own installation: settings, a fresh database, merchants with keys, and webhook endpoints."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path

import httpx
from pydantic import SecretStr
from sqlalchemy import text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import create_async_engine

from api import credentials
from api.cli.demo.orders import SELLERS, Seller
from api.cli.demo.shop import Shop
from corridor.domain.ids import Prefix, new_id
from corridor.fx.ecb import EcbRates
from corridor.runtime import ports, settings
from corridor.runtime.refused import SettingsRefused
from corridor.runtime.settings import Settings
from corridor.storage import address, merchants
from corridor.storage.database import Database
from corridor.storage.merchants import NewMerchant

SETTLEMENT_SECONDS = 5
PAYOUT_SECONDS = 15
ACTION_WINDOW_SECONDS = 15


def utc_now() -> datetime:
    """The demo's clock: it is an edge of its own."""
    return datetime.now(UTC)


def market_day() -> date:
    """The newest day the ECB's series in the installed package has."""
    return EcbRates().newest_day()


async def prepare(data_dir: Path) -> Settings:
    """Settings of a fresh installation in `data_dir`; free ports where the usual ones are taken.

    Raises `SettingsRefused` when no fresh database can be had.
    """
    _forget_other_clusters()
    # The sandbox has settings of its own. A payout per currency and period: at its default they are hundreds.
    os.environ["CORRIDOR_SANDBOX_PAYOUT_PERIOD_SECONDS"] = str(PAYOUT_SECONDS)
    loaded = settings.load(
        data_dir=data_dir,
        mode="sandbox",
        stripe_url=None,
        liquidity_url=None,
        encryption_keys=None,
        webhook_allow_private=True,
        market_day=market_day(),
        settlement_interval_seconds=SETTLEMENT_SECONDS,
        action_window_seconds=ACTION_WINDOW_SECONDS,
    )
    if loaded.database_url is not None:
        fresh = await _fresh_database(loaded.database_url.get_secret_value())
        loaded = loaded.model_copy(update={"database_url": fresh})
    return _on_usable_ports(loaded)


def _forget_other_clusters() -> None:
    """The demo crashes processes and reads every history of its namespace: never on somebody's cluster."""
    for name in [name for name in os.environ if name.startswith("TEMPORAL_")]:
        del os.environ[name]
    os.environ["TEMPORAL_CONFIG_FILE"] = os.devnull


async def _fresh_database(url: str) -> SecretStr:
    """A new database beside the given one: the proofs are about everything a database holds."""
    if not url.startswith("postgres"):
        raise SettingsRefused(
            "DATABASE_URL: the demo makes its own SQLite file; unset it, or give PostgreSQL"
        )
    given = make_url(url)
    name = f"corridor_demo_{utc_now():%Y%m%d_%H%M%S}"
    there = address.parse(url)
    engine = create_async_engine(there.url, isolation_level="AUTOCOMMIT", connect_args=there.driver_arguments)
    try:
        async with engine.connect() as connection:
            await connection.execute(text(f'CREATE DATABASE "{name}"'))
    except (OSError, DBAPIError) as error:
        raise SettingsRefused(
            f"DATABASE_URL: the demo cannot create a database of its own there: {error}"
        ) from None
    finally:
        await engine.dispose()
    return SecretStr(given.set(database=name).render_as_string(hide_password=False))


def _on_usable_ports(loaded: Settings) -> Settings:
    names = [*ports.STACK_PORTS]
    free = all(ports.is_free(loaded.host, getattr(loaded, name)) for name in names)
    # Metrics count several ports up from theirs; the demo reads none of them.
    return loaded.model_copy(update={"metrics_port": 0}) if free else ports.on_free_ports(loaded)


@dataclass(frozen=True)
class Keys:
    """The API keys of one run, and the merchants' ids by the seller's name."""

    merchants: Mapping[str, str]
    api_keys: Mapping[str, str]
    operator: str


async def seed(database: Database, loaded: Settings) -> Keys:
    """Write the sellers as merchants, a key for each, and an operator's key."""
    ids: dict[str, str] = {}
    keys: dict[str, str] = {}
    for seller in SELLERS:
        new = _merchant(seller)
        await database.write(merchants.create_merchant, new, utc_now())
        ids[seller.name] = new.id
        keys[seller.name] = await _key(database, loaded, new.id, "merchant")
    return Keys(ids, keys, await _key(database, loaded, None, "operator"))


async def _key(database: Database, loaded: Settings, merchant_id: str | None, role: merchants.Role) -> str:
    text, stored = credentials.mint(
        merchant_id=merchant_id, role=role, mode="test", pepper=loaded.api_key_pepper, now=utc_now()
    )
    await database.write(merchants.create_key, stored, utc_now())
    return text


def _merchant(seller: Seller) -> NewMerchant:
    return NewMerchant(
        id=new_id(Prefix.MERCHANT, utc_now()),
        name=seller.title,
        country=seller.country,
        settle_currency=seller.settle_currency,
        fee_bps=seller.fee_bps,
        fx_markup_bps=seller.fx_markup_bps,
    )


async def register_endpoints(shops: list[Shop], sandbox: httpx.AsyncClient) -> None:
    """Each merchant asks for all its events at its own receiver, and gives that the secret to verify with."""
    for shop in shops:
        receiver = f"/merchant/webhooks/{shop.name}"
        answer = await shop.post(
            "/v1/webhook_endpoints", {"url": f"{sandbox.base_url.join(receiver)}"}, f"endpoint-{shop.name}"
        )
        if answer.status != 201:
            raise SettingsRefused(f"no webhook endpoint for {shop.name}: {answer.body.decode()}")
        configured = await sandbox.put(receiver, json={"secret": answer.document["secret"]})
        configured.raise_for_status()
