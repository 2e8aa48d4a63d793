"""What a policy redacts: in no row, and only in the call that runs."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
import sqlalchemy as sa

from broker.approvals.service import Rules
from broker.approvals.sweeps import recover, sweep
from broker.domain import answers
from broker.domain.answers import Answer
from broker.domain.approvals import Approval, Cause, Decision, State
from broker.domain.audit import Kind
from broker.domain.calls import Action, Call, Charge, Escalation, Said, Step, Verdict
from broker.domain.canonical import Keyring
from broker.domain.paths import parse_path
from broker.domain.people import Role
from broker.domain.redaction import MASK
from broker.store import audit, grants, people
from broker.store.audit import check_contents
from tests.approvals.desk import Desk, again, hold, saying
from tests.domain.values import ALICE, BOB, DEFINITION, KEYRING, QUARTER, charge, person
from tests.store.dump import whole_store

SECRET = "correct-horse-battery-staple"
NUMBER = 918273645546372819
SHORT = "\u0416\u0407"  # two bytes of Latin-1 would be found by chance in any file
ROOT = person("root", role=Role.ADMIN)
HIDDEN = (SECRET, "key-that-nobody-sees", str(NUMBER), SHORT, json.dumps(SHORT)[1:-1], SHORT.encode().decode("latin-1"))
"""What is under the masks of `secret_call`, in every spelling."""

PATHS = tuple(map(parse_path, ("args.password", "args.items[*].secret", "args.pin", "args.short")))


def hold_redacted(*charges: Charge, **requirement: Any) -> Verdict:
    return replace(hold(*charges, **requirement), redact=PATHS)


def secret_call(desk: Desk, **more: Any) -> Call:
    vault = {"key-that-nobody-sees": [SECRET]}
    return desk.call(password=SECRET, items=[{"secret": vault, "n": 1}], pin=NUMBER, short=SHORT, to="ann", **more)


def leaks(*places: str) -> list[str]:
    return [hidden for hidden in HIDDEN for place in places if hidden in place]


async def after(desk: Desk, length: timedelta) -> None:
    """Let time pass, and do what it does."""
    desk.clock.advance(length)
    await sweep(desk.approvals)


async def abandoned(desk: Desk, approval: Approval) -> None:
    await desk.approvals.requests.abandon(approval.id, "cancelled")
    await after(desk, desk.approvals.rules.retry_grace)


async def withdrawn(desk: Desk, approval: Approval) -> None:
    await desk.store.write(lambda tx: people.save(tx, "cli:root", ROOT.email, ROOT.roles, ROOT.groups))
    await desk.approvals.reviews.withdraw(approval.id, ROOT)


async def revoked(desk: Desk, _: Approval) -> None:
    await desk.store.write(lambda tx: grants.revoke(tx, "cli:root", desk.grant.id))
    await sweep(desk.approvals)


async def without_input(desk: Desk, approval: Approval) -> None:
    await desk.approvals.claims.await_input(approval, "mark")
    await after(desk, QUARTER)


async def answered(desk: Desk, approval: Approval, *, failed: bool = False) -> None:
    echo = {"told": f"{SECRET} {NUMBER} {SHORT}"}
    await desk.approvals.claims.finish(approval.id, failed=failed, result=echo)


ENDS: dict[State, dict[str, Callable[[Desk, Approval], Awaitable[Any]]]] = {
    State.PENDING: {
        "rejected": lambda desk, approval: desk.review(approval, ALICE, Decision.REJECT),
        "expired": lambda desk, _: after(desk, QUARTER),
        "withdrawn": withdrawn,
        "session": lambda desk, _: desk.approvals.requests.end_session("session-1"),
        "cancelled": abandoned,
    },
    State.APPROVED: {
        "unused": lambda desk, _: after(desk, QUARTER),
        "policy": lambda desk, one: desk.claim(one, verdict=Verdict(Action.DENY, "default")),
    },
    State.EXECUTING: {
        "succeeded": answered,
        "failed": partial(answered, failed=True),
        "interrupted": lambda desk, one: desk.approvals.claims.interrupt(one.id, "it went away"),
        "recovered": lambda desk, _: recover(desk.elsewhere(), alone=True),
        "without input": without_input,
    },
}
"""The ways in which an approval ends, by the state in which it does."""


async def compared(desk: Desk) -> int:
    """How many rows have a call that is kept and is the recorded one."""
    head = await desk.store.read(audit.head)
    return await desk.store.read(lambda session: check_contents(session, KEYRING, head.seq))


async def test_people_see_a_mask_and_the_call_that_runs_is_the_one_that_was_asked_for(desk: Desk) -> None:
    asked = secret_call(desk)
    approval = await desk.approved(hold_redacted(), asked)
    masked = {"password": MASK, "items": [{"secret": MASK, "n": 1}], "pin": MASK, "short": MASK, "to": "ann"}
    assert approval.call.arguments == masked
    claimed = await desk.claim(approval)
    assert claimed.state is State.EXECUTING
    assert claimed.call == asked
    assert (await desk.approvals.get(approval.id)).call.arguments == masked


async def test_the_secret_is_in_no_row_and_what_is_sealed_is_erased_however_the_approval_ends(
    desk: Desk, store_url: str
) -> None:
    ends = [(state, how, end) for state, hows in ENDS.items() for how, end in hows.items()]
    for state, how, end in (*ends, (State.PENDING, "grant", revoked)):
        approval = await desk.held(hold_redacted(), replace(secret_call(desk, how=how), session="session-1"))
        assert approval.sealed is not None
        assert approval.sealed in whole_store(store_url), how
        if state is not State.PENDING:
            await desk.review(approval, ALICE)
        if state is State.EXECUTING:
            await desk.claim(approval)
        await end(desk, approval)
        ended = await desk.approvals.get(approval.id)
        assert (ended.state.final, ended.sealed) == (True, None), how
        assert desk.approvals.as_asked(ended) == ended.call
        assert leaks(whole_store(store_url)) == [], how
    await desk.check_record()
    rows = await desk.store.read(lambda session: list(audit.stream(session)))
    assert await compared(desk) == sum(row.arguments_digest is not None for row in rows)


async def test_the_secret_is_in_no_row_and_no_answer_whatever_happens_on_the_way(desk: Desk, store_url: str) -> None:
    asked = secret_call(desk)
    verdict = hold_redacted(quorum=2, escalate=Escalation(timedelta(minutes=5), ("bob@example.com",)))
    approval = await desk.held(verdict, asked)
    requests, claims, reviews = desk.approvals.requests, desk.approvals.claims, desk.approvals.reviews
    for why in ("cancelled", "lost"):
        await requests.abandon(approval.id, why)
        assert (await desk.held(verdict, again(asked))).id == approval.id
    desk.clock.advance(timedelta(minutes=14))
    await sweep(desk.approvals)
    for approver in (ALICE, BOB):
        await desk.review(approval, approver)
    await desk.claim(approval)
    await claims.release(approval.id, "the server was not reached")
    claimed = await desk.claim(approval)
    await claims.await_input(claimed, "mark")
    await claims.continue_with_input(claimed.call, "mark", saying(hold_redacted()), DEFINITION)
    await claims.interrupt(approval.id, "it went away")
    await claims.finish(approval.id, failed=False, result={"told": SECRET})  # late: what is masked is erased already
    rejected = await desk.held(hold_redacted(), again(asked))
    await desk.review(rejected, ALICE, Decision.REJECT)
    told = await desk.told(hold_redacted(), again(asked))
    assert isinstance(told, Answer)
    await reviews.forget(rejected.id, ALICE)
    assert (await desk.held(hold_redacted(), again(asked))).id != rejected.id

    kinds = {*await desk.kinds(approval), *await desk.kinds(rejected)}
    assert {Kind.APPROVAL_REMINDED, Kind.APPROVAL_ESCALATED, Kind.APPROVAL_LATE, Kind.APPROVAL_FORGOTTEN} <= kinds
    assert leaks(whole_store(store_url), repr(told), repr(await desk.approvals.history(approval.id))) == []
    await desk.check_record()


async def test_what_a_server_repeats_of_a_secret_is_masked_in_what_is_kept_of_its_answer(desk: Desk) -> None:
    approval = await desk.approved(hold_redacted(), secret_call(desk))
    await desk.claim(approval)
    await desk.approvals.claims.finish(approval.id, failed=False, result={"told": f"{SECRET} for ann"})
    kept = await desk.store.read(lambda session: audit.contents(session, approval.call.id))
    assert kept["result"] == {"told": f"{MASK} for ann"}


async def test_what_was_erased_is_not_left_in_the_file_and_what_still_waits_is_there_encrypted(
    desk: Desk, store_url: str
) -> None:
    sizes = (10, 300, 3_000, 20_000) * 3
    held = [await desk.held(hold_redacted(), secret_call(desk, text="x" * size, nth=n)) for n, size in enumerate(sizes)]
    for approval in held[1::2]:
        await desk.review(approval, ALICE, Decision.REJECT)
    desk.store.close()  # with it goes the log that the file is written from
    left = whole_store(store_url)

    def found(approval: Approval) -> bool:
        text = approval.sealed or ""
        return any(text[at : at + 64] in left for at in range(0, len(text) - 64, 32))

    assert [found(approval) for approval in held] == [True, False] * (len(held) // 2)
    assert leaks(left) == []


@pytest.mark.parametrize("refused", ["limited", "capped", "nobody"])
async def test_a_call_that_could_not_be_held_leaves_no_secret_either(desk: Desk, store_url: str, refused: str) -> None:
    verdict = hold_redacted(charge(who=desk.grant.id, maximum=0))
    if refused == "nobody":
        verdict = hold_redacted(approvers=("nobody",))
    elif refused == "capped":
        desk.approvals = desk.service(rules=Rules(max_pending=0))
    told = await desk.told(verdict, secret_call(desk))
    assert isinstance(told, Answer)
    assert leaks(whole_store(store_url)) == []
    assert MASK in whole_store(store_url)
    assert await compared(desk) == 1


async def test_the_retry_of_a_redacted_call_is_recognised_and_another_secret_is_another_call(desk: Desk) -> None:
    asked = secret_call(desk)
    first = await desk.held(hold_redacted(), asked)
    await desk.approvals.requests.abandon(first.id, "lost")
    other = await desk.held(hold_redacted(), desk.call(password="another", items=[], to="ann"))
    assert other.id != first.id
    masked = await desk.held(hold_redacted(), again(first.call))
    assert masked.id != first.id
    assert (await desk.held(hold_redacted(), again(asked))).id == first.id


@pytest.mark.parametrize(("before", "after"), [((), PATHS), (PATHS, ())], ids=["added", "removed"])
async def test_a_call_that_is_pending_while_redaction_is_edited_keeps_its_mask_and_runs(
    desk: Desk, before: Any, after: Any
) -> None:
    asked = secret_call(desk)
    first = await desk.held(replace(hold(), redact=before), asked)
    await desk.approvals.requests.abandon(first.id, "lost")
    seen = first.call
    picked_up = await desk.held(replace(hold(), redact=after), again(asked))
    assert (picked_up.id, picked_up.call) == (first.id, seen)
    await desk.review(first, ALICE)
    claimed = await desk.approvals.claims.claim(first.id, saying(replace(hold(), redact=after)), DEFINITION)
    assert isinstance(claimed, Approval)
    assert claimed.call.params == asked.params
    await desk.approvals.claims.finish(first.id, failed=False)
    assert (await desk.approvals.get(first.id)).call == seen
    await desk.check_record()
    assert await compared(desk) > 0


async def test_what_is_sealed_is_opened_after_the_secret_was_rotated(desk: Desk) -> None:
    asked = secret_call(desk)
    approval = await desk.approved(hold_redacted(), asked)
    rotated = desk.service(keyring=Keyring([b"the next secret of the tests", b"a secret of the tests, long enough"]))
    assert (await desk.claim(approval, rotated)).call == asked


async def test_what_no_present_secret_opens_does_not_run_and_ends_with_that_cause(desk: Desk, store_url: str) -> None:
    approval = await desk.approved(hold_redacted(charge(who=desk.grant.id)), secret_call(desk))
    lost = desk.service(keyring=Keyring([b"a new secret, and the old one is gone"]))
    assert lost.as_asked(approval) == approval.call
    ended = await desk.claim(approval, lost)
    assert ended.state is State.WITHDRAWN
    assert ended.resolution is not None
    assert ended.resolution.cause is Cause.SECRET
    assert (await desk.approvals.get(approval.id)).sealed is None
    assert leaks(whole_store(store_url), repr(answers.of(ended))) == []
    assert await desk.slots() == []


@pytest.mark.parametrize("attack", ["NULL", "(SELECT sealed FROM approvals WHERE tool = 'other')", "'AAAA'"])
async def test_sealed_arguments_that_somebody_exchanged_in_the_store_never_run(desk: Desk, attack: str) -> None:
    await desk.held(hold_redacted(), desk.call("other", password="x"))
    approval = await desk.approved(hold_redacted(), secret_call(desk))
    exchange = sa.text(f"UPDATE approvals SET sealed = {attack} WHERE id = :id")
    await desk.store.write(lambda tx: tx.connection.execute(exchange, {"id": approval.id}))
    assert (await desk.claim(approval)).state is State.WITHDRAWN


async def test_masked_arguments_that_were_altered_are_found(desk: Desk) -> None:
    await desk.held(hold_redacted(), secret_call(desk))
    assert await compared(desk) == 1
    altering = sa.text("UPDATE contents SET body = replace(body, 'ann', 'eve') WHERE what = 'redacted'")
    await desk.store.write(lambda tx: tx.connection.execute(altering))
    with pytest.raises(audit.ContentsAltered):
        await compared(desk)


# -- why --------------------------------------------------------------------------------------------------------------

STEPS = (
    Step("tools.press.deny_if[0]", Said.NOTHING, "args.to is ann"),
    Step("tools.press.action", Said.HOLDS, None, "moves a desk"),
)
TOLD = [
    {"rule": "tools.press.deny_if[0]", "said": "does not apply", "saw": "args.to is ann", "why": None},
    {"rule": "tools.press.action", "said": "holds", "saw": None, "why": "moves a desk"},
]


@pytest.mark.parametrize("approvers", [(), ("nobody",)], ids=["held", "nobody may decide"])
async def test_how_the_verdict_came_about_is_kept_with_the_call(desk: Desk, approvers: tuple[str, ...]) -> None:
    asked = secret_call(desk)
    await desk.told(replace(hold_redacted(approvers=approvers), steps=STEPS), asked)
    kept = await desk.store.read(lambda session: audit.contents(session, asked.id))
    assert kept["explanation"] == TOLD
    assert kept["redacted"]["arguments"]["to"] == "ann"
    assert await compared(desk) == 1
