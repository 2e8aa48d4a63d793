"""Approved calls whose tool asks for input: they go on with it under the same approval, and nobody else's call does."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from mcp.types import ElicitResult
from starlette.responses import Response

from broker.approvals.sweeps import sweep
from broker.domain.approvals import Approval
from broker.domain.moves import MOST_ROUNDS
from broker.policy.load import parse_policy
from broker.store import audit
from tests.clock import MovableClock
from tests.gateway.scene import HOLD_ACT, Agent, Scene, block, modern, playing, text
from tests.gateway.streams import progress, sse
from tests.gateway.test_trouble import missing
from tests.servers import BOUND, asking_stdio, read_http
from tests.servers.scripted import Message, Scripted, result, said, tool

pytestmark = pytest.mark.timeout(60)

SCHEMA: dict[str, Any] = {"type": "object", "properties": {"name": {"type": "string"}}}
REQUESTS: dict[str, Any] = {
    "who": {"method": "elicitation/create", "params": {"message": "Who?", "requestedSchema": SCHEMA}}
}
RESPONSES: dict[str, Any] = {"who": {"action": "accept", "content": {"name": "octocat"}}}


class Asking:
    """What answers the calls of a scripted server: its tools ask for input `times` before they are done.

    Each time with another state, and each kind of question that there is: with both, with requests, with a state only.
    """

    def __init__(self, server: Scripted, times: int, *, stateless: bool = False) -> None:
        self.server = server
        self.times = times
        self.stateless = stateless
        server.on["tools/call"] = self.answer

    async def answer(self, message: Message) -> Response:
        """Ask, or be done."""
        asked = len(self.server.calls)
        return said(message) if asked > self.times else result(message, self.question(asked))

    def question(self, nth: int) -> dict[str, Any]:
        """What is asked for the `nth` time."""
        wanted = {} if nth % 3 == 0 else {"inputRequests": REQUESTS}
        state = {} if self.stateless else {"requestState": f"état {nth}"}
        return {"resultType": "input_required", "unknown": [nth], "_meta": {"kept": True}, **wanted, **state}


def act(arguments: dict[str, Any] | None = None, request_id: int = 1, **params: Any) -> dict[str, Any]:
    """A call of `act`, with whatever else its params have."""
    return modern("tools/call", {"name": "act", "arguments": arguments or {}, **params}, request_id)


def bring(state: Any, arguments: dict[str, Any] | None = None, **params: Any) -> dict[str, Any]:
    """The same call with input."""
    brought = {"requestState": state} if state is not None else {}
    return act(arguments, 2, inputResponses=RESPONSES, **brought, **params)


async def asked(scene: Scene, agent: Agent, *, nth: int = 1, **params: Any) -> tuple[str, dict[str, Any]]:
    """A call that is approved and then asked for input: its approval, and the question."""
    held = await agent.send("one", act(**params))
    approval = (await scene.review(agent, nth=nth)).id
    return approval, (await held.message())["result"]


async def sent(agent: Agent, message: dict[str, Any]) -> dict[str, Any]:
    """What a request is answered with."""
    return await (await agent.send("one", message)).message()


async def stands(scene: Scene, approval: str) -> Approval:
    return await scene.broker.approvals.get(approval)


def refused(answer: dict[str, Any]) -> bool:
    """Whether it was told that nothing waits for its input."""
    facts = block(answer)
    assert answer["result"]["isError"] is True
    assert answer["result"]["resultType"] == "complete"
    return (facts["status"], facts["cause"], facts["retry"]) == ("expired", "input", "ask")


async def kept(scene: Scene, agent: Agent) -> str:
    """All that is kept of the contents of the agent's calls."""
    calls = {row.call_id for row in await scene.of(agent) if row.call_id}
    found = [await scene.broker.store.read(lambda session, each=each: audit.contents(session, each)) for each in calls]
    return json.dumps(found, ensure_ascii=False)


