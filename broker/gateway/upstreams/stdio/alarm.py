"""Time as the event loop counts it, how much of it there is, and one timer for the many deadlines of one process.

What belongs here: waking up in time. What does not: what is late (`connection`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass


def loop_time() -> float:
    """Seconds on the running loop's clock."""
    return asyncio.get_running_loop().time()


@dataclass(frozen=True, slots=True)
class Patience:
    """How many seconds a process and its clients have.

    Args:
        answer: for a sign of life towards a request.
        read: for a client to read something, while others wait for it.
        idle: without any use, before the process is ended.
    """

    answer: float = 600.0
    read: float = 30.0
    idle: float = 1800.0


class Alarm:
    """A timer that is set only when a deadline is nearer than all before it, so that most requests never touch it.

    Args:
        ring: called with the loop's time when a deadline may have come; returns the next one, or None.
    """

    def __init__(self, ring: Callable[[float], float | None]) -> None:
        self._ring = ring
        self._at = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def by(self, when: float) -> None:
        """Ring at `when`, a time of the loop, or before."""
        if self._timer is not None:
            if self._at <= when:
                return
            self._timer.cancel()
        self._at = when
        self._timer = asyncio.get_running_loop().call_at(when, self._go)

    def stop(self) -> None:
        """Never ring again, unless set again."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _go(self) -> None:
        self._timer = None
        following = self._ring(loop_time())
        if following is not None:
            self.by(following)
