"""Every error of the broker, as one tree.

An error carries the evidence a caller needs and a message that a person can act on. What belongs here: exception
classes with a stable ``code``. What does not: how an error looks on a wire; the edges map codes in tables of their own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar


class BrokerError(Exception):
    """The broker could not do what was asked."""

    code: ClassVar[str] = "broker_error"

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or (type(self).__doc__ or "").splitlines()[0])


# -- what an administrator got wrong ----------------------------------------------------------------------------------


class SettingsError(BrokerError):
    """A setting is wrong."""

    code = "settings_invalid"


@dataclass(frozen=True, slots=True)
class Finding:
    """What is to be said of one place in a document: a mistake, or a warning.

    Args:
        message: a sentence without a full stop.
        path: which key or item, such as ``tools.pay.limits[0].max``; empty for the document as a whole.
        line: from 1; None when it is about no place in the text.
        column: from 1, in characters.
        nearest: what may be meant, where something legal is like what was written.
    """

    message: str
    path: str = ""
    line: int | None = None
    column: int | None = None
    nearest: str | None = None


class PolicyError(BrokerError):
    """A policy document is wrong. `mistakes` has what the message says, a line for each."""

    code = "policy_invalid"

    def __init__(self, message: str | None = None, mistakes: tuple[Finding, ...] = ()) -> None:
        super().__init__(message)
        self.mistakes = mistakes


# -- the store --------------------------------------------------------------------------------------------------------


class StoreError(BrokerError):
    """The store cannot be used."""

    code = "store_unavailable"


class StoreLocked(StoreError):
    """Another `broker serve` uses this SQLite file."""

    code = "store_locked"


class ChainBroken(BrokerError):
    """The audit chain is broken."""

    code = "chain_broken"

    def __init__(self, seq: int, why: str) -> None:
        self.seq = seq
        self.why = why
        super().__init__(f"The audit chain is broken at row {seq}: {why}.")


class ContentsAltered(BrokerError):
    """What is kept of a call is not what its audit row was written for."""

    code = "contents_altered"

    def __init__(self, seq: int) -> None:
        self.seq = seq
        super().__init__(
            f"The call that is kept for row {seq} is not the one that was recorded: it was altered, or it was recorded "
            "under a secret that server.secret does not list any more."
        )


# -- who asks ---------------------------------------------------------------------------------------------------------


class NotSignedIn(BrokerError):
    """Sign in first."""

    code = "not_signed_in"


class MessageUnknown(BrokerError):
    """This message is not known to the broker."""

    code = "message_unknown"


class AccountRefused(BrokerError):
    """This account is nobody here."""

    code = "account_refused"


class ProviderFailed(BrokerError):
    """The sign-in provider cannot be asked, or cannot be believed."""

    code = "provider_failed"


class TooManyAttempts(BrokerError):
    """Too many attempts failed."""

    code = "too_many_attempts"

    def __init__(self, retry_after: int) -> None:
        self.retry_after = retry_after  # seconds
        super().__init__(f"Too many attempts failed: wait {retry_after} seconds, then try again.")


class Forbidden(BrokerError):
    """Your role does not allow this."""

    code = "forbidden"


class ForgedForm(BrokerError):
    """The form did not come from this page: reload it and try again."""

    code = "forged_form"


class NotFound(BrokerError):
    """There is no such thing here."""

    code = "not_found"


class Invalid(BrokerError):
    """A value in the request is wrong."""

    code = "invalid"


# -- reviews and the life of an approval ------------------------------------------------------------------------------


class ReviewRefused(BrokerError):
    """The review was not taken."""

    code = "review_refused"


class AlreadyResolved(ReviewRefused):
    """This approval is already decided."""

    code = "already_resolved"


class AlreadyVoted(ReviewRefused):
    """You have already voted otherwise."""

    code = "already_voted"


class Changed(ReviewRefused):
    """What would run has changed since you looked: reload and decide again."""

    code = "changed"


class NotEligible(ReviewRefused):
    """You are not among those who may decide this."""

    code = "not_eligible"


class SelfApproval(ReviewRefused):
    """This agent is yours: somebody else has to decide."""

    code = "self_approval"


class WrongChannel(ReviewRefused):
    """This may not be decided here."""

    code = "wrong_channel"


class DeadlinePassed(ReviewRefused):
    """The time to decide this is over."""

    code = "deadline_passed"


class TransitionRefused(BrokerError):
    """The approval is in a state that does not allow this."""

    code = "transition_refused"


# -- messages to people -----------------------------------------------------------------------------------------------


class ChannelError(BrokerError):
    """The channel did not take a message."""

    code = "channel_failed"

    def __init__(
        self, message: str | None = None, *, retry_after: float | None = None, reason: str | None = None
    ) -> None:
        self.retry_after = retry_after  # seconds, when the channel says how long it wants to be left alone
        self.reason = reason  # the channel's own word for it, such as `user_not_found`
        super().__init__(message)


class MessageGone(ChannelError):
    """The message is not there any more."""

    code = "message_gone"


class MessageRefused(ChannelError):
    """The channel would refuse this message whenever it is sent."""

    code = "message_refused"


class PlaceMissing(ChannelError):
    """There is no such place, or nothing may be posted there."""

    code = "place_missing"


# -- the way of a call ------------------------------------------------------------------------------------------------


class UpstreamError(BrokerError):
    """The MCP server behind the broker failed."""

    code = "upstream_failed"


class UpstreamUnreachable(UpstreamError):
    """The MCP server could not be reached: the call provably never ran."""

    code = "upstream_unreachable"


class UpstreamInterrupted(UpstreamError):
    """The MCP server went away while the call was under way: it may or may not have run."""

    code = "upstream_interrupted"


class GrantEnded(UpstreamInterrupted):
    """The grant ended while the call was under way: it may or may not have run."""

    code = "grant_ended"


class SessionUnknown(UpstreamUnreachable):
    """The MCP session is unknown or over: open a new one."""

    code = "session_unknown"
