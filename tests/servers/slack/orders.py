"""Failures that a test orders, for the calls that come next.

What belongs here: which order meets which call. What does not: how it is carried out (web_api.py).
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from tests.servers.slack.calls import SlackRefusal


@dataclass
class Order:
    """What becomes of the next `times` calls of `method` (any, if it is empty).

    `what` is one of:
        `close`: the connection is closed, and nothing is done;
        `lost`: it is done, and the connection closed without an answer;
        `hang`: nothing is done, and no answer ever comes;
        `late`: it is done, and answered when `release` is set;
        `slow SECONDS`: it is done, and answered so much later;
        `garbage`: nothing is done, and the answer is an HTML page with status 200;
        a status with what `Retry-After` says, `429 30`, or without, `500`: nothing is done;
        anything else is an error of Slack's: nothing is done, and the answer is `ok: false` with it.
    """

    what: str
    method: str = ""
    times: float = 1


@dataclass
class Orders:
    """Orders, oldest first. Each call takes the first that fits it."""

    waiting: deque[Order] = field(default_factory=deque[Order])

    def take(self, method: str) -> str:
        """What becomes of a call of `method`: an order, or `done`."""
        for order in self.waiting:
            if order.method in ("", method):
                order.times -= 1
                if order.times <= 0:
                    self.waiting.remove(order)
                return order.what
        return "done"


def refuse(order: str) -> None:
    """Raise the error that was ordered, if the order is one of Slack's errors."""
    if order not in ("done", "lost", "late") and not order.startswith("slow "):
        raise SlackRefusal(order)
