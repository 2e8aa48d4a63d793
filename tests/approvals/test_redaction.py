"""What a policy redacts: in no row, and only in the call that runs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import sqlalchemy as sa

from broker.approvals.service import Rules
from broker.approvals.sweeps import recover, sweep
from broker.domain.answers import Answer
from broker.domain.approvals import Approval, Cause, Decision, State
from broker.domain.calls import Action, Call, Charge, Said, Step, Verdict
from broker.domain.canonical import Keyring
from broker.domain.paths import parse_path
from broker.domain.redaction import MASK
from broker.store import audit
from broker.store.audit import check_contents
from tests.approvals.desk import Desk, again, hold, saying
from tests.domain.values import ALICE, DEFINITION, KEYRING, QUARTER, charge
from tests.store.dump import whole_store

SECRET = "correct-horse-battery-staple"
PATHS = tuple(map(parse_path, ("args.password", "args.items[*].secret")))
ENDS = ("rejected", "expired", "withdrawn", "succeeded", "failed", "interrupted", "recovered")


def hold_redacted(*charges: Charge, **requirement: Any) -> Verdict:
    return replace(hold(*charges, **requirement), redact=PATHS)


def secret_call(desk: Desk) -> Call:
    return desk.call(password=SECRET, items=[{"secret": SECRET, "n": 1}], to="ann")


async def end(desk: Desk, approval: Approval, how: str) -> None:
    """Bring a pending approval to its end."""
    if how == "rejected":
        await desk.review(approval, ALICE, Decision.REJECT)
        return
    if how == "expired":
        desk.clock.advance(QUARTER)
        await sweep(desk.approvals)
        return
    await desk.review(approval, ALICE)
    if how == "withdrawn":
        await desk.approvals.claims.claim(approval.id, saying(Verdict(Action.DENY, "default")), DEFINITION)
        return
    await desk.claim(approval)
    if how == "interrupted":
        await desk.approvals.claims.interrupt(approval.id, "it went away")
    elif how == "recovered":
        await recover(desk.service())
    else:
        await desk.approvals.claims.finish(approval.id, failed=how == "failed")


async def compared(desk: Desk) -> int:
    """How many rows have a call that is kept and is the recorded one."""
    head = await desk.store.read(audit.head)
    return await desk.store.read(lambda session: check_contents(session, KEYRING, head.seq))


async def test_people_see_a_mask_and_the_call_that_runs_is_the_one_that_was_asked_for(desk: Desk) -> None:
    asked = secret_call(desk)
    approval = await desk.approved(hold_redacted(), asked)
    assert approval.call.arguments == {"password": MASK, "items": [{"secret": MASK, "n": 1}], "to": "ann"}
    claimed = await desk.claim(approval)
    assert claimed.state is State.EXECUTING
    assert claimed.call == asked
    assert (await desk.approvals.get(approval.id)).call.arguments["password"] == MASK


@pytest.mark.parametrize("how", ENDS)
async def test_the_secret_is_in_no_row_and_what_is_sealed_is_erased_when_the_approval_ends(
    desk: Desk, store_url: str, how: str
) -> None:
    approval = await desk.held(hold_redacted(), secret_call(desk))
    assert approval.sealed is not None
    assert SECRET not in whole_store(store_url)
    assert approval.sealed in whole_store(store_url)
    await end(desk, approval, how)
    ended = await desk.approvals.get(approval.id)
    assert ended.state.final
    assert ended.sealed is None
    assert desk.approvals.as_asked(ended) == ended.call
    assert SECRET not in whole_store(store_url)
    await desk.check_record()
    assert await compared(desk) == len(await desk.approvals.history(approval.id))


async def test_what_was_erased_is_not_left_in_the_file(desk: Desk, store_url: str) -> None:
    large = desk.call(password=SECRET, text="x" * 20_000)
    approval = await desk.held(hold_redacted(), large)
    assert approval.sealed is not None
    await end(desk, approval, "rejected")
    desk.store.close()  # with it goes the log that the file is written from
    left = whole_store(store_url)
    assert not any(approval.sealed[at : at + 64] in left for at in range(0, len(approval.sealed), 64))


@pytest.mark.parametrize("refused", ["limited", "capped", "nobody"])
async def test_a_call_that_could_not_be_held_leaves_no_secret_either(desk: Desk, store_url: str, refused: str) -> None:
    verdict = hold_redacted(charge(who=desk.grant.id, maximum=0))
    if refused == "nobody":
        verdict = hold_redacted(approvers=("nobody",))
    elif refused == "capped":
        desk.approvals = desk.service(rules=Rules(max_pending=0))
    told = await desk.told(verdict, secret_call(desk))
    assert isinstance(told, Answer)
    assert SECRET not in whole_store(store_url)
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


async def test_what_no_present_secret_opens_does_not_run_and_ends_with_that_cause(desk: Desk) -> None:
    approval = await desk.approved(hold_redacted(charge(who=desk.grant.id)), secret_call(desk))
    lost = desk.service(keyring=Keyring([b"a new secret, and the old one is gone"]))
    assert lost.as_asked(approval) == approval.call
    ended = await desk.claim(approval, lost)
    assert ended.state is State.WITHDRAWN
    assert ended.resolution is not None
    assert ended.resolution.cause is Cause.SECRET
    assert (await desk.approvals.get(approval.id)).sealed is None
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
