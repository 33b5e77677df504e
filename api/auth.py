"""Who is calling: reads the API key, finds its owner, and keeps merchants and operators apart.

A key that was looked up is trusted for `CACHE_SECONDS` without asking the database again, so a revocation takes
effect within that time in every process.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated

import structlog
from fastapi import Depends, Request, Security
from fastapi.security import HTTPBearer
from fastapi.security.http import HTTPAuthorizationCredentials

from api import credentials
from api.dependencies import ApiDependencies, Deps
from api.problems import Problem
from corridor.storage import merchants

CACHE_SECONDS = 5
CACHE_ENTRIES = 10_000

_bearer = HTTPBearer(auto_error=False, description="An API key: `cor_{test|live}_{sk|rk}_…`")


@dataclass(frozen=True)
class Caller:
    """The owner of a checked key. `scope` is what its idempotency keys are unique within."""

    key_id: str
    role: merchants.Role
    merchant_id: str | None
    country: str | None
    settle_currency: str | None

    @property
    def scope(self) -> str:
        return self.merchant_id or self.key_id


@dataclass(frozen=True)
class Merchant:
    """A merchant's caller, with what payments take over from the merchant."""

    id: str
    country: str
    settle_currency: str


@dataclass(frozen=True)
class _Known:
    caller: Caller
    secret_hmac: bytes
    until: datetime


class KeyCache:
    """Keys found lately, by id; small, short-lived, one per process."""

    def __init__(self) -> None:
        self._known: dict[str, _Known] = {}

    def get(self, key_id: str, now: datetime) -> _Known | None:
        known = self._known.get(key_id)
        return known if known is not None and known.until > now else None

    def put(self, known: _Known) -> None:
        if len(self._known) >= CACHE_ENTRIES:
            self._known.clear()
        self._known[known.caller.key_id] = known


async def caller(
    request: Request, deps: Deps, bearer: Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)]
) -> Caller:
    """The caller of this request. Raises `Problem` 401, 403, or 429 where too many others of theirs are in work."""
    if credentials.LOOKS_LIKE_A_KEY.search(request.url.query):
        raise _refused("credential_invalid", "API keys are never sent in a URL; this one should be revoked")
    if bearer is None:
        raise _refused("authentication_required", "send your API key as Authorization: Bearer cor_…")
    found = await _verified(deps, request.app.state.keys, bearer.credentials)
    request.state.caller = found
    structlog.contextvars.bind_contextvars(caller=found.scope)
    request.app.state.crowd.enter(found.scope, request.scope)
    return found


async def _verified(deps: ApiDependencies, cache: KeyCache, text: str) -> Caller:
    credential = credentials.read(text)
    if credential is None:
        raise _refused("credential_invalid", "this is not an API key")
    if credential.mode != deps.mode:
        raise Problem("mode_mismatch", f"this is a {credential.mode} key; this installation is {deps.mode}")
    now = deps.clock()
    known = cache.get(credential.key_id, now) or await _look_up(deps, credential.key_id, now)
    if not credentials.matches(credential, known.secret_hmac, deps.settings.api_key_pepper):
        raise _refused("credential_invalid", "this API key is not known here")
    cache.put(known)
    return known.caller


async def _look_up(deps: ApiDependencies, key_id: str, now: datetime) -> _Known:
    row = await deps.database.read(merchants.find_key, key_id)
    if row is None or row.pepper_id != credentials.pepper_id(deps.settings.api_key_pepper):
        raise _refused("credential_invalid", "this API key is not known here")
    if row.revoked_at is not None and row.revoked_at <= now:
        raise _refused("credential_revoked", "this API key was revoked")
    found = Caller(row.id, row.role, row.merchant_id, row.country, row.settle_currency)
    return _Known(found, row.secret_hmac, now + timedelta(seconds=CACHE_SECONDS))


def _refused(code: str, detail: str) -> Problem:
    return Problem(code, detail, headers={"WWW-Authenticate": "Bearer"})


AnyCaller = Annotated[Caller, Depends(caller)]


async def merchant(who: AnyCaller) -> Merchant:
    if who.merchant_id is None or who.country is None or who.settle_currency is None:
        raise Problem("permission_denied", "this needs a merchant's key")
    return Merchant(who.merchant_id, who.country, who.settle_currency)


async def operator(who: AnyCaller) -> Caller:
    if who.role != "operator":
        raise Problem("permission_denied", "this needs an operator's key")
    return who


AsMerchant = Annotated[Merchant, Depends(merchant)]
AsOperator = Annotated[Caller, Depends(operator)]
