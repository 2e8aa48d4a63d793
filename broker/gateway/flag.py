"""An event that one task waits for: asyncio keeps a queue for more waiters, half a kilobyte for each held call."""

from __future__ import annotations

import asyncio


class Flag:
    """Like `asyncio.Event`, for one waiter at a time."""

    __slots__ = ("_set", "_waiter")

    def __init__(self) -> None:
        self._set = False
        self._waiter: asyncio.Future[None] | None = None

    def is_set(self) -> bool:
        """Whether it is set."""
        return self._set

    def set(self) -> None:
        """Set it, and let the waiter go on."""
        self._set = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def clear(self) -> None:
        """Take it back."""
        self._set = False

    async def wait(self) -> None:
        """Return once it is set.

        Raises:
            RuntimeError: another task waits.
        """
        if self._waiter is not None:
            raise RuntimeError("Only one task can wait for this.")
        if self._set:
            return
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None
