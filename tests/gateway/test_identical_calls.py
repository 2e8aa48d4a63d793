"""Which call counts as the identical one, to the letter of its arguments: it picks up what another would ask anew."""

from __future__ import annotations

import json

import pytest

from tests.gateway.scene import Agent, Bare, Scene, modern_headers, tool_call
from tests.servers.scripted import Scripted

pytestmark = pytest.mark.timeout(60)

MARK = {"the arguments": "stand here"}


async def act(agent: Agent, arguments: str) -> Bare:
    """A call with its arguments written as they are given; an empty text leaves them out."""
    call = tool_call("act", MARK)
    given = f'"arguments": {arguments},' if arguments else ""
    written = json.dumps(call).replace(f'"arguments": {json.dumps(MARK)},', given)
    assert json.dumps(MARK) not in written
    return await agent.send("one", written.encode(), modern_headers(call))


async def left(scene: Scene, agent: Agent, arguments: str) -> str:
    """The approval of a call whose caller left."""
    held = await act(agent, arguments)
    approval = await scene.submitted(agent)
    held.leave()
    await scene.happened("approval.abandoned", agent)
    return approval


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ('{"a": 1, "b": {"c": 2, "d": 3}}', '{"b": {"d": 3, "c": 2}, "a": 1}'),
        ('{"a":[1,2]}', '{ "a" : [ 1 , 2 ] }'),
        ('{"a": "é/\\n"}', '{"a": "\\u00e9\\/\\u000a"}'),
        ('{"a": "😀"}', '{"a": "\\ud83d\\ude00"}'),
        ('{"a": 1.5}', '{"a": 1.50}'),
        ('{"a": 100.0}', '{"a": 1e2}'),
        ('{"a": 0}', '{"a": -0}'),
        ('{"a": 0.1}', '{"a": 0.1000000000000000055}'),
        ('{"a": 2}', '{"a": 1, "a": 2}'),
        ('{"a": 123456789012345678901234567890}', '{"a": 123456789012345678901234567890}'),
    ],
)
async def test_the_same_values_written_otherwise_are_the_identical_call(
    small: Scene, server: Scripted, first: str, second: str
) -> None:
    agent = await small.agent()
    approval = await left(small, agent, first)
    again = await act(agent, second)
    assert (await small.happened("approval.resumed", agent)).approval_id == approval
    await small.decide(approval)
    assert (await again.message())["result"]["_meta"]["approval-broker/decision"]["approval_id"] == approval
    assert [call["params"]["arguments"] for call in server.calls] == [json.loads(first)]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ('{"a": 1}', '{"a": 1.0}'),
        ('{"a": 1}', '{"a": "1"}'),
        ('{"a": 1}', '{"a": true}'),
        ('{"a": 0.0}', '{"a": -0.0}'),
        ('{"a": 9007199254740992}', '{"a": 9007199254740993}'),
        ('{"a": 100000000000000000000}', '{"a": 1e20}'),
        ('{"a": "\\u00e9"}', '{"a": "e\\u0301"}'),  # composed and decomposed
        ('{"a": "ﬁ"}', '{"a": "fi"}'),
        ('{"a": "x"}', '{"a": "x "}'),
        ('{"a": "x"}', '{"A": "x"}'),
        ('{"a": "x\\r\\n"}', '{"a": "x\\n"}'),
        ('{"a": [1, 2]}', '{"a": [2, 1]}'),
        ("{}", '{"a": null}'),
        ("{}", '{"a": "the default"}'),
        ("{}", ""),
    ],
)
async def test_anything_that_a_server_could_take_for_something_else_is_another_call(
    small: Scene, first: str, second: str
) -> None:
    agent = await small.agent()
    approval = await left(small, agent, first)
    other = await act(agent, second)
    assert await small.submitted(agent, 2) != approval
    assert "approval.resumed" not in await small.kinds(agent)
    other.leave()
