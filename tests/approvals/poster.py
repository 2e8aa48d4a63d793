"""A process of its own that tells what is owed, and dies between posting and storing.

`python -m tests.approvals.poster STORE_URL BOARD_URL`: kills itself when its first message hangs on the board.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys

import aiohttp

from broker.approvals.notices import Notice, Reference
from broker.store.writer import Store
from tests.approvals.office import Office
from tests.clock import MovableClock
from tests.servers.board import BoardChannel


class Killer(BoardChannel):
    """Posts, and is dead before anybody hears of it."""

    async def show(self, place: str, notice: Notice, reference: Reference | None) -> Reference:
        """Hang a message up."""
        await super().show(place, notice, reference)
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError("it lives")


async def main(store_url: str, board_url: str) -> None:
    """Tell what is owed."""
    async with aiohttp.ClientSession() as http:
        outbox = await Office.another_outbox(Store(store_url, MovableClock()), Killer(board_url, http))
        await outbox.deliver()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2]))
