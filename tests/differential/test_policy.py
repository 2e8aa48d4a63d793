"""What policy changes, and nothing beside it."""

from __future__ import annotations

import json
from typing import Any

import aiohttp
import pytest

from tests.differential.comparison import answered, assert_same
from tests.differential.over_http import HttpClient
from tests.gateway.scene import Agent
from tests.servers.every.over_http import EveryHttp
from tests.servers.every.speech import Style


@pytest.mark.parametrize("era", ["handshake", "stateless"])
async def test_the_tools_that_are_hidden_are_the_only_difference(
    era: str, every_server: EveryHttp, http: aiohttp.ClientSession, shared_agent: Agent
) -> None:
    async def pages(client: HttpClient) -> list[Any]:
        every_server.reset(Style.PLAIN)
        async with client:
            await client.open()
            for page in ("page 0", "page 1", "page 2"):
                await client.request("tools/list", {"cursor": page})
            await client.close()
        return answered(client)

    alone = await pages(HttpClient(http, every_server.url, modern=era == "stateless"))
    hiding = HttpClient(http, shared_agent.at("hiding"), shared_agent.token, modern=era == "stateless")
    through = await pages(hiding)
    changed = [number for number, answer in enumerate(alone) if b'"name":"hidden"' in answer[-1]]
    assert len(changed) == 1
    (*around, body), (*wanted_around, wanted_body) = through.pop(changed[0]), alone.pop(changed[0])
    assert_same(through, alone)
    assert around == wanted_around
    shown, wanted = json.loads(body), json.loads(wanted_body)
    wanted["result"]["tools"] = [tool for tool in wanted["result"]["tools"] if tool["name"] != "hidden"]
    assert json.dumps(shown) == json.dumps(wanted)