# -- the way on -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stateless", [False, True])
async def test_a_tool_that_asks_for_input_goes_on_with_it_under_the_same_approval(
    small: Scene, server: Scripted, stateless: bool
) -> None:
    asking = Asking(server, 2, stateless=stateless)
    agent = await small.agent()
    approval, question = await asked(small, agent, arguments={"n": 1}, other="kept")
    for nth in (1, 2):
        facts = question["_meta"].pop("approval-broker/decision")
        assert (facts["status"], facts["approval_id"]) == ("approved", approval)
        assert question == asking.question(nth)
        waiting = await stands(small, approval)
        assert (waiting.state, waiting.rounds, waiting.holder) == ("executing", nth, None)
        assert waiting.awaiting is not None
        question = (await sent(agent, bring(question.get("requestState"), {"n": 1}, other="kept")))["result"]
    assert question["content"][0]["text"] == "done"
    assert question["_meta"]["approval-broker/decision"]["approval_id"] == approval
    assert (await stands(small, approval)).state == "succeeded"

    first, *others = [{**call["params"], "_meta": None} for call in server.calls]
    assert first == {"name": "act", "arguments": {"n": 1}, "other": "kept", "_meta": None}
    states = [{} if stateless else {"requestState": f"état {nth}"} for nth in (1, 2)]
    assert others == [{**first, "inputResponses": RESPONSES, **state} for state in states]
    rounds = ["approval.asked", "approval.continued"] * 2
    before = ["approval.submitted", "approval.approved", "approval.claimed"]
    assert await small.kinds(agent) == [*before, *rounds, "approval.succeeded"]
    assert [row.detail.get("round") for row in await small.of(agent)][3:7] == [1, 1, 2, 2]


async def test_what_a_tool_asks_and_what_it_is_told_is_not_kept(small: Scene, server: Scripted) -> None:
    Asking(server, 1)
    agent = await small.agent()
    await asked(small, agent)
    await sent(agent, bring("état 1"))
    assert refused(await sent(agent, bring("état 1")))
    Asking(server, 3)
    for state in ({}, {"requestState": "état 3", "inputResponses": RESPONSES}):  # what is not held passes with it
        await sent(agent, modern("tools/call", {"name": "look", "arguments": {}, **state}))
    await small.recorded(agent, "call.answered", 2)
    found = await kept(small, agent)
    assert '"name": "look"' in found
    for word in ("état", "octocat", "Who?"):
        assert word not in found
    whole = [json.dumps(row.detail) for row in await small.of(agent)]
    assert not [detail for detail in whole if "octocat" in detail or "Who?" in detail or "tat 1" in detail]


async def test_progress_grows_from_the_first_sign_to_the_tools_own(small: Scene, server: Scripted) -> None:
    async def answer(message: Message) -> Response:
        if len(server.calls) == 1:
            return result(message, {"resultType": "input_required", "requestState": "s"})
        final = json.loads(bytes(said(message).body))
        return Response(sse(progress(message, 0.5), progress(message, 2), final), media_type="text/event-stream")

    server.on["tools/call"] = answer
    agent = await small.agent()
    await asked(small, agent)
    going_on = await agent.send("one", act(requestState="s", _meta={"progressToken": "t2"}))
    assert going_on.headers["content-type"] == "text/event-stream"
    told = [(await going_on.event())["params"] for _ in range(3)]
    assert [(one["progressToken"], one["progress"]) for one in told] == [("t2", 1), ("t2", 1.5), ("t2", 3)]
    assert block(await going_on.event())["status"] == "approved"


async def test_a_call_goes_on_after_a_restart(tmp_path: Path, server: Scripted) -> None:
    upstreams = {"one": {"url": server.url, "policy": HOLD_ACT}}
    Asking(server, 1)
    async with playing(tmp_path, upstreams) as scene:
        agent = await scene.agent()
        approval, _ = await asked(scene, agent)
    async with playing(tmp_path, upstreams) as scene:
        agent = Agent(scene.broker.url, agent.grant, agent.token, scene.http)
        assert block(await sent(agent, bring("état 1")))["approval_id"] == approval
        assert (await stands(scene, approval)).state == "succeeded"
        assert refused(await sent(agent, bring("état 1")))
    assert len(server.calls) == 2


