"""`corridor merchant create` and `corridor operator create`: who may use this installation."""

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime

from sqlalchemy import Connection

from api import credentials
from api.cli import output
from api.cli.acts import on_record
from api.cli.exit_codes import ExitCode
from api.cli.installation import database_of
from corridor.domain.currency import is_currency
from corridor.domain.failure import broken
from corridor.domain.ids import Prefix, new_id
from corridor.runtime import settings
from corridor.runtime.settings import Settings
from corridor.storage import merchants
from corridor.storage.database import DatabaseUnavailable


def create(
    given: Mapping[str, object], name: str, country: str, settle_currency: str, *, as_json: bool
) -> ExitCode:
    """Make a merchant with one secret key, printed once and never again."""
    if len(country) != 2 or not country.isalpha() or not is_currency(settle_currency.upper()):
        output.talk("corridor: a country has two letters (DE), a currency is an ISO 4217 code (EUR)")
        return ExitCode.USAGE
    merchant = merchants.NewMerchant(
        id=new_id(Prefix.MERCHANT, datetime.now(UTC)),
        name=name,
        country=country.upper(),
        settle_currency=settle_currency.upper(),
    )
    return _issue(settings.load(**given), merchant, as_json=as_json)


def create_operator(given: Mapping[str, object], *, as_json: bool) -> ExitCode:
    """Make an operator's key: it decides reviews and sees every merchant's."""
    return _issue(settings.load(**given), None, as_json=as_json)


def _issue(loaded: Settings, merchant: merchants.NewMerchant | None, *, as_json: bool) -> ExitCode:
    try:
        key = asyncio.run(_store(loaded, merchant))
    except DatabaseUnavailable as error:
        output.talk(f"corridor: the database cannot be reached: {error}; nothing was created")
        return ExitCode.UNAVAILABLE
    made = {"merchant": merchant.id} if merchant is not None else {"role": "operator"}
    if as_json:
        output.document({**made, "api_key": key})
    else:
        output.pairs({**made, "api_key": key})
        output.talk("the key is stored as a hash only: keep it, it is not shown again")
    return ExitCode.OK


async def _store(loaded: Settings, merchant: merchants.NewMerchant | None) -> str:
    database = database_of(loaded)
    command = "operator create" if merchant is None else "merchant create"
    words = {} if merchant is None else merchant.model_dump(exclude_none=True)
    try:
        async with on_record(database, loaded, command, words) as act:
            key = await database.write(_write, loaded, merchant, datetime.now(UTC))
            act.result = {"api_key": _id_of(key)}
            return key
    finally:
        await database.close()


def _id_of(key: str) -> str:
    """Of the key that was just made, what may be told to everybody."""
    credential = credentials.read(key)
    return broken("a new key can be read") if credential is None else credential.key_id


def _write(
    connection: Connection, loaded: Settings, merchant: merchants.NewMerchant | None, now: datetime
) -> str:
    if merchant is not None:
        merchants.create_merchant(connection, merchant, now)
    return credentials.issue(
        connection,
        merchant_id=None if merchant is None else merchant.id,
        role="operator" if merchant is None else "merchant",
        mode="live" if loaded.mode == "live" else "test",
        pepper=loaded.api_key_pepper,
        now=now,
    )
