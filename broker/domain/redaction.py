"""What of a call is masked for people: everything that the policy's `redact` paths lead to.

What belongs here: putting the mask on the call, and on what its answer repeats of it. What does not: keeping what is
under it (`broker.domain.sealing`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

from broker.domain.calls import Call
from broker.domain.paths import EVERY, Path, Step

MASK = "[redacted]"

MOST_HIDDEN = 32
"""How many masked values an answer is searched for; that to a call with more is masked as a whole."""

_SHORT = 4
"""Fewer characters than these are masked in a text only where they are a word of their own."""


def redacted(call: Call, paths: Iterable[Path]) -> Call:
    """`call` as people see it; the very same when `paths` lead to nothing in it."""
    params = masked(call.params, paths)
    return call if params is call.params else replace(call, params=params)


def masked(params: Mapping[str, Any], paths: Iterable[Path]) -> Mapping[str, Any]:
    """`params` with `MASK` in place of whatever value each path leads to.

    Args:
        params: of a `tools/call`; never changed, and shared where nothing is masked.
        paths: from the call inwards, so that their first step, `args`, is the member `arguments`.

    Returns:
        A copy, or the very same `params` when the paths lead to nothing.
    """
    for path in paths:
        params = _masked(params, ("arguments", *path.steps[1:]), 0)
    return params


def _masked(value: Any, steps: Sequence[Step], at: int) -> Any:
    if at == len(steps):
        return MASK
    changes: dict[Any, Any] = {}
    for key in _led_to(value, steps[at]):
        inner = value[key]
        if (changed := _masked(inner, steps, at + 1)) is not inner:
            changes[key] = changed
    if not changes:
        return value
    copy = value.copy()
    for key, changed in changes.items():
        copy[key] = changed
    return copy


def _led_to(value: Any, step: Step) -> Iterable[Any]:
    """The keys or indices of `value`, parsed JSON, that `step` leads to."""
    if isinstance(value, dict):
        return cast("dict[str, Any]", value) if step is EVERY else (step,) if step in value else ()
    if isinstance(value, list):
        places = range(len(cast("list[Any]", value)))
        return places if step is EVERY else (step,) if isinstance(step, int) and step in places else ()
    return ()


# -- what an answer repeats -------------------------------------------------------------------------------------------


def without_echoes(answer: Any, call: Call, seen: Call) -> Any:
    """What a server answered to `call`, with `MASK` for all that it repeats of what is masked in `seen`.

    It is recognised as it was written and as JSON spells it; what a server made something else of is not.

    Args:
        answer: JSON; never changed, and the very same when nothing of the call is masked.
    """
    if seen is call:
        return answer
    hidden = {text for text in _hidden(call.params, seen.params) if text}
    return _Search(hidden).masked(answer) if len(hidden) <= MOST_HIDDEN else MASK


def _hidden(whole: Any, seen: Any) -> Iterator[str]:
    """The texts of `whole` that are under a mask in `seen`, names of members too, and its numbers as JSON has them."""
    if seen == MASK:
        yield from _texts(whole)
    elif isinstance(whole, dict):
        for key, inner in cast("dict[str, Any]", whole).items():
            yield from _hidden(inner, seen[key])
    elif isinstance(whole, list):
        for inner, shown in zip(cast("list[Any]", whole), seen, strict=True):
            yield from _hidden(inner, shown)


def _texts(value: Any) -> Iterator[str]:
    inside: Iterable[Any] = ()
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        members = cast("dict[str, Any]", value)
        inside = (*members, *members.values())
    elif isinstance(value, list):
        inside = cast("list[Any]", value)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield json.dumps(value)
    for inner in inside:
        yield from _texts(inner)


class _Search:
    """Looks for some texts in an answer."""

    def __init__(self, hidden: set[str]) -> None:
        spelt = {
            way for text in hidden for way in (text, *(json.dumps(text, ensure_ascii=a)[1:-1] for a in (True, False)))
        }
        self._hidden = hidden
        self._long = sorted((text for text in spelt if len(text) >= _SHORT), key=len, reverse=True)
        short = "|".join(re.escape(text) for text in spelt if len(text) < _SHORT)
        self._short = re.compile(rf"(?<!\w)(?:{short})(?!\w)") if short else None

    def masked(self, value: Any) -> Any:
        """`value` with the mask for each of them."""
        match value:
            case None | bool():
                return value
            case int() | float():
                return MASK if json.dumps(value) in self._hidden else value
            case str():
                return self._masked_text(value)
            case dict():
                members = cast("dict[str, Any]", value).items()
                return {self._masked_text(name): self.masked(inner) for name, inner in members}
            case _:
                return [self.masked(inner) for inner in value]

    def _masked_text(self, text: str) -> str:
        for hidden in self._long:
            text = text.replace(hidden, MASK)
        return self._short.sub(MASK, text) if self._short is not None else text
