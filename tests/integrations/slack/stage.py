"""A running broker whose people are in a local Slack, as tests of both see it.

What belongs here: starting it, people who are in both, and held calls with their messages. What does not: any statement
about behaviour.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from broker.domain import people
from broker.domain.approvals import Approval
from broker.domain.audit import Row
from broker.domain.people import Role
from integrations.slack.choices import APPROVE, Choice
from tests.clock import MovableClock
from tests.gateway.scene import Agent, Bare, Scene, playing
from tests.servers import ROOT
from tests.servers.scripted import Scripted
from tests.servers.slack import (
    APP_TOKEN,
    BOT_TOKEN,
    SIGNING_SECRET,
    Channel,
    Interaction,
    Message,
    Person,
    Slack,
    running_slack,
)

MODES = ("socket", "http")
MANIFEST = ROOT / "integrations" / "slack" / "manifest.yaml"


def holding(**approval: Any) -> dict[str, Any]:
    """The policy of an upstream whose `act` is held."""
    risk = approval.pop("risk", "high")
    return {"default": "allow", "tools": {"act": {"action": "hold", "risk": risk, "approval": approval}}}


POLICIES = {
    "one": holding(),
    "two": holding(quorum=2),
    "desk": holding(approvers=["desk"]),
    "night": holding(approvers=["night"], quorum=2, timeout="1m"),
    "critical": holding(risk="critical"),
    "listed": holding(risk="critical", channels=["slack", "web"]),
    "elsewhere": holding(channels=["slack:#elsewhere"]),
}
"""The upstreams of a stage: one server, behind different policies."""


@dataclass
class Held:
    """A call that its agent waits for, and its message."""

    approval_id: str
    agent: Agent
    answer: Bare
    message: Message


@dataclass
class Stage:
    """The broker, its Slack, and what happens between them. `approvals` and `elsewhere` are channels."""

    slack: Slack
    scene: Scene
    clock: MovableClock
    approvals: Channel
    elsewhere: Channel
    owners_id: str
    _numbers: Any = field(default_factory=itertools.count)

    async def known(self, name: str, *groups: str, **facts: Any) -> Person:
        """Somebody new who is an approver here and a member there, and in both channels."""
        person = self.stranger(name, **facts)
        assert person.email is not None
        await self.scene.person(people.Person(person.email, frozenset({Role.APPROVER}), frozenset(groups)))
        return person

    def stranger(self, name: str, **facts: Any) -> Person:
        """Somebody new in Slack whom the broker does not know."""
        email = f"{name}{next(self._numbers)}@example.com"
        person = self.slack.person(name.capitalize(), email, **facts)
        for channel in (self.approvals, self.elsewhere):
            channel.members.append(person)
        return person

    async def held(self, upstream: str = "one", arguments: Mapping[str, Any] | None = None, **grant: Any) -> Held:
        """A new agent's call, once its message is there; `grant` is as in `Scene.agent`."""
        agent = await self.scene.agent(**grant)
        answer = await agent.call(upstream, "act", arguments)
        approval_id = await self.scene.submitted(agent)
        message = await self.slack.until(lambda: self.message_of(approval_id))
        return Held(approval_id, agent, answer, message)

    def message_of(self, approval_id: str) -> Message | None:
        """The message of an approval, by its link to the card."""
        shown = (each for each in self.slack.posted if each.only_for is None and each.thread_ts is None)
        return next((each for each in shown if approval_id in str(each.versions[0].blocks)), None)

    async def get(self, held: Held) -> Approval:
        """The approval as it stands."""
        return await self.scene.broker.approvals.get(held.approval_id)

    async def rows(self, held: Held) -> list[Row]:
        """What was recorded of it."""
        return await self.scene.broker.approvals.history(held.approval_id)

    async def told(self, person: Person, count: int = 1) -> str:
        """What only `person` was told, the `count`th time, as soon as it is there."""
        await self.slack.until(lambda: len(self.slack.ephemerals(person)) >= count)
        mine = self.slack.ephemerals(person)
        assert len(mine) == count
        return words(mine[-1])

    async def over(self, held: Held) -> Message:
        """The message once its buttons are gone."""
        return await self.slack.until(lambda: None if self.slack.buttons(held.message) else held.message)

    def forged(self, person: Person, held: Held, value: str) -> Interaction:
        """A click on Approve of a message, whose button carries something else."""
        click = self.slack.press(person, held.message, APPROVE)
        click.payload["actions"] = [{**click.payload["actions"][0], "value": value}]
        return click

    def choice(self, held: Held) -> Choice:
        """What the buttons of the first version of the message carry."""
        [value] = {
            each["value"]
            for block in held.message.versions[0].blocks
            for each in block.get("elements", ())
            if each.get("action_id") == APPROVE
        }
        return Choice.decode(value)


def words(message: Message) -> str:
    """All that a message says."""
    return f"{message.text}\n{''.join(_texts(message.blocks))}"


def _texts(part: Any) -> list[str]:
    match part:
        case {"type": "date", "fallback": str(text)}:
            return [text]
        case {"text": str(text), **more}:
            return [text, *_texts(list(more.values()))]
        case dict():
            return _texts(list(part.values()))  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType]
        case list():
            return [text for each in part for text in _texts(each)]  # pyright: ignore[reportUnknownVariableType]
        case _:
            return []


@contextlib.asynccontextmanager
async def staged(folder: Path, server: Scripted, mode: str) -> AsyncGenerator[Stage]:
    """A broker before `server`, connected to its Slack by `mode`."""
    async with furnished() as slack, opened(folder, server, slack, mode) as stage:
        yield stage


@contextlib.asynccontextmanager
async def furnished() -> AsyncGenerator[Slack]:
    """A Slack with two channels and a user group, in which the app may do what its manifest says."""
    async with running_slack() as slack:
        slack.grant(BOT_TOKEN, yaml.safe_load(MANIFEST.read_text())["oauth_config"]["scopes"]["bot"])
        slack.channel("approvals")
        slack.channel("elsewhere")
        slack.group("desktop-owners")
        yield slack


@contextlib.asynccontextmanager
async def opened(
    folder: Path,
    scripted: Scripted,
    slack: Slack,
    mode: str = "http",
    *,
    policies: Mapping[str, Mapping[str, Any]] = POLICIES,
    clock: MovableClock | None = None,
    **more: Any,
) -> AsyncGenerator[Stage]:
    """A broker before `scripted`, in a Slack that outlives it, and connected if Slack takes the app token; `more` is as
    in `playing`."""
    clock = clock or MovableClock()
    [owners] = slack.groups
    settings = {
        "bot_token": BOT_TOKEN,
        **({"app_token": APP_TOKEN} if mode == "socket" else {"signing_secret": SIGNING_SECRET}),
        "api_url": slack.api_url,
        "groups": {"desk": owners},
    }
    upstreams = {name: {"url": scripted.url, "policy": policy} for name, policy in policies.items()}
    limits = {"max_pending": 1000, "max_per_hour": 1000}
    async with playing(folder, upstreams, approvals=limits, clock=clock, slack=settings, **more) as scene:
        if mode == "http":
            slack.deliveries.request_url = f"{scene.broker.url}/slack/events"
        elif slack.api.tokens[APP_TOKEN].trouble is None:
            await slack.until(lambda: slack.sockets.open)
        yield Stage(slack, scene, clock, slack.named("#approvals"), slack.named("#elsewhere"), owners)
