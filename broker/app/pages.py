"""The pages and the API, made when somebody first asks for them: agents do not wait for that at the start.

What belongs here: when that is. What does not: what they answer (`broker.web`).
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable

from starlette.types import ASGIApp, Receive, Scope, Send


class Pages:
    """An ASGI application that is made at its first request.

    Args:
        make: makes it. Called in a thread, as it imports some tenths of a second; calls go on meanwhile.
    """

    def __init__(self, make: Callable[[], ASGIApp]) -> None:
        self._make = make
        self._made: asyncio.Task[ASGIApp] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, as ASGI has it. Requests that come while it is made wait for the same; what failed is tried again."""
        if self._made is None or (self._made.done() and self._made.exception() is not None):
            self._made = asyncio.create_task(asyncio.to_thread(self._stays))
        app = await asyncio.shield(self._made)
        await app(scope, receive, send)

    def _stays(self) -> ASGIApp:
        app = self._make()
        if gc.get_freeze_count():  # what the process had at its start is not looked through for garbage: nor is this
            gc.freeze()
        return app
