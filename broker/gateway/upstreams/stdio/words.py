"""What a process writes to its stderr, in the broker's log.

What belongs here: how much of it goes there. What does not: reading it (`process`).
"""

from __future__ import annotations

import asyncio
import logging

from broker.gateway.upstreams.stdio.lines import Lines, printable

MAX_LOG_LINE = 16 * 1024
EVERY = 5.0
MOST_LINES = 200
MOST_BYTES = 64 * 1024
"""Lines and bytes that are logged in so many seconds: each costs far more here than at the process."""


class Words:
    """Cuts what comes into lines and logs them; of those beyond the bounds only their number.

    Args:
        every: seconds for which the bounds hold.
    """

    def __init__(self, log: logging.Logger, every: float = EVERY) -> None:
        self._log = log
        self._every = every
        self._lines = Lines(MAX_LOG_LINE)
        self._count = self._size = self._left_out = 0
        self._timer: asyncio.TimerHandle | None = None

    def feed(self, data: bytes) -> None:
        """Log the lines that `data` completes, and a piece of one that is too long."""
        if self._is_enough and b"\n" in data:
            skipped, _, data = data.rpartition(b"\n")
            self._left_out += skipped.count(b"\n") + 1
            self._lines.take_rest()
        self._note(self._lines.feed(data))
        if self._lines.too_long:
            self._note([self._lines.take_rest()])

    def end(self) -> None:
        """Nothing more comes: log what is there."""
        self._note([self._lines.take_rest()])
        if self._timer is not None:
            self._timer.cancel()
            self._begin_anew()

    @property
    def _is_enough(self) -> bool:
        return self._count >= MOST_LINES or self._size >= MOST_BYTES

    def _note(self, lines: list[bytes]) -> None:
        for line in filter(None, lines):
            if self._timer is None:
                self._timer = asyncio.get_running_loop().call_later(self._every, self._begin_anew)
            if self._is_enough:
                self._left_out += 1
                continue
            self._count += 1
            self._size += len(line)
            self._log.info("%s", printable(line[:MAX_LOG_LINE]))

    def _begin_anew(self) -> None:
        if self._left_out:
            self._log.info("wrote too much at once: %d lines left out", self._left_out)
        self._timer = None
        self._count = self._size = self._left_out = 0