async def test_calls_that_were_not_held_pass_with_their_input_as_they_are(small: Scene, server: Scripted) -> None:
    asking = Asking(server, 1)
    agent = await small.agent()
    call = {"name": "look", "arguments": {"n": 1}}
    assert (await sent(agent, modern("tools/call", call)))["result"] == asking.question(1)
    again = modern("tools/call", {**call, "inputResponses": RESPONSES, "requestState": "état 1"}, 2)
    assert (await sent(agent, again))["result"] == json.loads(bytes(said(again).body))["result"]
    assert [call["params"] for call in server.calls][1] == again["params"]
    await small.recorded(agent, "call.answered", 2)
    rows = [row for row in await small.of(agent) if row.kind == "call.answered"]
    assert [row.detail["outcome"] for row in rows] == ["asked", "succeeded"]


async def test_before_2026_an_answer_of_that_name_is_final_and_such_params_are_the_calls_own(
    small: Scene, server: Scripted
) -> None:
    Asking(server, 1)
    agent = await small.agent()
    session = await agent.open("one")
    call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "act", "requestState": "mine"}}
    held = await agent.send("one", call, session=session)
    approval = (await small.review(agent)).id
    assert (await stands(small, approval)).call.params == call["params"]
    assert (await held.message())["result"]["resultType"] == "input_required"
    assert (await stands(small, approval)).state == "succeeded"
    assert [sent["params"] for sent in server.calls] == [call["params"]]


# -- attacks ----------------------------------------------------------------------------------------------------------


async def test_a_state_is_good_for_one_continuation(small: Scene, server: Scripted) -> None:
    Asking(server, 2)
    agent = await small.agent()
    approval, _ = await asked(small, agent)
    await sent(agent, bring("état 1"))
    assert refused(await sent(agent, bring("état 1")))
    assert (await stands(small, approval)).awaiting is not None  # the second question is open all the same
    assert block(await sent(agent, bring("état 2")))["status"] == "approved"
    assert refused(await sent(agent, bring("état 2")))
    assert len(server.calls) == 3


async def test_of_two_continuations_at_once_one_goes_on(small: Scene, server: Scripted) -> None:
    Asking(server, 1)
    agent = await small.agent()
    approval, _ = await asked(small, agent)
    both_asked = asyncio.Barrier(2)

    async def list_together(message: Message) -> Response:
        await both_asked.wait()
        return result(message, {"tools": server.tools})

    server.on["tools/list"] = list_together
    answers = await asyncio.gather(*(sent(agent, bring("état 1")) for _ in range(2)))
    assert sorted(block(each)["status"] for each in answers) == ["approved", "expired"]
    assert len(server.calls) == 2
    assert (await stands(small, approval)).rounds == 1


async def test_two_identical_calls_that_wait_without_a_state_both_go_on(small: Scene, server: Scripted) -> None:
    agent = await small.agent()

    async def answer(message: Message) -> Response:
        done = "inputResponses" in message["params"]
        return said(message) if done else result(message, {"resultType": "input_required", "inputRequests": REQUESTS})

    server.on["tools/call"] = answer
    approvals = {(await asked(small, agent, nth=nth))[0] for nth in (1, 2)}
    answers = await asyncio.gather(*(sent(agent, bring(None)) for _ in range(2)))
    assert {block(each)["approval_id"] for each in answers} == approvals
    assert len(server.calls) == 4


OTHERS: dict[str, dict[str, Any]] = {
    "another state": bring("invented"),
    "no state": bring(None),
    "other arguments": bring("état 1", {"n": 2}),
    "no arguments": bring("état 1"),
    "more params": bring("état 1", {"n": 1}, other=True),
    "more meta": bring("état 1", {"n": 1}, _meta={"tenant": "b"}),
    "a state that is no text": bring(["état 1"], {"n": 1}),
    "another spelling beside": bring("état 1", {"n": 1}, RequestState="état 9"),
}


@pytest.mark.parametrize("name", OTHERS)
async def test_what_is_not_the_same_call_with_that_state_is_refused_and_nobody_is_asked(
    small: Scene, server: Scripted, name: str
) -> None:
    Asking(server, 1)
    agent = await small.agent()
    approval, _ = await asked(small, agent, arguments={"n": 1})
    answer = await sent(agent, OTHERS[name])
    assert refused(answer)
    assert "asks for a new approval" in answer["result"]["content"][0]["text"]
    assert len(server.calls) == 1
    assert (await small.kinds(agent))[-2:] == ["approval.asked", "call.denied"]
    assert block(await sent(agent, bring("état 1", {"n": 1})))["approval_id"] == approval


