"""How long callers are kept waiting: whose word counts, and what is known of their clients."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from datetime import timedelta
from math import inf
from typing import Any

import pytest

from broker.domain.canonical import Keyring
from broker.domain.people import Grant
from broker.gateway.inbound import Inbound, open_session, seal_session
from broker.gateway.patience import CLIENTS, Client, Patience
from broker.gateway.wire import parse_message
from tests.clock import NOON
from tests.gateway.scene import CLIENT, ENVELOPE, HOLD_ACT, LEGACY, Agent, Scene, block, playing, tool_call
from tests.servers import BOUND
from tests.servers.scripted import Scripted

pytestmark = pytest.mark.timeout(60)

NAME = "io.modelcontextprotocol/clientInfo"
KEYRING = Keyring([b"k" * 32])
HOUR = timedelta(hours=1)
KNOWN = {"deaf": Client(timedelta(minutes=4)), "hearing": Client(timedelta(minutes=4), progress_resets=True)}


async def nothing() -> None:
    """The grant is fine."""


def asked(client: str | None, *, progress: bool = False, patience: timedelta | None = None) -> Inbound:
    """A call of a client, by a grant of which `patience` is said."""
    meta: dict[str, Any] = {"progressToken": 1} if progress else {}
    message = parse_message(json.dumps(tool_call("act", **meta)).encode())
    names = frozenset({"one"})
    grant = Grant(id="g", label="l", owner="o@x.org", upstreams=names, created_at=NOON, patience=patience)
    return Inbound("POST", grant, (), modern=True, check_grant=nothing, came=0, message=message, client=client)


# -- whose word counts ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("grant", "upstream", "client", "progress", "seconds"),
    [
        (None, None, None, False, 50),
        (None, None, "stranger", False, 50),
        (None, None, "stranger", True, inf),  # nobody knows that it would not help
        (None, None, "deaf", False, 230),
        (None, None, "deaf", True, 230),  # it asks for progress, and gives up all the same
        (None, None, "hearing", False, 230),  # it hears none this time
        (None, None, "hearing", True, inf),
        (None, 600, "stranger", False, 600),
        (None, 600, "stranger", True, inf),
        (None, 600, "deaf", False, 600),
        (None, 600, "deaf", True, 600),
        (None, 600, "hearing", True, inf),
        (20, 600, "deaf", False, 20),
        (20, 600, "stranger", True, 20),
        (20, None, "hearing", True, 20),
        (3600, 600, "deaf", True, 3600),
    ],
)
def test_the_grants_word_counts_then_the_upstreams_then_what_is_known_of_the_client(
    grant: int | None, upstream: int | None, client: str | None, progress: bool, seconds: float
) -> None:
    said = {
        what: timedelta(seconds=given) if given is not None else None
        for what, given in (("grant", grant), ("upstream", upstream))
    }
    patience = Patience(timedelta(seconds=50), said["upstream"], KNOWN)
    assert patience.of(asked(client, progress=progress, patience=said["grant"])) == seconds


@pytest.mark.parametrize(("gives_up", "seconds"), [(300, 290), (60, 50), (40, 30), (30, 22.5), (5, 3.75), (1, 0.75)])
def test_the_ticket_comes_ten_seconds_before_the_client_gives_up_or_after_three_quarters(
    gives_up: float, seconds: float
) -> None:
    assert Client(timedelta(seconds=gives_up)).patience == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    ("name", "minutes"),
    [
        ("tool", 1),
        ("TOOL", 1),
        (" Tool ", 1),
        ("tool-box", 2),
        ("tool-box-9", 3),
        ("box", None),
        ("", None),
        ("*", None),
    ],
)
def test_a_client_is_known_by_its_own_name_or_by_the_longest_that_fits(name: str, minutes: int | None) -> None:
    clients = {"tool": 1, "tool*": 2, "tool-box-*": 3, "t[o]ol": 4}
    known = {each: Client(timedelta(minutes=length)) for each, length in clients.items()}
    expected = timedelta(minutes=minutes) - timedelta(seconds=10) if minutes is not None else HOUR
    assert Patience(HOUR, None, known).of(asked(name)) == expected.total_seconds()


def test_every_name_in_the_table_is_one_that_can_be_met() -> None:
    assert all(name == name.strip().lower() for name in CLIENTS)
    assert Patience(HOUR).of(asked("Visual Studio Code - Insiders", progress=True)) == 290
    assert Patience(HOUR).of(asked("claude-code", progress=True)) == inf


# -- whose client it is -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("message", "name"),
    [
        ({"method": "initialize", "params": CLIENT | {"clientInfo": {"name": "a", "version": "1"}}}, "a"),
        ({"method": "initialize", "params": CLIENT | {"_meta": {NAME: {"name": "b"}}}}, "test"),
        ({"method": "tools/call", "params": {"_meta": ENVELOPE | {NAME: {"name": "b"}}}}, "b"),
        ({"method": "tools/call", "params": {"clientInfo": {"name": "a"}}}, None),
        ({"method": "tools/call", "params": {"_meta": {NAME: {"name": "n" * 1000}}}}, "n" * 64),
        ({"method": "tools/call", "params": {"_meta": {NAME: None}}}, None),
        ({"method": "tools/call", "params": {"_meta": {NAME: []}}}, None),
        ({"method": "tools/call", "params": {"_meta": {NAME: {"name": 7}}}}, None),
        ({"method": "tools/call", "params": {"_meta": "a"}}, None),
        ({"method": "tools/call"}, None),
    ],
)
def test_the_name_is_in_the_handshake_or_in_every_request(message: dict[str, Any], name: str | None) -> None:
    assert parse_message(json.dumps({"jsonrpc": "2.0", "id": 1, **message}).encode()).client == name


@pytest.mark.parametrize("session", ["abc", "a.b", "a.Yg==", ""])
@pytest.mark.parametrize("client", [None, "", "zed", "Visual Studio Code", "a.b", "ü\n☃"])
def test_a_session_keeps_the_name_of_its_client_whatever_either_is(session: str, client: str | None) -> None:
    sealed = seal_session(KEYRING, "g", "one", session, client)
    assert sealed.isascii()
    assert sealed.isprintable()
    assert open_session(KEYRING, "g", "one", sealed) == (session, client)
    assert open_session(KEYRING, "another", "one", sealed) is None
    assert open_session(KEYRING, "g", "two", sealed) is None


def test_a_session_cannot_be_given_the_name_of_another_client_or_taken_for_one() -> None:
    session, name, signature = seal_session(KEYRING, "g", "one", "abc", "zed").split(".")
    other = seal_session(KEYRING, "g", "one", "abc", "cline").split(".")[1]
    for forged in (f"{session}.{signature}", f"{session}.{other}.{signature}", f"{session}.{name}..{signature}"):
        assert open_session(KEYRING, "g", "one", forged) is None
    bare = seal_session(KEYRING, "g", "one", "abc").split(".")[1]
    assert open_session(KEYRING, "g", "one", f"abc.{name}.{bare}") is None


# -- all of it, through a broker --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
async def knowing(tmp_path_factory: pytest.TempPathFactory, scripted_server: Scripted) -> AsyncGenerator[Scene]:
    """A broker that knows an impatient client."""
    upstreams = {"one": {"url": scripted_server.url, "policy": HOLD_ACT}}
    clients = {"Hasty*": {"gives_up": timedelta(milliseconds=400)}}
    async with playing(tmp_path_factory.mktemp("patience"), upstreams, clients=clients) as made:
        yield made


@pytest.fixture
def scene(knowing: Scene, server: Scripted) -> Scene:
    """The same, before a server that is as if new."""
    return knowing


async def ticket(answer: Any) -> dict[str, Any]:
    """The decision in an answer that has to come by itself."""
    return block(await asyncio.wait_for(answer.message(), BOUND))


async def test_a_client_of_today_is_known_by_every_request(scene: Scene, agent: Agent) -> None:
    hasty: dict[str, Any] = {NAME: {"name": "hasty-1", "version": "1"}}
    assert (await ticket(await agent.call("one", "act", progressToken=1, **hasty)))["status"] == "pending"


async def test_a_client_of_before_is_known_by_its_session(scene: Scene, agent: Agent) -> None:
    hello = {**CLIENT, "clientInfo": {"name": "HASTY two", "version": "1"}}
    opened = await agent.send("one", {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": hello})
    call = tool_call("act")
    call["params"]["_meta"] = {"progressToken": 1}
    session = opened.headers["mcp-session-id"]
    held = await agent.send("one", call, LEGACY, session=session)
    assert (await ticket(held))["status"] == "pending"
    assert "mcp-session-id" not in held.headers or held.headers["mcp-session-id"] == session


async def test_an_agent_whose_grant_says_how_long_it_waits_gets_its_ticket_then(scene: Scene, agent: Agent) -> None:
    second = await scene.agent("one", patience=timedelta(seconds=1))
    held = await second.call("one", "act", progressToken=1)
    patient = await agent.call("one", "act", progressToken=1)
    assert (await ticket(held))["status"] == "pending"
    await scene.review(agent)
    assert (await ticket(patient))["status"] == "approved"
