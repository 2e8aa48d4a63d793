"""Who is who: accounts of the workspace and people of the broker, and the user groups that stand for groups.

What belongs here: asking Slack, and keeping what it says. What does not: judging an account (`accounts`), and what is
kept of it (`broker.store.identities`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import datetime, timedelta

from broker.domain.clock import Clock
from broker.domain.people import Person, normal_email
from broker.errors import AccountRefused, ChannelError
from broker.store import identities, people
from broker.store.writer import Store, Transaction
from integrations.slack.accounts import Member, judged
from integrations.slack.web_api import WebApi, Workspace

REFRESH_EVERY = 60.0
"""Seconds between looks who is in the user groups, beside those at each click."""

FRESH = timedelta(seconds=5)
"""How long what Slack says of user groups is good for the next click: it answers that twenty times a minute."""

JUDGED_FOR = timedelta(hours=1)
"""How long an account that did not click is taken for what it was."""


class Directory:
    """The accounts of one workspace, as the broker's people.

    Args:
        groups: the user group of Slack, by its id, that stands for each of these groups.
    """

    def __init__(self, web_api: WebApi, store: Store, clock: Clock, groups: Mapping[str, str]) -> None:
        self.groups = groups
        self._web_api = web_api
        self._store = store
        self._clock = clock
        self._asking = asyncio.Lock()
        self._in_groups: Mapping[str, frozenset[str]] = {}
        self._asked_at: datetime | None = None
        self._judged: dict[str, tuple[datetime, Member | None]] = {}

    async def person(self, user_id: str) -> Person:
        """Who somebody is that clicks, as Slack has it now.

        Raises:
            AccountRefused: nobody who may decide anything; the sentence says what to ask for.
            ChannelError: Slack does not say.
            StoreError: the store cannot be used.
        """
        self._judged.pop(user_id, None)
        member, in_groups = await asyncio.gather(self.member(user_id), self._members())
        provider = _provider(await self._web_api.workspace())
        groups = _groups_of(user_id, in_groups)

        def work(tx: Transaction) -> Person:
            identity = identities.link(tx, provider, user_id, member.email)
            identities.vouch(tx, provider, {user_id: groups})
            person = people.get(tx.session, identity.email)
            assert person is not None  # noqa: S101 - removal takes the link along
            return person

        return await self._store.write(work)

    async def member(self, user_id: str) -> Member:
        """The member of the workspace that an account is.

        Raises:
            AccountRefused, ChannelError: as above.
        """
        told = await self._web_api.call("users.info", user=user_id)
        return judged(told["user"], await self._web_api.workspace())

    async def user_id(self, email: str) -> str | None:
        """The account of a person: the linked one, else the member with that confirmed address; None without one.

        Raises:
            ChannelError, StoreError: as above.
        """
        workspace = await self._web_api.workspace()
        linked = await self._store.read(lambda session: identities.subject_of(session, _provider(workspace), email))
        if linked is not None:
            return linked
        try:
            told = await self._web_api.call("users.lookupByEmail", email=email)
            member = judged(told["user"], workspace)
        except AccountRefused:
            return None
        except ChannelError as error:
            if error.reason == "users_not_found":
                return None
            raise
        return member.user_id if member.email == normal_email(email) else None

    async def refresh(self) -> None:
        """Let everybody be in the groups that their user groups stand for, also those who never clicked.

        Raises:
            ChannelError, StoreError: as above, and everybody stays in the groups that they were in; or there is no such
                user group, and nobody is in that one.
        """
        users = set[str]().union(*(await self._members()).values())
        found = [member for user_id in users if (member := await self._known(user_id)) is not None]
        in_groups = await self._members()  # as it is after all these questions: who left meanwhile has left
        provider = _provider(await self._web_api.workspace())
        vouched = {member.user_id: _groups_of(member.user_id, in_groups) for member in found}

        def work(tx: Transaction) -> None:
            identities.link_all(tx, provider, {member.user_id: member.email for member in found})
            identities.vouch(tx, provider, vouched, others=True)

        await self._store.write(work)
        if missing := sorted(self.groups.keys() - in_groups.keys()):
            raise ChannelError(f"Slack has no such user group as slack.groups has for {', '.join(missing)}")

    async def _known(self, user_id: str) -> Member | None:
        """Who somebody in a user group is, as Slack had it lately; None if nobody who may decide."""
        now = self._clock.now()
        at, member = self._judged.get(user_id, (None, None))
        if at is None or not at <= now < at + JUDGED_FOR:
            try:
                member = await self.member(user_id)
            except AccountRefused:
                member = None
            self._judged[user_id] = (now, member)
        return member

    async def _members(self) -> Mapping[str, frozenset[str]]:
        """The accounts in each group, by its name; a group whose user group there is not is left out."""
        async with self._asking:
            now = self._clock.now()
            if self.groups and (self._asked_at is None or not self._asked_at <= now < self._asked_at + FRESH):
                told = await self._web_api.call("usergroups.list", include_users=True)
                users = {group["id"]: frozenset[str](group["users"]) for group in told["usergroups"]}
                self._in_groups = {name: users[group] for name, group in self.groups.items() if group in users}
                self._asked_at = now
            return self._in_groups


def _provider(workspace: Workspace) -> str:
    return f"slack:{workspace.team_id}"


def _groups_of(user_id: str, in_groups: Mapping[str, frozenset[str]]) -> frozenset[str]:
    return frozenset(name for name, users in in_groups.items() if user_id in users)
