"""What is done about a click: a vote is taken, or the person is told in private why not.

What belongs here: from a click to `Reviews`, and its answers. What does not: how clicks arrive and are acknowledged
(`inbound`), the message, which the outbox rewrites (`channel`), words and looks (`refusals`, `replies`, `modals`).

Nothing here is waited for by Slack: every click was acknowledged before.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection
from dataclasses import replace

from sqlmodel import Session

from broker.approvals.notices import Notice
from broker.approvals.service import Approvals
from broker.domain import moves
from broker.domain.approvals import Approval, Decision, State
from broker.domain.people import Person
from broker.domain.reviewers import may_still_vote
from broker.domain.text import visible
from broker.errors import (
    AccountRefused,
    AlreadyResolved,
    BrokerError,
    ChannelError,
    DeadlinePassed,
    MessageUnknown,
    ReviewRefused,
)
from broker.store import approvals as stored
from broker.store import notices
from broker.store.approvals import ApprovalFilter
from integrations.slack import refusals
from integrations.slack.clicks import Click
from integrations.slack.directory import Directory
from integrations.slack.messages import Message
from integrations.slack.modals import reason_modal
from integrations.slack.replies import private, waiting_list
from integrations.slack.web_api import WebApi

log = logging.getLogger(__name__)

CHANNEL = "slack"

LOOKS, LOOK_EVERY = 30, 0.1
"""How often it is looked whether a message that was just posted is known, and the seconds between."""

MOST_LOOKED_AT = 500
"""The open approvals, newest first, among which `/approvals` finds those that wait for one person."""


class Deciding:
    """Takes the words of people in Slack.

    Args:
        card: the address of an approval's card, by its id.
    """

    def __init__(self, web_api: WebApi, directory: Directory, approvals: Approvals, card: Callable[[str], str]) -> None:
        self._web_api = web_api
        self._directory = directory
        self._approvals = approvals
        self._card = card

    async def decide(self, click: Click, decision: Decision, reason: str | None = None) -> None:
        """Take a word, or say in private why not."""
        try:
            await self._check_home(click.homes)
            place = await self._place(click)
            person = await self._directory.person(click.user_id)
            await self._review(click, person, place, decision, reason)
        except BrokerError as error:
            await self._answer(click, refusals.sentence(error))

    async def ask_reason(self, click: Click) -> None:
        """Open the modal in which a rejection is sent, unless nothing is to be decided any more.

        Slack allows three seconds from the click on; who may decide is looked at when the modal is sent.
        """
        try:
            await self._check_home(click.homes)
            approval = await self._approvals.get(click.choice.approval_id)
            self._check_open(approval)
        except BrokerError as error:
            await self._answer(click, refusals.sentence(error))
            return
        try:
            view = reason_modal(self._notice(approval), click.metadata)
            await self._web_api.call("views.open", trigger_id=click.trigger_id, view=view)
        except ChannelError as error:
            log.warning("The form for a rejection could not be opened: %s.", error)
            await self._answer(click, refusals.NO_FORM)

    async def list_waiting(self, homes: Collection[str], user_id: str, response_url: str) -> None:
        """Tell somebody what waits for them."""
        try:
            await self._check_home(homes)
            person = await self._directory.person(user_id)
            waiting = await self._approvals.store.read(lambda session: self._waiting_for(session, person))
        except BrokerError as error:
            await self._tell(response_url, private(refusals.sentence(error)))
        else:
            await self._tell(response_url, waiting_list([self._notice(approval) for approval in waiting]))

    # -- parts --------------------------------------------------------------------------------------------------------

    async def _review(self, click: Click, person: Person, place: str, decision: Decision, reason: str | None) -> None:
        choice = click.choice
        try:
            await self._approvals.reviews.review(
                choice.approval_id,
                person,
                decision,
                channel=place,
                revision=choice.revision,
                reason=reason,
                shown=choice.shown,
            )
        except ReviewRefused as error:
            approval = await self._approvals.get(choice.approval_id)
            await self._answer(click, refusals.of_review(error, approval, person))

    async def _check_home(self, homes: Collection[str]) -> None:
        own = await self._web_api.workspace()
        if own.team_id not in homes and own.enterprise_id not in homes:
            log.warning("A click came from Slack's %s, which is not the broker's.", visible(", ".join(sorted(homes))))
            raise AccountRefused("This workspace is not the broker's.")

    def _check_open(self, approval: Approval) -> None:
        if approval.state is not State.PENDING:
            raise AlreadyResolved(moves.describe_end(approval))
        if self._approvals.clock.now() >= moves.open_until(approval):
            raise DeadlinePassed

    async def _place(self, click: Click) -> str:
        """The place that a click was made in: that of the message with this button.

        A message that was posted just now may not be kept yet. One that a crash left behind is not, ever: its place is
        that of the message which was posted in its stead.

        Raises:
            MessageUnknown: the broker posted none there, or does not know yet that it did.
        """
        spot = click.spot
        for _ in range(LOOKS):
            told = await self._approvals.store.read(
                lambda session: notices.messages(session, CHANNEL, click.choice.approval_id)
            )
            here = {found["ts"]: place for place, found in told if found and found["channel"] == spot.channel}
            if here:
                return here.get(spot.ts) or next(iter(here.values()))
            if all(found is not None for _, found in told):
                log.warning("A click in Slack's channel %s was on no message of the broker.", visible(spot.channel))
                raise MessageUnknown
            await asyncio.sleep(LOOK_EVERY)
        raise MessageUnknown("Slack has not confirmed to the broker yet that this message is there.")

    def _waiting_for(self, session: Session, person: Person) -> list[Approval]:
        """What `person` may still vote on, the most urgent first."""
        now = self._approvals.store.now()
        pending = stored.page(session, ApprovalFilter(states=(State.PENDING,)), limit=MOST_LOOKED_AT)
        mine = [one for one in pending if now < moves.open_until(one) and may_still_vote(one, [person])]
        return sorted(mine, key=moves.open_until)

    async def _answer(self, click: Click, sentence: str) -> None:
        await self._tell(click.spot.response_url, private(sentence, self._card(click.choice.approval_id)))

    async def _tell(self, response_url: str, message: Message) -> None:
        """Tell one person something where they clicked or asked."""
        try:
            await self._web_api.respond(response_url, message.text, message.blocks)
        except ChannelError as error:
            log.warning("Somebody could not be answered in Slack: %s.", error)

    def _notice(self, approval: Approval) -> Notice:
        return Notice(replace(approval, sealed=None), self._card(approval.id))
