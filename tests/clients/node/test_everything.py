"""server-everything, over stdio and HTTP: whatever MCP has passes through the broker.

It speaks the handshake only, so that a modern client has to find its way back to that by itself.
"""

from __future__ import annotations

import asyncio
import gzip
from base64 import b64decode
from typing import Any

import pytest
from mcp import Client
from mcp.client.session import ClientRequestContext
from mcp.shared.exceptions import MCPError
from mcp.types import (
    BlobResourceContents,
    CreateMessageRequestParams,
    CreateMessageResult,
    ElicitRequestParams,
    ElicitResult,
    ListRootsResult,
    LoggingMessageNotification,
    PromptReference,
    ResourceListChangedNotification,
    ResourceTemplateReference,
    ResourceUpdatedNotification,
    Root,
    TextContent,
    TextResourceContents,
)
from pydantic import FileUrl

from tests.clients.servers import alone, shown
from tests.gateway.scene import APPROVER, ERAS, Agent, Scene, text, told
from tests.servers import BOUND, TRANSPORTS

pytestmark = [
    pytest.mark.parametrize("transport", TRANSPORTS),
    pytest.mark.parametrize("era", ERAS),
    pytest.mark.filterwarnings("ignore::mcp.shared.exceptions.MCPDeprecationWarning"),  # only this era has these
]

DOCUMENT = "demo://resource/dynamic/text/1"


class Heard:
    """What the server told a client of its own accord, in order."""

    def __init__(self) -> None:
        self.messages: list[Any] = []
        self._news = asyncio.Condition()

    async def __call__(self, message: Any) -> None:
        """The client's `message_handler`."""
        async with self._news:
            self.messages.append(message)
            self._news.notify_all()

    async def of(self, kind: type[Any], word: str = "") -> Any:
        """The first message of a kind with this word in it, as soon as it is there."""

        def found() -> Any:
            return next((one for one in self.messages if isinstance(one, kind) and word in one.model_dump_json()), None)

        async with asyncio.timeout(BOUND), self._news:
            return await self._news.wait_for(found)


async def listening(client: Client, heard: Heard) -> None:
    """Return when what the server says arrives: over HTTP it is lost until the client's stream by GET is open."""
    async with asyncio.timeout(BOUND):
        while not heard.messages:
            await subscribe(client, "demo://nothing")  # which the server notes in its log


async def subscribe(client: Client, uri: str) -> None:
    await client.subscribe_resource(uri)  # pyright: ignore[reportDeprecated] - in the era of this server it is not


async def sample(context: ClientRequestContext, params: CreateMessageRequestParams) -> CreateMessageResult:
    """A model that repeats what it is told."""
    said = params.messages[0].content
    assert isinstance(said, TextContent)
    return CreateMessageResult(role="assistant", model="parrot", content=TextContent(text=f"Again: {said.text}"))


async def fill_in(context: ClientRequestContext, params: ElicitRequestParams) -> ElicitResult:
    """A person who gives a name, and opens what is to be opened."""
    return ElicitResult(action="accept", content={"name": "Ada"} if params.mode == "form" else None)


async def roots(context: ClientRequestContext) -> ListRootsResult:
    """A client with one folder."""
    return ListRootsResult(roots=[Root(uri=FileUrl("file:///somewhere"), name="Somewhere")])


WILLING: dict[str, Any] = {
    "sampling_callback": sample,
    "elicitation_callback": fill_in,
    "list_roots_callback": roots,
}


async def test_it_shows_behind_the_broker_what_it_shows_alone(
    agent: Agent, servers: dict[str, dict[str, Any]], era: str, transport: str
) -> None:
    async with alone(servers[f"everything-{transport}"], era, **WILLING) as client:
        expected = await shown(client)
    async with agent.client(f"everything-{transport}", era, **WILLING) as client:
        assert await shown(client) == expected
    assert expected["protocol"] == "2025-11-25"
    assert "trigger-sampling-request" in {tool.name for tool in expected["tools"]}
    assert expected["prompts"]
    assert expected["resources"]
    assert expected["templates"]


# -- calls ------------------------------------------------------------------------------------------------------------


