"""A call as the record has it, to be judged again by another policy.

What belongs here: what was said of it then, and what of it is not known any more. What does not: reading the record
(`broker.store`), judging (`broker.policy`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, cast

from broker.domain.calls import Call
from broker.domain.paths import Path, Step
from broker.domain.redaction import MASK


class Fate(StrEnum):
    """What a policy makes of a call, limits included."""

    ALLOW = "allow"
    HOLD = "hold"
    DENY = "deny"
    LIMITED = "limited"


@dataclass(frozen=True, slots=True)
class RecordedCall:
    """One call of the past.

    Args:
        rule: what led to it, or None when it was not the policy's doing.
        unknown: what of the call is not kept, as rules name it: `args` when nothing is.
    """

    call: Call
    at: datetime
    fate: Fate
    rule: str | None
    unknown: tuple[Path, ...] = ()


def masked_paths(arguments: Any) -> tuple[Path, ...]:
    """Where values of a call's arguments are masked, as rules name them."""
    return tuple(Path(("args", *steps)) for steps in _masked(arguments))


def _masked(value: Any) -> Iterable[tuple[Step, ...]]:
    members: Iterable[tuple[Step, Any]] = ()
    if value == MASK:
        yield ()
    elif isinstance(value, dict):
        members = cast("dict[str, Any]", value).items()
    elif isinstance(value, list):
        members = enumerate(cast("list[Any]", value))
    for step, member in members:
        yield from ((step, *rest) for rest in _masked(member))
