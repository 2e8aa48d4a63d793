"""Real clients of the SDK before a broker and a stdio server of the SDK behind it: both sides speak first."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from mcp.shared.exceptions import MCPError
from mcp.shared.subscriptions import PromptsListChanged, ToolsListChanged
from mcp.types import (
    CreateMessageResult,
    ElicitResult,
    ListRootsResult,
    LoggingMessageNotificationParams,
    Root,
    TextContent,
)

from tests.gateway.scene import Agent, playing, text
from tests.servers import BOUND, asking_stdio

pytestmark = pytest.mark.filterwarnings("ignore::mcp.shared.exceptions.MCPDeprecationWarning")


@pytest.fixture(scope="module")
async def agent(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Agent]:
    command = asking_stdio()
    upstreams = {"open": {**command, "policy": {"default": "allow"}}}
    async with playing(tmp_path_factory.mktemp("asking"), upstreams) as scene:
        yield await scene.agent()


async def _sample(context: Any, params: Any) -> CreateMessageResult:
    return CreateMessageResult(role="assistant", content=TextContent(type="text", text="word"), model="m")


async def _elicit(context: Any, params: Any) -> ElicitResult:
    return ElicitResult(action="accept", content={"colour": "green"})


async def _roots(context: Any) -> ListRootsResult:
    return ListRootsResult(roots=[Root.model_validate({"uri": "file:///here"})])


ANSWERS: dict[str, Any] = {
    "sampling_callback": _sample,
    "elicitation_callback": _elicit,
    "list_roots_callback": _roots,
}


class Notes:
    """What a client is told beside its answers."""

    def __init__(self) -> None:
        self.methods: asyncio.Queue[str] = asyncio.Queue()

    async def __call__(self, message: Any) -> None:
        self.methods.put_nowait(getattr(message, "method", repr(message)))

    async def next(self) -> str:
        return await asyncio.wait_for(self.methods.get(), BOUND)


async def test_a_server_asks_its_clients_model_user_and_roots_while_a_call_waits(agent: Agent) -> None:
    async with agent.client("open", "legacy", **ANSWERS) as client:
        answers = await asyncio.gather(*(asyncio.wait_for(client.call_tool("ask", {}), BOUND) for _ in range(3)))
    assert [text(answer) for answer in answers] == ["word green file:///here"] * 3


async def test_a_client_that_refuses_what_it_is_asked_is_heard_by_the_server(agent: Agent) -> None:
    async with agent.client("open", "legacy") as client:
        with pytest.raises(MCPError, match="Sampling not supported"):
            await asyncio.wait_for(client.call_tool("ask", {}), BOUND)


@pytest.mark.parametrize(("era", "wanted"), [("legacy", None), ("auto", "info")])
async def test_what_a_call_logs_is_heard_before_its_answer(agent: Agent, era: str, wanted: Any) -> None:
    heard: list[Any] = []

    async def hear(params: LoggingMessageNotificationParams) -> None:
        heard.append(params.data)

    async with agent.client("open", era, logging_callback=hear, log_level=wanted) as client:
        assert text(await client.call_tool("log", {"line": "working"})) == "logged"
        assert heard == ["working"]


async def test_a_change_that_no_call_waits_for_is_told_on_the_clients_own_stream(agent: Agent) -> None:
    notes = Notes()
    async with agent.client("open", "legacy", message_handler=notes) as client:
        await client.call_tool("change", {})
        assert await notes.next() == "notifications/tools/list_changed"


async def test_each_subscriber_hears_of_a_change_on_a_subscription_of_its_own(agent: Agent) -> None:
    async with (
        agent.client("open", "auto") as one,
        agent.client("open", "auto") as other,
        one.listen(tools_list_changed=True) as tools,
        other.listen(prompts_list_changed=True) as prompts,
    ):
        await one.call_tool("change", {})
        heard = [await asyncio.wait_for(anext(aiter(stream)), BOUND) for stream in (prompts, tools)]
    assert [type(event) for event in heard] == [PromptsListChanged, ToolsListChanged]
