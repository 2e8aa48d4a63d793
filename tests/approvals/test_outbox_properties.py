"""Whatever fails, and in whatever order: in the end every place tells the truth."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test
from sqlmodel import select

from broker.approvals.notices import ANNOUNCED, REMARKED, worth_posting
from broker.approvals.sweeps import sweep
from broker.domain.approvals import Approval, Decision
from broker.domain.audit import Kind
from broker.domain.people import Person
from broker.errors import BrokerError
from broker.store import audit, people
from broker.store.people import CredentialKind
from broker.store.tables import NoticeRow
from broker.store.writer import Store
from tests.approvals.desk import Desk
from tests.approvals.office import MAIN, Office, open_office
from tests.clock import MovableClock
from tests.domain.values import ALICE, BOB, CAROL
from tests.servers.board import Message

DESKTOP = "slack:#desktop"
PEOPLE = (ALICE, BOB, CAROL)
NOT_ALWAYS = {Kind.APPROVAL_REMINDED, Kind.APPROVAL_ESCALATED, Kind.APPROVAL_SUBMITTED}
"""What is told as long as it waits for people, and what the board has nothing to say about."""
ORDERS = ("500", "close", "lost", "429 3", "404", "410", "done")

chosen = st.integers(0, 9)


class Telling(RuleBasedStateMachine):
    """People and agents at work while the board fails in every way."""

    def __init__(self, office: Office, runner: asyncio.Runner) -> None:
        super().__init__()
        self.runner = runner
        desk = runner.run(Desk.open(office.desk.store, office.desk.clock))
        self.office = runner.run(Office.at(desk, office.board, office.channel))
        runner.run(self.office.deliver_all())  # that there is a desk now
        office.board.clear()
        self.begin = runner.run(desk.store.read(audit.head)).seq
        self.held: list[Approval] = []
        self.unsure = 0  # messages that hang there, and the channel is told that they do not

    # -- what happens -------------------------------------------------------------------------------------------------

    @precondition(lambda self: len(self.held) < 4)
    @rule(channels=st.sampled_from([(), (DESKTOP, "web"), (MAIN, DESKTOP, "web")]), quorum=st.integers(1, 2))
    def hold(self, channels: tuple[str, ...], quorum: int) -> None:
        approval = self.do(self.office.held(*channels, quorum=quorum))
        assert isinstance(approval, Approval)
        self.held.append(approval)

    @precondition(lambda self: self.held)
    @rule(number=chosen, who=st.sampled_from(PEOPLE), decision=st.sampled_from([*Decision, Decision.APPROVE]))
    def review(self, number: int, who: Person, decision: Decision) -> None:
        self.do(self.office.decided(self.one(number), who, decision))

    @precondition(lambda self: self.held)
    @rule(number=chosen, step=st.sampled_from(["claim", "finish", "interrupt", "abandon"]))
    def go_on(self, number: int, step: str) -> None:
        desk, approval = self.office.desk, self.one(number)
        match step:
            case "claim":
                self.do(desk.claim(approval))
            case "finish":
                self.do(desk.approvals.claims.finish(approval.id, failed=False, result={"content": []}))
            case "interrupt":
                self.do(desk.approvals.claims.interrupt(approval.id, "it went away"))
            case _:
                self.do(desk.approvals.requests.abandon(approval.id, "lost"))

    @rule(who=st.sampled_from(PEOPLE))
    def make_a_link(self, who: Person) -> None:
        hour = timedelta(hours=1)
        link = CredentialKind.LINK
        self.do(self.office.desk.store.write(lambda tx: people.issue(tx, "cli:root", link, who.email, lifetime=hour)))

    @rule(seconds=st.sampled_from([1, 60, 300]))
    def time_passes(self, seconds: int) -> None:
        self.office.desk.clock.advance(timedelta(seconds=seconds))
        self.do(sweep(self.office.desk.approvals))

    @rule(orders=st.lists(st.sampled_from(ORDERS), min_size=1, max_size=4))
    def fail(self, orders: list[str]) -> None:
        self.office.board.orders.extend(orders)
        self.unsure += sum(order in ("lost", "410") for order in orders)

    @precondition(lambda self: self.office.board.messages)
    @rule(number=chosen)
    def delete(self, number: int) -> None:
        messages = list(self.office.board.messages.values())
        self.office.board.delete(messages[number % len(messages)])

    @rule()
    def deliver(self) -> None:
        self.do(self.office.deliver())

    @rule()
    def restart(self) -> None:
        self.runner.run(self.office.restart())

    # -- what must be -------------------------------------------------------------------------------------------------

    def teardown(self) -> None:
        self.office.board.orders.clear()
        self.runner.run(self.office.deliver_all())
        for approval in self.held:
            self.check(self.runner.run(self.office.desk.approvals.get(approval.id)))
        self.check_announced()
        self.runner.run(self.leave_nothing_open())

    def check(self, approval: Approval) -> None:
        history = self.runner.run(self.office.desk.approvals.history(approval.id))
        to_say = [row.seq for row in history if row.kind in REMARKED - NOT_ALWAYS]
        board = self.office.board
        for place, reference in self.runner.run(self.kept(approval)):
            mine = [each for each in self.ever_at(place) if each.text.get("approval") == approval.id]
            assert len(mine) <= 1 + self.unsure + sum(message in board.deleted for message in mine)
            said = [each["seq"] for message in mine for each in message.below]
            self.check_order(said)
            if reference is None:
                assert not worth_posting(approval)
            else:
                assert set(to_say) <= set(said)
                if (message := board.messages.get(reference["id"])) is not None:
                    assert self.runner.run(self.office.is_shown(approval, message))

    def check_announced(self) -> None:
        announced = [each.text["seq"] for each in self.ever_at(MAIN) if "approval" not in each.text]
        self.check_order(announced)
        rows = self.runner.run(self.office.desk.store.read(lambda session: list(audit.stream(session))))
        assert set(announced) == {row.seq for row in rows if row.kind in ANNOUNCED and row.seq > self.begin}

    def check_order(self, said: list[int]) -> None:
        assert said == sorted(said)
        assert len(said) - len(set(said)) <= self.unsure

    def ever_at(self, place: str) -> list[Message]:
        """What hung in a place, oldest first."""
        board = self.office.board
        every = [each for each in (*board.messages.values(), *board.deleted) if each.place == place]
        return sorted(every, key=lambda message: int(message.id))

    async def kept(self, approval: Approval) -> list[tuple[str, Any]]:
        query = select(NoticeRow.place, NoticeRow.reference).where(NoticeRow.approval_id == approval.id)
        return await self.office.desk.store.read(lambda session: list(session.exec(query).all()))

    async def leave_nothing_open(self) -> None:
        """So that the next example is not told of what is left of this one."""
        for approval in self.held:
            with contextlib.suppress(BrokerError):
                await self.office.desk.approvals.reviews.withdraw(approval.id, ALICE)
            with contextlib.suppress(BrokerError):
                await self.office.desk.approvals.claims.finish(approval.id, failed=False)
        await self.office.deliver_all()

    def do(self, work: Awaitable[Any]) -> Any:
        """Let something happen; None when it was refused."""

        async def done() -> Any:
            try:
                return await work
            except BrokerError:
                return None

        return self.runner.run(done())

    def one(self, number: int) -> Approval:
        return self.held[number % len(self.held)]


@pytest.mark.parametrize(("examples", "steps"), [(8, 30)])
def test_in_the_end_every_place_shows_the_last_state_and_every_remark_was_made_in_order(
    store: Store, clock: MovableClock, store_url: str, examples: int, steps: int
) -> None:
    if not store_url.startswith("sqlite"):
        examples //= 4
    with asyncio.Runner() as runner:
        opening = open_office(runner.run(Desk.open(store, clock)))
        office = runner.run(opening.__aenter__())

        class TellingHere(Telling):
            def __init__(self) -> None:
                super().__init__(office, runner)

        try:
            run_state_machine_as_test(TellingHere, settings=settings(max_examples=examples, stateful_step_count=steps))
        finally:
            runner.run(opening.__aexit__(None, None, None))
