"""Tasks in the store, with two processes on it: one goes on with each, and each is its own agent's."""

from __future__ import annotations

from typing import Any

import pytest

from broker.approvals.service import Approvals
from broker.approvals.sweeps import recover
from broker.domain.approvals import Approval, Caller, Cause, State
from broker.domain.audit import Kind
from broker.domain.canonical import Keyring
from broker.domain.tasks import TaskStatus
from broker.errors import NotFound, TransitionRefused
from broker.store.writer import Store
from tests.approvals.desk import Desk, again, hold, saying
from tests.approvals.test_races import ROUNDS, Work, at_once
from tests.domain.values import ALICE, DEFINITION, MINUTE

REQUEST: dict[str, Any] = {"headers": [["accept", "*/*"]], "meta": {"a": 1}}


@pytest.fixture
def services(desk: Desk, other_store: Store) -> list[Approvals]:
    """The service in two processes."""
    return [desk.service(), desk.service(other_store)]


async def task(desk: Desk, **arguments: Any) -> Approval:
    """A call that is held as a task."""
    held = await desk.approvals.requests.submit(desk.call(**arguments), hold(), DEFINITION, REQUEST)
    assert isinstance(held, Approval)
    return held


async def asking(desk: Desk, turn: int) -> Approval:
    """A task whose tool waits for input, and has it."""
    held = await task(desk, turn=turn)
    await desk.review(held, ALICE)
    claimed = await desk.claim(held)
    await desk.approvals.claims.await_input(claimed, "s", {"k": {"method": "m"}})
    await desk.approvals.tasks.update(held.id, held.call.grant.id, held.call.upstream, {"1.k": turn})
    return claimed


def going_on(service: Approvals, waiting: Approval) -> Work:
    """What a process does that found this task to go on."""
    return lambda: service.claims.continue_with_input(again(waiting.call), "s", saying(hold()), DEFINITION, waiting.id)


async def test_of_two_processes_one_goes_on_with_a_task_and_the_other_records_nothing(
    desk: Desk, services: list[Approvals]
) -> None:
    for turn in ROUNDS:
        waiting = await asking(desk, turn)
        outcomes = await at_once(*(going_on(service, waiting) for service in services), turn=turn)
        assert {type(each) for each in outcomes} == {Approval, TransitionRefused}
        assert await desk.last_kinds(2) == [Kind.APPROVAL_BROUGHT, Kind.APPROVAL_CONTINUED]


async def test_what_can_go_on_is_found_by_any_process_with_what_it_is_sent_with(
    desk: Desk, services: list[Approvals]
) -> None:
    held = await task(desk)
    assert await services[1].tasks.due() == []
    await desk.review(held, ALICE)
    (errand,) = await services[1].tasks.due()
    assert (errand.approval.id, errand.request, errand.brought) == (held.id, REQUEST, None)
    waiting = await asking(desk, 1)
    brought = {errand.approval.id: errand.brought for errand in await services[1].tasks.due()}
    assert brought == {held.id: None, waiting.id: {"inputResponses": {"k": 1}, "requestState": "s"}}


async def test_a_start_leaves_a_task_to_its_agent(desk: Desk) -> None:
    pending, running = await task(desk, n=1), await task(desk, n=2)
    await desk.review(running, ALICE)
    await desk.claim(running)
    await recover(desk.elsewhere(), alone=True)
    for held, state in ((pending, State.PENDING), (running, State.INTERRUPTED)):
        after = await desk.approvals.get(held.id)
        assert (after.state, after.caller) == (state, Caller.TASK)


@pytest.mark.parametrize(("grant", "upstream"), [("grant_other", None), (None, "other"), ("", "")])
async def test_a_task_is_found_by_its_own_grant_on_its_own_upstream_only(
    desk: Desk, grant: str | None, upstream: str | None
) -> None:
    held = await task(desk)
    whose = held.call.grant.id if grant is None else grant, held.call.upstream if upstream is None else upstream
    for work in (
        desk.approvals.tasks.get(held.id, *whose),
        desk.approvals.tasks.cancel(held.id, *whose),
        desk.approvals.tasks.update(held.id, *whose, {}),
    ):
        with pytest.raises(NotFound):
            await work
    assert (await desk.approvals.get(held.id)).state is State.PENDING


async def test_what_a_task_goes_on_with_is_lost_when_no_present_secret_opens_it_and_it_ends_at_once(desk: Desk) -> None:
    approved, brought = await task(desk), await asking(desk, 1)
    await desk.review(approved, ALICE)
    lost = desk.service(keyring=Keyring([b"a new secret, and the old one is gone"]))
    assert {errand.approval.id for errand in await lost.tasks.due() if errand.lost} == {approved.id, brought.id}
    for held in (approved, brought, approved):  # another process found it too
        await lost.tasks.give_up(held.id)
    withdrawn, interrupted = [await desk.approvals.get(each.id) for each in (approved, brought)]
    assert (withdrawn.state, interrupted.state) == (State.WITHDRAWN, State.INTERRUPTED)
    assert withdrawn.resolution is not None
    assert withdrawn.resolution.cause is Cause.SECRET
    assert await lost.tasks.due() == []
    await desk.check_record()


@pytest.mark.parametrize("called_off", [False, True])
@pytest.mark.parametrize("errored", [False, True])
async def test_a_late_answer_is_recorded_and_what_the_agent_was_told_of_its_task_stays(
    desk: Desk, called_off: bool, errored: bool
) -> None:
    held = await task(desk)
    await desk.review(held, ALICE)
    await desk.claim(held)
    whose = held.id, held.call.grant.id, held.call.upstream
    if called_off:
        await desk.approvals.tasks.cancel(*whose)
    await recover(desk.elsewhere(), alone=True)  # which takes this process for dead
    told = await desk.approvals.tasks.get(*whose)
    assert told.status is (TaskStatus.CANCELLED if called_off else TaskStatus.COMPLETED)
    await desk.approvals.claims.finish(held.id, failed=errored, errored=errored, result={"code": 1, "message": "m"})
    after = await desk.approvals.tasks.get(*whose)
    assert (after.status, after.answer, after.began_at) == (told.status, None, told.began_at)
    assert (await desk.last_kinds(1)) == [Kind.APPROVAL_LATE]


async def test_each_update_that_brings_something_changes_when_a_task_was_updated(desk: Desk) -> None:
    held = await task(desk)
    whose = held.id, held.call.grant.id, held.call.upstream
    await desk.review(held, ALICE)
    claimed = await desk.claim(held)
    await desk.approvals.claims.await_input(claimed, "s", {"a": {"method": "m"}, "b": {"method": "m"}})
    seen = list[tuple[TaskStatus, bool]]()
    for key in ("1.a", "1.a", "1.x", "1.b", "1.b"):
        before = await desk.approvals.tasks.get(*whose)
        desk.clock.advance(MINUTE)
        await desk.approvals.tasks.update(*whose, {key: {}})
        after = await desk.approvals.tasks.get(*whose)
        seen.append((after.status, after.updated_at > before.updated_at))
    asks, works = TaskStatus.INPUT_REQUIRED, TaskStatus.WORKING
    assert seen == [(asks, True), (asks, False), (asks, False), (works, True), (works, False)]
    assert await desk.last_kinds(2) == [Kind.APPROVAL_BROUGHT] * 2
