"""What people outside are told of approvals, and the port through which they are told it.

What belongs here: the one interface of all channels, the values that pass through it, which events are told, and where.
What does not: when it is told, and what becomes of failures (`broker.approvals.outbox`); how it looks
(`integrations`).

A channel has places, such as `slack:#desktop` or `slack:@ann@example.com`: a channel's name, a colon, and what the
channel itself understands. In each place an approval has one message, which always shows how the approval stands, and
a thread of remarks below it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from broker.domain.approvals import Approval, State
from broker.domain.audit import Kind, Row
from broker.domain.calls import Requirement
from broker.domain.reviewers import asked

Reference = Mapping[str, Any]
"""What a channel finds a message by, as JSON: such as Slack's `channel` and `ts`. Only the channel reads it."""

_NUDGES = frozenset({Kind.APPROVAL_REMINDED, Kind.APPROVAL_ESCALATED})

REMARKED = _NUDGES | {
    Kind.APPROVAL_SUBMITTED,
    Kind.APPROVAL_REVIEWED,
    Kind.APPROVAL_APPROVED,
    Kind.APPROVAL_REJECTED,
    Kind.APPROVAL_EXPIRED,
    Kind.APPROVAL_WITHDRAWN,
    Kind.APPROVAL_SUCCEEDED,
    Kind.APPROVAL_FAILED,
    Kind.APPROVAL_INTERRUPTED,
    Kind.APPROVAL_LATE,
}
"""What is remarked on in the thread of an approval; the message itself shows the rest."""

ANSWERED = frozenset({Kind.APPROVAL_SUCCEEDED, Kind.APPROVAL_FAILED, Kind.APPROVAL_LATE})
"""The remarks that tell what the server answered."""

ANNOUNCED = frozenset(
    {
        Kind.GRANT_CREATED,
        Kind.GRANT_ROTATED,
        Kind.GRANT_REVOKED,
        Kind.PERSON_SAVED,
        Kind.PERSON_REMOVED,
        Kind.PERSON_UNLINKED,
        Kind.TOKEN_CREATED,
        Kind.TOKEN_REVOKED,
        Kind.LINK_CREATED,
        Kind.CHAIN_WITNESSED,
    }
)
"""What is told in the default place of every channel: whoever can give away power does it in the sight of others, and
how far the record reaches is known outside of it."""


@dataclass(frozen=True, slots=True)
class Notice:
    """An approval as it stands now, for people outside.

    Args:
        approval: what the policy masks of its call is masked, and what is sealed is left out.
        url: of its card, where people sign in; it lets nobody in.
    """

    approval: Approval
    url: str


@dataclass(frozen=True, slots=True)
class Remark:
    """Something that happened, told once: in the thread of an approval, or as an announcement of its own.

    Args:
        row: what happened, as the record has it: who did what when, and why.
        notice: the approval that it happened to, as it stands now; None in an announcement.
        answer: what the server answered, where the row notes that it did, if it was kept and nothing of the call is
            masked: servers repeat what they are sent.
    """

    row: Row
    notice: Notice | None = None
    answer: Any = None

    @property
    def mentions(self) -> tuple[str, ...]:
        """The groups and e-mail addresses whose attention it is for."""
        if self.notice is None or self.row.kind not in _NUDGES:
            return ()
        late = self.notice.approval.requirement.escalate
        if self.row.kind is Kind.APPROVAL_ESCALATED:
            return late.to if late is not None else ()
        return asked(self.notice.approval)


class Channel(Protocol):
    """A way to people, such as Slack. Nothing of the broker waits for it, however long it takes.

    It waits only by `await`, ends when it is cancelled, and tells what went wrong as one of the errors below, in a
    sentence without secrets, since `/readyz` and the log repeat it. What else it raises is taken for a mistake in the
    channel: the log has it with its traceback, and after a few tries a remark is left out for good, and a message until
    its approval changes.

    One message at a time is posted, and one rewritten beside it. So at most one is posted twice when the broker dies;
    and each whose answer is lost.

    Attributes:
        name: what `channels` in a policy calls it. Reviews that are made in it carry a place of it as their channel.
        default: the place for what names none, such as `slack:#approvals`.
        direct: whether `name:@ann@example.com` reaches that person; approvers who are named are told there as well.
    """

    name: str
    default: str
    direct: bool

    async def show(self, place: str, notice: Notice, reference: Reference | None) -> Reference:
        """Post the message that stands for an approval, or rewrite the one that `reference` leads to.

        Returns:
            What leads to the message from now on.

        Raises:
            MessageGone: there is nothing to rewrite any more: it will be posted anew if it still matters.
            PlaceMissing: it cannot be posted there until somebody mends that: it is tried again, rarely.
            MessageRefused: this message would be refused whenever it is sent: it is tried a few times.
            ChannelError: it did not work; it is tried again, not before `retry_after` if that is given. `OSError` and
                `TimeoutError` mean the same.
        """
        ...

    async def say(self, place: str, remark: Remark, thread: Reference | None) -> None:
        """Tell something once: below the message that `thread` leads to, or as an announcement.

        Raises:
            MessageGone: the message is not there any more: it will be posted anew, and the remark be told there.
            PlaceMissing, MessageRefused, ChannelError, OSError, TimeoutError: as above.
        """
        ...


def places(channels: Iterable[Channel], requirement: Requirement) -> Iterator[tuple[str, str]]:
    """Where an approval is told: channels' names, each with a place of it."""
    for channel in channels:
        named = [each for each in requirement.channels if each.partition(":")[0] == channel.name]
        if requirement.channels and not named:
            continue
        people = [f"{channel.name}:@{name}" for name in requirement.approvers if "@" in name] if channel.direct else []
        wanted = [channel.default if each == channel.name else each for each in named or (channel.name,)]
        yield from ((channel.name, place) for place in dict.fromkeys((*wanted, *people)))


def worth_posting(approval: Approval) -> bool:
    """Whether people who saw nothing of it yet have to: not when it is over, unless the effect has to be looked at."""
    return not approval.state.final or approval.state is State.INTERRUPTED


def to_remark(approval: Approval, history: Sequence[Row], told: int) -> list[Row]:
    """Which rows of an approval's history, oldest first, are to be remarked on after row `told`.

    Nobody is called to an approval that does not wait for people any more.
    """
    kinds = REMARKED if approval.state is State.PENDING else REMARKED - _NUDGES
    return [row for row in history if row.seq > told and row.kind in kinds]
