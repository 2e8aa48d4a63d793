"""The values of a policy document that only the Intercept dialect writes in this way.

What belongs here: annotated types, and what is expected where a value is not of them. What does not: values that both
dialects share (`values`), objects and their keys (`intercept_documents`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Any

from pydantic import BeforeValidator

from broker.policy.language.values import MOST, expected, matching

_UNITS: Mapping[Any, timedelta] = {
    "minute": timedelta(minutes=1),
    "hour": timedelta(hours=1),
    "day": timedelta(days=1),
}
_RATE = re.compile(r"([0-9]{1,10})/(minute|hour|day)")
_NAME = r"\.[^.\[\]*]+"  # the dialect has no items of lists and no wildcards: every other sign belongs to a name


@dataclass(frozen=True, slots=True)
class Rate:
    """The short form of a limit: so many in each minute, hour or day of the calendar."""

    max: int
    unit: str

    @property
    def window(self) -> timedelta:
        """How long the unit is."""
        return _UNITS[self.unit]


def _rate(value: Any) -> Rate:
    written = _RATE.fullmatch(value) if isinstance(value, str) else None
    if written is None or not 0 < int(written[1]) <= MOST:
        raise expected(f"a whole number from 1 to {MOST} and a unit: 60/minute, 5/hour or 100/day")
    return Rate(int(written[1]), written[2])


def _window(value: Any) -> timedelta:
    if isinstance(value, str) and value in _UNITS:
        return _UNITS[value]
    raise expected("minute, hour or day")


Tool = Annotated[
    str, matching(r"\*|[^*?\[\]]*[^*?\[\]\s][^*?\[\]]*", "the exact name of a tool, or * alone: no other patterns")
]
ArgsName = Annotated[str, matching(f"args({_NAME})+", "a path of names parted by dots, such as args.amount")]
AnyName = Annotated[
    str,
    matching(
        f"(args|state{_NAME})({_NAME})+",
        "a path of names parted by dots: args.NAME, state.TOOL.COUNTER, or state._global.COUNTER for a counter of *",
    ),
]
Window = Annotated[timedelta, BeforeValidator(_window)]
RateLimit = Annotated[Rate, BeforeValidator(_rate)]
