"""Approvals whose tool asks for input: what waits, for whom, for how long, and what comes of it."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from broker.approvals.claims import LEASE
from broker.approvals.sweeps import recover, sweep
from broker.domain.answers import Answer, Status
from broker.domain.approvals import Approval, Caller, State
from broker.domain.audit import Kind
from broker.domain.calls import Action, Call
from broker.domain.canonical import Keyring
from broker.domain.moves import MOST_ROUNDS
from broker.domain.paths import parse_path
from broker.errors import TransitionRefused
from broker.store import audit, grants
from broker.store.slots import Taken
from broker.store.writer import Store
from tests.approvals.desk import Desk, again, hold, saying
from tests.approvals.test_races import ROUNDS, Work, at_once
from tests.domain.values import DEFINITION, MINUTE, QUARTER, charge

SECOND = timedelta(seconds=1)
REDACTED = replace(hold(), redact=(parse_path("args.password"),))


async def asked(desk: Desk, state: Any = "s", **arguments: Any) -> Approval:
    """An approval whose tool waits for input."""
    verdict = replace(REDACTED, charges=(charge(maximum=9),))
    claimed = await desk.claim(await desk.approved(verdict, desk.call(**arguments)), verdict=verdict)
    return await desk.approvals.claims.await_input(claimed, state)


async def brought(desk: Desk, call: Call, state: Any = "s", **changed: Any) -> Approval | Answer:
    """What comes of bringing input for `call`."""
    values: dict[str, Any] = {"verdict": hold(), "definition": DEFINITION, "service": desk.approvals, **changed}
    claims = values["service"].claims
    return await claims.continue_with_input(again(call), state, saying(values["verdict"]), values["definition"])


async def goes_on(desk: Desk, call: Call, state: Any = "s", **changed: Any) -> Approval:
    going_on = await brought(desk, call, state, **changed)
    assert isinstance(going_on, Approval)
    return going_on


async def told(desk: Desk, call: Call, state: Any = "s", **changed: Any) -> Answer:
    answer = await brought(desk, call, state, **changed)
    assert isinstance(answer, Answer)
    return answer


async def test_a_question_leaves_it_executing_by_nobody_until_the_agent_has_had_its_time(desk: Desk) -> None:
    waiting = await asked(desk)
    assert (waiting.state, waiting.holder, waiting.rounds) == (State.EXECUTING, None, 1)
    assert waiting.execute_by == desk.clock.now() + QUARTER
    assert await desk.approvals.get(waiting.id) == waiting
    assert waiting.id not in desk.approvals.claims.executing
    row = (await desk.approvals.history(waiting.id))[-1]
    assert (row.kind, row.detail) == (Kind.APPROVAL_ASKED, {"round": 1, "state": "executing"})
    await desk.check_record()


async def test_going_on_takes_no_slot_and_gives_none_back(desk: Desk) -> None:
    waiting = await asked(desk)
    before = await desk.slots(), await desk.counted()
    going_on = await goes_on(desk, waiting.call, verdict=hold(charge()))
    assert (going_on.state, going_on.holder) == (State.EXECUTING, desk.approvals.claims.holder)
    assert (await desk.slots(), await desk.counted()) == before
    assert not desk.approvals.claims.executing[waiting.id].late(desk.clock.now() + QUARTER)  # it may be sent whenever
    await desk.approvals.claims.finish(waiting.id, failed=False)
    assert (await desk.slots(), await desk.counted()) == ([], 1)
    await desk.check_record()


async def test_a_question_is_answered_once_however_many_states_are_alike(desk: Desk) -> None:
    waiting = await asked(desk)
    going_on = await goes_on(desk, waiting.call)
    assert (await told(desk, waiting.call)).status is Status.EXPIRED
    await desk.approvals.claims.await_input(going_on, "s")
    assert (await goes_on(desk, waiting.call)).rounds == 2
    assert (await told(desk, waiting.call)).cause == "input"


async def test_of_two_that_wait_for_the_same_the_older_goes_on_first(desk: Desk) -> None:
    first = await asked(desk, None)
    desk.clock.advance(MINUTE)
    second = await asked(desk, None)
    assert [(await goes_on(desk, first.call, None)).id for _ in range(2)] == [first.id, second.id]
    assert isinstance(await brought(desk, first.call, None), Answer)


@pytest.mark.parametrize("turn", ROUNDS)
async def test_of_processes_that_bring_the_same_input_at_once_one_goes_on(
    desk: Desk, other_store: Store, turn: int
) -> None:
    waiting = await asked(desk, f"state {turn}")
    services = [desk.service(), desk.service(other_store)] * 2
    works: list[Work] = [lambda s=each: brought(desk, waiting.call, f"state {turn}", service=s) for each in services]
    outcomes = await at_once(*works)
    assert [each.id for each in outcomes if isinstance(each, Approval)] == [waiting.id]
    assert (await desk.kinds(waiting)).count(Kind.APPROVAL_CONTINUED) == 1
    await desk.check_record()


async def test_what_brings_input_that_nothing_waits_for_is_recorded_without_it(desk: Desk) -> None:
    call = desk.call(key=1)
    answer = await told(desk, call, "s")
    assert (answer.status, answer.approval_id) == (Status.EXPIRED, None)
    [row] = [row for row in await desk.store.read(lambda tx: list(audit.stream(tx))) if row.kind == Kind.CALL_DENIED]
    assert row.verdict == "hold"
    call_id = row.call_id or ""
    assert await desk.store.read(lambda tx: audit.contents(tx, call_id)) == {"arguments": dict(call.params)}


async def test_no_more_than_ten_rounds_are_asked(desk: Desk) -> None:
    waiting = await asked(desk)
    for _ in range(MOST_ROUNDS - 1):
        waiting = await desk.approvals.claims.await_input(await goes_on(desk, waiting.call), "s")
    going_on = await goes_on(desk, waiting.call)
    with pytest.raises(TransitionRefused, match="more than 10 times"):
        await desk.approvals.claims.await_input(going_on, "s")


# -- time -------------------------------------------------------------------------------------------------------------


async def test_input_that_never_comes_leaves_the_outcome_open(desk: Desk) -> None:
    waiting = await asked(desk)
    desk.clock.advance(QUARTER - SECOND)
    await sweep(desk.approvals)
    assert await desk.approvals.get(waiting.id) == waiting
    desk.clock.advance(SECOND)
    assert (await told(desk, waiting.call)).status is Status.EXPIRED  # though nothing has swept
    await sweep(desk.approvals)
    ended = await desk.approvals.get(waiting.id)
    assert (ended.state, ended.awaiting) == (State.INTERRUPTED, None)
    row = (await desk.approvals.history(waiting.id))[-1]
    assert row.detail["why"] == "the tool asked for input, and the agent never brought it: it may or may not have run"
    assert (await desk.slots(), await desk.counted()) == ([], 1)  # it was sent once
    await desk.check_record()


async def test_a_process_that_goes_away_with_the_input_leaves_it_interrupted(desk: Desk) -> None:
    waiting = await asked(desk)
    await goes_on(desk, waiting.call, service=desk.service())
    desk.clock.advance(LEASE)
    await sweep(desk.approvals)
    row = (await desk.approvals.history(waiting.id))[-1]
    why = "the process that ran it went away: it may or may not have run"
    assert (row.kind, row.detail["why"]) == (Kind.APPROVAL_INTERRUPTED, why)


async def test_the_lease_of_a_process_that_has_just_noted_the_question_does_not_shorten_its_time(desk: Desk) -> None:
    waiting = await asked(desk)
    desk.approvals.claims.executing[waiting.id] = Taken(0)  # as it is between its commit and the next step
    await sweep(desk.approvals)
    assert await desk.approvals.get(waiting.id) == waiting


async def test_a_restart_leaves_what_waits_for_input_as_it_is(desk: Desk) -> None:
    waiting = await asked(desk)
    restarted = desk.elsewhere()
    await recover(restarted, alone=True)
    assert await desk.approvals.get(waiting.id) == waiting
    assert (await goes_on(desk, waiting.call, service=restarted)).id == waiting.id
    await recover(desk.elsewhere(), alone=True)
    assert (await desk.approvals.get(waiting.id)).state is State.INTERRUPTED


async def test_a_question_is_recognised_under_a_secret_that_was_rotated(desk: Desk) -> None:
    waiting = await asked(desk, password="secret")
    old, new = b"a secret of the tests, long enough", b"another secret, as long as that"
    call = desk.call(password="secret")
    assert (await told(desk, call, service=desk.service(keyring=Keyring([new])))).cause == "input"
    assert (await goes_on(desk, call, service=desk.service(keyring=Keyring([new, old])))).id == waiting.id


# -- what does not hold any more --------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["grant", "policy", "tool", "vanished", "secret"])
async def test_what_does_not_hold_any_more_ends_it_with_the_reason_and_its_outcome_is_unknown(
    desk: Desk, what: str
) -> None:
    waiting = await asked(desk)
    if what == "grant":
        await desk.store.write(lambda tx: grants.revoke(tx, "cli:root", desk.grant.id))
    if what == "secret":
        broken = replace(await desk.approvals.get(waiting.id), sealed="bm90aGluZw==")
        await desk.approvals.change(lambda tx: desk.approvals.journal.save(tx, broken, Kind.APPROVAL_ASKED, "test"))
    changed: dict[str, dict[str, Any]] = {
        "policy": {"verdict": replace(hold(), action=Action.DENY)},
        "tool": {"definition": {**DEFINITION, "description": "Deletes everything."}},
        "vanished": {"definition": None},
    }
    answer = await told(desk, waiting.call, **changed.get(what, {}))
    reason = {"grant": "grant ended", "policy": "policy denies", "secret": "sealed with is gone"}
    assert answer.status is Status.INTERRUPTED
    assert reason.get(what, "tool's definition changed") in answer.sentence
    assert "may or may not have run" in answer.sentence
    assert (await desk.approvals.get(waiting.id)).state is State.INTERRUPTED
    row = (await desk.approvals.history(waiting.id))[-1]
    assert (row.kind, row.detail["why"]) == (Kind.APPROVAL_INTERRUPTED, answer.reason)
    assert await desk.slots() == []
    await desk.check_record()


# -- what runs --------------------------------------------------------------------------------------------------------


async def test_what_is_sealed_is_opened_for_every_round_and_erased_at_the_end(desk: Desk) -> None:
    waiting = await asked(desk, password="secret")
    assert waiting.call.arguments == {"password": "[redacted]"}
    whole = desk.call(password="secret")
    assert (await goes_on(desk, whole)).call.arguments == {"password": "secret"}
    stored = await desk.approvals.get(waiting.id)
    assert stored.call.arguments == {"password": "[redacted]"}
    assert stored.sealed is not None
    assert (await desk.approvals.claims.finish(waiting.id, failed=False)).sealed is None


async def test_input_that_was_not_sent_is_waited_for_as_before_and_no_longer(desk: Desk) -> None:
    waiting = await asked(desk)
    desk.clock.advance(MINUTE)
    going_on = await goes_on(desk, waiting.call)
    desk.clock.advance(MINUTE)
    assert await desk.approvals.claims.await_again(going_on, "s", "it is away") == waiting
    assert waiting.id not in desk.approvals.claims.executing
    row = (await desk.approvals.history(waiting.id))[-1]
    assert row.detail == {"round": 1, "why": "it is away", "state": "executing"}
    assert (await goes_on(desk, waiting.call)).rounds == 1
    await desk.check_record()


async def test_a_caller_that_had_left_is_there_again_with_its_input(desk: Desk) -> None:
    waiting = await asked(desk)
    await desk.approvals.requests.abandon(waiting.id, "it could not be run")
    assert (await desk.approvals.get(waiting.id)).caller is Caller.GONE
    assert (await goes_on(desk, waiting.call)).caller is Caller.WAITING


async def test_input_that_may_be_awaited_again_is_not_taken_before_that_is_settled(desk: Desk) -> None:
    """As when the connection to the store breaks at the commit that says so: it is said again."""
    waiting = await asked(desk)
    going_on = await goes_on(desk, waiting.call)
    last_word = desk.service()
    last_word.claims.holder = desk.approvals.claims.holder
    await last_word.claims.await_again(going_on, "s", "connection refused")
    assert (await told(desk, waiting.call)).status is Status.UNAVAILABLE
    with pytest.raises(TransitionRefused):
        await desk.approvals.claims.await_again(going_on, "s", "connection refused")
    assert (await goes_on(desk, waiting.call)).id == waiting.id
