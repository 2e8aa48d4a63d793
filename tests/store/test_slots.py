"""Limits: in no interval as long as the window are more than the maximum, whatever comes and goes."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from contextlib import contextmanager
from datetime import datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection

from broker.domain.calls import Charge
from broker.domain.canonical import new_id
from broker.store import slots
from broker.store.writer import Store
from tests.clock import NOON
from tests.domain.values import MINUTE, charge

MICROSECOND = timedelta(microseconds=1)
DAY = timedelta(days=1)


@contextmanager
def scratch(store: Store) -> Generator[Connection]:
    """A connection whose changes are undone."""
    with store.engine.connect() as connection:
        yield connection
        connection.rollback()


def taken(
    connection: Connection, now: datetime, *charges: Charge, call_id: str | None = None, held: bool = False
) -> bool:
    return slots.take(connection, call_id or new_id("call"), charges, now, held=held) is None


# each example undoes what it did, so one store serves them all
many = settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])


@many
@given(
    gaps=st.lists(st.integers(0, 40) | st.just(60), max_size=30),
    edge=st.sampled_from([-MICROSECOND, timedelta(), MICROSECOND]),
    maximum=st.integers(1, 4),
)
def test_no_interval_as_long_as_the_window_has_more_than_the_maximum(
    store: Store, gaps: list[int], edge: timedelta, maximum: int
) -> None:
    limit = charge(maximum=maximum)
    admitted: list[datetime] = []
    now = NOON
    with scratch(store) as connection:
        for gap in gaps:
            now += timedelta(seconds=gap) + (edge if gap else timedelta())
            recent = [at for at in admitted if at >= now - limit.window]
            assert taken(connection, now, limit) is (len(recent) < maximum)
            if len(recent) < maximum:
                admitted.append(now)
    for at in admitted:
        assert sum(at <= other <= at + limit.window for other in admitted) <= maximum


steps = st.tuples(
    st.sampled_from(["take", "hold", "stamp", "hold again", "give back", "forget", "wait"]), st.integers(0, 5)
)


@many
@given(st.lists(steps, max_size=40), st.sampled_from([MINUTE, DAY, 3 * DAY]))
def test_held_slots_count_until_they_are_stamped_and_tidying_up_changes_nothing(
    store: Store, happenings: list[tuple[str, int]], window: timedelta
) -> None:
    limit = charge(window=window, maximum=3)
    calls: dict[str, datetime | None] = {}  # when each was dispatched, None while it is held
    since: dict[str, datetime] = {}
    now = NOON
    with scratch(store) as connection:
        for what, number in happenings:
            chosen = list(calls)[number] if number < len(calls) else None
            if what == "wait":
                now += number * window / 5
            elif what == "forget":
                slots.forget_old(connection, now)
            elif what in ("take", "hold"):
                call_id = new_id("call")
                full = sum(at is None or at >= now - window for at in calls.values()) >= limit.max
                assert taken(connection, now, limit, call_id=call_id, held=what == "hold") is not full
                if not full:
                    calls[call_id], since[call_id] = (None if what == "hold" else now), now
            elif chosen is not None and what == "give back":
                slots.give_back(connection, chosen)
                del calls[chosen]
            elif chosen is not None and what == "stamp" and calls[chosen] is None:
                slots.stamp(connection, chosen, now, held_since=since[chosen])
                calls[chosen] = now
            elif chosen is not None and what == "hold again" and calls[chosen] is not None:
                live = calls[chosen]
                assert live is not None
                if live >= now - window:  # a call is released moments after it was dispatched
                    slots.hold_again(connection, chosen)
                    calls[chosen] = None


def test_a_slot_that_was_held_for_long_is_remembered_for_a_whole_window_from_its_dispatch(store: Store) -> None:
    limit = charge(window=DAY)
    dispatched = NOON + timedelta(hours=20)
    with scratch(store) as connection:
        assert taken(connection, NOON, limit, call_id="call_1", held=True)
        slots.stamp(connection, "call_1", dispatched, held_since=NOON)
        slots.forget_old(connection, dispatched + DAY)
        assert not taken(connection, dispatched + DAY, limit)
        assert taken(connection, dispatched + DAY + MICROSECOND, limit)


@many
@given(st.lists(st.integers(0, 60_000_000), min_size=1, max_size=6), st.integers(1, 3), st.integers(0, 60_000_000))
def test_a_slot_is_free_at_the_instant_that_is_told_and_not_a_microsecond_before(
    store: Store, ages: list[int], maximum: int, later: int
) -> None:
    now = NOON + MINUTE + later * MICROSECOND
    limit = charge(maximum=maximum)
    with scratch(store) as connection:
        for age in sorted(ages, reverse=True):
            taken(connection, NOON + MINUTE - age * MICROSECOND, limit)
        reached = slots.take(connection, "call_1", [limit], now)
        if reached is None:
            return
        assert reached.charge is limit
        assert reached.free_at is not None
        assert reached.free_at > now
        assert not taken(connection, reached.free_at - MICROSECOND, limit)
        assert taken(connection, reached.free_at, limit)


def test_when_fewer_are_allowed_than_were_taken_the_wait_is_for_enough_of_them_to_pass(store: Store) -> None:
    generous, strict = charge(maximum=3), charge(maximum=1)
    with scratch(store) as connection:
        for second in range(3):
            assert taken(connection, NOON + timedelta(seconds=second), generous)
        reached = slots.take(connection, "call_1", [strict], NOON + timedelta(seconds=3))
    assert reached is not None
    assert reached.free_at == NOON + timedelta(seconds=62) + MICROSECOND


@pytest.mark.parametrize("held", [0, 1, 2])
def test_nobody_knows_when_a_held_slot_is_free(store: Store, held: int) -> None:
    limit = charge(maximum=2)
    with scratch(store) as connection:
        for number in range(2):
            assert taken(connection, NOON, limit, held=number < held)
        reached = slots.take(connection, "call_1", [limit], NOON)
    assert reached is not None
    assert (reached.free_at is None) is (held == 2)


def test_a_limit_of_none_never_has_a_slot(store: Store) -> None:
    with scratch(store) as connection:
        reached = slots.take(connection, "call_1", [charge(maximum=0)], NOON)
    assert reached is not None
    assert reached.free_at is None


def test_of_several_charges_all_are_taken_or_none(store: Store) -> None:
    wide, narrow = charge(maximum=2, counter="wide"), charge(maximum=1, counter="narrow")
    with scratch(store) as connection:
        assert taken(connection, NOON, wide, narrow)
        assert not taken(connection, NOON, wide, narrow)
        assert taken(connection, NOON, wide)
        assert not taken(connection, NOON, wide)


def test_two_charges_on_one_counter_take_one_slot_and_both_windows_count(store: Store) -> None:
    burst, daily = charge(maximum=1), charge(window=DAY, maximum=3)
    admitted = 0
    with scratch(store) as connection:
        for minutes in range(10):
            admitted += taken(connection, NOON + minutes * timedelta(seconds=61), burst, daily)
            slots.forget_old(connection, NOON + minutes * timedelta(seconds=61))
        assert admitted == 3
        slots.forget_old(connection, NOON + DAY)
        assert not taken(connection, NOON + DAY, burst, daily)
        assert taken(connection, NOON + DAY + MICROSECOND, burst, daily)


def test_counters_are_apart_by_upstream_name_and_scope(store: Store) -> None:
    with scratch(store) as connection:
        for who in ("grant_1", "grant_2", '","', "\x00", "ü"):
            assert taken(connection, NOON, charge(who=who))
            assert not taken(connection, NOON, charge(who=who))


def test_what_is_given_back_is_free_at_once(store: Store) -> None:
    with scratch(store) as connection:
        assert taken(connection, NOON, charge(), charge(counter="other"), call_id="call_1")
        slots.give_back(connection, "call_1")
        assert taken(connection, NOON, charge(), charge(counter="other"))


def test_a_longer_window_of_an_edited_policy_still_sees_the_slots_of_the_last_day(store: Store) -> None:
    with scratch(store) as connection:
        assert taken(connection, NOON, charge())
        slots.forget_old(connection, NOON + timedelta(hours=23))
        assert not taken(connection, NOON + timedelta(hours=23), charge(window=DAY))


def test_old_slots_do_not_stay_for_ever(store: Store) -> None:
    with scratch(store) as connection:
        assert taken(connection, NOON, charge(), call_id="call_1")
        slots.forget_old(connection, NOON + DAY + MICROSECOND)
        assert connection.exec_driver_sql("SELECT count(*) FROM slots").scalar_one() == 0


async def test_calls_that_ask_at_once_share_the_slots(store: Store) -> None:
    async def admitted(number: int) -> bool:
        return await store.write(
            lambda tx: slots.take(tx.connection, f"call_{number}", [charge(maximum=3)], tx.now) is None
        )

    assert sum(await asyncio.gather(*(admitted(number) for number in range(20)))) == 3
