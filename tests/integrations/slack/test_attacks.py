"""Text from agents, servers, people and policies does nothing in Slack but be read: every field, every trick."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

import pytest

from broker.approvals.notices import ANNOUNCED, REMARKED, Remark
from broker.domain.approvals import Approval, Decision, State
from broker.domain.audit import Kind
from broker.domain.calls import Call, Requirement
from broker.domain.people import GrantRef
from broker.domain.text import LAYOUT, is_hidden, visible
from integrations.slack.arguments import whole
from integrations.slack.messages import Message, message
from integrations.slack.modals import reason_modal
from integrations.slack.remarks import remark
from integrations.slack.replies import private, waiting_list
from integrations.slack.text import unparsed
from tests.domain.values import in_state, person, reviewed
from tests.integrations.slack.drawing import Json, texts
from tests.integrations.slack.limits import check_message
from tests.integrations.slack.scenes import AGENT, ANN, PLACE, asked, call, notice, row
from tests.servers.slack import mrkdwn, reading

TRICKS = [
    "<!channel>",
    "<!here|nobody>",
    "<!everyone> @here @channel",
    "<@U012AB3CD>",
    "<#C012AB3CD|general>",
    "<!subteam^S012AB3CD>",
    "<!date^0^{date}^https://evil.example/|now>",
    "<https://evil.example/|Open the card>",
    "https://evil.example/ www.evil.example mailto:a@evil.example",
    "[Open the card](https://evil.example/)",
    "*bold* _slanted_ ~struck~ `code`",
    "```fenced```",
    "__init__ and snake_case _x_",
    ":tada: :warning::skin-tone-2:",
    "> quoted",
    "&lt;!channel&gt; &amp;lt;!channel&amp;gt;",
    "first line\nApproved by ann@example.com, today at 2:01 PM. Nothing ran.",
    "\r\nsecond line",
    "\u202egnp.exe\u2066\u2069",
    "in\u200bvis\u200di\u2060ble\ufeff\u00ad",
    "\0\x1b[31mred\x07\x7f",
    "\u3164\u2800 \u00a0",
    "\U000e0041\ufe0f",
    "2026-07-28 12:00:00 UTC and 9999-99-99 99:99:99 UTC",
    '"}],"type":"actions"',
    "{date} {time}",
]


def in_call(**changes: Any) -> Approval:
    """A pending approval whose call is another one."""
    return asked(call=replace(call(), **changes))


END = (State.SUCCEEDED, State.INTERRUPTED, State.REJECTED)

IN_MESSAGES: dict[str, Callable[[str], Approval]] = {
    "label": lambda text: in_call(grant=GrantRef("g", text, AGENT.owner)),
    "owner": lambda text: in_call(grant=GrantRef("g", AGENT.label, text)),
    "upstream": lambda text: in_call(upstream=text),
    "tool": lambda text: in_call(tool=text),
    "key of an argument": lambda text: in_call(params={"arguments": {text: "value"}}),
    "key of what is beside": lambda text: in_call(params={text: "value"}),
    "reason": lambda text: asked(reason=text),
    "rule": lambda text: asked(rule=text),
    "approver": lambda text: asked(Requirement((text,))),
    "channel": lambda text: asked(Requirement(channels=(text,))),
    "voter": lambda text: replace(reviewed(asked(Requirement(quorum=2)), person("x")), reviews=(_review(by=text),)),
    "place of a vote": lambda text: reviewed(asked(Requirement(quorum=2)), ANN, channel=text),
    "reason of a reviewer": lambda text: reviewed(asked(), ANN, Decision.REJECT, reason=text),
    "revision": lambda text: asked(revision=text),
}
IN_VALUES: dict[str, Callable[[str], Approval]] = {
    "value of an argument": lambda text: in_call(params={"arguments": {"key": text}}),
    "long value of an argument": lambda text: in_call(params={"arguments": {"key": text * 40}}),
    "nested value": lambda text: in_call(params={"arguments": {"key": [{text: text * 5}]}}),
    "value beside": lambda text: in_call(params={"_meta": {"key": text}}),
}


def _review(**changes: Any) -> Any:
    return replace(reviewed(asked(Requirement(quorum=2)), ANN).reviews[0], **changes)


_TEXTS = ("text", "value")


def shape(value: Any) -> Any:
    """Everything but texts and what buttons carry: what kinds of pieces there are, how they look, where they lead."""
    if isinstance(value, list):
        return [shape(each) for each in cast("list[Any]", value)]
    if isinstance(value, dict):
        given = cast("Json", value)
        return {key: "…" if key in _TEXTS and isinstance(of, str) else shape(of) for key, of in given.items()}
    return value


def check_harmless(said: Message, *links: str) -> None:
    """Fail if anything calls or leads anywhere but our own links, or if anything is not seen."""
    check_message(said)
    seen = reading.blocks(said.blocks)
    assert set(seen.of("link", "button link")) <= set(links)
    assert seen.of(*mrkdwn.MENTIONS, "emoji", "image", "unfurl") == []
    assert not mrkdwn.read(said.text, verbatim=True).effects
    assert "://" not in said.text
    for text in (*texts(said.blocks), said.text):
        assert not any(is_hidden(char) for char in text if char not in LAYOUT)


@pytest.mark.parametrize("field", IN_MESSAGES)
def test_no_text_changes_what_a_message_is_made_of(field: str) -> None:
    made = IN_MESSAGES[field]
    harmless = shape(message(notice(made("harmless")), PLACE).blocks)
    for trick in TRICKS:
        this = notice(made(trick))
        said = message(this, PLACE)
        check_harmless(said, this.url)
        assert shape(said.blocks) == harmless, trick
        assert field == "revision" or any(visible(trick)[:40] in text for text in texts(said.blocks)), trick


@pytest.mark.parametrize("field", IN_VALUES)
@pytest.mark.parametrize("trick", TRICKS)
def test_values_are_read_and_do_nothing(field: str, trick: str) -> None:
    this = notice(IN_VALUES[field](trick))
    said = message(this, PLACE)
    check_harmless(said, this.url)
    before, after = (shape(said.blocks)[place] for place in (0, -1))
    harmless = shape(message(notice(IN_VALUES[field]("harmless")), PLACE).blocks)
    assert (before, after) == (harmless[0], harmless[-1])


@pytest.mark.parametrize("trick", TRICKS)
def test_a_file_with_the_whole_call_hides_nothing(trick: str) -> None:
    text = whole(Call("c", trick, trick, {"arguments": {trick: trick}, trick: trick}, GrantRef("g", trick, trick)))
    assert not any(is_hidden(char) for char in text if char not in LAYOUT)


@pytest.mark.parametrize("trick", TRICKS)
def test_nothing_that_is_remarked_on_or_announced_does_anything(trick: str) -> None:
    detail: dict[str, Any] = {
        "reason": trick,
        "why": trick,
        "channel": trick,
        "left": trick,
        "to": [trick],
        "cause": "unanswered",
    }
    named: dict[str, Any] = {
        "person": trick,
        "label": trick,
        "owner": trick,
        "upstreams": [trick],
        "groups": [trick],
        "roles": [trick],
    }
    answer = {"content": [{"type": "text", "text": trick}], "structuredContent": {trick: trick}}
    for kind in REMARKED | ANNOUNCED:
        for approval in (asked(Requirement((trick,))), *map(in_state, END)):
            for told in (
                Remark(row(kind, trick, **detail), notice(approval), answer),
                Remark(row(kind, trick, **named)),
            ):
                said = remark(told, ())
                if said is not None:
                    check_harmless(said)


@pytest.mark.parametrize("trick", TRICKS)
def test_nothing_in_a_private_answer_a_list_or_a_modal_does_anything(trick: str) -> None:
    every = [notice(made(trick)) for made in IN_MESSAGES.values()]
    check_harmless(private(trick), *())
    check_harmless(waiting_list(every), *(each.url for each in every))
    for each in every:
        blocks: list[Json] = reason_modal(each, "{}")["blocks"]
        assert reading.blocks(blocks).of(*mrkdwn.MENTIONS, "link", "emoji") == []


def test_only_those_who_are_to_be_called_are() -> None:
    told = Remark(row(Kind.APPROVAL_REMINDED, left="7m"), notice(asked(Requirement(("<@U0EVIL0000>",)))))
    said = remark(told, ("<@U012AB3CD>", "<!subteam^S012AB3CD>"))
    assert said is not None
    assert reading.blocks(said.blocks).of(*mrkdwn.MENTIONS) == ["U012AB3CD", "S012AB3CD"]


@pytest.mark.parametrize(
    ("text", "spelled"),
    [
        ("session_connect", "session_connect"),
        ("R&D <bot>", "R&amp;D &lt;bot&gt;"),
        ("_x_", "\\u005fx\\u005f"),
        ("*x*", "\\u002ax\\u002a"),
        ("at 12:01:00", "at 12:01:00"),
        (":tada:", "\\u003atada:"),
        ("> said", "\\u003e said"),
        ("https://example.com", "https\\u003a//example.com"),
    ],
)
def test_what_would_take_effect_in_a_notification_is_spelled_out(text: str, spelled: str) -> None:
    assert unparsed(text) == spelled
