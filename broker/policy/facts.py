"""What a rule sees of one call, and how that is shown to people.

What belongs here: finding what a path leads to in a call, naming its type, and showing it in a few words, masked. What
does not: comparing (`broker.policy.judging.conditions`, `broker.policy.judging.expressions`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from typing import Any, cast

from broker.domain.calls import Call
from broker.domain.paths import MISSING, Path
from broker.domain.redaction import MASK

Find = Callable[[Call, Mapping[str, Any]], Any]
"""What a path leads to in a call and its arguments (given apart because they are looked at often), or MISSING."""

GRANT = ("id", "label", "owner")
"""What rules see of the grant."""

TEXTS = ("tool", "upstream", "session")
"""What rules see that is a text, so that no path leads into it."""

_SHOWN = 80
_ITEMS = 8
_WIDE = 256  # bits; Python refuses to write integers that are longer than some thousand digits


class Unjudged(Exception):
    """A rule that cannot be applied to a call. The message says why; it never repeats a value of the call."""


def grant_facts(call: Call) -> dict[str, str]:
    """What rules see of the grant."""
    return {"id": call.grant.id, "label": call.grant.label, "owner": call.grant.owner}


_ROOTS: Mapping[str, Find] = {
    "args": lambda _call, args: args,
    "tool": lambda call, _args: call.tool,
    "upstream": lambda call, _args: call.upstream,
    "grant": lambda call, _args: grant_facts(call),
    "session": lambda call, _args: MISSING if call.session is None else call.session,
}
ROOTS = tuple(_ROOTS)
"""With what the path of a rule begins."""


def finder(path: Path) -> Find:
    """How to find what `path`, which has no wildcard, leads to. A path from an unknown root leads nowhere."""
    root, *inner = path.steps
    if root == "args" and len(inner) == 1 and isinstance(inner[0], str):
        name = inner[0]
        return lambda _call, args: args.get(name, MISSING)
    start, rest = _ROOTS.get(str(root), lambda _call, _args: MISSING), Path(tuple(inner))
    return (lambda call, args: rest.find(start(call, args))) if inner else start


def kind(value: Any) -> str:
    """The JSON type of `value`, in words that fit after "is"."""
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case int() | float():
            return "a number"
        case str():
            return "text"
        case Mapping():
            return "an object"
        case _:
            return "a list"


def shown(path: Path, redact: Iterable[Path]) -> Callable[[Call, Mapping[str, Any]], str]:
    """How what `path` leads to is shown: ``args.amount = 12``, masked where `redact` says so."""
    find, masked = finder(path), any(map(path.overlaps, redact))

    def show(call: Call, args: Mapping[str, Any]) -> str:
        value = find(call, args)
        if value is MISSING:
            return f"{path} is missing"
        return f"{path} = {MASK if masked else glimpse(value)}"

    return show


def glimpse(value: Any) -> str:
    """The beginning of `value` as JSON, at most 80 characters; quick for a value of any size or depth."""
    text = json.dumps(_pruned(value, 4), ensure_ascii=False).encode(errors="backslashreplace").decode()
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"


def _pruned(value: Any, depth: int) -> Any:
    match value:
        case str():
            return value[: _SHOWN + 1]
        case int() if value.bit_length() > _WIDE:
            return f"an integer of {value.bit_length()} bits"
        case Mapping() if depth:
            members = cast("Mapping[str, Any]", value).items()
            return {key[:_SHOWN]: _pruned(member, depth - 1) for key, member in islice(members, _ITEMS)}
        case Sequence() if depth:
            return [_pruned(item, depth - 1) for item in islice(cast("Sequence[Any]", value), _ITEMS)]
        case Mapping() | Sequence():
            return "…"
        case _:
            return value
