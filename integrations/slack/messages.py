"""The message that stands for an approval: what a call is, how it stands, and what may be done about it from there.

What belongs here: what it says in each state, line by line. What does not: the thread below it (`remarks`), when it is
posted and rewritten (`broker.approvals.outbox`), sending it (`channel`).

The first line says it all: forty of these come a day.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from broker.approvals.notices import Notice
from broker.domain.approvals import Approval, Caller, Decision, Review, State
from broker.domain.calls import Risk
from broker.domain.reviewers import decides_in, not_here
from broker.domain.reviewers import place as in_words
from broker.domain.seen import seen_digest
from broker.domain.standing import standing
from integrations.slack.arguments import named_values, whole
from integrations.slack.blocks import (
    Json,
    card_button,
    date,
    decision_buttons,
    line,
    link,
    quote,
    rich_text,
    sentences,
    text,
)
from integrations.slack.choices import Choice
from integrations.slack.text import brief, unparsed

ROOM_BESIDE = 800
"""What the texts of all values beside the arguments may weigh together."""

MOST_NAMED = 8
"""How many people and groups a line names; of the others only how many there are."""

_SHAPES = {Risk.LOW: "○", Risk.MEDIUM: "●", Risk.HIGH: "◆", Risk.CRITICAL: "■"}
_WORDS = {State.INTERRUPTED: "interrupted, look at the effect"}


@dataclass(frozen=True, slots=True)
class Message:
    """What Slack is sent.

    Args:
        text: for notifications and where blocks cannot be shown; nothing in it is formatted.
        blocks: Block Kit.
        shown: the digest of what an approval's message shows of its call (`broker.domain.seen`); it stays the same
            whatever becomes of the approval.
        whole: all that the call says, when the message had to shorten it.
    """

    text: str
    blocks: list[Json]
    shown: str = ""
    whole: str | None = None


def message(notice: Notice, place: str) -> Message:
    """The message of an approval as it stands, in `place`, such as `slack:#desktop`.

    Raises:
        ValueError: the call has no canonical form; no such call is ever held.
    """
    approval = notice.approval
    arguments = named_values(approval.call.arguments)
    beside = named_values(approval.call.beside, ROOM_BESIDE)
    said = [*(arguments.parts or (line(text("No arguments.")),))]
    if beside.parts:
        said += [line(text("Sent along", "italic")), *beside.parts]
    digest = seen_digest(approval)
    blocks = [rich_text(line(*headline(approval)), _whose(approval)), rich_text(*said), rich_text(*_facts(approval))]
    if approval.state is not State.PENDING:
        blocks.append(rich_text(line(link(notice.url, "Open the card"))))
    elif decides_in(approval, place):
        blocks.append(decision_buttons(Choice(approval.id, approval.revision, digest), notice.url))
    else:
        blocks += [rich_text(line(text(brief(not_here(approval), 400)))), card_button(notice.url)]
    shortened = arguments.shortened or beside.shortened
    return Message(notification(headline(approval)), blocks, digest, whole(approval.call) if shortened else None)


def headline(approval: Approval) -> list[Json]:
    """Who wants what, or what became of it, and how much a wrong call can cost."""
    call = approval.call
    agent, tool, upstream = brief(call.grant.label), brief(call.tool, 120), brief(call.upstream)
    if approval.state is State.PENDING:
        said = [text(f"{agent} wants to run ", "bold"), text(tool, "bold", "code"), text(f" on {upstream}", "bold")]
    else:
        word = _WORDS.get(approval.state, standing(approval).word).capitalize()
        called = text(f" on {upstream} for {agent}", "bold")
        said = [text(f"{word}: ", "bold"), text(tool, "bold", "code"), called]
    return [*said, text(f" — {risk(approval.risk)}", "bold")]


def notification(elements: Iterable[Json]) -> str:
    """What a line says, for the place where Slack parses."""
    return "".join(unparsed(each["fallback"] if each["type"] == "date" else each["text"]) for each in elements)


def risk(value: Risk | None) -> str:
    """A risk as a shape and words: `◆ high risk`."""
    return f"{_SHAPES[value]} {value} risk" if value is not None else "◌ no risk given"


def names(given: Sequence[str]) -> str:
    """Some names, and how many others there are."""
    more = len(given) - MOST_NAMED
    some = ", ".join(brief(name, 60) for name in given[:MOST_NAMED])
    return f"{some} and {more} more" if more > 0 else some


def _whose(approval: Approval) -> Json:
    marks = "".join(f" · {mark}" for mark in standing(approval).marks)
    return line(text(f"Agent of {brief(approval.call.grant.owner)}{marks}"))


def _facts(approval: Approval) -> Iterator[Json]:
    why = f": {brief(approval.reason, 400)}" if approval.reason else ""
    yield line(text("Held by rule "), text(brief(approval.rule, 160), "code"), *([text(why)] if why else []))
    stands = standing(approval)
    yield from _asked(approval) if approval.state is State.PENDING else ended(approval)
    if approval.caller is Caller.GONE and (agent := stands.agent(())):
        yield line(*sentences(agent))
    if approval.state is State.PENDING:
        until = date(approval.deadline)
        yield line(text("If it is not decided by "), until, text(", it expires and nothing runs."))


def _asked(approval: Approval) -> Iterator[Json]:
    wanted = approval.requirement
    whom = names(wanted.approvers) or "everyone with the approver role"
    many = f"; {wanted.quorum} of them must approve" if wanted.quorum > 1 else ""
    yield line(text(f"Who may decide: {whom}{many}"))
    if wanted.escalate is not None:
        at, did = approval.escalated_at, "Escalated"
        if at is None:
            at, did = approval.created_at + wanted.escalate.after, "Escalates"
        yield line(text(f"{did} to {names(wanted.escalate.to)}, "), date(at))
    if wanted.quorum > 1:
        yield line(text(f"{standing(approval).votes} approved"), *_votes(approval.reviews))


def _votes(given: Sequence[Review]) -> Iterator[Json]:
    for number, review in enumerate(given[:MOST_NAMED]):
        before = ", " if number else ": "
        yield text(f"{before}{brief(review.by, 60)} {brief(in_words(review.channel))}, ")
        yield date(review.at)
    if (more := len(given) - MOST_NAMED) > 0:
        yield text(f" and {more} more")


def ended(approval: Approval) -> Iterator[Json]:
    """Who decided and when, and what came of it."""
    end, sentence = approval.resolution, sentences(standing(approval).sentence(()))
    if end is None:
        yield line(*sentence)
        return
    by = [given.by for given in approval.reviews if given.decision is Decision.APPROVE]
    who = by if end.state is State.APPROVED else [end.by] if end.by is not None else []
    did = f"{end.state.value.capitalize()} by {names(who)}, " if who else f"{end.state.value.capitalize()} "
    yield line(text(did), date(end.at), text(". "), *sentence)
    if end.reason:
        yield quote(text(brief(end.reason, 1000)))
