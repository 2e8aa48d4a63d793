"""What only the person sees who clicked or asked: sentences, and the list of what waits for them.

What belongs here: their looks. What does not: what is answered, and to whom (`inbound`).
"""

from __future__ import annotations

from collections.abc import Sequence

from broker.approvals.notices import Notice
from broker.domain.values import telling_argument
from integrations.slack.blocks import Json, date, line, link, rich_text, text
from integrations.slack.messages import Message, notification, risk
from integrations.slack.text import brief

MOST_LISTED = 12
"""How many approvals a list has; of the others it says how many there are."""


def private(sentence: str, url: str | None = None) -> Message:
    """An answer to one person: a sentence or a few, with what to ask for, and a link to the broker's pages."""
    said = brief(sentence, 2500)
    parts = [line(text(said)), *([line(link(url, "Open the card"))] if url is not None else [])]
    return Message(notification(parts[0]["elements"]), [rich_text(*parts)])


def waiting_list(notices: Sequence[Notice]) -> Message:
    """What waits for somebody, one line each."""
    if not notices:
        return private("Nothing waits for you.")
    count = "1 call waits for you." if len(notices) == 1 else f"{len(notices):,} calls wait for you."
    parts = [line(text(count, "bold")), *(_listed(notice) for notice in notices[:MOST_LISTED])]
    if (more := len(notices) - MOST_LISTED) > 0:
        parts.append(line(text(f"and {more:,} more, which the queue in the browser shows.")))
    return Message(count, [rich_text(*parts)])


def _listed(notice: Notice) -> Json:
    approval = notice.approval
    call, telling = approval.call, telling_argument(approval.call.named_arguments)
    said = [
        text(f"{risk(approval.risk)}: "),
        text(brief(call.tool, 60), "code"),
        text(f" on {brief(call.upstream, 40)} for {brief(call.grant.label, 40)}"),
    ]
    if telling is not None:
        said += [text(f", {brief(telling.name, 30)} "), text(brief(telling.text, 60), "code")]
    return line(*said, text(", until "), date(approval.deadline), text(". "), link(notice.url, "Open the card"))
