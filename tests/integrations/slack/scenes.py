"""The main messages, each in a scene that it is for; `python -m tests.integrations.slack.scenes` draws them anew."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from broker.approvals.notices import Notice, Remark
from broker.domain import moves
from broker.domain.approvals import Approval, Caller, Cause, Decision
from broker.domain.audit import GENESIS, Event, Kind, Row, chained
from broker.domain.calls import Call, Escalation, Requirement, Risk
from broker.domain.people import GrantRef, Person, Role
from integrations.slack.messages import Message, message
from integrations.slack.modals import reason_modal
from integrations.slack.remarks import remark
from integrations.slack.replies import private, waiting_list
from tests.clock import NOON
from tests.domain.values import MINUTE, QUARTER, held, person, reviewed
from tests.integrations.slack.drawing import drawn, drawn_view

SNAPSHOTS = Path(__file__).parent / "snapshots"
PLACE = "slack:#desktop"
AGENT = GrantRef("grant_1", "ci-bot", "olga@example.com")
ANN, BEN = person("ann", "desktop-owners"), person("ben", "desktop-owners")
ROOT = Person("root@example.com", frozenset({Role.ADMIN}))


def notice(approval: Approval) -> Notice:
    """An approval as people outside are told of it."""
    return Notice(approval, f"https://broker.example.com/approvals/{approval.id}")


def call(tool: str = "session_connect", upstream: str = "kwin", meta: Any = None, **arguments: Any) -> Call:
    """A call of the agent."""
    params = {"name": tool, "arguments": arguments or {"display": ":0", "socket": "/run/user/1000/wayland-0"}}
    return Call("call_1", upstream, tool, params | ({"_meta": meta} if meta else {}), AGENT)


def asked(requirement: Requirement | None = None, **changes: Any) -> Approval:
    """A pending approval of an ordinary, risky call."""
    values: dict[str, Any] = {
        "id": "apr_5ad1f0c2",
        "call": call(),
        "rule": "tools.session_connect.action",
        "reason": "Connects an agent to a live desktop",
        "risk": Risk.HIGH,
    }
    return held(requirement or Requirement(approvers=("desktop-owners",)), **values | changes)


def approved(**changes: Any) -> Approval:
    """One that was approved in the browser."""
    return replace(reviewed(asked(), ANN), **changes)


def running() -> Approval:
    """One that was claimed."""
    return moves.claim(approved(), "proc_1", NOON + 2 * MINUTE, timedelta(seconds=30))


def two_of_them(**changes: Any) -> Approval:
    """One that two people must approve, and one has."""
    wanted = Requirement(approvers=("desktop-owners", "carol@example.com"), quorum=2, **changes)
    return reviewed(asked(wanted), ANN, channel=PLACE)


def row(kind: Kind, actor: str = "broker", seq: int = 1234, **detail: Any) -> Row:
    """A row of the record."""
    event = Event(kind=kind, actor=actor, approval_id="apr_5ad1f0c2", detail=detail)
    return chained(event, seq, NOON + 3 * MINUTE, GENESIS)


def told(kind: Kind, approval: Approval, *, actor: str = "broker", answer: Any = None, **detail: Any) -> Message:
    """What is said in the thread of an approval, with the mentions of two for whom it is."""
    what = Remark(row(kind, actor, **detail), notice(approval), answer)
    said = remark(what, ("<!subteam^S012AB3CD>", "<@U012AB3CD>") if what.mentions else ())
    assert said is not None
    return said


def announced(kind: Kind, actor: str = "cli:root", **detail: Any) -> Message:
    """What is said on its own."""
    said = remark(Remark(replace(row(kind, actor, **detail), grant="grant_5ad1")), ())
    assert said is not None
    return said


def states() -> Iterator[tuple[str, Approval]]:
    """An approval in each state, and in each that people have to tell apart."""
    late = Requirement(approvers=("desktop-owners",), escalate=Escalation(5 * MINUTE, ("ops", "carol@example.com")))
    script = "set -eu\n" + "".join(f"rsync -a --delete build/{n}/ web{n}:/srv/www/\n" for n in range(400))
    deploy = call("run_script", "shell", {"com.example/ticket": "OPS-311"}, host="web1", script=script, retries=3)
    odd = call("press", "kwin", text="", count="5", exact=True, keys=["ctrl", "q"], at={"x": 1, "y": None})
    yield "pending", asked()
    yield "pending_escalates", asked(late)
    yield "pending_escalated", replace(asked(late), escalated_at=NOON + 5 * MINUTE)
    yield "pending_quorum", two_of_them()
    yield "pending_agent_gone", moves.leave(asked(), NOON + 4 * MINUTE)
    yield "pending_connection_lost", moves.leave(asked(), None)
    yield "pending_elsewhere", asked(Requirement(channels=("web",)), risk=Risk.CRITICAL)
    yield "pending_critical", asked(Requirement(), risk=Risk.CRITICAL, reason=None)
    yield "pending_long", asked(call=deploy, risk=Risk.MEDIUM, rule="tools.run_script.approve_if[0]", reason=None)
    yield "pending_odd_values", asked(call=odd, risk=None, rule="default", reason=None)
    yield "pending_no_arguments", asked(call=replace(call(), params={"name": "session_connect"}), risk=Risk.LOW)
    yield "approved", approved()
    yield "approved_agent_gone", moves.leave(approved(), None)
    yield "running", running()
    yield "running_asks", moves.await_input(running(), "mark", NOON + QUARTER)
    yield "succeeded", moves.finish(running(), failed=False)
    yield (
        "succeeded_quorum",
        moves.finish(replace(running(), reviews=reviewed(two_of_them(), BEN).reviews), failed=False),
    )
    yield "failed", moves.finish(running(), failed=True)
    yield "rejected", reviewed(asked(), ANN, Decision.REJECT, channel=PLACE, reason="Not while the release runs.")
    yield "rejected_no_reason", reviewed(asked(), ANN, Decision.REJECT)
    yield "expired_unanswered", moves.expire(asked(), NOON + QUARTER)
    yield "expired_unused", moves.expire(approved(caller=Caller.GONE), NOON + 2 * QUARTER)
    yield "withdrawn_by_a_person", moves.withdraw(asked(), Cause.ADMINISTRATOR, NOON + MINUTE, by=ROOT.email)
    yield "withdrawn_policy_changed", moves.withdraw(asked(), Cause.POLICY, NOON + MINUTE)
    yield "interrupted", moves.interrupt(running())


def remarks() -> Iterator[tuple[str, Message]]:
    """What is said in threads, and announced."""
    ran, failed = (moves.finish(running(), failed=failed) for failed in (False, True))
    cut_off = moves.interrupt(running())
    answer = {"content": [{"type": "text", "text": "connected to :0\nsession 7"}], "isError": False}
    long = {"content": [{"type": "text", "text": "".join(f"line {n}\n" for n in range(900))}]}
    late = replace(
        asked(Requirement(("desktop-owners",), escalate=Escalation(5 * MINUTE, ("ops",)))), escalated_at=NOON
    )
    before = {"at": "2026-07-28T11:58:00+00:00", "state": "interrupted", "approval": "apr_0"}
    no = reviewed(asked(), ANN, Decision.REJECT, reason="Not while the release runs.")
    yield "asked_again", told(Kind.APPROVAL_SUBMITTED, asked(), actor="agent:grant_1", before=before)
    yield "reviewed", told(Kind.APPROVAL_REVIEWED, two_of_them(), actor=ANN.email, channel=PLACE, decision="approve")
    yield "approved", told(Kind.APPROVAL_APPROVED, approved(), actor=ANN.email, channel="web", decision="approve")
    yield "rejected", told(Kind.APPROVAL_REJECTED, no, actor=ANN.email, channel="web", reason=no.reviews[0].reason)
    yield "reminded", told(Kind.APPROVAL_REMINDED, asked(), left="7m")
    yield "escalated", told(Kind.APPROVAL_ESCALATED, late, to=["ops"])
    yield "expired", told(Kind.APPROVAL_EXPIRED, moves.expire(asked(), NOON + QUARTER), cause="unanswered")
    yield "withdrawn", told(Kind.APPROVAL_WITHDRAWN, moves.withdraw(asked(), Cause.GRANT, NOON), cause="grant")
    yield "succeeded", told(Kind.APPROVAL_SUCCEEDED, ran, answer=answer)
    yield "succeeded_long", told(Kind.APPROVAL_SUCCEEDED, ran, answer=long)
    yield "succeeded_not_kept", told(Kind.APPROVAL_SUCCEEDED, ran)
    yield (
        "failed",
        told(Kind.APPROVAL_FAILED, failed, answer={"content": [{"type": "text", "text": "no such display"}]}),
    )
    yield "interrupted", told(Kind.APPROVAL_INTERRUPTED, cut_off, why="the process that ran it went away")
    yield "late", told(Kind.APPROVAL_LATE, cut_off, outcome="approval.succeeded", answer=answer)
    yield (
        "grant_created",
        announced(Kind.GRANT_CREATED, label="ci-bot", owner="olga@example.com", upstreams=["kwin", "shell"]),
    )
    yield "grant_rotated", announced(Kind.GRANT_ROTATED)
    yield "grant_revoked", announced(Kind.GRANT_REVOKED)
    yield (
        "person_saved",
        announced(Kind.PERSON_SAVED, person="ann@example.com", roles=["approver"], groups=["desktop-owners"]),
    )
    yield "person_removed", announced(Kind.PERSON_REMOVED, person="ann@example.com")
    yield (
        "person_unlinked",
        announced(Kind.PERSON_UNLINKED, person="ann@example.com", provider="slack:T0123", subject="U1"),
    )
    yield "token_created", announced(Kind.TOKEN_CREATED, person="ann@example.com", label="laptop")
    yield "token_revoked", announced(Kind.TOKEN_REVOKED, actor="ann@example.com", person="ann@example.com")
    yield "link_created", announced(Kind.LINK_CREATED, person="ann@example.com", label=None)
    yield "chain_witnessed", announced(Kind.CHAIN_WITNESSED, "broker")


def drawings() -> Iterator[tuple[str, str]]:
    """Everything, each under the name of its file."""
    for name, approval in states():
        yield name, _with_notification(message(notice(approval), PLACE))
    yield (
        "in_threads_and_announced",
        "\n\n\n".join(f"-- {name} --\n{_with_notification(said)}" for name, said in remarks()),
    )
    yield "modal", drawn_view(reason_modal(notice(asked()), "{}"))
    several = [notice(asked(call=call(display=f":{n}"))) for n in range(15)]
    lists = (waiting_list(several[:n]) for n in (0, 1, 15))
    yield "waiting_list", "\n\n\n".join(_with_notification(each) for each in lists)
    refused = private("You may not decide this: it needs desktop-owners.", several[0].url)
    yield "private", _with_notification(refused)


def _with_notification(said: Message) -> str:
    whole = f"\n\n(in the thread, as a file: {len(said.whole):,} characters)" if said.whole is not None else ""
    return f"notification: {said.text}\n\n{drawn(said.blocks)}{whole}"


if __name__ == "__main__":
    for old in SNAPSHOTS.glob("*.txt"):
        old.unlink()
    SNAPSHOTS.mkdir(exist_ok=True)
    for name, drawing in drawings():
        (SNAPSHOTS / f"{name}.txt").write_text(f"{drawing}\n")