async def test_every_kind_of_content_arrives(agent: Agent, era: str, transport: str) -> None:
    async with agent.client(f"everything-{transport}", era) as client:
        assert text(await client.call_tool("echo", {"message": "Grüße, 世界"})) == "Echo: Grüße, 世界"
        assert text(await client.call_tool("get-sum", {"a": 2, "b": 40})) == "The sum of 2 and 40 is 42."
        weather = await client.call_tool("get-structured-content", {"location": "Chicago"})
        assert weather.structured_content == {
            "temperature": 36,
            "conditions": "Light rain / drizzle",
            "humidity": 82,
        }
        noted = await client.call_tool("get-annotated-message", {"messageType": "error", "includeImage": True})
        words, image = noted.model_dump(by_alias=True)["content"]
        assert words["annotations"]["priority"] == 1.0
        assert words["annotations"]["audience"] == ["user", "assistant"]
        assert b64decode(image["data"]).startswith(b"\x89PNG")
        links = (await client.call_tool("get-resource-links", {"count": 2})).model_dump(by_alias=True)["content"]
        assert [str(link["uri"]) for link in links[1:]] == [
            "demo://resource/dynamic/blob/1",
            "demo://resource/dynamic/text/2",
        ]
        asked = {"resourceType": "Text", "resourceId": 3}
        embedded = (await client.call_tool("get-resource-reference", asked)).model_dump(by_alias=True)["content"]
        assert "Resource 3" in embedded[1]["resource"]["text"]


async def test_arguments_that_do_not_fit_are_the_servers_own_error(agent: Agent, era: str, transport: str) -> None:
    async with agent.client(f"everything-{transport}", era) as client:
        refused = await client.call_tool("get-sum", {"a": "two", "b": 40})
    assert refused.is_error
    assert "Input validation error" in text(refused)


async def test_a_held_call_tells_its_progress_before_and_after_the_yes(
    scene: Scene, agent: Agent, era: str, transport: str
) -> None:
    heard, waits = list[tuple[float, str | None]](), asyncio.Event()

    async def on_progress(progress: float, total: float | None, message: str | None) -> None:
        heard.append((progress, message))
        waits.set()

    async with agent.client(f"held-{transport}", era) as client:
        asked = {"duration": 0.2, "steps": 4}
        calling = asyncio.ensure_future(
            client.call_tool("trigger-long-running-operation", asked, progress_callback=on_progress)
        )
        await asyncio.wait_for(waits.wait(), BOUND)
        await scene.review(agent)
        result = await calling
    assert text(result) == "Long running operation completed. Duration: 0.2 seconds, Steps: 4."
    assert told(result)["reviewers"] == [APPROVER.email]
    said = [message for _, message in heard if message]  # the server's own progress has none
    assert said[0].startswith("Waiting for approval by")
    assert said[-1] == "Approved."
    assert len(heard) == len(said) + 4
    assert [progress for progress, _ in heard] == sorted({progress for progress, _ in heard})


async def test_a_client_that_gave_up_on_a_call_goes_on_and_leaves_in_peace(
    agent: Agent, era: str, transport: str
) -> None:
    """The server is told to cancel and then owes no answer (2025-11-25, Cancellation): nothing may wait for one."""
    asked = {"duration": 600, "steps": 1}
    async with agent.client(f"everything-{transport}", era) as client:
        with pytest.raises(MCPError, match="timed out"):
            await client.call_tool("trigger-long-running-operation", asked, read_timeout_seconds=0.5)
        assert text(await client.call_tool("echo", {"message": "still here"})) == "Echo: still here"


# -- what the server asks the client ----------------------------------------------------------------------------------


async def test_the_server_samples_the_clients_model(agent: Agent, era: str, transport: str) -> None:
    async with agent.client(f"everything-{transport}", era, sampling_callback=sample) as client:
        result = await client.call_tool("trigger-sampling-request", {"prompt": "tea or coffee"})
    assert "Again: Resource trigger-sampling-request context: tea or coffee" in text(result)


async def test_the_server_samples_the_clients_model_in_a_call_that_a_person_let_run(
    scene: Scene, agent: Agent, era: str, transport: str
) -> None:
    async with agent.client(f"held-{transport}", era, sampling_callback=sample) as client:
        calling = asyncio.ensure_future(client.call_tool("trigger-sampling-request", {"prompt": "tea or coffee"}))
        await scene.review(agent)
        result = await calling
    assert "context: tea or coffee" in text(result)
    assert told(result)["status"] == "approved"


async def test_the_server_asks_the_agents_own_person(agent: Agent, era: str, transport: str) -> None:
    async with agent.client(f"everything-{transport}", era, elicitation_callback=fill_in) as client:
        form = await client.call_tool("trigger-elicitation-request", {})
        page = await client.call_tool("trigger-url-elicitation", {"url": "https://example.com/"})
    assert "Name: Ada" in text(form)
    assert "User completed the URL elicitation flow" in text(page)


