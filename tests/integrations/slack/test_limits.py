"""No limit of Slack is ever hit, whatever a call says."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from broker.approvals.notices import ANNOUNCED, REMARKED, Remark
from broker.domain.approvals import Approval, Decision, State
from broker.domain.audit import Kind
from broker.domain.calls import Call, Escalation, Requirement, Risk
from broker.domain.people import GrantRef
from broker.domain.text import visible
from integrations.slack.arguments import named_values
from integrations.slack.messages import message
from integrations.slack.modals import reason_modal
from integrations.slack.remarks import remark
from integrations.slack.replies import private, waiting_list
from tests.clock import NOON
from tests.domain.values import MINUTE, QUARTER, held, in_state, person, word
from tests.integrations.slack.drawing import texts
from tests.integrations.slack.limits import check_blocks, check_message, check_view
from tests.integrations.slack.scenes import PLACE, notice, row

NASTY: st.SearchStrategy[str] = st.sampled_from(
    ["\0", "\u202e", "\u200b", "\n", "\t", '"', "\\", "&", "<", "字", "\U0001f600", "\U000e0041", "`"]
)


def _long(char: str, times: int) -> str:
    return char * times


LONG = st.builds(_long, NASTY, st.sampled_from([30, 300, 9000]))
TEXT: st.SearchStrategy[str] = st.text(st.characters(exclude_categories=["Cs"]) | NASTY, max_size=60) | LONG
HALVES = st.text(st.characters(), max_size=300)


def json_of(text: st.SearchStrategy[str]) -> st.SearchStrategy[Any]:
    """Parsed JSON with these texts."""
    plain = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | text
    return st.recursive(plain, lambda inner: st.lists(inner, max_size=5) | st.dictionaries(text, inner, max_size=5))


def arguments_of(text: st.SearchStrategy[str]) -> st.SearchStrategy[dict[str, Any]]:
    """Arguments with these texts."""
    return st.dictionaries(text, json_of(text), max_size=9)


def nested(depth: int) -> Any:
    """Lists and objects, so many levels deep."""
    value: Any = "the end"
    for level in range(depth):
        value = {"k" * level: value} if level % 2 else [value]
    return value


MEBIBYTE = 1 << 20
MONSTERS: dict[str, dict[str, Any]] = {
    "one MiB of text": {"text": "a" * MEBIBYTE},
    "one MiB of lines": {"text": "a\n" * (MEBIBYTE // 2)},
    "one MiB of NULs": {"text": "\0" * (MEBIBYTE // 6)},
    "one MiB of what turns the direction": {"text": "\u202e" * (MEBIBYTE // 3)},
    "one MiB of what Slack parses": {"text": "<!channel>&" * (MEBIBYTE // 11)},
    "ten thousand keys": {f"key {number}": number for number in range(10_000)},
    "ten thousand long texts": {f"key {number}": "long " * 100 for number in range(10_000)},
    "a key of one MiB": {"k" * MEBIBYTE: "value"},
    "long keys": {f"{number}" + "字" * 1000: "字" * 1000 for number in range(100)},
    "deep": {"deep": nested(97)},
    "wide": {"wide": [list(range(100))] * 1000},
    "empty": {"": "", "a": {}, "b": []},
    "a number of many digits": {"n": 10**4000},
}


def approval_of(arguments: dict[str, Any], text: str, state: State = State.PENDING) -> Approval:
    """An approval all of whose texts are this one."""
    wanted = Requirement((text,) * 50, quorum=30, channels=("slack",), escalate=Escalation(MINUTE, (text,) * 50))
    beside = {f"{text[:9]}{number}": arguments for number in range(2)}
    call = Call("c", text, text, {"name": text, "arguments": arguments, **beside}, GrantRef("g", text, text))
    reviews = tuple(replace(word(person(f"p{number}")), by=text, channel=text) for number in range(25))
    resolution = in_state(state).resolution
    return held(
        wanted,
        state=state,
        call=call,
        reason=text or None,
        rule=text,
        risk=Risk.HIGH,
        reviews=reviews,
        resolution=replace(resolution, by=text, reason=text) if resolution is not None else None,
        execute_by=NOON + QUARTER,
    )


def check_all(approval: Approval, text: str, answer: Any) -> None:
    """Fail unless Slack takes all that is ever said of an approval."""
    this = notice(approval)
    check_message(message(this, PLACE))
    check_message(message(this, "web"))
    check_view(reason_modal(this, "{}"))
    check_message(waiting_list([this] * 50))
    check_message(private(text, this.url))
    mentions = tuple(f"<@U{number:010}>" for number in range(99))
    for kind in REMARKED | ANNOUNCED | {Kind.APPROVAL_SUBMITTED, Kind.CHAIN_WITNESSED}:
        told = row(kind, text, reason=text, why=text, to=[text] * 50, left="7m", cause="unanswered", channel=text)
        announced = row(kind, text, person=text, label=text, owner=text, upstreams=[text] * 50, groups=[text] * 50)
        for each in (Remark(told, this, answer), Remark(replace(announced, grant=text))):
            if (said := remark(each, mentions)) is not None:
                check_message(said)


@pytest.mark.parametrize("monster", MONSTERS)
def test_no_limit_is_hit_by_a_monster(monster: str) -> None:
    approval = approval_of(MONSTERS[monster], "\u202e字<&>\\" * 2000)
    said = message(notice(approval), PLACE)
    check_message(said)
    check_view(reason_modal(notice(approval), "{}"))
    if monster != "empty":
        assert said.whole is not None


def test_no_limit_is_hit_by_anything_said_of_a_monster() -> None:
    for text in ("", "\u202e字<&>" * 2000, "a\n" * 4000):
        for state in (State.PENDING, State.REJECTED):
            check_all(approval_of({text: text}, text, state), text, {"content": [{"type": "text", "text": text}]})


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(arguments_of(TEXT), TEXT, st.sampled_from(State))
def test_no_limit_is_hit_whatever_a_call_says(arguments: dict[str, Any], text: str, state: State) -> None:
    check_message(message(notice(approval_of(arguments, text, state)), PLACE))


@settings(max_examples=12, deadline=None)
@given(arguments_of(HALVES), HALVES)
def test_half_characters_are_shown_as_escapes(arguments: dict[str, Any], text: str) -> None:
    values = named_values({**arguments, "text": text})
    check_blocks([{"type": "rich_text", "elements": list(values.parts)}])
    "".join(texts(list(values.parts))).encode()
    answer = {"content": [{"type": "text", "text": text}]}
    said = remark(Remark(row(Kind.APPROVAL_SUCCEEDED), notice(in_state(State.SUCCEEDED)), answer), ())
    assert said is not None
    check_message(said)
    "".join(texts(said.blocks)).encode()


@settings(max_examples=12, deadline=None)
@given(arguments_of(TEXT))
def test_a_message_shows_every_value_or_says_that_it_does_not(arguments: dict[str, Any]) -> None:
    values = named_values(arguments)
    shown = set(texts(list(values.parts)))
    said_so = any(text.startswith("…") or text.endswith("…") for text in shown)
    assert said_so == values.shortened
    assert values.shortened or {visible(name) or "(empty)" for name in arguments} <= shown


def test_what_is_left_out_is_told_with_its_number() -> None:
    said = message(notice(approval_of({"text": "a" * 5000}, "x")), PLACE)
    left_out = next(text for text in texts(said.blocks) if "more character" in text)
    shown = next(len(text) for text in texts(said.blocks) if text.startswith("aaa"))
    assert left_out == f"… {5000 - shown:,} more characters"
    assert said.whole is not None
    assert "a" * 5000 in said.whole


def test_short_values_leave_their_room_to_a_long_one() -> None:
    short = {f"s{number}": "x" for number in range(10)}
    alone, among = (named_values({**more, "long": "y" * 9000}) for more in ({}, short))
    lengths = [max(len(text) for text in texts(list(values.parts))) for values in (alone, among)]
    assert lengths[1] > 1000
    assert lengths[0] < 3000


def test_two_long_values_share_the_room() -> None:
    values = named_values({"a": "x" * 9000, "b": "y" * 9000})
    first, second = (len(text) for text in texts(list(values.parts)) if text[0] in "xy")
    assert abs(first - second) <= 1


def test_a_reason_modal_takes_back_no_more_than_slack_carries() -> None:
    with pytest.raises(ValueError, match="3000 characters"):
        reason_modal(notice(held()), "x" * 3001)


def test_the_longest_reason_is_read_in_the_thread() -> None:
    reason = "no " * 660
    rejected = replace(in_state(State.REJECTED))
    said = remark(Remark(row(Kind.APPROVAL_REJECTED, reason=reason.strip(), channel="web"), notice(rejected)), ())
    assert said is not None
    assert reason.strip() in "".join(texts(said.blocks))
    assert rejected.reviews[0].decision is Decision.REJECT