async def test_another_grant_does_not_go_on_with_this_ones_call(small: Scene, server: Scripted) -> None:
    Asking(server, 1)
    agent, other = await small.agent(), await small.agent()
    approval, _ = await asked(small, agent)
    assert refused(await sent(other, bring("état 1")))
    assert len(server.calls) == 1
    assert block(await sent(agent, bring("état 1")))["approval_id"] == approval


async def test_a_state_that_nobody_gave_gets_no_call_past_the_people(small: Scene, server: Scripted) -> None:
    """Neither by itself, nor by the approval of the same call without it."""
    agent = await small.agent()
    held = await agent.send("one", act())
    approval = await small.submitted(agent)
    held.leave()
    await small.happened("approval.abandoned", agent)
    assert refused(await sent(agent, bring("s")))
    await small.decide(approval)
    assert refused(await sent(agent, bring("s")))
    assert server.calls == []
    assert block(await sent(agent, act()))["approval_id"] == approval
    assert "requestState" not in server.calls[0]["params"]


@pytest.mark.parametrize("nothing", [{"requestState": None}, {"inputResponses": {}, "requestState": None}])
async def test_a_client_that_spells_out_that_it_brings_nothing_is_held_as_any(
    small: Scene, server: Scripted, nothing: dict[str, Any]
) -> None:
    agent = await small.agent()
    held = await agent.send("one", act(**nothing))
    await small.review(agent)
    assert block(await held.message())["status"] == "approved"


async def test_a_tool_may_ask_ten_times_and_not_again(small: Scene, server: Scripted) -> None:
    Asking(server, MOST_ROUNDS + 1)
    agent = await small.agent()
    approval, _ = await asked(small, agent)
    for nth in range(1, MOST_ROUNDS):
        assert (await sent(agent, bring(f"état {nth}")))["result"]["resultType"] == "input_required"
    answer = await sent(agent, bring(f"état {MOST_ROUNDS}"))
    assert (block(answer)["status"], block(answer)["retry"]) == ("interrupted", "check")
    assert "asked for input more than 10 times" in answer["result"]["content"][0]["text"]
    assert (await stands(small, approval)).state == "interrupted"
    assert refused(await sent(agent, bring(f"état {MOST_ROUNDS + 1}")))
    assert len(server.calls) == MOST_ROUNDS + 1


# -- a world that changes ---------------------------------------------------------------------------------------------


async def test_when_the_grant_is_revoked_its_input_is_not_taken(small: Scene, server: Scripted) -> None:
    Asking(server, 1)
    agent = await small.agent()
    await asked(small, agent)
    await small.revoke(agent)
    async with asyncio.timeout(BOUND):
        while (await agent.send("one", bring("état 1"))).status != 401:
            assert len(server.calls) == 1
    assert len(server.calls) == 1


async def test_when_the_policy_denies_it_by_now_it_does_not_go_on(small: Scene, server: Scripted) -> None:
    Asking(server, 1)
    agent = await small.agent()
    approval, _ = await asked(small, agent)
    in_force = small.broker.policies["one"]
    before = in_force.policy
    try:
        in_force.policy = parse_policy(json.dumps({"version": "1", "default": "deny"}), "test")
        assert block(await sent(agent, bring("état 1")))["status"] == "denied"
        in_force.policy = parse_policy(json.dumps({"version": "1", "default": "allow"}), "test")
        assert len(server.calls) == 1
        assert block(await sent(agent, bring("état 1")))["approval_id"] == approval  # what is allowed by now goes on
    finally:
        in_force.policy = before
    assert (await stands(small, approval)).state == "succeeded"


async def test_when_the_tool_changed_meanwhile_it_does_not_go_on_and_the_agent_hears_why(
    small: Scene, server: Scripted
) -> None:
    Asking(server, 1)
    agent = await small.agent()
    approval, _ = await asked(small, agent)
    server.tools = [tool("act", "Deletes everything.")]
    answer = await sent(agent, bring("état 1"))
    assert block(answer)["status"] == "interrupted"
    assert "the tool's definition changed" in answer["result"]["content"][0]["text"]
    assert (await stands(small, approval)).state == "interrupted"
    assert len(server.calls) == 1