async def test_a_call_that_needs_a_page_opened_first_says_so_in_the_servers_own_error(
    agent: Agent, era: str, transport: str
) -> None:
    asked = {"url": "https://example.com/", "errorPath": True}
    async with agent.client(f"everything-{transport}", era, elicitation_callback=fill_in) as client:
        with pytest.raises(MCPError) as refused:
            await client.call_tool("trigger-url-elicitation", asked)
    assert refused.value.error.code == -32042
    assert refused.value.error.data["elicitations"][0]["url"] == "https://modelcontextprotocol.io"


async def test_the_server_asks_for_the_clients_roots(agent: Agent, era: str, transport: str) -> None:
    heard, options = Heard(), {"list_roots_callback": roots}
    async with agent.client(f"everything-{transport}", era, message_handler=heard, **options) as client:
        await listening(client, heard)
        result = await client.call_tool("get-roots-list", {})
    assert "Somewhere\n   URI: file:///somewhere" in text(result)


# -- what the server tells the client ---------------------------------------------------------------------------------


async def test_log_messages_come_at_the_level_that_the_client_set(agent: Agent, era: str, transport: str) -> None:
    heard = Heard()
    async with agent.client(f"everything-{transport}", era, message_handler=heard) as client:
        await listening(client, heard)
        await client.set_logging_level("error")  # pyright: ignore[reportDeprecated] - in this era it is not
        await subscribe(client, DOCUMENT)  # which it notes at `info`
        await client.set_logging_level("debug")  # pyright: ignore[reportDeprecated] - as above
        await subscribe(client, "demo://another")
        note = await heard.of(LoggingMessageNotification, "demo://another")
    assert note.params.level == "info"
    assert [one for one in heard.messages if DOCUMENT in one.model_dump_json()] == []


async def test_a_subscriber_hears_of_a_resource_that_changed(agent: Agent, era: str, transport: str) -> None:
    heard = Heard()
    async with agent.client(f"everything-{transport}", era, message_handler=heard) as client:
        await listening(client, heard)
        await subscribe(client, DOCUMENT)
        await client.call_tool("toggle-subscriber-updates", {})
        update = await heard.of(ResourceUpdatedNotification, DOCUMENT)
    assert str(update.params.uri) == DOCUMENT


async def test_a_resource_that_a_call_makes_is_announced_listed_and_read(
    agent: Agent, era: str, transport: str
) -> None:
    heard, name = Heard(), f"{era}-{transport}.gz"
    asked = {"name": name, "data": "data:text/plain,nine%20to%20five"}
    async with agent.client(f"everything-{transport}", era, message_handler=heard) as client:
        await listening(client, heard)
        await client.call_tool("gzip-file-as-resource", asked)
        await heard.of(ResourceListChangedNotification)
        found = {resource.name: resource for resource in (await client.list_resources()).resources}
        [content] = (await client.read_resource(str(found[name].uri))).contents
    assert isinstance(content, BlobResourceContents)
    assert gzip.decompress(b64decode(content.blob)) == b"nine to five"


# -- resources, prompts, completions ----------------------------------------------------------------------------------


async def test_resources_are_read_by_address_and_by_template(agent: Agent, era: str, transport: str) -> None:
    async with agent.client(f"everything-{transport}", era) as client:
        listed = (await client.list_resources()).resources[0]
        [document] = (await client.read_resource(str(listed.uri))).contents
        assert isinstance(document, TextResourceContents)
        assert document.text
        [made] = (await client.read_resource(DOCUMENT)).contents
        assert isinstance(made, TextResourceContents)
        assert made.text.startswith("Resource 1: This is a plaintext resource")
        with pytest.raises(MCPError, match="Unknown resource"):
            await client.read_resource("demo://resource/dynamic/text/none")


async def test_prompts_and_completions_pass(agent: Agent, era: str, transport: str) -> None:
    template = ResourceTemplateReference(uri="demo://resource/dynamic/text/{resourceId}")
    prompt = PromptReference(name="completable-prompt")
    async with agent.client(f"everything-{transport}", era) as client:
        weather = await client.get_prompt("args-prompt", {"city": "Oslo"})
        assert "What's weather in Oslo?" in weather.model_dump_json()
        departments = await client.complete(prompt, {"name": "department", "value": "S"})
        assert departments.completion.values == ["Sales", "Support"]
        names = await client.complete(prompt, {"name": "name", "value": "E"}, {"department": "Sales"})
        assert names.completion.values == ["Eve"]
        ids = await client.complete(template, {"name": "resourceId", "value": "7"})
        assert ids.completion.values == ["7"]
