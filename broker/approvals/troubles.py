"""Where a channel does not work, since when, and for how long it is left alone there.

What belongs here: what failures mean for a place. What does not: what they mean for a message
(`broker.approvals.outbox`).
"""

from __future__ import annotations

import logging
import random
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta

from broker.domain.text import visible
from broker.errors import ChannelError, MessageRefused, PlaceMissing

log = logging.getLogger(__name__)

SOONEST, LATEST = timedelta(seconds=1), timedelta(minutes=1)
"""When it is tried again after the first failure, and after many."""

RARELY = timedelta(minutes=5)
"""When it is tried again where nothing can be posted until somebody mends that."""

LONGEST = timedelta(hours=1)
"""The longest that a channel may ask to be left alone."""

MOST = 300
"""The most characters that are repeated of what a channel says."""


Way = tuple[str, bool]
"""A place, and whether messages are rewritten there or posted: one can fail while the other works."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why nothing is told in a place.

    Args:
        since: the first failure after which nothing went well there.
        tried: the last failure.
        rest: how long it is left alone after that.
    """

    sentence: str
    since: datetime
    tried: datetime
    rest: timedelta
    failures: int


class Troubles:
    """The places of one channel that are in trouble."""

    def __init__(self) -> None:
        self._found: dict[Way, Trouble] = {}

    def failed(self, way: Way, error: Exception, now: datetime) -> None:
        """Nothing could be told so. That is left alone for a while, unless the message was to blame."""
        place, before = way[0], self._found.get(way)
        failures = before.failures + 1 if before is not None else 1
        sentence = f"{place}: {_why(error)}. What is to be told there waits."
        if all(found.sentence != sentence for found in self._found.values()):
            log.warning(sentence, exc_info=None if is_of_place(error) else error)
        since = before.since if before is not None else now
        self._found[way] = Trouble(sentence, since, now, _rest(error, failures), failures)

    def worked(self, way: Way) -> None:
        """Something was told so."""
        if self._found.pop(way, None) is not None:
            log.info("%s: messages are told again.", way[0])

    def resting(self, way: Way, now: datetime) -> bool:
        """Whether it is left alone at `now`; a clock that is set back makes no rest longer."""
        found = self._found.get(way)
        return found is not None and found.tried <= now < found.tried + found.rest

    def longest(self, ways: Collection[Way]) -> Trouble | None:
        """The trouble of one of `ways` that has lasted longest, if there is any."""
        found = [trouble for way, trouble in self._found.items() if way in ways]
        return min(found, key=lambda each: each.since, default=None)


def delay(failures: int) -> timedelta:
    """How long to wait after so many failures: twice as long each time, within bounds, and up to a half taken off, so
    that many who failed together do not come back together."""
    longest = min(SOONEST * 2 ** min(failures - 1, 10), LATEST)
    return longest * random.uniform(0.5, 1)  # noqa: S311 - nobody gains by guessing it


def is_of_place(error: Exception) -> bool:
    """Whether the place or the way there is to blame (a TimeoutError is an OSError too), and not the message."""
    return isinstance(error, ChannelError | OSError) and not isinstance(error, MessageRefused)


def _rest(error: Exception, failures: int) -> timedelta:
    if not is_of_place(error):
        return timedelta(0)
    rest = RARELY if isinstance(error, PlaceMissing) else delay(failures)
    wished = error.retry_after if isinstance(error, ChannelError) else None
    # in this order, so that what is no number at all counts as the longest
    return max(rest, timedelta(seconds=min(LONGEST.total_seconds(), wished))) if wished is not None else rest


def _why(error: Exception) -> str:
    if isinstance(error, ChannelError | OSError):
        return visible(str(error)[:MOST]).rstrip(".")
    return f"a message could not be made ({type(error).__name__}, see the log)"
