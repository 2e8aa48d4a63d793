"""The values of a policy document: what a string or a number in it may be, and what is expected where it is not.

What belongs here: annotated types that the models of both dialects share. What does not: objects and their keys
(`documents`, `intercept`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Annotated, Any, TypeGuard

from pydantic import AfterValidator, BeforeValidator, StringConstraints, WithJsonSchema
from pydantic_core import PydanticCustomError

from broker.domain.durations import parse_duration
from broker.domain.paths import EVERY, Path, parse_path
from broker.policy.facts import GRANT, ROOTS, TEXTS

_MEANT = 100  # characters of a wrong path that are compared with right ones

_WINDOWS: Mapping[str, timedelta] = {
    "second": timedelta(seconds=1),
    "minute": timedelta(minutes=1),
    "hour": timedelta(hours=1),
    "day": timedelta(days=1),
}
_LONGEST = timedelta(days=365)
MOST = 2**31 - 1
"""The largest count: what every database's integer holds."""


_STEP = r"""(\.[^.\[\]]+|\[([0-9]{1,9}|\*|"([^"\\]|\\.)*")\])"""
"""A step of a path as a schema has it: never narrower than `broker.domain.paths`, which has the last word."""


def expected(what: str, *legal: str) -> PydanticCustomError:
    """The mistake that another value stands where `what` belongs, `legal` among it."""
    return PydanticCustomError("expected", "expected {what}", {"what": what, "legal": legal})


def _schema(pattern: str, *examples: str) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "pattern": f"^{pattern}$", "examples": list(examples)})


def _whole(most: int) -> dict[str, Any]:
    return {"type": "integer", "minimum": 1, "maximum": most}


def matching(pattern: str, what: str, *legal: str) -> AfterValidator:
    """Texts of which the whole matches `pattern`; another one stands where `what` belongs."""

    def check(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise expected(what, *legal)
        return text

    return AfterValidator(check)


def _pattern(name: str) -> str:
    if not name or name.isspace():
        raise expected("the name of a tool, or a pattern such as keyboard_*")
    return name


def _parsed(text: Any, what: str, roots: Sequence[str]) -> Path:
    try:
        path = parse_path(text) if isinstance(text, str) else None
    except ValueError as error:
        raise PydanticCustomError("path", "{why}", {"why": str(error)}) from None
    if path is None or path.steps[0] not in roots:
        _, dot, rest = str(text)[:_MEANT].partition(".")
        raise expected(what, *(f"{root}{dot}{rest}" for root in roots if dot), f"args.{text}"[:_MEANT])
    return path


def _path(text: Any) -> Path:
    path = _parsed(text, f"a path that begins with {', '.join(ROOTS[:-1])} or {ROOTS[-1]}, such as args.amount", ROOTS)
    root, *inner = path.steps
    if root == "grant" and inner and (inner[0] not in GRANT or inner[1:]):
        raise expected(
            f"{', '.join(f'grant.{part}' for part in GRANT[:-1])} or grant.{GRANT[-1]}",
            *(f"grant.{part}" for part in GRANT),
        )
    if root in TEXTS and inner:
        raise expected(f"{root} alone: it is a text, which has no parts", str(root))
    return path


def _one(path: Path) -> Path:
    if EVERY in path.steps:
        raise expected("a path without *: a rule looks at one value")
    return path


def _of_args(text: Any) -> Path:
    what = "a path into the arguments, such as args.password"
    path = _parsed(text, what, ("args",))
    if len(path.steps) == 1:
        raise expected(what)
    return path


def _duration(value: Any) -> timedelta:
    try:
        duration = parse_duration(value)
    except (ValueError, AttributeError):  # of another form, or no string
        duration = timedelta.max
    if duration <= _LONGEST:
        return duration
    raise expected("a duration from 1s to 365d, such as 30s, 15m, 2h or 1d")


def _is_count(value: Any, most: float) -> TypeGuard[int]:
    return type(value) is int and 0 < value <= most  # a JSON true is an int to Python


def _count(value: Any) -> int:
    if _is_count(value, MOST):
        return value
    raise expected(f"a whole number from 1 to {MOST}")


def _seconds(value: Any) -> timedelta:
    if _is_count(value, _LONGEST.total_seconds()):
        return timedelta(seconds=value)
    raise expected(f"a whole number of seconds from 1 to {_LONGEST.total_seconds():.0f}")


def _window(value: Any) -> timedelta:
    if isinstance(value, str) and value in _WINDOWS:
        return _WINDOWS[value]
    if _is_count(value, _LONGEST.total_seconds()):
        return timedelta(seconds=value)
    raise expected(f"second, minute, hour, day or a number of seconds up to {_LONGEST.total_seconds():.0f}", *_WINDOWS)


_COUNTER = r"\S{1,200}"
_APPROVER = r"\S|\S.*\S"
_CHANNEL = r"web|api|slack|slack:[#@]\S+"
_CHANNELS = "web, api, slack, slack:#channel or slack:@person"
_DURATION_SCHEMA = _schema(r"\s*[0-9]{1,9}[smhd]\s*", "30s", "15m", "2h", "1d")
_PATH_SCHEMA = _schema(f"((args|grant){_STEP}*|{'|'.join(TEXTS)})", "args.amount")
_WINDOW_SCHEMA = {"anyOf": [{"enum": list(_WINDOWS)}, _whole(int(_LONGEST.total_seconds()))]}

Text = Annotated[str, StringConstraints(min_length=1)]
Counter = Annotated[str, matching(_COUNTER, "one word"), _schema(_COUNTER)]
Approver = Annotated[
    str,
    matching(_APPROVER, "a group or an e-mail address, with no blanks around it"),
    _schema(f"({_APPROVER})", "desktop-owners", "alice@example.com"),
]
ToolPattern = Annotated[str, AfterValidator(_pattern), WithJsonSchema({"type": "string", "minLength": 1})]
OnePath = Annotated[Path, BeforeValidator(_path), AfterValidator(_one), _PATH_SCHEMA]
ArgsPath = Annotated[Path, BeforeValidator(_of_args), _schema(f"args{_STEP}+", "args.password", "args.items[*].key")]
Sum = Annotated[Path, BeforeValidator(_of_args), AfterValidator(_one), _schema(f"args{_STEP}+", "args.amount")]
Channel = Annotated[
    str,
    matching(_CHANNEL, _CHANNELS, "web", "api", "slack"),
    _schema(f"({_CHANNEL})", "web", "slack:#approvals"),
]
Duration = Annotated[timedelta, BeforeValidator(_duration), _DURATION_SCHEMA]
Seconds = Annotated[timedelta, BeforeValidator(_seconds), WithJsonSchema(_whole(int(_LONGEST.total_seconds())))]
Window = Annotated[timedelta, BeforeValidator(_window), WithJsonSchema(_WINDOW_SCHEMA)]
Count = Annotated[int, BeforeValidator(_count), WithJsonSchema(_whole(MOST))]
