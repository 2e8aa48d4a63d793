"""Failures of the local Slack, which a test orders."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
import pytest
from slack_sdk.errors import SlackApiError

from tests.servers.slack import Slack, interactions


@pytest.fixture(autouse=True)
def desktop(slack: Slack) -> None:
    slack.channel("desktop")


def post(client: Any) -> Any:
    return client.chat_postMessage(channel="#desktop", text="Hello")


async def answer(answering: Any) -> Any:
    with pytest.raises(SlackApiError) as caught:
        await answering
    error: Any = caught.value
    return error.response


async def test_nobody_listens_while_it_is_down_and_it_comes_back_at_the_same_place(slack: Slack, client: Any) -> None:
    await slack.go_down()
    with pytest.raises(aiohttp.ClientConnectionError):
        await client.auth_test()
    await slack.come_up()
    assert (await client.auth_test())["ok"]


async def test_an_answer_can_be_lost_though_the_message_was_posted(slack: Slack, client: Any) -> None:
    slack.order("lost", "chat.postMessage")
    with pytest.raises(aiohttp.ClientError):
        await post(client)
    assert [each.text for each in slack.messages("#desktop")] == ["Hello"]


@pytest.mark.parametrize("order", ["close", "garbage", "500", "429 30", "channel_not_found"])
async def test_nothing_is_done_by_a_call_that_meets_an_order(slack: Slack, client: Any, order: str) -> None:
    slack.order(order, "chat.postMessage")
    with pytest.raises((aiohttp.ClientError, SlackApiError)):
        await post(client)
    assert slack.messages("#desktop") == []
    assert [each.answer for each in slack.asked("chat.postMessage")] == [order]
    await post(client)


async def test_too_many_requests_say_how_long_to_wait(slack: Slack, client: Any) -> None:
    slack.order("429 30")
    refused = await answer(post(client))
    assert (refused.status_code, refused.headers["Retry-After"], refused["error"]) == (429, "30", "ratelimited")


async def test_an_order_is_for_its_method_and_for_so_many_calls(slack: Slack, client: Any) -> None:
    slack.order("fatal_error", "chat.postMessage", times=2)
    await client.auth_test()
    for _ in range(2):
        assert (await answer(post(client)))["error"] == "fatal_error"
    await post(client)


async def test_a_late_answer_comes_when_it_is_released_and_a_slow_one_in_its_time(slack: Slack, client: Any) -> None:
    slack.order("late")
    calling = asyncio.create_task(post(client))
    await slack.until(lambda: slack.messages("#desktop"))
    assert not calling.done()
    slack.api.release.set()
    await calling
    slack.order("slow 0.05")
    began = asyncio.get_running_loop().time()
    await client.auth_test()
    assert asyncio.get_running_loop().time() - began >= 0.05


async def test_a_call_can_hang_without_any_answer(slack: Slack, client: Any) -> None:
    slack.order("hang")
    calling = asyncio.create_task(post(client))
    await slack.until(lambda: slack.asked("chat.postMessage"))
    calling.cancel()
    assert slack.messages("#desktop") == []


async def test_a_channel_takes_one_message_a_second_where_rates_are_counted(slack: Slack, client: Any) -> None:
    slack.api.rated = True
    slack.channel("other")
    await post(client)
    await client.chat_postMessage(channel="#other", text="Hello")
    assert (await answer(post(client))).headers["Retry-After"] == "1"
    slack.advance(1.1)
    await post(client)


async def test_a_method_has_its_calls_a_minute_where_rates_are_counted(slack: Slack, client: Any) -> None:
    slack.api.rated = True
    for _ in range(20):
        await client.usergroups_list()
    assert (await answer(client.usergroups_list())).status_code == 429


async def test_uploads_and_response_urls_fail_by_order_as_methods_do(slack: Slack, client: Any) -> None:
    alice = slack.person("Alice")
    press = interactions.command(slack, alice, "/approvals", "", slack.named("desktop"))
    step = await client.files_getUploadURLExternal(filename="a.txt", length=1)
    slack.order("500", "upload")
    slack.order("expired_url", "response_url")
    async with aiohttp.ClientSession() as http:
        async with http.post(step["upload_url"], data=b"x") as answer:
            assert answer.status == 500
        async with http.post(press.payload["response_url"], json={"text": "Hello"}) as answer:
            assert (await answer.json())["error"] == "expired_url"
    assert slack.ephemerals(alice) == []
    assert [each.answer for each in slack.asked("response_url")] == ["expired_url"]
