"""Idempotency-Key over HTTP: reading it, the fingerprint of a request, and sending a stored answer again.

The claim itself is a row, made in the transaction of the work (`corridor.storage.idempotency`). The header follows
draft-ietf-httpapi-idempotency-key-header-07; a bare value and its quoted form are the same key.
"""

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Concatenate, ParamSpec, TypeVar
from urllib.parse import parse_qsl

import rfc8785
from fastapi import Depends, Header, Request, Response
from sqlalchemy import Connection, select

from api.auth import AnyCaller
from api.dependencies import ApiDependencies
from api.gateway import TemporalUnavailable
from api.problems import MEDIA_TYPE, Problem
from corridor.domain.accepted import Asked
from corridor.storage import idempotency
from corridor.storage.database import DatabaseUnavailable
from corridor.storage.idempotency import Claim, Replay, Unanswered
from corridor.storage.tables import idempotency_keys

P = ParamSpec("P")
T = TypeVar("T")

MAX_LENGTH = 255
_QUOTED = re.compile(r'(?:[^"\\]|\\["\\])*')
_ESCAPED = re.compile(r"\\(.)")
REPLAYED = "Idempotent-Replayed"

KeyHeader = Annotated[
    str,
    Header(
        alias="Idempotency-Key",
        description="1 to 255 visible ASCII characters, bare or quoted; the same key and body get the same answer",
    ),
]


@dataclass(frozen=True)
class Once:
    """A request that is to be carried out once: whose key, which key, and what it asked for."""

    scope: str
    key: str
    asked: dict[str, Any]

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the canonical form (RFC 8785) of what was asked for; only for a request that is valid."""
        return hashlib.sha256(rfc8785.dumps(self.asked)).hexdigest()

    @property
    def as_asked(self) -> Asked:
        """What the object this request makes keeps of it."""
        return Asked(idempotency_key=self.key, fingerprint=self.fingerprint)

    def claim(self, connection: Connection, resource_id: str, now: datetime) -> Claim | Replay:
        return idempotency.claim(connection, self.scope, self.key, self.fingerprint, resource_id, now)

    def known(self, connection: Connection) -> Replay | Unanswered | None:
        """What this very request led to before. Raises `Refused(IDEMPOTENCY_KEY_REUSED)`; claims nothing."""
        return idempotency.known(connection, self.scope, self.key, self.fingerprint)

    def update_id(self, name: str) -> str:
        """The id of the workflow update this request becomes: repeats of the request join the same update."""
        return f"{name}-{hashlib.sha256(f'{self.scope}|{self.key}'.encode()).hexdigest()[:32]}"


async def once(request: Request, who: AnyCaller, key: KeyHeader) -> Once:
    return Once(who.scope, read_key(key), asked(request))


AsOnce = Annotated[Once, Depends(once)]


def read_key(text: str) -> str:
    """The key of a header value, bare or as a quoted string (RFC 9651 §3.3.3). Raises `Problem`."""
    key = text.strip()
    if len(key) >= 2 and key[0] == key[-1] == '"':
        key = _unquoted(key[1:-1])
    if not key:
        raise Problem("idempotency_key_missing", "send an Idempotency-Key; it is what makes a repeat safe")
    if len(key) > MAX_LENGTH or not all("!" <= character <= "~" for character in key):
        raise Problem("idempotency_key_invalid", f"1 to {MAX_LENGTH} visible ASCII characters, no spaces")
    return key


def _unquoted(inner: str) -> str:
    if not _QUOTED.fullmatch(inner):
        raise Problem(
            "idempotency_key_invalid", "inside quotes, a quote or a backslash is escaped by a backslash"
        )
    return _ESCAPED.sub(r"\1", inner)


def asked(request: Request) -> dict[str, Any]:
    """Method, route, path values, query and body: what makes two requests the same.

    Headers, order of names and white space are not part of it: they do not change what is asked for.
    """
    return {
        "method": request.method,
        "route": request.scope["route"].path,
        "path": request.path_params,
        "query": sorted(
            [name, value] for name, value in parse_qsl(request.url.query, keep_blank_values=True)
        ),
        "body": request.state.document or {},
    }


async def claiming(
    deps: ApiDependencies, work: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs
) -> T:
    """Run the transaction that claims a key. A connection lost in its commit leaves open whether it counted."""
    try:
        return await deps.database.write(work, *args, **kwargs)
    except DatabaseUnavailable:
        raise Problem(
            "unavailable",
            "the database did not answer; repeat with the same key, which finds out whether this was accepted",
            money_state="unknown",
        ) from None


async def answer_while_down(deps: ApiDependencies, once: Once) -> Response | None:
    """None while Temporal is there; otherwise the answer this request got before. Raises `Problem` where it got none.

    The key is looked at only then: with Temporal there, the claim finds a stored answer anyway.
    """
    try:
        await deps.gateway.require_available()
        return None
    except TemporalUnavailable:
        known = await deps.database.read(once.known)
    if isinstance(known, Replay):
        return answered(known, replayed=True)
    if known is None:
        raise Problem("unavailable", "new work is not accepted for the moment; nothing was changed")
    raise Problem(
        "unavailable",
        "the first request with this key has no answer yet, and nothing is sent for the moment; repeat with the same "
        "key, which finds out what became of it",
        facts={"resource_id": known.resource_id},
        money_state="unknown",
    )


async def release(deps: ApiDependencies, resource_id: str) -> None:
    """Let a repeat resume at once. Only a convenience: without it the lease runs out by itself."""
    try:
        await deps.database.write(idempotency.release, resource_id)
    except DatabaseUnavailable:
        return


def answered(answer: Replay, *, replayed: bool) -> Response:
    """A stored answer as it is sent, the first time and every other."""
    headers = {} if answer.location is None else {"Location": answer.location}
    if replayed:
        headers[REPLAYED] = "true"
    media_type = MEDIA_TYPE if answer.status_code >= 400 else "application/json"
    return Response(answer.body, answer.status_code, headers, media_type)


def resource_of(connection: Connection, scope: str, key: str) -> str | None:
    """What the request with this key made, or None for a key nobody used."""
    query = select(idempotency_keys.c.resource_id).where(
        idempotency_keys.c.merchant_id == scope, idempotency_keys.c.key == key
    )
    return connection.execute(query).scalar_one_or_none()