async def test_input_that_comes_too_late_is_refused_and_the_call_is_interrupted(
    tmp_path: Path, server: Scripted, clock: MovableClock
) -> None:
    Asking(server, 1)
    async with playing(tmp_path, {"one": {"url": server.url, "policy": HOLD_ACT}}, clock=clock) as scene:
        agent = await scene.agent()
        approval, _ = await asked(scene, agent)
        clock.advance(timedelta(minutes=15))
        assert refused(await sent(agent, bring("état 1")))
        await sweep(scene.broker.approvals)
        assert (await stands(scene, approval)).state == "interrupted"
        assert refused(await sent(agent, bring("état 1")))
        assert len(server.calls) == 1


async def test_for_a_caller_that_left_with_its_input_nothing_goes_on_until_it_comes_again(
    small: Scene, server: Scripted
) -> None:
    Asking(server, 1)
    agent = await small.agent()
    approval, _ = await asked(small, agent)
    begun, answer = server.list_tools_when_told()
    left = await agent.send("one", bring("état 1"))
    await asyncio.wait_for(begun.wait(), BOUND)
    left.leave()
    await agent.send("one", modern("ping"))  # the broker has seen the other connection close by then
    answer.set()
    assert block(await sent(agent, bring("état 1")))["approval_id"] == approval
    assert len(server.calls) == 2


# -- a server that is away --------------------------------------------------------------------------------------------


class Closing:
    """A server that asks for input once, and can close its door after it has listed its tools."""

    def __init__(self) -> None:
        self.server: asyncio.Server | None = None
        self.port = 0
        self.closes = False
        self.calls: list[Message] = []

    async def open(self) -> None:
        """Take connections."""
        self.closes = False
        self.server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self.server.sockets[0].getsockname()[1]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        _, body = await read_http(reader)
        message: Message = json.loads(body)
        if message["method"] == "tools/list" and self.closes and self.server is not None:
            self.server.close()
        answer = json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": self._result(message)}).encode()
        head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: "
        writer.write(head + b"%d\r\n\r\n" % len(answer) + answer)
        writer.close()

    def _result(self, message: Message) -> dict[str, Any]:
        match message["method"]:
            case "server/discover":
                return {"resultType": "complete", "supportedVersions": ["2026-07-28"], "capabilities": {}}
            case "tools/list":
                return {"resultType": "complete", "tools": [tool("act")]}
            case _:
                self.calls.append(message)
                asks = "requestState" not in message["params"]
                return {"resultType": "input_required", "requestState": "s"} if asks else {"content": []}


@pytest.fixture
async def closing() -> AsyncGenerator[Closing]:
    server = Closing()
    await server.open()
    yield server
    if server.server is not None:
        server.server.close()


async def test_input_that_provably_never_reached_the_tool_can_be_brought_again(
    tmp_path: Path, closing: Closing
) -> None:
    upstreams = {"one": {"url": f"http://127.0.0.1:{closing.port}/mcp", "policy": HOLD_ACT}}
    async with playing(tmp_path, upstreams) as scene:
        agent = await scene.agent()
        approval, _ = await asked(scene, agent)
        waiting = await stands(scene, approval)
        closing.closes = True
        for _ in range(2):  # the first time when it was to be sent, then before its tools were listed
            answer = await sent(agent, bring("s"))
            facts = block(answer)
            assert (facts["status"], facts["retry"], facts["approval_id"]) == ("unavailable", "later", approval)
            assert "The input was not sent" in answer["result"]["content"][0]["text"]
            assert await stands(scene, approval) == waiting
        kinds = await scene.kinds(agent)
        assert kinds[-3:] == ["approval.asked", "approval.continued", "approval.asked"]
        await closing.open()
        assert block(await sent(agent, bring("s")))["approval_id"] == approval
        assert (await stands(scene, approval)).state == "succeeded"
        assert [call["params"].get("requestState") for call in closing.calls] == [None, "s"]


async def test_when_the_server_goes_away_with_the_input_nobody_knows_what_came_of_it(
    small: Scene, server: Scripted
) -> None:
    async def answer(message: Message) -> Response:
        if len(server.calls) == 1:
            return result(message, {"resultType": "input_required", "requestState": "s"})
        return Response(b"", media_type="text/event-stream")

    server.on["tools/call"] = answer
    agent = await small.agent()
    approval, _ = await asked(small, agent)
    told = await sent(agent, bring("s"))
    assert block(told)["status"] == "interrupted"
    assert "may or may not have run" in told["result"]["content"][0]["text"]
    assert (await stands(small, approval)).state == "interrupted"
    assert refused(await sent(agent, bring("s")))


