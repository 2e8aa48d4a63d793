"""Why a word was not taken, for the person who gave it: what happened, that nothing was decided, what to do.

What belongs here: the sentences. What does not: when they are said (`deciding`).
"""

from __future__ import annotations

from broker.domain.approvals import Approval, State
from broker.domain.moves import describe_end
from broker.domain.people import Permission, Person
from broker.domain.reviewers import asked, is_wanted
from broker.errors import (
    AlreadyResolved,
    BrokerError,
    Changed,
    ChannelError,
    MessageUnknown,
    NotEligible,
    ReviewRefused,
    StoreError,
)

NOTHING = "Nothing was decided."
NO_FORM = f"The form could not be opened. {NOTHING} Click again, or decide in the browser."


def sentence(error: BrokerError) -> str:
    """What to answer when `error` came in the way of a word."""
    match error:
        case AlreadyResolved():
            return str(error)
        case ChannelError():
            why = str(error).rstrip(".")
            return f"Slack did not say who you are ({why}). {NOTHING} Try again, or decide in the browser."
        case MessageUnknown():
            return f"{error} {NOTHING} Click again in a minute, or decide in the browser."
        case StoreError():
            return f"The broker cannot use its store. {NOTHING} Try again later."
        case Changed():
            return (
                f"What would run has changed since this message was posted. {NOTHING} See what it is now, on the card."
            )
        case _:
            return f"{error} {NOTHING}"


def of_review(error: ReviewRefused, approval: Approval, person: Person) -> str:
    """Why the word of `person` on `approval` was not taken; where it is over, that is all there is to say."""
    if approval.state is not State.PENDING:
        return describe_end(approval)
    return f"{sentence(error)}{_what_to_ask(approval, person)}" if isinstance(error, NotEligible) else sentence(error)


def _what_to_ask(approval: Approval, person: Person) -> str:
    """What somebody who is not asked would have to be."""
    wanted = asked(approval)
    groups = [name for name in wanted if "@" not in name]
    lacks = [] if person.may(Permission.DECIDE) else ["the role approver"]
    if not is_wanted(wanted, person):
        if not groups:
            return f" It is for {' or '.join(wanted)}."
        lacks.append(f"the group {' or '.join(groups)}")
    return f" Here you are {person.email}: ask an administrator for {' and '.join(lacks)} (`broker user add`)."
