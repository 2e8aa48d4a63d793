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

ROOM_BESIDE = 1000
"""What the values beside the arguments may weigh together."""

MOST_NAMED = 6
"""How many people and groups a line names; of the others only how many there are."""

MOST_VOTES = 4
"""How many votes are told with where and when."""

_SHAPES = {Risk.LOW: "○", Risk.MEDIUM: "●", Risk.HIGH: "◆", Risk.CRITICAL: "■"}
_WORDS = {"interrupted": "interrupted, look at the effect", "asks": "asks for input"}
"""What is said instead of the word of the queue, where there is room for more."""


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
    arguments = named_values(approval.call.named_arguments)
    beside = named_values(approval.call.beside, ROOM_BESIDE)
    said = [*(arguments.parts or (line(text("No arguments.")),))]
    if beside.parts:
        said += [line(text("Sent along", "italic")), *beside.parts]
    digest = seen_digest(approval)
    waits = approval.state is State.PENDING
    after = _to_decide(notice, digest, place) if waits else [_ending(notice)]
    blocks = [rich_text(*_head(approval)), rich_text(*said), *after]
    shortened = arguments.shortened or beside.shortened
    return Message(notification(headline(approval)), blocks, digest, whole(approval.call) if shortened else None)


def headline(approval: Approval) -> list[Json]:
    """Who wants what, or what became of it, and how much a wrong call can cost."""
    call = approval.call
    agent, tool, upstream = brief(call.grant.label), brief(call.tool, 120), brief(call.upstream)
    if approval.state is State.PENDING:
        said = [text(f"{agent} wants to run ", "bold"), text(tool, "bold", "code"), text(f" on {upstream}", "bold")]
    else:
        word = standing(approval).word
        word = _WORDS.get(word, word).capitalize()
        called = text(f" on {upstream} for {agent}", "bold")
        said = [text(f"{word}: ", "bold"), text(tool, "bold", "code"), called]
    return [*said, text(f" — {risk(approval.risk)}", "bold")]


def notification(elements: Iterable[Json]) -> str:
    """What a line says, for the place where Slack parses."""
    return "".join(each["fallback"] if each["type"] == "date" else unparsed(each["text"]) for each in elements)


def risk(value: Risk | None) -> str:
    """A risk as a shape and words: `◆ high risk`."""
    return f"{_SHAPES[value]} {value} risk" if value is not None else "◌ no risk given"


def names(given: Sequence[str]) -> str:
    """Some names, and how many others there are."""
    more = len(given) - MOST_NAMED
    some = ", ".join(brief(name, 60) for name in given[:MOST_NAMED])
    return f"{some} and {more} more" if more > 0 else some


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


def _head(approval: Approval) -> Iterator[Json]:
    yield line(*headline(approval))
    if approval.state is not State.PENDING:
        yield from ended(approval)
    stands = standing(approval)
    marks = "".join(f" · {mark}" for mark in stands.marks if mark != stands.votes)
    yield line(text(f"Agent of {brief(approval.call.grant.owner)}{marks}"))


def _held_by(approval: Approval) -> Json:
    why = f": {brief(approval.reason, 400)}" if approval.reason else "."
    return line(text("Held by rule "), text(brief(approval.rule, 160), "code"), text(why))


def _agent(approval: Approval) -> Iterator[Json]:
    if approval.caller is Caller.GONE and (where := standing(approval).agent(())):
        yield line(*sentences(where))


def _ending(notice: Notice) -> Json:
    card = line(link(notice.url, "Open the card"))
    return rich_text(_held_by(notice.approval), *_agent(notice.approval), card)


def _to_decide(notice: Notice, digest: str, place: str) -> list[Json]:
    """Who may decide, until when, and the buttons for it where it may be done."""
    approval = notice.approval
    until = line(text("If it is not decided by "), date(approval.deadline), text(", it expires and nothing runs."))
    facts = [_held_by(approval), *_asked(approval), *_agent(approval), until]
    if decides_in(approval, place):
        choice = Choice(approval.id, approval.revision, digest)
        return [rich_text(*facts), decision_buttons(choice, notice.url)]
    return [rich_text(*facts, line(text(brief(not_here(approval), 400)))), card_button(notice.url)]


def _asked(approval: Approval) -> Iterator[Json]:
    wanted = approval.requirement
    whom = names(wanted.approvers) or "everyone with the approver role"
    many = f"; {wanted.quorum} of them must approve" if wanted.quorum > 1 else ""
    yield line(text(f"Who may decide: {whom}{many}."))
    if wanted.escalate is not None:
        at, did = approval.escalated_at, "Escalated"
        if at is None:
            at, did = approval.created_at + wanted.escalate.after, "Escalates"
        yield line(text(f"{did} to {names(wanted.escalate.to)} "), date(at), text("."))
    if wanted.quorum > 1:
        yield line(text(f"{standing(approval).votes} approved"), *_votes(approval.reviews), text("."))


def _votes(given: Sequence[Review]) -> Iterator[Json]:
    for number, review in enumerate(given[:MOST_VOTES]):
        before = ", " if number else ": "
        yield text(f"{before}{brief(review.by, 60)} {brief(in_words(review.channel))}, ")
        yield date(review.at)
    if (more := len(given) - MOST_VOTES) > 0:
        yield text(f" and {more} more")