@pytest.mark.parametrize("state", ["\\ud800", {"deep": 120}])
async def test_a_question_that_cannot_be_recorded_is_not_passed_on(small: Scene, server: Scripted, state: Any) -> None:
    text = f'"{state}"' if isinstance(state, str) else "[" * state["deep"] + "]" * state["deep"]

    async def answer(message: Message) -> Response:
        body = '{"jsonrpc":"2.0","id":%d,"result":{"resultType":"input_required","requestState":%s}}'
        return Response(body % (message["id"], text), media_type="application/json")

    server.on["tools/call"] = answer
    agent = await small.agent()
    approval, told = await asked(small, agent)
    assert told["_meta"]["approval-broker/decision"]["status"] == "interrupted"
    assert (await stands(small, approval)).state == "interrupted"


# -- a store that is away ---------------------------------------------------------------------------------------------


async def test_while_the_store_is_away_no_input_is_taken_and_no_question_passed_on(
    tmp_path: Path, server: Scripted
) -> None:
    asking = Asking(server, 1)
    async with playing(tmp_path, {"one": {"url": server.url, "policy": HOLD_ACT}}) as scene:
        agent = await scene.agent()
        approval, _ = await asked(scene, agent)
        with contextlib.ExitStack() as away:

            async def list_and_break(message: Message) -> Response:
                away.enter_context(missing(tmp_path, "approvals"))
                return result(message, {"tools": server.tools})

            server.on["tools/list"] = list_and_break
            facts = block(await sent(agent, bring("état 1")))
            assert (facts["status"], facts["approval_id"]) == ("unavailable", approval)
            del server.on["tools/list"]
        assert block(await sent(agent, bring("état 1")))["status"] == "approved"
        assert len(server.calls) == 2

        with contextlib.ExitStack() as away:

            async def ask_and_break(message: Message) -> Response:
                away.enter_context(missing(tmp_path, "approvals"))
                return result(message, asking.question(1))

            server.on["tools/call"] = ask_and_break
            held = await agent.send("one", act({"n": 2}))
            second = (await scene.review(agent, nth=2)).id
            assert block(await held.event())["status"] == "interrupted"
        await scene.happened("approval.interrupted", agent)
        assert (await stands(scene, second)).state == "interrupted"


# -- real clients -----------------------------------------------------------------------------------------------------


async def elicited(context: Any, params: Any) -> ElicitResult:
    return ElicitResult(action="accept", content={"name": "octocat", "colour": "green"})


async def test_a_client_of_the_sdk_answers_by_itself_and_each_round_reaches_the_tool_once(
    small: Scene, server: Scripted
) -> None:
    Asking(server, 3)
    agent = await small.agent()
    async with agent.client("one", "auto", elicitation_callback=elicited) as client:
        calling = asyncio.ensure_future(client.call_tool("act", {"n": 1}))
        approval = (await small.review(agent)).id
        assert text(await asyncio.wait_for(calling, BOUND)) == "done"
    assert [call["params"].get("requestState") for call in server.calls] == [None, "état 1", "état 2", "état 3"]
    assert (await stands(small, approval)).state == "succeeded"
    assert (await small.kinds(agent)).count("approval.submitted") == 1


async def test_so_it_does_with_a_stdio_server_of_the_sdk_that_seals_its_states(tmp_path: Path) -> None:
    command = asking_stdio()
    async with playing(tmp_path, {"one": {**command, "policy": {"default": "hold"}}}) as scene:
        agent = await scene.agent()
        async with agent.client("one", "auto", elicitation_callback=elicited) as client:
            calling = asyncio.ensure_future(client.call_tool("paint", {"thing": "desk"}))
            approval = (await scene.review(agent)).id
            assert text(await asyncio.wait_for(calling, BOUND)) == "octocat painted the desk green, in 1 go"
        whole = await stands(scene, approval)
        assert (whole.state, whole.rounds) == ("succeeded", 2)
