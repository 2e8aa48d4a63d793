"""The whole life of approvals under anything that agents, people, clocks and crashes may do, in any order."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test

from broker.approvals.sweeps import recover, sweep
from broker.domain.answers import Answer
from broker.domain.approvals import TRANSITIONS, Approval, Decision, State
from broker.domain.audit import Kind, Row, verify
from broker.domain.calls import Action, Call, Charge, Verdict
from broker.domain.paths import parse_path
from broker.domain.people import Person
from broker.domain.redaction import MASK
from broker.domain.reviewers import eligible
from broker.errors import NotFound, ReviewRefused, TransitionRefused
from broker.store import approvals as stored
from broker.store import audit, grants
from broker.store.approvals import ApprovalFilter
from broker.store.audit import AuditFilter
from broker.store.writer import Store
from tests.approvals.desk import OUTSIDER, Desk, again, hold, replayed
from tests.clock import MovableClock
from tests.domain.values import ALICE, BOB, CAROL, DEFINITION, OLGA, charge

PEOPLE = {person.email: person for person in (ALICE, BOB, CAROL, OLGA, OUTSIDER)}
RAN = {State.EXECUTING, State.SUCCEEDED, State.FAILED, State.INTERRUPTED}
FOLLOWS = {(before, after) for (before, _), ends in TRANSITIONS.items() for after in ends}
LIMIT = 3

chosen = st.integers(0, 9)


class Life(RuleBasedStateMachine):
    """Two processes on one store, several people, one agent. After each step the store is held against the rules."""

    def __init__(self, store: Store, clock: MovableClock) -> None:
        super().__init__()
        self.store = store
        self.clock = clock
        self.runner = asyncio.Runner()
        self.desk = self.runner.run(Desk.open(store, clock))
        self.services = [self.desk.approvals, self.desk.service()]
        self.known: dict[str, Approval] = {}
        self.rows: dict[str, list[Row]] = {}

    def teardown(self) -> None:
        self.runner.close()

    # -- what happens -------------------------------------------------------------------------------------------------

    @rule(key=st.integers(0, 1), quorum=st.integers(1, 2), service=st.integers(0, 1))
    def submit(self, key: int, quorum: int, service: int) -> None:
        self.hold(self.desk.call(key=key, password="s3cret"), quorum, service)

    @precondition(lambda self: self.known)
    @rule(number=chosen, service=st.integers(0, 1))
    def submit_the_identical_call(self, number: int, service: int) -> None:
        before = self.approval(number)
        unattended = self.unattended(self.desk.approvals.as_asked(before))
        told = self.hold(again(self.desk.approvals.as_asked(before)), before.requirement.quorum, service)
        if unattended and isinstance(told, Approval):  # a rejection that is remembered comes first
            assert told.id in unattended

    @precondition(lambda self: self.known)
    @rule(number=chosen, email=st.sampled_from(sorted(PEOPLE)), decision=st.sampled_from(Decision))
    def review(self, number: int, email: str, decision: Decision) -> None:
        approval = self.approval(number)
        person: Person = PEOPLE[email]
        given_before = {given.by: given.decision for given in approval.reviews}
        taken = self.step(self.desk.review(approval, person, decision))
        if taken is not None:
            assert eligible(approval.requirement, approval.call.grant, person)
            in_time = approval.state is State.PENDING and self.clock.now() < approval.deadline
            assert in_time or given_before.get(email) is decision

    @precondition(lambda self: self.known)
    @rule(number=chosen, service=st.integers(0, 1), change=st.sampled_from(["nothing"] * 4 + ["policy", "tool"]))
    def claim(self, number: int, service: int, change: str) -> None:
        verdict: Verdict = hold() if change != "policy" else Verdict(Action.DENY, "default")
        definition = DEFINITION if change != "tool" else {"name": "press"}
        claimed = self.step(
            self.services[service].claims.claim(self.approval(number).id, lambda _call: verdict, definition)
        )
        if claimed is not None and change != "nothing":
            assert isinstance(claimed, Approval)
            assert claimed.state is State.WITHDRAWN

    @precondition(lambda self: self.in_state(State.EXECUTING, State.INTERRUPTED))
    @rule(number=chosen, failed=st.booleans())
    def finish(self, number: int, failed: bool) -> None:
        found = self.in_state(State.EXECUTING, State.INTERRUPTED)
        self.step(self.desk.approvals.claims.finish(found[number % len(found)].id, failed=failed))

    @precondition(lambda self: self.known)
    @rule(number=chosen, how=st.sampled_from(["release", "interrupt"]))
    def give_up(self, number: int, how: str) -> None:
        approval_id = self.approval(number).id
        approvals = self.desk.approvals
        self.step(
            (approvals.claims.release if how == "release" else approvals.claims.interrupt)(approval_id, "it went away")
        )

    @precondition(lambda self: self.known)
    @rule(number=chosen)
    def abandon(self, number: int) -> None:
        self.step(self.desk.approvals.requests.abandon(self.approval(number).id, "lost"))

    @rule(seconds=st.sampled_from([1, 20, 60, 600, 1200]), service=st.integers(0, 1), sweeps=st.booleans())
    def time_passes(self, seconds: int, service: int, sweeps: bool) -> None:
        self.clock.advance(timedelta(seconds=seconds))
        if sweeps:
            self.step(sweep(self.services[service]))
            now = self.clock.now()
            assert all(each.deadline > now for each in self.in_state(State.PENDING))
            assert all(each.execute_by and each.execute_by > now for each in self.in_state(State.APPROVED))

    @rule()
    def restart(self) -> None:
        self.services = [self.desk.service(), self.desk.service()]
        self.desk.approvals = self.services[0]
        self.step(recover(self.desk.approvals))
        assert self.in_state(State.EXECUTING) == []

    @precondition(lambda self: len(self.known) > 2)
    @rule(chance=st.integers(0, 9))
    def revoke(self, chance: int) -> None:
        if chance == 0:
            self.step(self.store.write(lambda tx: grants.revoke(tx, "cli:root", self.desk.grant.id)))
            self.step(sweep(self.desk.approvals))
            assert self.in_state(State.PENDING, State.APPROVED) == []
            self.desk = self.runner.run(Desk.open(self.store, self.clock))
            self.services = [self.desk.approvals, self.desk.service()]
            self.known, self.rows = {}, {}

    # -- what must be -------------------------------------------------------------------------------------------------

    def hold(self, asked: Call, quorum: int, service: int) -> Approval | Answer | None:
        limit: Charge = charge(who=self.desk.grant.id, maximum=LIMIT, counter=str(asked.arguments["key"]))
        verdict = replace(hold(limit, quorum=quorum), redact=(parse_path("args.password"),))
        told = self.step(self.services[service].requests.submit(asked, verdict, DEFINITION))
        if isinstance(told, Answer):
            assert told.status in ("limited", "rejected")
        return told

    def step(self, work: Awaitable[Any]) -> Any:
        """Let something happen and look at all that has changed; None when it was refused."""
        refused = False
        try:
            result = self.runner.run(_awaited(work))
        except (ReviewRefused, TransitionRefused, NotFound):
            result, refused = None, True
        approvals, rows = self.look()
        for approval_id, after in approvals.items():
            before, mine = self.known.get(approval_id), rows[approval_id]
            new = mine[len(self.rows.get(approval_id, ())) :]
            assert not (refused and new)
            self.check_move(before, after, new)
            self.check_record(after, mine)
        self.known, self.rows = approvals, rows
        return result

    def check_move(self, before: Approval | None, after: Approval, new: list[Row]) -> None:
        if before is None:
            assert (after.state, len(new)) == (State.PENDING, 1)
        elif _but_lease(before) == _but_lease(after):
            assert [row.kind for row in new] in ([], [Kind.APPROVAL_LATE])
        else:
            assert not before.state.final
            assert before.state is after.state or (before.state, after.state) in FOLLOWS
            assert len(new) == 1
            assert before.reviews == after.reviews[: len(before.reviews)]

    def check_record(self, approval: Approval, rows: list[Row]) -> None:
        kinds = [row.kind for row in rows]
        assert replayed(rows) is approval.state
        assert approval.call.arguments["password"] == MASK
        assert approval.state.final == (approval.sealed is None)
        assert kinds.count(Kind.APPROVAL_CLAIMED) - kinds.count(Kind.APPROVAL_RELEASED) <= 1
        approvers = [given.by for given in approval.reviews if given.decision is Decision.APPROVE]
        assert len(set(approvers)) == len(approvers)
        assert all(eligible(approval.requirement, approval.call.grant, PEOPLE[by]) for by in approvers)
        if approval.state in RAN | {State.APPROVED}:
            assert len(approvers) >= approval.requirement.quorum
            assert all(given.decision is Decision.APPROVE for given in approval.reviews)

    def look(self) -> tuple[dict[str, Approval], dict[str, list[Row]]]:
        grant = self.desk.grant.id
        approvals, rows = self.runner.run(
            self.store.read(
                lambda session: (
                    stored.page(session, ApprovalFilter(grant=grant), limit=1000),
                    list(audit.stream(session, AuditFilter(grant=grant))),
                )
            )
        )
        of: dict[str, list[Row]] = {}
        for row in rows:
            if row.approval_id is not None:
                of.setdefault(row.approval_id, []).append(row)
        found = {approval.id: approval for approval in approvals}
        # as they were made, since an example has to run twice in the same way and ids are random
        return {approval_id: found.pop(approval_id) for approval_id in of} | found, of

    def approval(self, number: int) -> Approval:
        return list(self.known.values())[number % len(self.known)]

    def in_state(self, *states: State) -> list[Approval]:
        return [approval for approval in self.known.values() if approval.state in states]

    def unattended(self, asked: Call) -> set[str]:
        """Which open approvals of the identical call nobody waits for."""
        now = self.clock.now()
        return {
            each.id
            for each in self.known.values()
            if self.desk.approvals.as_asked(each).params == asked.params
            and each.caller == "gone"
            and (
                (each.state is State.PENDING and now < each.deadline)
                or (each.state is State.APPROVED and each.execute_by is not None and now < each.execute_by)
            )
        }


async def _awaited(work: Awaitable[Any]) -> Any:
    return await work


def _but_lease(approval: Approval) -> dict[str, Any]:
    """What changes with a move only; a lease is renewed without one."""
    return {name: getattr(approval, name) for name in approval.__slots__ if name != "lease_until"}


@pytest.mark.parametrize(("examples", "steps"), [(30, 40)])
def test_whatever_happens_the_rules_of_an_approvals_life_hold(
    store: Store, clock: MovableClock, store_url: str, examples: int, steps: int
) -> None:
    if not store_url.startswith("sqlite"):
        examples //= 2

    class LifeHere(Life):
        def __init__(self) -> None:
            super().__init__(store, clock)

    modest = settings(max_examples=examples, stateful_step_count=steps)
    run_state_machine_as_test(LifeHere, settings=modest)
    store.read_now(lambda session: verify(audit.stream(session), audit.head(session)))
