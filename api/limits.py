"""What a request may look like at all: body size, JSON form, and no card number anywhere.

Checked before authentication, routing or validation see the request, so that nothing behind has to.
"""

import json
from typing import Any, NoReturn
from urllib.parse import unquote_plus

from starlette.datastructures import Headers
from starlette.types import Message, Receive, Scope

from api.cards import contains_card_number
from api.problems import FieldError, Problem

MAX_BODY_BYTES = 256 * 1024
MAX_PROVIDER_BODY_BYTES = 1024 * 1024
MAX_DEPTH = 32
MAX_QUERY_BYTES = 8 * 1024
RAW_PREFIX = "/v1/provider_webhooks/"
"""Below this path bodies are a provider's: kept as raw bytes, judged by their signature, not by our JSON rules."""


class _DuplicateKey(ValueError):
    pass


async def read_body(scope: Scope, receive: Receive) -> bytes:
    """The whole body, read no further than the limit. Raises `Problem(body_too_large)`."""
    limit = MAX_PROVIDER_BODY_BYTES if scope["path"].startswith(RAW_PREFIX) else MAX_BODY_BYTES
    declared = Headers(scope=scope).get("content-length", "")
    if declared.isascii() and declared.isdigit() and int(declared[:20]) > limit:
        _too_large(limit)
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return bytes(body)
        body += message.get("body", b"")
        if len(body) > limit:
            _too_large(limit)
        if not message.get("more_body", False):
            return bytes(body)


def replay_of(body: bytes, receive: Receive) -> Receive:
    """A `receive` that hands the body out once more, then listens for the disconnect."""
    sent = False

    async def receive_again() -> Message:
        nonlocal sent
        if sent:
            return await receive()
        sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    return receive_again


def check_target(scope: Scope) -> None:
    """Path, query and idempotency key, which end in rows and logs. Raises `Problem`."""
    if len(scope["query_string"]) > MAX_QUERY_BYTES:
        raise Problem("invalid_parameter", f"the query string is longer than {MAX_QUERY_BYTES} bytes")
    query = unquote_plus(scope["query_string"].decode("latin-1"))
    if "\x00" in query:
        raise Problem("invalid_parameter", "the query has a NUL character")
    key = Headers(scope=scope).get("idempotency-key", "")
    for place, text in (("path", scope["path"]), ("query", query), ("header/Idempotency-Key", key)):
        if contains_card_number(text):
            _card_number(place)


def check_json(scope: Scope, body: bytes) -> Any:
    """The parsed body, or None without one. Raises `Problem`, never quoting the body."""
    if not body or scope["path"].startswith(RAW_PREFIX):
        return None
    media_type = Headers(scope=scope).get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json":
        raise Problem("unsupported_media_type", "send the body as application/json")
    document = parse(body)
    _walk(document)
    return document


def parse(body: bytes) -> Any:
    """Strict JSON: UTF-8, no duplicate names, no NaN or Infinity. Raises `Problem(malformed_json)`."""
    try:
        return json.loads(body.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_no_constant)
    except _DuplicateKey:
        raise Problem("malformed_json", "an object has the same name twice") from None
    except RecursionError:
        raise Problem("malformed_json", f"the body is nested deeper than {MAX_DEPTH} levels") from None
    except ValueError:
        raise Problem(
            "malformed_json", "the body is not JSON in UTF-8 (NaN and Infinity are not JSON)"
        ) from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise _DuplicateKey
    return members


def _no_constant(_name: str) -> NoReturn:
    raise ValueError("not a JSON number")


def _walk(document: Any) -> None:
    """Depth, characters no database stores, and card numbers, in every name and value."""
    waiting: list[tuple[str, Any, int]] = [("", document, 1)]
    while waiting:
        pointer, value, depth = waiting.pop()
        if isinstance(value, dict | list) and depth > MAX_DEPTH:
            raise Problem("malformed_json", f"the body is nested deeper than {MAX_DEPTH} levels")
        if isinstance(value, dict):
            for name, inner in value.items():
                _check_text(pointer, name)
                waiting.append((f"{pointer}/{_escaped(name)}", inner, depth + 1))
        elif isinstance(value, list):
            waiting.extend((f"{pointer}/{index}", inner, depth + 1) for index, inner in enumerate(value))
        elif isinstance(value, str):
            _check_text(pointer, value)
        elif isinstance(value, int | float) and contains_card_number(
            f"{value:.0f}" if isinstance(value, float) else str(value)
        ):
            _card_number(pointer)


def _check_text(pointer: str, text: str) -> None:
    if contains_card_number(text):
        _card_number(pointer)
    if "\x00" in text or any("\ud800" <= character <= "\udfff" for character in text):
        detail = "NUL and unpaired surrogates are not text"
        raise Problem("invalid_parameter", detail, [FieldError(pointer, "invalid_parameter", detail)])


def _escaped(name: str) -> str:
    """One reference token of a JSON Pointer (RFC 6901 §3)."""
    return name.replace("~", "~0").replace("/", "~1")


def _card_number(pointer: str) -> NoReturn:
    detail = (
        "the request has digits that look like a card number; it was neither stored nor logged, and nothing was "
        "changed. Send a provider's token; put a letter into the middle of a reference of 13 to 19 digits"
    )
    raise Problem(
        "account_data_not_accepted",
        detail,
        [
            FieldError(
                pointer, "account_data_not_accepted", "remove it, or put a letter into the middle of it"
            )
        ],
    )


def _too_large(limit: int) -> NoReturn:
    raise Problem("body_too_large", f"bodies are at most {limit} bytes here")
