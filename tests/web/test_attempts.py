"""Wrong proofs of who somebody is: counted by address and together, and no way to lock others out."""

from __future__ import annotations

from datetime import timedelta

import pytest

from broker.errors import TooManyAttempts
from broker.store.people import CredentialKind
from broker.web.attempts import Attempts
from tests.clock import MovableClock
from tests.web.desk import Desk


@pytest.fixture
def store_url(sqlite_url: str) -> str:
    """What the desk has its store on."""
    return sqlite_url


def fail(attempts: Attempts, address: str, times: int = 1) -> int:
    """How many of some wrong attempts are listened to."""
    for number in range(times):
        try:
            attempts.failed(address)
        except TooManyAttempts:
            return number
    return times


def test_an_address_has_so_many_in_a_minute(clock: MovableClock) -> None:
    attempts = Attempts(clock, each=3)
    assert fail(attempts, "192.0.2.1", 5) == 3
    clock.advance(timedelta(seconds=59))
    with pytest.raises(TooManyAttempts) as caught:
        attempts.check("192.0.2.1")
    assert caught.value.retry_after == 1
    attempts.check("192.0.2.2")
    clock.advance(timedelta(seconds=1))
    assert fail(attempts, "192.0.2.1", 5) == 3


def test_when_all_are_used_up_who_has_not_failed_is_still_listened_to(clock: MovableClock) -> None:
    attempts = Attempts(clock, each=5, together=10)
    assert [fail(attempts, f"192.0.2.{number}", 2) for number in range(7)] == [2, 2, 2, 2, 2, 1, 1]
    attempts.check("192.0.2.99")


def test_a_network_of_one_machine_is_one_address(clock: MovableClock) -> None:
    attempts = Attempts(clock, each=2)
    assert [fail(attempts, f"2001:db8:0:1::{number}") for number in range(3)] == [1, 1, 0]
    assert fail(attempts, "2001:db8:0:2::1") == 1
    assert [fail(attempts, f"::ffff:192.0.2.{number}", 3) for number in (1, 2)] == [2, 2]
    assert [fail(attempts, "fe80::1%eth0"), fail(attempts, ""), fail(attempts, "a name")] == [1, 1, 1]


def test_as_many_addresses_as_an_attacker_has_cost_bounded_memory(clock: MovableClock) -> None:
    attempts = Attempts(clock, each=1, together=10**9, addresses=100)
    for number in range(1000):
        attempts.failed(f"10.0.{number // 250}.{number % 250}")
    assert [fail(attempts, f"10.0.3.{number}") for number in (150, 249, 149)] == [0, 0, 1]


def test_a_clock_that_is_set_back_locks_nobody_out(clock: MovableClock) -> None:
    attempts = Attempts(clock, each=1)
    fail(attempts, "192.0.2.1")
    clock.advance(timedelta(days=-1))
    attempts.check("192.0.2.1")


async def test_wrong_links_end_in_a_refusal_that_says_when_to_try_again(desk: Desk, clock: MovableClock) -> None:
    client = desk.client()
    for number in range(20):
        got = await (client.get("/sign-in?token=x") if number % 2 else client.post("/sign-in", data={"token": "x"}))
        assert got.status_code == 404
    for got in (await client.get("/sign-in?token=x"), await client.post("/sign-in", data={"token": "x"})):
        assert (got.status_code, got.headers["retry-after"]) == (429, "60")
        assert "Too many attempts failed: wait 60 seconds, then try again." in got.text
    clock.advance(timedelta(minutes=1))
    assert (await client.get("/sign-in?token=x")).status_code == 404


async def test_wrong_tokens_end_in_a_refusal_that_programs_read(desk: Desk) -> None:
    client = desk.client(Authorization="Bearer bt_wrong")
    for _ in range(20):
        assert (await client.get("/api/v1/approvals")).status_code == 401
    got = await client.get("/api/v1/approvals")
    assert (got.status_code, got.json()["code"], got.headers["retry-after"]) == (429, "too_many_attempts", "60")


async def test_who_has_a_right_one_is_not_locked_out_by_wrong_ones_from_the_same_machine(desk: Desk) -> None:
    wrong = desk.client(Authorization="Bearer bt_wrong")
    assert [(await wrong.get("/api/v1/approvals")).status_code for _ in range(25)][-1] == 429
    assert (await (await desk.program("approver")).get("/api/v1/approvals")).status_code == 200
    token = await desk.secret("approver", CredentialKind.LINK)
    assert (await desk.client().get(f"/sign-in?token={token}")).status_code == 200
    assert (await desk.client().post("/sign-in", data={"token": token})).status_code == 303
