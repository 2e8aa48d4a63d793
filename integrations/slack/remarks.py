"""What is told once: below the message of an approval what happened to it, and on their own what is announced.

What belongs here: the words of each remark. What does not: the message itself (`messages`), which remarks there are and
whose attention they are for (`broker.approvals.notices`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from broker.approvals.notices import Remark
from broker.domain.announcements import announcement
from broker.domain.approvals import Approval
from broker.domain.audit import Kind, Row
from broker.domain.history import happening, ran_before
from broker.domain.standing import standing
from broker.domain.values import answer_values, shown
from broker.domain.waiting import situation
from integrations.slack.blocks import Json, date, line, mentioning, preformatted, quote, rich_text, sentences, text
from integrations.slack.messages import Message, ended, notification
from integrations.slack.text import brief, cut

MOST_OF_AN_ANSWER, MOST_LINES = 1500, 20
"""What of a server's answer is repeated in the thread."""


def remark(remark: Remark, mentions: Sequence[str]) -> Message | None:
    """What is said of something that happened; None when there is nothing to say.

    Args:
        mentions: whose attention it is for, as Slack spells it: `<@U012AB3CD>`, `<!subteam^S012AB3CD>`.
    """
    notice = remark.notice
    parts = [*(_announced(remark.row) if notice is None else _happened(notice.approval, remark))]
    if not parts:
        return None
    blocks = [rich_text(*parts), *([mentioning(mentions)] if mentions else [])]
    return Message(notification(parts[0]["elements"]), blocks)


def _announced(row: Row) -> Iterator[Json]:
    if row.kind is not Kind.CHAIN_WITNESSED:
        yield line(text(brief(announcement(row), 800)))
        return
    yield line(text(f"Audit chain head: row {row.seq:,}, digest "), text(row.digest, "code"), text("."))
    yield line(
        text("Whether the record still holds it: "), text(f"broker audit verify --head {row.seq}:{row.digest}", "code")
    )


def _happened(approval: Approval, remark: Remark) -> Iterator[Json]:
    row = remark.row
    match row.kind:
        case Kind.APPROVAL_SUBMITTED:
            if (before := ran_before(row)) is not None:
                yield line(*sentences(before))
        case Kind.APPROVAL_REMINDED | Kind.APPROVAL_ESCALATED:
            yield line(text(f"{brief(situation(approval), 400)}, until "), date(approval.deadline), text("."))
        case Kind.APPROVAL_EXPIRED | Kind.APPROVAL_WITHDRAWN:
            yield from ended(approval)
        case Kind.APPROVAL_INTERRUPTED:
            yield line(text("Look at the effect. ", "bold"), text(brief(standing(approval).sentence([row]), 600)))
        case Kind.APPROVAL_SUCCEEDED | Kind.APPROVAL_FAILED | Kind.APPROVAL_LATE:
            yield line(*sentences(standing(approval).sentence([row])))
            yield from _answered(remark.answer)
        case _:
            yield from _said(row)


def _said(row: Row) -> Iterator[Json]:
    """A person's word: who, where, when and why."""
    it = happening(row)
    where = f" {brief(it.where)}" if it.where else ""
    yield line(text(f"{brief(row.actor)} {it.did}{where}, "), date(row.at), text("."))
    for why in it.why:
        yield quote(text(brief(why, 2000)))


def _answered(answer: Any) -> Iterator[Json]:
    if answer is None:
        return
    beginning = cut("\n".join(shown(value).text for value in answer_values(answer)), MOST_OF_AN_ANSWER, MOST_LINES)
    yield preformatted(beginning.text)
    if beginning.missing:
        yield line(text(f"… {beginning.missing:,} more characters: the whole is on the card", "italic"))
