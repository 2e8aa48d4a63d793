"""People, their roles and what a role permits; grants, which identify agents.

What belongs here: who somebody is and what they may do at all. What does not: who may decide one particular approval
(`broker.domain.reviewers`).
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from broker.domain.text import is_hidden


class Role(StrEnum):
    """What a person is trusted with. Somebody with no role sees only their own grants."""

    ADMIN = "admin"
    APPROVER = "approver"
    POLICY_MANAGER = "policy_manager"
    AUDITOR = "auditor"


class Permission(StrEnum):
    """One thing that a page or an API call asks for."""

    ANYONE = "anyone"
    """Open to the world: sign-in, health, static files."""
    SIGNED_IN = "signed_in"
    SEE_QUEUE = "see_queue"
    DECIDE = "decide"
    SEE_AUDIT = "see_audit"
    SEE_POLICIES = "see_policies"
    ADMINISTER = "administer"


_GRANTED: dict[Role, frozenset[Permission]] = {
    Role.ADMIN: frozenset(Permission),
    Role.APPROVER: frozenset({Permission.SIGNED_IN, Permission.SEE_QUEUE, Permission.DECIDE}),
    Role.POLICY_MANAGER: frozenset({Permission.SIGNED_IN, Permission.SEE_POLICIES}),
    Role.AUDITOR: frozenset(
        {Permission.SIGNED_IN, Permission.SEE_QUEUE, Permission.SEE_AUDIT, Permission.SEE_POLICIES}
    ),
}


def normal_email(address: str) -> str:
    """An e-mail address as it is compared: two that are equal here are one person, with one vote.

    It is trimmed and case-folded; characters that show as nothing count for nothing; and what Unicode holds for another
    form of the same character is that character: full-width letters, composed and decomposed ones (compatibility
    caseless matching, The Unicode Standard, section 3.13, as domain names are compared: UTS #46). Letters of other
    alphabets that look alike are other letters.
    """
    if address.isascii() and address.isprintable():
        return address.lower().strip()  # the same, sooner
    seen = "".join(char for char in address if char.isspace() or not is_hidden(char))
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", seen).casefold()).strip()


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody who signs in. `email` is normal (see `normal_email`)."""

    email: str
    roles: frozenset[Role] = frozenset()
    groups: frozenset[str] = frozenset()

    def may(self, permission: Permission) -> bool:
        """Whether any of the person's roles grants `permission`."""
        if permission in (Permission.ANYONE, Permission.SIGNED_IN):
            return True
        return any(permission in _GRANTED[role] for role in self.roles)


@dataclass(frozen=True, slots=True)
class Account:
    """Whom a provider has just signed in, in its own words.

    Args:
        provider: such as the issuer of a sign-on; `subject` is its name for the account, and never another's.
        email: the address, where the provider has confirmed that it is the account's.
        roles: those that stand for the groups.
    """

    provider: str
    subject: str
    email: str | None
    groups: frozenset[str] = frozenset()
    roles: frozenset[Role] = frozenset()


@dataclass(frozen=True, slots=True)
class GrantRef:
    """What everybody is told of a grant: which agent, and whose."""

    id: str
    label: str
    owner: str


@dataclass(frozen=True, slots=True)
class Grant:
    """A bearer token that identifies one agent on named upstreams. The token itself is not kept.

    Args:
        patience: how long the agent waits for an answer, if that is known of it.
    """

    id: str
    label: str
    owner: str
    upstreams: frozenset[str]
    created_at: datetime
    expires_at: datetime | None = None
    revoked_at: datetime | None = None
    patience: timedelta | None = None

    @property
    def ref(self) -> GrantRef:
        """The part that goes into records and messages."""
        return GrantRef(self.id, self.label, self.owner)

    def live(self, now: datetime) -> bool:
        """Whether the grant is neither revoked nor expired at `now`."""
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)
