"""Parameters of a tool that header fields repeat (2026-07-28, Transports, Custom Headers).

What belongs here: which those are by the tool's schema, how a value travels in a field, and whether field and body
agree. What does not: the fields that every request has (`broker.gateway.protocol`). Pure, and without the SDK, against
which the tests hold it.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

PREFIX = "Mcp-Param-"
"""What the name of such a field begins with."""

_ANNOTATION = "x-mcp-header"
_TYPES = frozenset({"string", "integer", "boolean"})
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")  # RFC 9110, section 5.6.2
_PLAIN = re.compile(r"[\x20-\x7E]*")
_WRAPPED = re.compile(r"=\?base64\?(.*)\?=")
_DECIMAL = re.compile(r"-?[0-9]+(\.[0-9]+)?")

# The applicators of JSON Schema 2020-12 beside `properties`, by what they hold. What is data is never taken for one.
_ONE = frozenset(("items", "contains", "additionalProperties", "propertyNames", "contentSchema")) | frozenset(
    ("unevaluatedItems", "unevaluatedProperties", "not", "if", "then", "else")
)
_MANY = frozenset({"allOf", "anyOf", "oneOf", "prefixItems"})
_NAMED = frozenset({"patternProperties", "dependentSchemas", "$defs", "definitions"})

_Place = tuple[str, ...] | None  # the names of properties from the root; None beyond any other applicator


@dataclass(frozen=True, slots=True)
class Mirrored:
    """A parameter that a field repeats.

    Args:
        path: the names of properties that lead to it.
        token: what the field is called after the prefix.
        integer: its values are compared as numbers.
    """

    path: tuple[str, ...]
    token: str
    integer: bool

    @property
    def argument(self) -> str:
        """What people call the parameter."""
        return ".".join(self.path)

    @property
    def field(self) -> str:
        """The field's name."""
        return f"{PREFIX}{self.token}"

    def value(self, arguments: Mapping[str, Any]) -> Any:
        """What is said of it; None where nothing is."""
        found: Any = arguments
        for name in self.path:
            if not isinstance(found, Mapping):
                return None
            found = cast("Mapping[str, Any]", found).get(name)
        return found


def encoded(value: str) -> str:
    """A text as a field carries it: as it is, or wrapped where HTTP would change it."""
    if _PLAIN.fullmatch(value) and value == value.strip() and not _WRAPPED.fullmatch(value):
        return value
    return f"=?base64?{base64.b64encode(value.encode()).decode()}?="


def decoded(field: str | None) -> str | None:
    """What a field says; None where there is none, or where its wrapping is broken or not the canonical one."""
    wrapped = _WRAPPED.fullmatch(field) if field is not None else None
    if wrapped is None:
        return field
    try:
        inner = base64.b64decode(wrapped[1], validate=True)
        return inner.decode() if base64.b64encode(inner).decode() == wrapped[1] else None
    except (binascii.Error, ValueError):  # no base64, characters beyond ASCII, no UTF-8
        return None


def mirrored(schema: Any) -> Sequence[Mirrored]:
    """The parameters that fields repeat, by the input schema of a tool.

    Nothing where an annotation breaks a rule of the specification: clients that keep to it do not use such a tool.
    """
    found: dict[str, Mirrored] = {}
    for path, part in _parts(schema):
        if _ANNOTATION not in part:
            continue
        token, kind = part[_ANNOTATION], part.get("type")
        allowed = isinstance(token, str) and _TOKEN.fullmatch(token) and isinstance(kind, str) and kind in _TYPES
        if not path or not allowed or token.lower() in found:
            return ()
        found[token.lower()] = Mirrored(path, token, kind == "integer")
    return tuple(found.values())


def fields(parameters: Iterable[Mirrored], arguments: Mapping[str, Any]) -> dict[str, str]:
    """The fields that repeat what `arguments` say."""
    said = ((one.field, _text(one.value(arguments))) for one in parameters)
    return {name: encoded(text) for name, text in said if text is not None}


def disagreement(
    parameters: Iterable[Mirrored], arguments: Mapping[str, Any], headers: Iterable[tuple[str, str]]
) -> str | None:
    """What the first field that is not as `arguments` want it has wrong; None where all agree.

    An argument that is not there, or null, has no field, nor has one that cannot be written as text: an intermediary
    would go by a value that the body does not carry.

    Args:
        headers: every field as it came; one that is there twice is wrong.
    """
    given: dict[str, list[str]] = {}
    for name, value in headers:
        given.setdefault(name.lower(), []).append(value)
    wrongs = (_wrong(one, arguments, given.get(one.field.lower(), [])) for one in parameters)
    return next((wrong for wrong in wrongs if wrong is not None), None)


def _wrong(parameter: Mirrored, arguments: Mapping[str, Any], given: Sequence[str]) -> str | None:
    value = parameter.value(arguments)
    text = _text(value)
    body = f"the request body's {parameter.argument!r} argument"
    if not given:
        return f"{parameter.field} header is missing but {body} is present" if text is not None else None
    if len(given) > 1:
        return f"{parameter.field} header appears more than once"
    if value is None:
        return f"{parameter.field} header is present but {body} is absent"
    said = decoded(given[0])
    if said is None and text is not None:
        return f"{parameter.field} header carries a malformed base64 sentinel value"
    agrees = said is not None and (said == text or (parameter.integer and _same_number(value, said)))
    return None if agrees else f"{parameter.field} header does not match {body}"


def _same_number(value: Any, said: str) -> bool:
    """Whether 42 is said as 42.0; exact at any size that Python reads."""
    whole_number = type(value) is int or (isinstance(value, float) and value.is_integer())
    if not whole_number or not _DECIMAL.fullmatch(said):
        return False
    whole, _, fraction = said.partition(".")
    try:
        return not fraction.strip("0") and int(whole) == int(value)
    except ValueError:  # more digits than Python reads
        return False


def _text(value: Any) -> str | None:
    """A value as a field has it; None for what none can have."""
    if isinstance(value, bool):
        return "true" if value else "false"
    try:
        return str(value) if isinstance(value, str | int | float) else None
    except ValueError:  # more digits than Python writes
        return None


def _parts(schema: Any) -> Iterator[tuple[_Place, dict[str, Any]]]:
    """Every schema within a schema, however deep, with its place. References are not followed."""
    left: list[tuple[_Place, Any]] = [((), schema)]
    while left:
        place, part = left.pop()
        if not isinstance(part, dict):
            continue
        yield place, (members := cast("dict[str, Any]", part))
        for keyword, inner in members.items():
            left += _within(place, keyword, inner)


def _within(place: _Place, keyword: str, inner: Any) -> Iterator[tuple[_Place, Any]]:
    if keyword in _ONE:
        yield None, inner
    elif keyword in _MANY and isinstance(inner, list):
        yield from ((None, one) for one in cast("list[Any]", inner))
    elif keyword in _NAMED and isinstance(inner, dict):
        yield from ((None, one) for one in cast("dict[str, Any]", inner).values())
    elif keyword == "properties" and isinstance(inner, dict):
        for name, one in cast("dict[str, Any]", inner).items():
            yield (None if place is None else (*place, name)), one
