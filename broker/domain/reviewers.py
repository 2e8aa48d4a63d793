"""Who may decide an approval.

What belongs here: people, against what the policy asks for. What does not: what a decision does (`moves`).
"""

from __future__ import annotations

from collections.abc import Iterable

from broker.domain.approvals import Approval
from broker.domain.calls import Requirement
from broker.domain.people import GrantRef, Permission, Person, normal_email
from broker.errors import NotEligible, SelfApproval, WrongChannel


def eligible(requirement: Requirement, grant: GrantRef, person: Person) -> bool:
    """Whether `person` may decide a call of `grant` under `requirement`, now or once it is escalated, anywhere."""
    late = requirement.escalate.to if requirement.escalate is not None else ()
    return _among(_wanted(requirement, late), person) and not _is_self(requirement, grant, person)


def eligible_people(requirement: Requirement, grant: GrantRef, people: Iterable[Person]) -> list[Person]:
    """Those of `people` who may decide, now or once it is escalated."""
    return [person for person in people if eligible(requirement, grant, person)]


def asked(approval: Approval) -> tuple[str, ...]:
    """The groups and e-mail addresses that are asked by now; empty means everyone with the approver role."""
    requirement = approval.requirement
    escalated = approval.escalated_at is not None and requirement.escalate is not None
    return _wanted(requirement, requirement.escalate.to if escalated and requirement.escalate is not None else ())


def may_still_vote(approval: Approval, people: Iterable[Person]) -> list[Person]:
    """Those of `people` whose word the pending approval still waits for, wherever they would give it."""
    given = {review.by for review in approval.reviews if review.revision == approval.revision}
    return [person for person in people if person.email not in given and _is_asked(approval, person)]


def check_reviewer(approval: Approval, person: Person, channel: str) -> None:
    """Raise unless `person` may decide `approval` from `channel`.

    Raises:
        NotEligible, SelfApproval, WrongChannel: why they may not.
    """
    if not _among(asked(approval), person):
        raise NotEligible
    if _is_self(approval.requirement, approval.call.grant, person):
        raise SelfApproval
    if not decides_in(approval.requirement, channel):
        raise WrongChannel


def decides_in(requirement: Requirement, channel: str) -> bool:
    """Whether it may be decided in `channel`: `slack` in a requirement is any place in Slack, `slack:#c` that one."""
    wanted = requirement.channels
    return not wanted or not {channel, channel.partition(":")[0]}.isdisjoint(wanted)


def _wanted(requirement: Requirement, late: tuple[str, ...]) -> tuple[str, ...]:
    # Without names everyone with the role is asked already, and nobody can be added.
    return tuple(dict.fromkeys((*requirement.approvers, *late))) if requirement.approvers else ()


def _is_asked(approval: Approval, person: Person) -> bool:
    requirement = approval.requirement
    return _among(asked(approval), person) and not _is_self(requirement, approval.call.grant, person)


def _among(wanted: tuple[str, ...], person: Person) -> bool:
    if not person.may(Permission.DECIDE):
        return False
    if not wanted:
        return True
    names = {normal_email(name) for name in wanted if "@" in name}
    return person.email in names or not person.groups.isdisjoint(wanted)


def _is_self(requirement: Requirement, grant: GrantRef, person: Person) -> bool:
    return not requirement.allow_self and person.email == normal_email(grant.owner)
