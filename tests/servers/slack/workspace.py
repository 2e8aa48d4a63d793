"""The workspace in which the app is installed: everything and everybody in it, and the time there.

What belongs here: finding and making things. What does not: what each thing is (objects.py), who may ask for it.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from tests.servers import BOUND
from tests.servers.slack.objects import Channel, File, Message, Permit, Person, UserGroup, View

T = TypeVar("T")


@dataclass
class Workspace:
    """One workspace in which the app is installed.

    Attributes:
        people, channels, groups, views, files: by id.
        triggers, response_urls: the permits that interactions carried, by their names.
        posted: all messages that were ever posted, oldest first, also deleted and ephemeral ones.
        url: of the server, without a path.
        news: set whenever something happened.
        offset: seconds that the clock was moved on.
    """

    people: dict[str, Person] = field(default_factory=dict[str, Person])
    channels: dict[str, Channel] = field(default_factory=dict[str, Channel])
    groups: dict[str, UserGroup] = field(default_factory=dict[str, UserGroup])
    views: dict[str, View] = field(default_factory=dict[str, View])
    files: dict[str, File] = field(default_factory=dict[str, File])
    triggers: dict[str, Permit] = field(default_factory=dict[str, Permit])
    response_urls: dict[str, Permit] = field(default_factory=dict[str, Permit])
    posted: list[Message] = field(default_factory=list[Message])
    url: str = ""
    news: asyncio.Event = field(default_factory=asyncio.Event)
    offset: float = 0.0
    _count: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    def now(self) -> float:
        """Seconds since 1970, with what the clock was moved."""
        return time.time() + self.offset

    def advance(self, seconds: float) -> None:
        """Move the clock on, for the limits that Slack sets: trigger ids, response URLs, rates."""
        self.offset += seconds

    def new_id(self, kind: str) -> str:
        """An id of a kind: U, C, D, S, V, F."""
        return f"{kind}{next(self._count):08d}"

    def new_ts(self) -> str:
        """A timestamp that no other message has, and later than all before."""
        return f"{int(self.now())}.{next(self._count):06d}"

    def person(self, name: str, email: str | None = None, **facts: Any) -> Person:
        """Somebody new."""
        person = Person(self.new_id("U"), name, email, **facts)
        self.people[person.id] = person
        return person

    def channel(self, name: str, members: Sequence[Person] = (), **facts: Any) -> Channel:
        """A new channel; the bot is in it unless `has_bot=False`."""
        channel = Channel(self.new_id("C"), name, members=list(members), **facts)
        self.channels[channel.id] = channel
        return channel

    def group(self, handle: str, users: Sequence[Person] = ()) -> UserGroup:
        """A new user group."""
        group = UserGroup(self.new_id("S"), handle, list(users))
        self.groups[group.id] = group
        return group

    def direct(self, user: Person) -> Channel:
        """The direct messages between the app and `user`, opened if they were not."""
        for channel in self.channels.values():
            if channel.with_user is user:
                return channel
        channel = Channel(self.new_id("D"), "directmessage", is_private=True, with_user=user, members=[user])
        self.channels[channel.id] = channel
        return channel

    def named(self, place: str | Channel | Person) -> Channel:
        """A channel by itself, its id, its name with or without #, or the person whose direct messages it is."""
        if isinstance(place, Channel):
            return place
        if isinstance(place, Person):
            return self.direct(place)
        name = place.removeprefix("#")
        return next(each for each in self.channels.values() if name in (each.id, each.name))

    def find(self, channel: Channel, ts: str) -> Message | None:
        """A message that is there now; ephemeral ones are never found, as in Slack."""
        for message in self.posted:
            if (message.channel, message.ts) == (channel, ts) and not message.deleted and message.only_for is None:
                return message
        return None

    def messages(self, place: str | Channel | Person) -> list[Message]:
        """What is to be seen in a channel now, oldest first, without threads and ephemeral messages."""
        channel = self.named(place)
        return [each for each in self._there(channel) if each.thread_ts is None]

    def thread(self, parent: Message) -> list[Message]:
        """The replies to a message that are there now, oldest first."""
        return [each for each in self._there(parent.channel) if each.thread_ts == parent.ts]

    def ephemerals(self, user: Person, place: str | Channel | Person | None = None) -> list[Message]:
        """What only `user` was shown (in one channel, or anywhere), oldest first."""
        channel = None if place is None else self.named(place)
        mine = [each for each in self.posted if each.only_for is user and not each.deleted]
        return [each for each in mine if channel is None or each.channel is channel]

    def _there(self, channel: Channel) -> list[Message]:
        return [each for each in self.posted if each.channel is channel and not each.deleted and each.only_for is None]

    async def until(self, what: Callable[[], T | None]) -> T:
        """Wait until `what`, called without arguments, gives something true, and give that; asked after all news.

        Raises:
            TimeoutError: it did not within BOUND.
        """
        async with asyncio.timeout(BOUND):
            while not (found := what()):
                self.news.clear()
                await self.news.wait()
        return found
