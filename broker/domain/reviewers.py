"""Who may decide an approval.

What belongs here: people, against what the policy asks for. What does not: what a decision does (`moves`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from broker.domain.approvals import Approval, State
from broker.domain.calls import Requirement, Risk
from broker.domain.people import GrantRef, Permission, Person, normal_email
from broker.errors import NotEligible, SelfApproval, WrongChannel

FOR_CRITICAL = ("web",)
"""Where critical calls are decided unless the policy says where: there it takes a second step, and people look."""


def eligible(requirement: Requirement, grant: GrantRef, person: Person) -> bool:
    """Whether `person` may decide a call of `grant` under `requirement`, now or once it is escalated, anywhere."""
    return bool(eligible_people(requirement, grant, (person,)))


def eligible_people(requirement: Requirement, grant: GrantRef, people: Iterable[Person]) -> list[Person]:
    """Those of `people` who may decide, now or once it is escalated, if it is before its time is over."""
    late, timeout = requirement.escalate, requirement.timeout
    in_time = late is not None and (timeout is None or late.after < timeout)
    return _deciders(requirement, _wanted(requirement, escalated=in_time), grant, people)


def asked(approval: Approval) -> tuple[str, ...]:
    """The groups and e-mail addresses that are asked by now; empty means everyone with the approver role."""
    return _wanted(approval.requirement, escalated=approval.escalated_at is not None)


def is_asked(approval: Approval, person: Person) -> bool:
    """Whether `person` is among those who are asked by now, whoever owns the agent."""
    return bool(_among(asked(approval), (person,)))


def is_wanted(wanted: Collection[str], person: Person) -> bool:
    """Whether `person` is one of these: what has an `@` is one person's address, else it is a group; nothing is all."""
    addresses = {normal_email(name) for name in wanted if "@" in name}
    groups = {name for name in wanted if "@" not in name}
    return not wanted or person.email in addresses or not person.groups.isdisjoint(groups)


def may_still_vote(approval: Approval, people: Iterable[Person]) -> list[Person]:
    """Those of `people` whose word a pending approval still waits for, wherever they would give it; else nobody."""
    if approval.state is not State.PENDING:
        return []
    given = {review.by for review in approval.reviews if review.revision == approval.revision}
    able = _deciders(approval.requirement, asked(approval), approval.call.grant, people)
    return [person for person in able if person.email not in given]


def check_person(approval: Approval, person: Person) -> None:
    """Raise unless `person` may decide `approval` somewhere.

    Raises:
        NotEligible, SelfApproval: why they may not.
    """
    if not is_asked(approval, person):
        raise NotEligible
    if _is_self(approval.requirement, approval.call.grant, person):
        raise SelfApproval


def check_reviewer(approval: Approval, person: Person, channel: str) -> None:
    """Raise unless `person` may decide `approval` from `channel`.

    Raises:
        NotEligible, SelfApproval, WrongChannel: why they may not.
    """
    check_person(approval, person)
    if not decides_in(approval, channel):
        raise WrongChannel(not_here(approval))


def not_here(approval: Approval) -> str:
    """A sentence for where it may not be decided: where it may be."""
    wanted = approval.requirement.channels
    what = "This may" if wanted else "A critical call may"
    return f"{what} not be decided here, but {' or '.join(map(place, wanted or FOR_CRITICAL))}."


def place(channel: str) -> str:
    """Where something is decided, in words: `in the browser`, `through the API`, `in slack:#desk`."""
    return {"web": "in the browser", "api": "through the API"}.get(channel, f"in {channel}")


def decides_in(approval: Approval, channel: str) -> bool:
    """Whether it may be decided in `channel`: `slack` in a requirement is any place in Slack, `slack:#c` that one.

    A critical call is decided elsewhere than in the browser only where its requirement says so.
    """
    wanted = approval.requirement.channels
    if not wanted:
        return approval.risk is not Risk.CRITICAL or channel in FOR_CRITICAL
    return not {channel, _kind(channel)}.isdisjoint(wanted)


def decides_in_any(requirement: Requirement, channels: Collection[str]) -> bool:
    """Whether it may be decided in a broker that has `channels`, such as `web` and `slack`: all of Slack then."""
    wanted = requirement.channels
    return not wanted or any(channel in channels or _kind(channel) in channels for channel in wanted)


def _kind(channel: str) -> str:
    return channel.partition(":")[0]


def _wanted(requirement: Requirement, *, escalated: bool) -> tuple[str, ...]:
    late = requirement.escalate.to if requirement.escalate is not None and escalated else ()
    # Without names everyone with the role is asked already, and nobody can be added.
    return tuple(dict.fromkeys((*requirement.approvers, *late))) if requirement.approvers else ()


def _deciders(
    requirement: Requirement, wanted: tuple[str, ...], grant: GrantRef, people: Iterable[Person]
) -> list[Person]:
    return [person for person in _among(wanted, people) if not _is_self(requirement, grant, person)]


def _among(wanted: tuple[str, ...], people: Iterable[Person]) -> list[Person]:
    """Those who may decide at all and are `wanted`."""
    return [person for person in people if person.may(Permission.DECIDE) and is_wanted(wanted, person)]


def _is_self(requirement: Requirement, grant: GrantRef, person: Person) -> bool:
    return not requirement.allow_self and person.email == normal_email(grant.owner)
