"""The matrix: which cases there are, and what has to come of each.

What belongs here: the table, as rules. What does not: making it happen (`plays`), showing it (`page`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from itertools import product

from tests.clients.matrix.drivers import Client


class Way(StrEnum):
    """How a client reaches the broker."""

    HTTP = "HTTP"
    CONNECT = "connect"


class Scenario(StrEnum):
    """What becomes of a held call."""

    APPROVED = "approved"
    REJECTED = "rejected"
    EXPIRED = "nobody answers"
    CANCELLED = "cancelled"
    KILLED = "client killed"
    STOPPED = "broker stopped"
    CRASHED = "broker killed"


DECIDED = (Scenario.APPROVED, Scenario.REJECTED, Scenario.EXPIRED)
RESTARTED = (Scenario.STOPPED, Scenario.CRASHED)


class First(StrEnum):
    """What the first call ends with. After anything but the answer the agent makes the identical call."""

    ANSWER = "answer"
    TICKET = "ticket"
    LIMIT = "own limit"
    ERROR = "error"
    DOUBT = "doubt"
    NOTHING = "nothing"


@dataclass(frozen=True)
class Case:
    """One cell of the matrix.

    Args:
        token: whether the client asks for progress.
        limited: whether it has a limit of its own, shorter than the broker's patience and than what people take.
    """

    client: Client
    way: Way
    token: bool
    limited: bool
    scenario: Scenario

    @property
    def name(self) -> str:
        """What its call is known by."""
        token, limit = "token" if self.token else "no token", "limit" if self.limited else "patient"
        return f"{self.client.value}; {self.way}; {token}; {limit}; {self.scenario}"


@dataclass(frozen=True)
class Outcome:
    """What came of a case.

    Args:
        first: what the agent had of its first call.
        answer: the `status` that the agent was told in the end, and the reason or cause if there was one.
        effects: how often its call reached the server.
        queue: what people were shown, in order; what was shown again counts once.
    """

    first: First
    answer: str
    effects: int
    queue: tuple[str, ...]


def cases(clients: Iterable[Client]) -> Iterator[Case]:
    """Every case of these clients."""
    for client, way, token, limited, scenario in product(clients, Way, (True, False), (False, True), Scenario):
        yield Case(client, way, token, limited, scenario)


def expected(case: Case) -> Outcome:
    """What has to come of a case."""
    first = _first(case)
    match case.scenario:
        case Scenario.REJECTED:
            return Outcome(first, "rejected: not today", 0, (*_waiting(case, first), "rejected"))
        case Scenario.EXPIRED:
            return Outcome(first, "expired: unanswered", 0, (*_waiting(case, first), "expired"))
        case Scenario.CANCELLED:
            shown = ("waiting", "gone: cancelled", "withdrawn") if tells_that_it_gives_up(case.client) else ("waiting",)
            return Outcome(first, "", 0, shown)
        case _:
            return Outcome(first, "approved", 1, (*_waiting(case, first), "claimed", "succeeded"))


def wrong(outcomes: Mapping[Case, Outcome | str]) -> list[str]:
    """What came of cases, or went wrong with them, and should not have: a paragraph for each."""
    return [
        f"{case.name}\n  {outcome}\n  instead of {expected(case)}"
        for case, outcome in outcomes.items()
        if outcome != expected(case)
    ]


def tells_that_it_gives_up(client: Client) -> bool:
    """Python 1.x keeps to itself that a call was cancelled, or that its limit was reached."""
    return client is not Client.PYTHON_1


def notices_that_an_answer_broke_off(case: Case) -> bool:
    """Over HTTP only Python 2.x does; the others wait for their own limit."""
    return case.way is Way.CONNECT or case.client in (Client.PYTHON_2_MODERN, Client.PYTHON_2_LEGACY)


def _first(case: Case) -> First:
    match case.scenario:
        case Scenario.CANCELLED:
            return First.ERROR
        case Scenario.KILLED:
            return First.NOTHING
        case Scenario.STOPPED:
            return First.TICKET
        case Scenario.CRASHED if notices_that_an_answer_broke_off(case):
            return First.DOUBT if case.way is Way.CONNECT else First.ERROR
        case Scenario.CRASHED:
            return First.LIMIT if case.limited else First.NOTHING
        case _ if case.limited:
            return First.LIMIT
        case Scenario.EXPIRED:
            return First.ANSWER
        case _:
            return First.ANSWER if case.token else First.TICKET


def _waiting(case: Case, first: First) -> tuple[str, ...]:
    """What people are shown until the decision, and of an approved call until it runs."""
    match case.scenario:
        case Scenario.KILLED:
            gone = "gone: cancelled" if case.client.modern else "gone: lost"
            return ("waiting", gone, "approved", "back")
        case Scenario.STOPPED:
            return ("waiting", "gone: the broker stopped", "back", "approved")
        case Scenario.CRASHED:
            return ("waiting", "gone: the broker that it waited at ended", "back", "approved")
        case _:
            decided = ("approved",) if case.scenario is Scenario.APPROVED else ()
            return ("waiting", *_absence(case, first), *decided)


def _absence(case: Case, first: First) -> tuple[str, ...]:
    match first:
        case First.ANSWER:
            return ()
        case First.TICKET:
            return ("gone: it got a ticket", "back")
        case _:
            why = "cancelled" if tells_that_it_gives_up(case.client) else "it made the call again"
            return (f"gone: {why}", "back")
