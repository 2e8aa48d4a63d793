"""Limits: in no interval as long as the window are more dispatched than the maximum, whatever comes and goes."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection

from broker.domain.calls import UNIT, Charge
from broker.store import held, slots
from broker.store.columns import EPOCH
from broker.store.slots import LimitReached, Taken
from broker.store.writer import Store
from tests.clock import NOON, MovableClock
from tests.domain.values import MINUTE, charge
from tests.store.limits import World, blur
from tests.warm import warm

ROOT = Path(__file__).parents[2]
MICROSECOND = timedelta(microseconds=1)
MILLISECOND = timedelta(milliseconds=1)
SECOND, HOUR, DAY = timedelta(seconds=1), timedelta(hours=1), timedelta(days=1)
WINDOWS = (SECOND, MINUTE, HOUR, DAY, 90 * SECOND, 3 * DAY)


@contextmanager
def scratch(store: Store) -> Generator[Connection]:
    """A connection whose changes are undone."""
    with store.engine.connect() as connection, connection.begin() as transaction:
        yield connection
        transaction.rollback()


def admitted(connection: Connection, now: datetime, *charges: Charge) -> bool:
    return isinstance(slots.take(connection, charges, now), Taken)


def refused(connection: Connection, now: datetime, *charges: Charge) -> LimitReached:
    reached = slots.take(connection, charges, now)
    assert isinstance(reached, LimitReached)
    return reached


def rows(connection: Connection) -> int:
    return connection.exec_driver_sql("SELECT count(*) FROM counts").scalar_one()


# each example undoes what it did, so one store serves them all
many = settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])

# -- the bound --------------------------------------------------------------------------------------------------------

DOINGS = (
    *("take", "take", "take", "send", "send", "send", "edge", "edge", "edge"),
    *("hold", "hold", "claim", "claim", "release", "give back", "tidy", "wait", "pause"),
)
PAUSES = (timedelta(), MICROSECOND, 10 * MILLISECOND, 51 * MILLISECOND, 300 * MILLISECOND, 1100 * MILLISECOND)
doings = st.tuples(st.sampled_from(DOINGS), st.integers(0, 5))
amounts = st.sampled_from([UNIT] * 5 + [UNIT // 2, 2 * UNIT, 1])


def happens(world: World, what: str, number: int, amount: int) -> None:
    """One thing, if it can happen now; `number` says to which call or how long."""
    waiting, reserved = world.waiting, list(world.reserved)
    mine = waiting[number % len(waiting)] if waiting else None
    match what:
        case "wait":
            world.now += number * world.charge.window / 5
        case "edge":
            world.pass_to_the_edge(number)
        case "pause":
            world.now += PAUSES[number]
        case "tidy":
            slots.forget_old(world.connection, world.now)
        case "take" | "hold":
            world.arrive(amount, hold=what == "hold")
        case "claim" if reserved:
            world.claim(reserved[number % len(reserved)])
        case "give back" if mine or reserved:
            world.give_back((waiting + reserved)[number % len(waiting + reserved)])
        case "send" if mine:
            world.send(mine)
        case "release" if mine and world.calls[mine].held:
            world.release(mine)
        case _:
            pass


@many
@given(st.lists(st.tuples(doings, amounts), min_size=30, max_size=60), st.sampled_from(WINDOWS), st.integers(1, 4))
def test_in_no_interval_as_long_as_the_window_are_more_sent_and_what_fits_is_admitted(
    store: Store, happenings: list[tuple[tuple[str, int], int]], window: timedelta, maximum: int
) -> None:
    with scratch(store) as connection:
        world = World(connection, charge(window=window, maximum=maximum))
        for (what, number), amount in happenings:
            happens(world, what, number, amount)
        world.check()


edits = st.tuples(st.sampled_from(WINDOWS), st.integers(1, 4))


@many
@given(st.lists(st.one_of(*[doings] * 9, edits), min_size=30, max_size=60), edits)
def test_from_an_edit_of_the_policy_on_its_window_and_maximum_hold_for_what_is_decided_by_it(
    store: Store, happenings: list[Any], first: tuple[timedelta, int]
) -> None:
    with scratch(store) as connection:
        world = World(connection, charge(window=first[0], maximum=first[1]))
        for what, number in happenings:
            if isinstance(what, timedelta):
                world.edit(charge(window=what, maximum=number))
            else:
                happens(world, what, number, UNIT)
        world.check()


@many
@given(st.lists(st.integers(0, 30) | st.integers(0, 400), min_size=30, max_size=60), st.integers(1, 4))
def test_two_windows_on_one_counter_both_hold_and_a_call_counts_once(
    store: Store, gaps: list[int], maximum: int
) -> None:
    burst = replace(charge(window=SECOND, maximum=maximum), finest=SECOND)
    long = replace(charge(window=MINUTE, maximum=3 * maximum), finest=SECOND)
    now, sent = NOON, list[datetime]()
    with scratch(store) as connection:
        for gap in gaps:
            now += gap * 10 * MILLISECOND
            if gap % 7 == 0:
                slots.forget_old(connection, now)
            if admitted(connection, now, burst, long):
                sent.append(now)
            else:
                close = sum(at >= now - SECOND - blur(SECOND) for at in sent)
                far = sum(at >= now - MINUTE - MINUTE / 256 - blur(SECOND) for at in sent)
                assert close >= burst.max or far >= long.max
    for limit in (burst, long):
        assert all(sum(at <= other <= at + limit.window for other in sent) <= limit.max for at in sent)


@many
@given(
    st.lists(st.tuples(st.integers(0, 50), st.booleans()), min_size=20, max_size=60),
    st.sampled_from([SECOND, MINUTE, HOUR, DAY]),
    st.integers(1, 3),
)
def test_in_no_period_of_the_calendar_are_more_sent_and_what_fits_is_admitted(
    store: Store, arrivals: list[tuple[int, bool]], window: timedelta, maximum: int
) -> None:
    limit = replace(charge(window=window, maximum=maximum), calendar=True)
    now, sent = NOON + 0.97 * window, list[datetime]()
    with scratch(store) as connection:
        for gap, keeps in arrivals:
            now += gap * window / 30
            period = now - (now - EPOCH) % window
            taken = slots.take(connection, [limit], now)
            assert isinstance(taken, Taken) is (sum(at >= period for at in sent) < maximum)
            if isinstance(taken, Taken):
                assert not taken.late(period + window - MICROSECOND)
                assert taken.late(period + window)
                if keeps:
                    sent.append(now)
                else:
                    slots.give_back(connection, taken.slots)
            elif isinstance(taken, LimitReached):
                assert taken.free_at == period + window
            slots.forget_old(connection, now)


def test_the_calendars_periods_nest_when_the_policy_asks_for_a_longer_one(store: Store) -> None:
    seconds = replace(charge(window=SECOND, maximum=9), calendar=True)
    with scratch(store) as connection:
        for number in range(0, 3600, 3):
            assert admitted(connection, NOON + number * SECOND, seconds)
            if number % 100 == 0:
                slots.forget_old(connection, NOON + number * SECOND)
        end = NOON + HOUR - SECOND
        assert not admitted(connection, end, replace(seconds, window=HOUR, max=1200))
        assert admitted(connection, end, replace(seconds, window=HOUR, max=1201))
        assert not admitted(connection, end, replace(seconds, window=MINUTE, max=21))
        assert admitted(connection, end, replace(seconds, window=MINUTE, max=22))


def test_a_clock_that_is_set_back_frees_nothing(store: Store) -> None:
    for calendar in (False, True):
        limit = replace(charge(), calendar=calendar)
        with scratch(store) as connection:
            taken = slots.take(connection, [limit], NOON)
            assert isinstance(taken, Taken)
            assert not taken.late(NOON)
            assert taken.late(NOON - MICROSECOND)
            assert not admitted(connection, NOON - HOUR, limit)


# -- late calls -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("window", WINDOWS)
def test_a_call_is_late_when_it_was_on_its_way_for_longer_than_it_counts(store: Store, window: timedelta) -> None:
    with scratch(store) as connection:
        taken = slots.take(connection, [charge(window=window)], NOON)
        assert isinstance(taken, Taken)
        assert not taken.late(NOON + min(max(window / 256, 50 * MILLISECOND), SECOND))
        assert taken.late(NOON + blur(window))


def test_a_late_call_moves_its_slot_and_others_wait_for_a_window_from_there(store: Store) -> None:
    limit = charge()
    with scratch(store) as connection:
        taken = slots.take(connection, [limit], NOON)
        assert isinstance(taken, Taken)
        moved = slots.take_anew(connection, taken, [limit], NOON + 50 * SECOND)
        assert isinstance(moved, Taken)
        assert not admitted(connection, NOON + 109 * SECOND, limit)
        assert admitted(connection, NOON + 111 * SECOND, limit)


def test_a_call_that_is_late_by_more_than_a_window_finds_its_slot_taken(store: Store) -> None:
    limit = charge()
    with scratch(store) as connection:
        taken = slots.take(connection, [limit], NOON)
        assert isinstance(taken, Taken)
        assert admitted(connection, NOON + 61 * SECOND, limit)
        assert isinstance(slots.take_anew(connection, taken, [limit], NOON + 61 * SECOND), LimitReached)
        assert admitted(connection, NOON + 122 * SECOND, limit)  # of the refused one nothing is left


def test_each_time_that_a_call_is_late_it_has_twice_as_long(store: Store) -> None:
    limit, now = charge(window=SECOND), NOON
    with scratch(store) as connection:
        taken = slots.take(connection, [limit], now)
        for doubled in range(5):
            assert isinstance(taken, Taken)
            assert not taken.late(now + 50 * MILLISECOND * 2**doubled)
            now += 70 * MILLISECOND * 2**doubled
            assert taken.late(now)
            taken = slots.take_anew(connection, taken, [limit], now)


def test_what_nothing_counts_is_late_after_as_long_as_any(store: Store) -> None:
    with scratch(store) as connection:
        taken = slots.take(connection, [], NOON)
    assert isinstance(taken, Taken)
    assert not taken.late(NOON + SECOND)
    assert taken.late(NOON + SECOND + MICROSECOND)


# -- what is told -----------------------------------------------------------------------------------------------------


@many
@given(
    st.lists(st.tuples(st.integers(0, 60_000_000), amounts), min_size=1, max_size=6),
    st.integers(1, 3),
    amounts,
)
def test_a_call_fits_at_the_instant_that_is_told_and_not_a_microsecond_before(
    store: Store, earlier: list[tuple[int, int]], maximum: int, amount: int
) -> None:
    limit = replace(charge(maximum=maximum), amount=amount)
    with scratch(store) as connection:
        for age, earlier_amount in sorted(earlier, reverse=True):
            admitted(connection, NOON - age * MICROSECOND, replace(limit, amount=earlier_amount))
        reached = slots.take(connection, [limit], NOON)
        if isinstance(reached, Taken) or amount > maximum * UNIT:
            return
        assert reached.charge is limit
        assert reached.free_at is not None
        assert reached.free_at > NOON
        assert not admitted(connection, reached.free_at - MICROSECOND, limit)
        assert admitted(connection, reached.free_at, limit)


@pytest.mark.parametrize("waiting", [0, 1, 2])
def test_nobody_knows_when_a_held_slot_is_free(store: Store, waiting: int) -> None:
    limit = charge(maximum=2)
    with scratch(store) as connection:
        for number in range(2):
            if number < waiting:
                assert held.reserve(connection, f"call_{number}", [limit], NOON) is None
            else:
                assert admitted(connection, NOON, limit)
        assert (refused(connection, NOON, limit).free_at is None) is (waiting == 2)


@pytest.mark.parametrize(("maximum", "amount"), [(0, UNIT), (3, 3 * UNIT + 1), (2**31 - 1, 2**63 - 1)])
def test_what_is_more_than_the_maximum_never_fits(store: Store, maximum: int, amount: int) -> None:
    with scratch(store) as connection:
        reached = refused(connection, NOON, replace(charge(maximum=maximum), amount=amount))
        assert reached.free_at is None
        assert held.reserve(connection, "call_1", [reached.charge], NOON) == reached
        assert rows(connection) == 0


# -- several charges and counters -------------------------------------------------------------------------------------


def test_of_several_charges_all_are_taken_or_none(store: Store) -> None:
    wide, narrow = charge(maximum=2, counter="wide"), charge(maximum=1, counter="narrow")
    with scratch(store) as connection:
        assert admitted(connection, NOON, wide, narrow)
        assert not admitted(connection, NOON, wide, narrow)
        assert held.reserve(connection, "call_1", [wide, narrow], NOON) is not None
        assert admitted(connection, NOON, wide)
        assert not admitted(connection, NOON, wide)


@pytest.mark.parametrize("calendar", [False, True])
def test_what_only_looks_at_a_counter_sees_what_the_same_call_counts_there(store: Store, calendar: bool) -> None:
    counts = replace(charge(maximum=9), calendar=calendar)
    looks = replace(charge(maximum=2), calendar=calendar, amount=0)
    with scratch(store) as connection:
        for _ in range(2):
            assert admitted(connection, NOON, counts, looks)
        assert refused(connection, NOON, counts, looks).charge.rule == looks.rule
        assert admitted(connection, NOON, looks)  # alone it counts nothing
        assert admitted(connection, NOON, counts)
        assert not admitted(connection, NOON, looks)


def test_counters_are_apart_by_upstream_name_and_scope(store: Store) -> None:
    with scratch(store) as connection:
        for who in ("grant_1", "grant_2", '","', "\x00", "ü"):
            assert admitted(connection, NOON, charge(who=who))
            assert not admitted(connection, NOON, charge(who=who))
        assert admitted(connection, NOON, charge(counter="other"))
        assert admitted(connection, NOON, replace(charge(), upstream="other"))
        assert admitted(connection, NOON, replace(charge(), calendar=True))


def test_what_is_given_back_is_free_at_once_even_when_its_bucket_was_joined_to_a_wider_one(store: Store) -> None:
    limit = replace(charge(window=DAY, maximum=2), finest=SECOND)
    with scratch(store) as connection:
        one, other = (slots.take(connection, [limit], NOON + number * 20 * MILLISECOND) for number in range(2))
        assert isinstance(one, Taken)
        assert isinstance(other, Taken)
        for minutes in range(300):
            slots.forget_old(connection, NOON + minutes * MINUTE)
        assert rows(connection) == 1
        slots.give_back(connection, one.slots)
        assert admitted(connection, NOON + 5 * HOUR, limit)
        assert not admitted(connection, NOON + 5 * HOUR, limit)


# -- memory -----------------------------------------------------------------------------------------------------------


def test_a_hundred_million_a_minute_cost_no_memory(store: Store) -> None:
    limit = charge(maximum=100_000_000)
    with scratch(store) as connection:
        for number in range(2_000):
            assert admitted(connection, NOON + number * 30 * MILLISECOND, limit)
        assert rows(connection) <= 301  # a minute of fifths of a second


def test_counts_are_joined_as_they_age_and_gone_when_no_window_reaches_them(store: Store) -> None:
    limit = charge(window=SECOND, maximum=1_000)
    with scratch(store) as connection:
        for number in range(1_000):
            assert admitted(connection, NOON + number * 4 * MILLISECOND, limit)
        for age, most in ((timedelta(), 1_000), (MINUTE, 30), (DAY, 2), (365 * DAY, 1), (800 * DAY, 0)):
            slots.forget_old(connection, NOON + 4 * SECOND + age)
            assert rows(connection) <= most
            longest = charge(window=max(2 * age, MINUTE), maximum=999)
            assert admitted(connection, NOON + 4 * SECOND + age, longest) is (most == 0)


def test_sums_of_the_largest_amounts_stay_within_the_databases_integers(store: Store) -> None:
    most = 2**31 - 1
    limit = replace(charge(window=SECOND, maximum=most), amount=most * UNIT)
    now = NOON
    with scratch(store) as connection:
        for _ in range(4_400):  # more than 2**63 together
            now += 2 * SECOND
            assert admitted(connection, now, limit)
        assert not admitted(connection, now, replace(limit, window=DAY, amount=1))
        slots.forget_old(connection, now + 300 * DAY)
        assert not admitted(connection, now + 300 * DAY, replace(limit, window=365 * DAY, amount=1))


# -- across commits, processes and restarts ---------------------------------------------------------------------------


async def test_calls_that_ask_at_once_share_the_slots(store: Store) -> None:
    async def asks() -> bool:
        return await store.write(lambda tx: admitted(tx.connection, tx.now, charge(maximum=3)))

    assert sum(await asyncio.gather(*(asks() for _ in range(20)))) == 3


async def test_a_restart_forgets_nothing(store_url: str, clock: MovableClock) -> None:
    limit = charge(maximum=3)
    for opened, fits in ((1, True), (2, True), (3, True), (4, False)):
        store = Store(store_url, clock)
        if opened == 2:
            await store.write(lambda tx: held.reserve(tx.connection, "call_2", [limit], tx.now))
        else:
            assert await store.write(lambda tx: admitted(tx.connection, tx.now, limit)) is fits
        store.close()
        clock.advance(timedelta(seconds=1))


def test_processes_on_one_store_never_send_more_together(store_url: str) -> None:
    command = warm("tests.store.sender", store_url, "20", "2.2")
    running = [
        subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(2)
    ]
    for each in running:
        assert each.stdout
        assert each.stdout.readline() == "ready\n"
    for each in running:  # all of them, before the first is waited for
        assert each.stdin
        each.stdin.write("\n")
        each.stdin.flush()
    said = [each.communicate(timeout=60)[0] for each in running]
    sent = sorted(instant for words in said for instant in json.loads(words))
    assert all(sum(at <= other <= at + SECOND / MICROSECOND for other in sent) <= 20 for at in sent)
    assert len(sent) >= 40  # two windows and more went by
    ours, theirs = (json.loads(words) for words in said)
    assert ours
    assert theirs
