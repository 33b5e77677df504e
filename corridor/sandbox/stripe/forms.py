"""Stripe's form encoding: nested brackets, indexed lists, and a refusal of every key an operation does not know."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

from corridor.sandbox.stripe.errors import Document, invalid_request

KEY = re.compile(r"^([^\[\]]+)((?:\[[^\[\]]*\])*)$")
METADATA_KEYS, METADATA_KEY_LENGTH, METADATA_VALUE_LENGTH = 50, 40, 500


@dataclass(frozen=True)
class Integer:
    """A whole number, as Stripe's amounts and limits are."""

    minimum: int | None = None
    maximum: int | None = None


@dataclass(frozen=True)
class Text:
    """A string, of a closed set if `choices` are given."""

    choices: frozenset[str] = frozenset()
    maximum: int = 5000


@dataclass(frozen=True)
class Boolean:
    """`true` or `false`."""


@dataclass(frozen=True)
class TextList:
    """`key[0]=…&key[1]=…`, or `key[]=…`."""


@dataclass(frozen=True)
class Metadata:
    """At most 50 keys of 40 characters with values of 500; an empty value unsets (docs.stripe.com/api/metadata)."""


@dataclass(frozen=True)
class Moment:
    """A unix time, or a range `key[gte]=…`; always decoded as a range."""


@dataclass(frozen=True)
class Anything:
    """A nested object that the sandbox keeps and does not interpret, such as a shipping address."""


@dataclass(frozen=True)
class Nested:
    """A nested object with known keys."""

    fields: Mapping[str, "Kind"] = field(default_factory=dict)


Kind = Integer | Text | Boolean | TextList | Metadata | Moment | Anything | Nested
Shape = Mapping[str, Kind]


def decode(raw: bytes, shape: Shape) -> Document:
    """Typed parameters of a form body or query string; StripeError names the first parameter that is wrong."""
    try:
        pairs = parse_qsl(raw.decode("utf-8"), keep_blank_values=True, max_num_fields=1000, errors="strict")
    except (UnicodeDecodeError, ValueError) as error:
        raise invalid_request(f"Invalid request body: {error}") from error
    return _typed_fields(_tree(pairs), shape, "")


def _tree(pairs: Sequence[tuple[str, str]]) -> Document:
    tree: Document = {}
    for key, value in pairs:
        parsed = KEY.match(key)
        if parsed is None:
            raise invalid_request(f"Invalid parameter name: {key}", code="parameter_unknown", param=key)
        path = [parsed[1], *re.findall(r"\[([^\[\]]*)\]", parsed[2])]
        _plant(tree, path, value, key)
    return tree


def _plant(tree: Document, path: list[str], value: str, key: str) -> None:
    branch = tree
    for step in path[:-1]:
        branch = branch.setdefault(step, {})
        if not isinstance(branch, dict):
            raise invalid_request(
                f"Invalid parameter: {key} is given both as a value and as an object", param=key
            )
    leaf = path[-1] or str(len(branch))
    if isinstance(branch.get(leaf), dict):
        raise invalid_request(
            f"Invalid parameter: {key} is given both as a value and as an object", param=key
        )
    branch[leaf] = value


def _typed_fields(tree: Document, shape: Shape, prefix: str) -> Document:
    typed: Document = {}
    for name, value in tree.items():
        param = f"{prefix}[{name}]" if prefix else name
        kind = shape.get(name)
        if kind is None:
            raise invalid_request(
                f"Received unknown parameter: {param}", code="parameter_unknown", param=param
            )
        typed[name] = _typed(value, kind, param)
    return typed


def _typed(value: Any, kind: Kind, param: str) -> Any:  # noqa: PLR0911 - one return per kind
    match kind:
        case Nested(fields):
            return _typed_fields(_object(value, param), fields, param)
        case Metadata():
            return _metadata(_object(value, param), param)
        case TextList():
            return [_text(item, param, Text()) for item in _object(value, param).values()]
        case Moment():
            return _moment(value, param)
        case Anything():
            return value
        case Boolean():
            return _boolean(value, param)
        case Integer():
            return _integer(value, param, kind)
        case Text():
            return _text(value, param, kind)


def _object(value: Any, param: str) -> Document:
    if not isinstance(value, dict):
        raise invalid_request(f"Invalid object: {param}", code="parameter_invalid_empty", param=param)
    return value


def _text(value: Any, param: str, kind: Text) -> str:
    if not isinstance(value, str):
        raise invalid_request(f"Invalid string: {param}", code="parameter_invalid_string", param=param)
    if len(value) > kind.maximum:
        raise invalid_request(
            f"Invalid string: {param} must be at most {kind.maximum} characters", param=param
        )
    if kind.choices and value not in kind.choices:
        choices = ", ".join(sorted(kind.choices))
        raise invalid_request(f"Invalid {param}: must be one of {choices}", param=param)
    return value


def _integer(value: Any, param: str, kind: Integer) -> int:
    if not isinstance(value, str) or not re.fullmatch(r"-?[0-9]{1,15}", value):
        raise invalid_request(f"Invalid integer: {value}", code="parameter_invalid_integer", param=param)
    number = int(value)
    if kind.minimum is not None and number < kind.minimum:
        raise invalid_request(
            f"This value must be greater than or equal to {kind.minimum}.",
            code="parameter_invalid_integer",
            param=param,
        )
    if kind.maximum is not None and number > kind.maximum:
        raise invalid_request(
            f"This value must be less than or equal to {kind.maximum}.",
            code="parameter_invalid_integer",
            param=param,
        )
    return number


def _boolean(value: Any, param: str) -> bool:
    if value not in ("true", "false"):
        raise invalid_request(f"Invalid boolean: {value}", param=param)
    return bool(value == "true")


def _moment(value: Any, param: str) -> Document:
    bounds = value if isinstance(value, dict) else {"gte": value, "lte": value}
    shape = {bound: Integer() for bound in ("gt", "gte", "lt", "lte")}
    return _typed_fields(bounds, shape, param)


def _metadata(values: Document, param: str) -> dict[str, str]:
    if len(values) > METADATA_KEYS:
        raise invalid_request(f"You can have up to {METADATA_KEYS} metadata keys", param=param)
    for key, value in values.items():
        if len(key) > METADATA_KEY_LENGTH:
            raise invalid_request(
                f"Metadata keys can be at most {METADATA_KEY_LENGTH} characters", param=f"{param}[{key}]"
            )
        _text(value, f"{param}[{key}]", Text(maximum=METADATA_VALUE_LENGTH))
    return values
