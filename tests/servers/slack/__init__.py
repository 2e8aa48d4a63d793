"""A strict local Slack for tests: the Web API, Socket Mode, interactivity, and the people of one workspace.

    async with running_slack() as slack:
        alice = slack.person("Alice", "alice@example.com")
        slack.channel("desktop", [alice])
        …                                     # start the app with slack.api_url, BOT_TOKEN, APP_TOKEN
        [message] = await slack.until(lambda: slack.messages("#desktop"))
        delivery = await slack.click(alice, message, "approval_approve")
        assert not delivery.failed

A click can be made without delivering it (`press`), delivered again and in any order (`send`), and be of an earlier
`version` of its message. `message.deleted = True` removes one, `slack.order(…)` lets calls fail, `slack.advance(…)`
moves the clock of Slack's limits, `slack.deliveries.patience` is the three seconds that the app has to acknowledge.

Modules: objects, workspace (what there is); calls, web_api, chat, lookups, modals, files, orders (the Web API); shapes,
elements, blocks (Block Kit's rules); mrkdwn, reading (what people see); interactions, deliveries, sockets, responses
(what people do, on its way to the app and back); server (all together); apps (a Bolt app, connected).

Where Slack is lenient and silence would hide a mistake (unknown arguments and keys), it is stricter than Slack.
"""

from tests.servers.slack.deliveries import Delivery
from tests.servers.slack.interactions import Button, Interaction
from tests.servers.slack.mrkdwn import MENTIONS, Effect, Seen
from tests.servers.slack.objects import APP, BOT, BOT_USER, TEAM, Channel, Message, Person, UserGroup, View
from tests.servers.slack.orders import Order
from tests.servers.slack.server import APP_TOKEN, BOT_SCOPES, BOT_TOKEN, SIGNING_SECRET, Slack, running_slack

__all__ = [
    "APP",
    "APP_TOKEN",
    "BOT",
    "BOT_SCOPES",
    "BOT_TOKEN",
    "BOT_USER",
    "MENTIONS",
    "SIGNING_SECRET",
    "TEAM",
    "Button",
    "Channel",
    "Delivery",
    "Effect",
    "Interaction",
    "Message",
    "Order",
    "Person",
    "Seen",
    "Slack",
    "UserGroup",
    "View",
    "running_slack",
]
