"""The pieces of Block Kit that messages are made of, each with the limits that Slack documents for it.

What belongs here: from texts and instants to JSON. What does not: which of them a message has.

https://docs.slack.dev/reference/block-kit/blocks/rich-text-block: the texts of rich text are shown as they are; nothing
in them is parsed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

from broker.domain.history import moment
from integrations.slack.choices import APPROVE, OPEN, REJECT, Choice

Json = dict[str, Any]

MOST_MENTIONED = 40
"""How many people and groups one remark calls."""

_MOMENT = re.compile(r"(at )?(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) UTC")


def text(given: str, *styles: str) -> Json:
    """A text that is shown as it is; styles are `bold`, `italic`, `code`. Slack refuses an empty one."""
    return {"type": "text", "text": given or "(empty)", **({"style": dict.fromkeys(styles, True)} if styles else {})}


def date(at: datetime) -> Json:
    """An instant in the reader's own time zone, such as `today at 2:15 PM`; where that cannot be shown, in UTC.

    https://docs.slack.dev/reference/block-kit/block-elements/date-element
    """
    shown = "{date_short_pretty} at {time}"
    return {"type": "date", "timestamp": int(at.timestamp()), "format": shown, "fallback": moment(at)}


def link(url: str, words: str) -> Json:
    """A link, to the broker only."""
    return {"type": "link", "url": url, "text": words}


def sentences(words: str) -> Iterator[Json]:
    """Sentences of our own, in which each instant (see `broker.domain.history.moment`) is one of the reader's zone."""
    end = 0
    for found in _MOMENT.finditer(words):
        if found.start() > end:
            yield text(words[end : found.start()])
        instant = datetime.strptime(found[2], "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC)
        yield {**date(instant), "fallback": found[0]}
        end = found.end()
    if end < len(words):
        yield text(words[end:])


def line(*elements: Json) -> Json:
    """One line, or as many as the window is too narrow for."""
    return {"type": "rich_text_section", "elements": list(elements)}


def quote(*elements: Json) -> Json:
    """What somebody said."""
    return {"type": "rich_text_quote", "elements": list(elements)}


def preformatted(given: str) -> Json:
    """A text of several lines, each space of it seen."""
    return {"type": "rich_text_preformatted", "elements": [text(given)]}


def rich_text(*parts: Json) -> Json:
    """A block of lines, quotes and preformatted texts."""
    return {"type": "rich_text", "elements": list(parts)}


def decision_buttons(choice: Choice, url: str) -> Json:
    """Approve and Reject, always in this order, and the way to the card."""
    value = choice.encode()
    return _actions(
        _button("Approve", APPROVE, value=value, style="primary"),
        _button("Reject", REJECT, value=value, style="danger"),
        _button("Open the card", OPEN, url=url),
    )


def card_button(url: str) -> Json:
    """The way to the card alone."""
    return _actions(_button("Open the card", OPEN, url=url))


def _actions(*buttons: Json) -> Json:
    return {"type": "actions", "elements": list(buttons)}


def _button(words: str, action: str, **more: str) -> Json:
    return {"type": "button", "text": plain(words), "action_id": action, **more}


def mentioning(mentions: Sequence[str]) -> Json:
    """Those whose attention something is for, as Slack spells them: the one text in blocks that Slack parses."""
    return {
        "type": "section",
        "text": {"type": "mrkdwn", "text": " ".join(mentions[:MOST_MENTIONED]), "verbatim": True},
    }


def plain(words: str) -> Json:
    """Words that are shown as they are, where rich text is not possible."""
    return {"type": "plain_text", "text": words, "emoji": False}
