"""Where tests kill a broker process: points in the life of a held call at which a crash leaves something to mend.

What belongs here: the points, and dying at one. What does not: what a start makes of what a dead process left
(`broker.approvals.sweeps`).

Without `BROKER_TEST_STOP_AT` in the environment of a start they do nothing.
"""

from __future__ import annotations

import logging
import os
import signal
from enum import StrEnum

from broker.errors import SettingsError

log = logging.getLogger(__name__)

VARIABLE = "BROKER_TEST_STOP_AT"


class Point(StrEnum):
    """A moment after which the store, the MCP server, the agent or the people know more than one of the others."""

    BEFORE_SUBMIT = "before_submit"
    AFTER_SUBMIT = "after_submit"
    AFTER_DECIDING_VOTE = "after_deciding_vote"
    BETWEEN_CLAIM_AND_DISPATCH = "between_claim_and_dispatch"
    BEFORE_RESULT_IS_STORED = "before_result_is_stored"
    BEFORE_RESULT_IS_SENT = "before_result_is_sent"
    BEFORE_MESSAGE_IS_STORED = "before_message_is_stored"


_armed: Point | None = None


def arm() -> None:
    """Let this process die at the point that the environment names; nothing happens when it names none.

    Raises:
        SettingsError: there is no such point.
    """
    global _armed  # noqa: PLW0603 - a process dies as a whole
    if (name := os.environ.get(VARIABLE)) is None:
        return
    try:
        _armed = Point(name)
    except ValueError:
        known = ", ".join(Point)
        raise SettingsError(
            f"{VARIABLE} in the environment: there is no point {name!r} to stop at, only {known}. It is for tests: "
            "unset it."
        ) from None
    log.warning("A TEST: this process kills itself when it reaches %r, since %s says so.", name, VARIABLE)


def reached(point: Point) -> None:
    """This process is at `point`: it goes on, unless it was to die here."""
    if point is _armed:
        os.kill(os.getpid(), signal.SIGKILL)
