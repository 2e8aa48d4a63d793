"""Who is who: accounts become people by a confirmed address, once, and user groups stand for groups."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from datetime import timedelta
from pathlib import Path

import pytest

from broker.domain.people import Role
from broker.errors import AccountRefused, ChannelError
from broker.store import identities, people
from broker.store.writer import Store
from integrations.slack.directory import FRESH, JUDGED_FOR, Directory
from integrations.slack.web_api import WebApi
from tests.clock import MovableClock
from tests.servers.slack import BOT_TOKEN, TEAM, Person, Slack, UserGroup, running_slack
from tests.sqlite import new_file

ANN, BOB = "ann@example.com", "bob@example.com"


class Reception:
    """A directory of `slack`, in which `owners` stands for the group `desk`; Ann and Bob are people of the broker."""

    def __init__(self, slack: Slack, store: Store, clock: MovableClock, web: WebApi) -> None:
        self.slack, self.store, self.clock = slack, store, clock
        self.owners: UserGroup = slack.group("desktop-owners")
        self.ann: Person = slack.person("Ann", "Ann@Example.com")
        self.directory = Directory(web, store, clock, {"desk": self.owners.id, "other": slack.group("others").id})

    async def known(self, *emails: str) -> None:
        roles, groups = frozenset({Role.APPROVER}), frozenset({"ops"})
        for email in emails:
            await self.store.write(lambda tx, who=email: people.save(tx, "cli:root", who, roles, groups))

    async def groups(self, email: str) -> set[str]:
        person = await self.store.read(lambda session: people.get(session, email))
        assert person is not None
        return set(person.groups)

    async def linked(self) -> dict[str, str]:
        return {each.subject: each.email for each in await self.store.read(identities.everyone)}


@pytest.fixture
async def reception(tmp_path: Path, clock: MovableClock) -> AsyncGenerator[Reception]:
    store = Store(new_file(tmp_path / "broker.db"), clock)
    async with running_slack() as slack, WebApi(BOT_TOKEN, slack.api_url) as web:
        made = Reception(slack, store, clock, web)
        await made.known(ANN, BOB)
        yield made
    store.close()


# -- who clicks -------------------------------------------------------------------------------------------------------


async def test_the_first_click_links_the_account_to_the_person_of_its_address(reception: Reception) -> None:
    person = await reception.directory.person(reception.ann.id)
    assert (person.email, person.groups) == (ANN, {"ops"})
    assert await reception.linked() == {reception.ann.id: ANN}
    [identity] = await reception.store.read(identities.everyone)
    assert identity.provider == f"slack:{TEAM}"


async def test_an_account_that_takes_a_victims_address_does_not_become_the_victim(reception: Reception) -> None:
    mallory = reception.slack.person("Mallory", BOB)
    assert (await reception.directory.person(mallory.id)).email == BOB
    mallory.email = ANN
    assert (await reception.directory.person(mallory.id)).email == BOB
    assert (await reception.directory.person(reception.ann.id)).email == ANN


async def test_an_account_that_takes_a_linked_persons_address_is_nobody(reception: Reception) -> None:
    await reception.directory.person(reception.ann.id)
    mallory = reception.slack.person("Mallory", ANN)
    with pytest.raises(AccountRefused, match=r"broker user unlink ann@example\.com"):
        await reception.directory.person(mallory.id)


async def test_a_linked_account_stays_who_it_is_without_any_address(reception: Reception) -> None:
    await reception.directory.person(reception.ann.id)
    reception.ann.email = None
    assert (await reception.directory.person(reception.ann.id)).email == ANN


async def test_an_address_that_is_not_confirmed_links_nothing(reception: Reception) -> None:
    reception.ann.is_email_confirmed = False
    with pytest.raises(AccountRefused, match="no confirmed e-mail address"):
        await reception.directory.person(reception.ann.id)
    assert await reception.linked() == {}


async def test_who_the_broker_does_not_know_hears_what_to_ask_for(reception: Reception) -> None:
    eve = reception.slack.person("Eve", "eve@example.com")
    with pytest.raises(AccountRefused, match=r"broker user add eve@example\.com --role approver"):
        await reception.directory.person(eve.id)


@pytest.mark.parametrize("fact", ["deleted", "is_bot", "is_restricted", "is_ultra_restricted", "is_stranger"])
async def test_a_linked_account_that_is_no_full_member_any_more_is_nobody(reception: Reception, fact: str) -> None:
    await reception.directory.person(reception.ann.id)
    setattr(reception.ann, fact, True)
    with pytest.raises(AccountRefused):
        await reception.directory.person(reception.ann.id)


async def test_an_account_that_slack_does_not_know_is_an_error_of_slack(reception: Reception) -> None:
    with pytest.raises(ChannelError, match="user_not_found"):
        await reception.directory.person("U0NOBODY")


# -- groups -----------------------------------------------------------------------------------------------------------


async def test_who_is_in_the_user_group_is_in_the_group_as_soon_as_they_click(reception: Reception) -> None:
    reception.owners.users.append(reception.ann)
    assert (await reception.directory.person(reception.ann.id)).groups == {"ops", "desk"}
    assert await reception.groups(ANN) == {"ops", "desk"}


async def test_who_left_the_user_group_has_lost_the_group_at_the_next_click(reception: Reception) -> None:
    reception.owners.users.append(reception.ann)
    await reception.directory.person(reception.ann.id)
    reception.owners.users.clear()
    reception.clock.advance(FRESH)
    assert (await reception.directory.person(reception.ann.id)).groups == {"ops"}
    assert await reception.groups(ANN) == {"ops"}


async def test_clicks_in_a_row_ask_for_the_user_groups_once(reception: Reception) -> None:
    for _ in range(3):
        await reception.directory.person(reception.ann.id)
    assert len(reception.slack.asked("usergroups.list")) == 1
    assert len(reception.slack.asked("users.info")) == 3


async def test_when_slack_does_not_say_who_is_in_the_groups_nobody_is_anybody(reception: Reception) -> None:
    reception.slack.order("500", "usergroups.list")
    with pytest.raises(ChannelError):
        await reception.directory.person(reception.ann.id)


async def test_a_user_group_that_is_disabled_has_nobody_in_it(reception: Reception) -> None:
    reception.owners.users.append(reception.ann)
    reception.owners.disabled = True
    assert (await reception.directory.person(reception.ann.id)).groups == {"ops"}


async def test_a_user_group_that_there_is_not_is_said_and_the_others_count(reception: Reception) -> None:
    reception.owners.users.append(reception.ann)
    del reception.slack.groups[reception.directory.groups["other"]]
    with pytest.raises(ChannelError, match=r"no such user group as slack\.groups has for other"):
        await reception.directory.refresh()
    assert await reception.groups(ANN) == {"ops", "desk"}


async def test_a_refresh_knows_also_those_who_never_clicked(reception: Reception) -> None:
    stranger = reception.slack.person("Sam", BOB, team_id="T0OTHER01")
    unknown = reception.slack.person("Eve", "eve@example.com")
    reception.owners.users += [reception.ann, stranger, unknown]
    await reception.directory.refresh()
    assert await reception.linked() == {reception.ann.id: ANN}
    assert (await reception.groups(ANN), await reception.groups(BOB)) == ({"ops", "desk"}, {"ops"})


async def test_who_left_the_user_group_has_lost_the_group_at_the_next_refresh(reception: Reception) -> None:
    reception.owners.users.append(reception.ann)
    await reception.directory.refresh()
    reception.owners.users.clear()
    reception.clock.advance(FRESH)
    await reception.directory.refresh()
    assert await reception.groups(ANN) == {"ops"}


async def test_who_is_deactivated_loses_the_group_within_the_hour(reception: Reception) -> None:
    reception.owners.users.append(reception.ann)
    await reception.directory.refresh()
    reception.ann.deleted = True
    reception.clock.advance(JUDGED_FOR)
    await reception.directory.refresh()
    assert await reception.groups(ANN) == {"ops"}


async def test_a_person_who_is_added_later_is_known_at_the_next_refresh_without_asking_again(
    reception: Reception,
) -> None:
    eve = reception.slack.person("Eve", "eve@example.com")
    reception.owners.users.append(eve)
    await reception.directory.refresh()
    await reception.known("eve@example.com")
    await reception.directory.refresh()
    assert await reception.groups("eve@example.com") == {"ops", "desk"}
    assert len(reception.slack.asked("users.info")) == 1


async def test_a_refresh_that_fails_leaves_everybody_where_they_were(reception: Reception) -> None:
    reception.owners.users.append(reception.ann)
    await reception.directory.refresh()
    reception.clock.advance(timedelta(minutes=1))
    reception.slack.order("missing_scope", "usergroups.list")
    with pytest.raises(ChannelError):
        await reception.directory.refresh()
    assert await reception.groups(ANN) == {"ops", "desk"}


# -- whom to tell -----------------------------------------------------------------------------------------------------


async def test_a_person_is_found_by_the_address_until_an_account_is_linked(reception: Reception) -> None:
    assert await reception.directory.user_id("ANN@example.com") == reception.ann.id
    assert await reception.linked() == {}
    await reception.directory.person(reception.ann.id)
    reception.ann.email = "married@example.com"
    reception.slack.person("Mallory", ANN)
    assert await reception.directory.user_id(ANN) == reception.ann.id


async def test_nobody_is_told_instead_of_somebody_without_an_account_or_with_one_that_may_not_decide(
    reception: Reception,
) -> None:
    assert await reception.directory.user_id("nobody@example.com") is None
    reception.ann.is_restricted = True
    assert await reception.directory.user_id(ANN) is None
