"""Two brokers on one PostgreSQL store are one to agents and people, also when one of them ends or is killed."""

from __future__ import annotations

import asyncio
from statistics import median
from time import perf_counter

import pytest
import sqlalchemy as sa

from broker.domain.approvals import State
from tests.crashes.house import ALICE, BOB, House, Left, Running
from tests.servers import BOUND, PAUSE
from tests.servers.scripted import Slow

PENDING, SUCCEEDED, INTERRUPTED = State.PENDING, State.SUCCEEDED, State.INTERRUPTED

LISTENING = sa.text(
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = :name AND query LIKE '%clock_timestamp%'"
)

pytestmark = pytest.mark.parametrize("new_store_url", ["postgresql"], indirect=True)


async def test_a_decision_made_at_one_reaches_the_caller_at_the_other_at_once(house: House) -> None:
    callers, took = [await house.caller() for _ in range(5)], list[float]()
    async with house.broker() as one, house.broker() as other:
        for caller in callers:
            call = one.asks(caller)
            waiting = await other.approval(caller, PENDING)
            begun = perf_counter()
            await other.approve(waiting)
            assert (await call)["status"] == "approved"
            took.append(perf_counter() - begun)
        together = one.asks(caller := await house.caller(), "act_together")
        waiting = await other.approval(caller, PENDING)
        await asyncio.gather(one.approve(waiting, ALICE), other.approve(waiting, BOB))
        assert set((await together)["reviewers"]) == {ALICE.email, BOB.email}
        await says_when_it_does_not_listen(house, one)
    assert median(took) < 0.25, "looks alone would take half a second"
    assert [await house.left(each) for each in (*callers, caller)] == [Left([SUCCEEDED], (0, 1), 1)] * 6


async def says_when_it_does_not_listen(house: House, broker: Running) -> None:
    """It cannot connect anew for a while; what it has open works on."""
    url = house.store.engine.url
    engine = sa.create_engine(url.set(database="postgres"), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        for allowed, says in (("false", "degraded"), ("true", "ok")):
            connection.execute(sa.text(f"ALTER DATABASE {url.database} ALLOW_CONNECTIONS {allowed}"))
            connection.execute(LISTENING, {"name": url.database})
            async with asyncio.timeout(BOUND):
                while (ready := await broker.get("/readyz"))["status"] != says:  # noqa: ASYNC110
                    await asyncio.sleep(PAUSE)
            assert ("not listening" in ready["store"].get("trouble", "")) is (says == "degraded")
    engine.dispose()


async def test_what_waited_or_ran_at_one_that_is_killed_is_taken_over_and_the_others_calls_are_not_touched(
    house: House,
) -> None:
    waits, runs, stays = [await house.caller() for _ in range(3)]
    async with house.broker() as survivor:
        async with house.dying() as victim:
            slow = Slow(house.server)
            victim.asks(runs)
            await victim.approve(await survivor.approval(runs, PENDING))
            await slow.began.wait()
            victim.asks(waits)
            here = survivor.asks(stays)
            await survivor.approval(waits, PENDING)
            await survivor.approval(stays, PENDING)
        slow.end.set()
        await survivor.approval(waits, PENDING, "gone")
        await survivor.runs_for_its_retry(waits)
        await survivor.is_told_as_unknown(runs)
        await survivor.approve(await survivor.approval(stays, PENDING))
        assert (await here)["status"] == "approved"
    assert await house.left(waits) == await house.left(stays) == Left([SUCCEEDED], (0, 1), 1)
    assert await house.left(runs) == Left([INTERRUPTED], (0, 1), 1)


async def test_they_are_restarted_one_after_the_other_and_no_call_is_lost(house: House) -> None:
    moves, stays = await house.caller(), await house.caller()
    async with house.broker() as old:
        async with house.broker() as first:
            told, here = first.asks(moves), old.asks(stays)
            await old.approval(moves, PENDING)
            await old.approval(stays, PENDING)
            first.process.stop()
            assert (await told)["status"] == "pending"
            retry = old.asks(moves)
            await old.approval(moves, PENDING)
            await first.process.ended()
        async with house.broker() as new:
            for caller in (moves, stays):
                await new.approve(await new.approval(caller, PENDING))
            assert [(await each)["status"] for each in (retry, here)] == ["approved"] * 2
    assert await house.left(moves) == await house.left(stays) == Left([SUCCEEDED], (0, 1), 1)
