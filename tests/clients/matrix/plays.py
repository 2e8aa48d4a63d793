"""Making each case of the matrix happen, all of them beside each other, and seeing what comes of it.

What belongs here: what an agent and its reviewer do in each scenario, and what the queue has to say meanwhile. What
does not: what has to come of it (`cases`).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from broker.domain.answers import META_KEY
from tests.clients.matrix.cases import (
    RESTARTED,
    Case,
    First,
    Outcome,
    Scenario,
    Way,
    tells_that_it_gives_up,
)
from tests.clients.matrix.drivers import Calling, Client, Driver, Message, driver
from tests.clients.matrix.stage import GRACE, LIMIT, LIMIT_AGAIN, PATIENCE, SOON, Broker
from tests.servers import BOUND

AT_ONCE = 4
"""Processes that start beside each other, and calls that begin: more only take longer."""

LONGEST = 60.0
"""Seconds in which a case is played: an agent that never gets its answer goes on asking."""


@dataclass
class Victim:
    """A client that is killed as soon as all its calls wait.

    Args:
        together: for all its calls: they begin in one turn, or the first would come to the end of its limit before.
    """

    client: Driver
    together: asyncio.Barrier

    @contextlib.asynccontextmanager
    async def last(self, turn: asyncio.Semaphore) -> AsyncGenerator[None]:
        """A context for each of its calls to begin in, and wait; then it is killed."""
        if first := await self._meet():
            await turn.acquire()
        try:
            await self._meet()
            yield
            if await self._meet():
                self.client.kill()
        finally:
            if first:
                turn.release()

    async def _meet(self) -> bool:
        """Return when all its calls have come this far; whether this is one that does something for all."""
        return await asyncio.wait_for(self.together.wait(), BOUND) == 0


@dataclass
class Troupe:
    """The processes of one client."""

    own: Driver
    victim: Victim


@dataclass
class Play:
    """One case under way.

    Args:
        restart: called by each case that needs a broker that goes away, when its call waits there.
        turn: whose it is to begin.
    """

    case: Case
    broker: Broker
    troupe: Troupe
    restart: Callable[[], Awaitable[None]]
    turn: asyncio.Semaphore
    _approval: Message = field(default_factory=dict[str, Any])

    async def run(self) -> Outcome:
        """Play it."""
        match self.case.scenario:
            case Scenario.CANCELLED:
                first, answer = await self._cancel(), ""
            case Scenario.KILLED:
                first, answer = await self._kill()
            case Scenario.STOPPED | Scenario.CRASHED:
                first, answer = await self._restart()
            case _:
                first, answer = await self._decide()
        await self._shows(self._end)
        return Outcome(first, answer, self.broker.effects(self.case.name), shown(self._approval))

    # -- scenarios ----------------------------------------------------------------------------------------------------

    async def _decide(self) -> tuple[First, str]:
        """Somebody decides, or nobody does, while the agent waits, if need be with another call."""
        calling = await self._begin()
        asking = asyncio.ensure_future(self._asks(calling))
        if self.case.scenario is not Scenario.EXPIRED:
            if self.case.limited or not self.case.token:
                await self._shows("pending", "waiting", been="back")
            decision = ("approve",) if self.case.scenario is Scenario.APPROVED else ("reject", "not today")
            await self.broker.decide(self._approval, *decision)
        return await asking

    async def _asks(self, calling: Calling) -> tuple[First, str]:
        """The agent makes the identical call until there is an answer: what it had of the first, and that answer."""
        outcome = await self._ended(calling)
        first = ended = first_of(outcome)
        while ended is not First.ANSWER:
            if ended is First.TICKET or tells_that_it_gives_up(self.case.client):
                await self._shows(None, "gone")
            outcome = await self._ended(self._call(again=True))
            ended = first_of(outcome)
        return first, answer_of(outcome)

    async def _cancel(self) -> First:
        """The agent gives up and does not come back."""
        calling = await self._begin()
        self.troupe.own.cancel(calling)
        first = first_of(await self._ended(calling))
        if tells_that_it_gives_up(self.case.client):
            await self._shows("pending", "gone")
            await self._shows("withdrawn", "gone")
        return first

    async def _kill(self) -> tuple[First, str]:
        """The client dies, somebody approves, and another client of the agent makes the identical call."""
        async with self.troupe.victim.last(self.turn):
            calling = self._call(self.troupe.victim.client)
            await self._shows("pending", "waiting")
        await self._shows("pending", "gone")
        await self._approve()
        await self._shows("approved", "gone")
        assert self.broker.effects(self.case.name) == 0, "it ran for nobody"
        answer = answer_of(await self._ended(self._call(again=True)))
        return First.ANSWER if calling.outcome.done() else First.NOTHING, answer

    async def _restart(self) -> tuple[First, str]:
        """The broker goes away and comes back, and the agent makes the identical call."""
        calling = await self._begin()
        await self.restart()
        await self._shows("pending", "gone")
        first = First.NOTHING
        if self.case.limited or calling.outcome.done():
            first = first_of(await self._ended(calling))
        again = self._call(again=True)
        await self._shows("pending", "waiting", been="back")
        await self._approve()
        answer = answer_of(await self._ended(again))
        return first_of(calling.outcome.result()) if calling.outcome.done() else first, answer

    @property
    def _end(self) -> str:
        """The state that the approval ends in."""
        match self.case.scenario:
            case Scenario.REJECTED | Scenario.EXPIRED:
                return "rejected" if self.case.scenario is Scenario.REJECTED else "expired"
            case Scenario.CANCELLED:
                return "withdrawn" if tells_that_it_gives_up(self.case.client) else "pending"
            case _:
                return "succeeded"

    # -- their parts --------------------------------------------------------------------------------------------------

    async def _begin(self) -> Calling:
        """Call, a few at a time, and see that people are asked."""
        async with self.turn:
            calling = self._call()
            await self._shows("pending", "waiting")
        return calling

    def _call(self, client: Driver | None = None, *, again: bool = False) -> Calling:
        tool = "act_soon" if self.case.scenario is Scenario.EXPIRED else "act"
        limit = (LIMIT_AGAIN if again else LIMIT) if self.case.limited else None
        over = f"{self.case.way}, restarted" if self.case.scenario in RESTARTED else self.case.way.value
        return (client or self.troupe.own).call(
            over, tool, {"name": self.case.name}, token=self.case.token, limit=limit
        )

    async def _ended(self, calling: Calling) -> Message:
        return await asyncio.wait_for(asyncio.shield(calling.outcome), BOUND)

    async def _approve(self) -> None:
        await self.broker.decide(self._approval, "approve")

    async def _shows(self, state: str | None, caller: str | None = None, been: str = "waiting") -> None:
        """Wait until the queue has one approval of the call, in this state, with this caller, which has `been` that."""

        def is_so(one: Message) -> bool:
            return state in (None, one["state"]) and caller in (None, one["caller"]) and been in shown(one)

        self._approval = await self.broker.queue.until(self.broker, self.case.name, state, is_so)


def first_of(outcome: Message) -> First:
    """What the agent of a call is to think of it."""
    if "error" in outcome:
        return First.LIMIT if "timed out" in outcome["error"].lower() else First.ERROR
    status = outcome["result"]["_meta"][META_KEY]["status"]
    return {"pending": First.TICKET, "interrupted": First.DOUBT}.get(status, First.ANSWER)


def answer_of(outcome: Message) -> str:
    """What the agent of a call is told."""
    if "error" in outcome:
        return outcome["error"]
    told = outcome["result"]["_meta"][META_KEY]
    why = told.get("reason") or told.get("cause")
    return told["status"] if why is None else f"{told['status']}: {why}"


_SHOWN: dict[str, str] = {"submitted": "waiting", "resumed": "back", "abandoned": "gone"}


def shown(approval: Message) -> tuple[str, ...]:
    """What people were shown of an approval, in order; what they were shown again counts once."""
    words = list[str]()
    for row in approval["history"]:
        verb: str = row["kind"].removeprefix("approval.")
        word = _SHOWN.get(verb, verb)
        words.append(f"{word}: {row['detail']['why']}" if word == "gone" else word)
    return tuple(dict.fromkeys(word for word in words if word not in ("reviewed", "reminded")))


# -- all of them ------------------------------------------------------------------------------------------------------


@dataclass
class Restart:
    """An end of the broker, after which it comes back.

    Args:
        waiting: for every call that is there for it.
    """

    broker: Broker
    kill: bool
    waiting: asyncio.Barrier

    async def __call__(self) -> None:
        """Return when the broker is back."""
        if await asyncio.wait_for(self.waiting.wait(), BOUND) == 0:
            await self.broker.end(kill=self.kill)
            await self.broker.start()
        await asyncio.wait_for(self.waiting.wait(), BOUND)


async def play(wanted: Sequence[Case], steady: Broker, restarted: Broker) -> dict[Case, Outcome | str]:
    """Play these cases: gives what came of each, or what went wrong with it.

    Args:
        restarted: a broker that ends while calls wait, in one way and then in the other.
    """
    async with _troupes(wanted, steady, restarted) as troupes:

        async def beside_each_other(*scenarios: Scenario) -> dict[Case, Outcome | str]:
            mine = sorted((case for case in wanted if case.scenario in scenarios), key=_rank)
            turn = asyncio.Semaphore(AT_ONCE)
            restart = Restart(restarted, Scenario.CRASHED in scenarios, asyncio.Barrier(len(mine)))
            plays = [
                Play(case, restarted if case.scenario in RESTARTED else steady, troupes[case.client], restart, turn)
                for case in mine
            ]
            played = (asyncio.wait_for(each.run(), LONGEST) for each in plays)
            outcomes = await asyncio.gather(*played, return_exceptions=True)
            told = [one if isinstance(one, Outcome) else repr(one) for one in outcomes]
            return dict(zip(mine, told, strict=True))

        async def in_turn() -> dict[Case, Outcome | str]:
            return {**await beside_each_other(Scenario.STOPPED), **await beside_each_other(Scenario.CRASHED)}

        there = await asyncio.gather(beside_each_other(*set(Scenario).difference(RESTARTED)), in_turn())
    played = {**there[0], **there[1]}
    return {case: played[case] for case in wanted}


def _rank(case: Case) -> tuple[float, bool]:
    """The longest begin first; and last, of those that wait for all others, the ones with a limit."""
    return -_idle(case), case.limited


def _idle(case: Case) -> float:
    """Seconds for which a case waits for nothing but time."""
    match case.scenario:
        case Scenario.CANCELLED:
            return GRACE
        case Scenario.EXPIRED:
            return SOON
        case Scenario.APPROVED | Scenario.REJECTED if case.limited:
            return LIMIT
        case Scenario.APPROVED | Scenario.REJECTED if not case.token:
            return PATIENCE
        case _:
            return 0


@contextlib.asynccontextmanager
async def _troupes(wanted: Sequence[Case], steady: Broker, restarted: Broker) -> AsyncGenerator[dict[Client, Troupe]]:
    """The processes of each client, connected in each way to each broker."""
    doomed = Counter(case.client for case in wanted if case.scenario is Scenario.KILLED)
    async with contextlib.AsyncExitStack() as stack:
        made, opening = dict[Client, Troupe](), list[Awaitable[None]]()
        turn = asyncio.Semaphore(AT_ONCE)
        for client in dict.fromkeys(case.client for case in wanted):
            own, victim = [await stack.enter_async_context(driver(client)) for _ in range(2)]
            made[client] = Troupe(own, Victim(victim, asyncio.Barrier(doomed[client])))
            for way in Way:
                opening.append(_connect(turn, steady, way, client, {way.value: (own, victim)}))
                opening.append(_connect(turn, restarted, way, client, {f"{way}, restarted": (own,)}))
        await asyncio.gather(*opening)
        yield made


async def _connect(
    turn: asyncio.Semaphore, broker: Broker, way: Way, client: Client, named: Mapping[str, Iterable[Driver]]
) -> None:
    """Open connections for one grant, and use each: what the first call alone waits for counts for no limit."""
    grant = await broker.grant(f"{client.value} over {way}")
    for name, drivers in named.items():
        for one in drivers:
            async with turn:
                await one.open(name, f"{broker.url}/mcp/one", grant, bridged=way is Way.CONNECT)
                await asyncio.wait_for(one.call(name, "look", {"name": "first"}).outcome, BOUND)
