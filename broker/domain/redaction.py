"""What of a call is masked for people: everything that the policy's `redact` paths lead to.

What belongs here: putting the mask on. What does not: keeping what is under it (`broker.domain.sealing`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

from broker.domain.calls import Call
from broker.domain.paths import EVERY, Path, Step

MASK = "[redacted]"


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
