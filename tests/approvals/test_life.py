"""The whole life of approvals under anything that agents, people, clocks and crashes may do, in any order.

What belongs here: what may happen next. What does not: doing it (`world`), what must come of it (`oracle`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import timedelta

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from broker.domain.approvals import Decision, State
from broker.domain.audit import Row, verify
from broker.domain.calls import Escalation, Requirement
from broker.domain.people import Person
from broker.store import audit
from broker.store.writer import Store
from tests.approvals.desk import again, replayed
from tests.approvals.oracle import ANN, CLEO, LEASE, OLGA, OPEN, PEOPLE, ROOT, Known
from tests.approvals.world import POLICIES, World
from tests.clock import MovableClock

LATER = Escalation(timedelta(minutes=2), ("oncall",))
ORDINARY = (Requirement(), Requirement(("desk",), 2, escalate=LATER), Requirement(quorum=3, allow_self=True))

BEFORE = {
    State.APPROVED: State.PENDING,
    State.REJECTED: State.PENDING,
    State.EXECUTING: State.APPROVED,
    State.INTERRUPTED: State.EXECUTING,
}
"""The ordinary way to a state."""

requirements = st.builds(
    Requirement,
    approvers=st.sampled_from([(), (), ("desk",), ("desk", OLGA.email), (OLGA.email,)]),
    quorum=st.sampled_from([1, 1, 1, 2, 2, 3]),
    timeout=st.sampled_from([None, None, timedelta(minutes=5)]),
    channels=st.sampled_from([(), (), (), ("web",)]),
    allow_self=st.sampled_from([None, None, True, False]),
    escalate=st.sampled_from([None, LATER]),
)
chosen = st.integers(0, 19)
process = st.integers(0, 1)
strangers = st.sampled_from([False, False, False, True])
words = st.sampled_from(
    ["nothing yet", *["finish"] * 2, "fail", *["release"] * 2, *["ask"] * 2, "ask again", "ask often", "interrupt"]
)


class Life(RuleBasedStateMachine):
    """What a rule needs is brought about, so that one makes sense after any other."""

    def __init__(self, runner: asyncio.Runner, store: Store, clock: MovableClock) -> None:
        super().__init__()
        self.place = (runner, store, clock)

    @initialize(allow_self=st.booleans())
    def begin(self, allow_self: bool) -> None:
        self.world = World(*self.place, allow_self=allow_self)

    def teardown(self) -> None:
        """Nothing is left for ever: after a day without anybody everything is over."""
        if self.world.sound:
            self.world.clock.advance(timedelta(days=1))
            self.world.sweep(self.world.process())
            assert all(each.state.final for each in self.world.known.values())

    # -- the agent ----------------------------------------------------------------------------------------------------

    @rule(key=st.integers(0, 1), session=st.booleans(), wanted=requirements, by=process)
    def submit(self, key: int, session: bool, wanted: Requirement, by: int) -> None:
        self.world.hold(self.world.call(key, session=session), wanted, by)

    @rule(number=chosen, why=st.sampled_from(["cancelled", "lost"]), stranger=strangers)
    def go_away(self, number: int, why: str, stranger: bool) -> None:
        if one := self.some(number, *OPEN):
            self.world.leave(one, self.world.at(one) ^ stranger, why)

    @rule(
        number=chosen,
        by=process,
        state=st.sampled_from([State.PENDING, State.PENDING, State.APPROVED, State.APPROVED, State.REJECTED]),
        why=st.sampled_from(["cancelled", "cancelled", "lost"]),
        seconds=st.sampled_from([0, 60, 110, 120, 600]),
        definition=st.sampled_from([0] * 6 + [1]),
    )
    def come_back(self, number: int, by: int, state: State, why: str, seconds: int, definition: int) -> None:
        """The caller goes away, and after a while the identical call is made."""
        if one := self.some(number, state):
            self.world.leave(one, self.world.at(one), why)
            self.world.clock.advance(timedelta(seconds=seconds))
            self.world.hold(again(one.call), one.wanted, by, definition)

    # -- people -------------------------------------------------------------------------------------------------------

    @rule(
        number=chosen,
        who=st.sampled_from(sorted(PEOPLE)),
        decision=st.sampled_from([Decision.APPROVE, Decision.APPROVE, Decision.REJECT]),
        channel=st.sampled_from(["web", "web", "web", "api"]),
        seen=st.sampled_from([True] * 9 + [False]),
    )
    def review(self, number: int, who: str, decision: Decision, channel: str, seen: bool) -> None:
        if one := self.some(number, State.PENDING):
            self.world.review(one, PEOPLE[who], decision, channel, seen=seen)

    @rule(number=chosen, decision=st.sampled_from([Decision.APPROVE, Decision.APPROVE, Decision.REJECT]))
    def decide(self, number: int, decision: Decision) -> None:
        if one := self.some(number, State.PENDING):
            self.world.settle(one, decision)

    # -- the run ------------------------------------------------------------------------------------------------------

    @rule(number=chosen, stranger=strangers, definition=st.sampled_from([0] * 9 + [1]), word=words)
    def claim(self, number: int, stranger: bool, definition: int, word: str) -> None:
        """The waiting call uses its approval, and then something may come of it at once."""
        if one := self.some(number, State.APPROVED):
            by = self.world.at(one) ^ stranger
            self.world.claim(one, by, definition)
            self.world.carry_out(one, by, word)

    @rule(
        number=chosen,
        state=st.sampled_from([State.EXECUTING, State.EXECUTING, State.EXECUTING, State.INTERRUPTED]),
        stranger=strangers,
        word=words,
    )
    def carry_out(self, number: int, state: State, stranger: bool, word: str) -> None:
        if one := self.some(number, state):
            self.world.carry_out(one, self.holder(one) ^ stranger, word)

    @rule(
        number=chosen,
        by=process,
        which=st.sampled_from(["right", "right", "right", "used", "wrong"]),
        definition=st.sampled_from([0] * 9 + [1]),
    )
    def bring_input(self, number: int, by: int, which: str, definition: int) -> None:
        one = self.some(number, State.EXECUTING)
        if one and not one.marks:
            self.world.carry_out(one, self.holder(one), "ask")
        if one and one.marks:
            mark = {"right": one.marks[-1], "used": one.marks[0], "wrong": "wrong"}[which]
            self.world.bring_input(one, by, mark, definition)

    # -- time, crashes, administrators --------------------------------------------------------------------------------

    @rule(seconds=st.sampled_from([10, 60, 300, 900, -60, -600]), by=process, sweeps=st.booleans())
    def time_passes(self, seconds: int, by: int, sweeps: bool) -> None:
        self.world.clock.advance(timedelta(seconds=seconds))
        if sweeps:
            self.world.sweep(self.world.processes[by])

    @rule(
        number=chosen,
        state=st.sampled_from([State.PENDING, State.PENDING, State.APPROVED, State.EXECUTING]),
        which=st.integers(0, 3),
        seconds=st.sampled_from([-10, 0, 0, 10]),
        by=process,
        sweeps=st.sampled_from([True, True, False]),
    )
    def the_time_comes(self, number: int, state: State, which: int, seconds: int, by: int, sweeps: bool) -> None:
        """Just before, at, or just after an instant that matters to one of them."""
        one, clock = self.some(number, state), self.world.clock
        if one and (moments := one.moments()):
            clock.advance(moments[which % len(moments)] - clock.now() + timedelta(seconds=seconds))
            if sweeps:
                self.world.sweep(self.world.processes[by])

    @rule(
        what=st.sampled_from(["withdraw", "withdraw", "forget", "forget", "dismiss", "end session", "revoke"]),
        state=st.sampled_from([State.PENDING, State.APPROVED, State.REJECTED, State.REJECTED]),
        number=chosen,
        who=st.sampled_from([ROOT, ROOT, ANN, OLGA]),
        by=process,
    )
    def administer(self, what: str, state: State, number: int, who: Person, by: int) -> None:
        if one := self.some(number, state):
            match what:
                case "withdraw":
                    self.world.withdraw(one, who)
                case "forget":
                    self.world.forget(one, who)
                case "dismiss":
                    self.world.dismiss(CLEO)
                case "end session":
                    self.world.end_session(by)
                case _:
                    self.world.revoke()

    @rule(
        what=st.sampled_from(["restart", "crash", "crash", *POLICIES, "ordinary"]),
        state=st.sampled_from([State.PENDING, State.APPROVED, State.EXECUTING]),
        number=chosen,
        by=process,
    )
    def disturb(self, what: str, state: State, number: int, by: int) -> None:
        if self.some(number, state):
            match what:
                case "restart":
                    self.world.restart()
                case "crash":
                    self.world.crash(by)
                case _:
                    self.world.edit_the_policy(what, by)

    # -- whom it happens to -------------------------------------------------------------------------------------------

    def some(self, number: int, *states: State) -> Known | None:
        """One in these states, brought there if need be; now and then any. None when that cannot be."""
        known = self.world.known
        if number < 17 and not known.of(*states):
            self.bring(states[0])
        found = (number < 17 and known.of(*states)) or list(known.values())
        return found[number % len(found)] if found else None

    def bring(self, state: State) -> Known | None:
        """A call that was never made before, brought to this state if nothing stands in its way."""
        world, made = self.world, len(self.world.known)
        if state is State.PENDING:
            return world.hold(world.call(made + 2, session=True), ORDINARY[made % len(ORDINARY)], 0)
        one = self.bring(BEFORE[state])
        if one is not None:
            match state:
                case State.EXECUTING:
                    world.claim(one, world.at(one))
                case State.INTERRUPTED:
                    world.clock.advance(LEASE)
                    world.sweep(world.processes[1])
                case _:
                    world.settle(one, Decision.REJECT if state is State.REJECTED else Decision.APPROVE)
        return one

    def holder(self, one: Known) -> int:
        return int(one.holder == self.world.processes[1].claims.holder)


EXAMPLES = {"sqlite": 60, "postgresql": 54}
ENOUGH = 2000
"""The fewest steps on each store, things that happened and were looked at; a sixth more are usual."""


@pytest.fixture
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


@pytest.mark.timeout(300)
def test_whatever_happens_the_rules_of_an_approvals_life_hold(
    runner: asyncio.Runner, store: Store, clock: MovableClock
) -> None:
    lives: list[Life] = []

    class LifeHere(Life):
        def __init__(self) -> None:
            super().__init__(runner, store, clock)
            lives.append(self)

    name = store.engine.dialect.name
    modest = settings(max_examples=EXAMPLES[name], stateful_step_count=30, print_blob=True)
    run_state_machine_as_test(LifeHere, settings=modest)
    assert sum(life.world.steps for life in lives) >= ENOUGH
    of: dict[str | None, list[Row]] = {}
    rows = store.read_now(lambda session: list(audit.stream(session)))
    verify(rows, store.read_now(audit.head))
    for row in rows:
        of.setdefault(row.approval_id, []).append(row)
    for life in lives:
        assert all(replayed(of[one.id]) is one.state for one in life.world.known.values())
