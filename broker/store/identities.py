"""Who people are to others: their accounts at providers, such as a workspace of Slack or a sign-on of the company.

What belongs here: which account is which person, and which groups and roles its provider vouches for. What does
not: judging an account (`integrations`, `broker.web.oidc`), and what a person may do (`broker.domain.people`).

A provider tells accounts apart by a `subject` that never changes and is never given to another account. The first match
by a confirmed e-mail address links an account to a person; from then on the subject counts, whatever the address
becomes: who can change the address of an account cannot become somebody else by it.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

from sqlmodel import Session, col, select

from broker.domain.audit import Event, Kind
from broker.domain.people import Role, normal_email
from broker.errors import AccountRefused, NotFound
from broker.store.tables import IdentityRow, PersonRow
from broker.store.writer import Transaction

BROKER = "broker"


@dataclass(frozen=True, slots=True)
class Identity:
    """An account that is a person, since `at`, with the groups and roles that its provider vouches for."""

    provider: str
    subject: str
    email: str
    at: datetime
    groups: frozenset[str] = frozenset()
    roles: frozenset[Role] = frozenset()


def link(tx: Transaction, provider: str, subject: str, email: str | None) -> Identity:
    """Who an account is: the person that it was linked to, else, from now on, the one of this address.

    Args:
        email: the address that the provider has confirmed to be the account's, if it has.

    Raises:
        AccountRefused: it is not linked, and there is no person of this address, or they have another account there.
    """
    if (found := tx.session.get(IdentityRow, (provider, subject))) is not None:
        return _from_row(found)
    if email is None:
        raise AccountRefused("This account has no confirmed e-mail address, so nobody can tell who it is: confirm it.")
    person = tx.session.get(PersonRow, normal_email(email))
    if person is None or person.removed_at is not None:
        raise AccountRefused(
            f"Nobody here has the address {normal_email(email)}. Ask an administrator for "
            f"`broker user add {normal_email(email)} --role approver`."
        )
    if subject_of(tx.session, provider, person.email) is not None:
        raise AccountRefused(
            f"{person.email} is linked to another account already. If this one is yours now, ask an administrator for "
            f"`broker user unlink {person.email}`."
        )
    row = IdentityRow(provider=provider, subject=subject, email=person.email, at=tx.now, groups=[])
    tx.session.add(row)
    tx.session.flush()
    tx.record(_event(Kind.PERSON_LINKED, BROKER, row))
    return _from_row(row)


def link_all(tx: Transaction, provider: str, emails: Mapping[str, str | None]) -> None:
    """Link those of several accounts that can be.

    Args:
        emails: the confirmed address of each account, if it has one.
    """
    for subject, email in emails.items():
        with suppress(AccountRefused):
            link(tx, provider, subject, email)


def unlink(tx: Transaction, actor: str, email: str) -> None:
    """A person is nobody to others any more, until an account matches anew.

    Raises:
        NotFound: they were nobody.
    """
    if not end_all(tx, actor, email):
        raise NotFound(f"{normal_email(email)} is not linked to any account: nothing was changed.")


def end_all(tx: Transaction, actor: str, email: str) -> int:
    """Let go of all accounts of a person; returns how many there were."""
    rows = tx.session.exec(select(IdentityRow).where(IdentityRow.email == normal_email(email))).all()
    for row in rows:
        tx.session.delete(row)
        tx.record(_event(Kind.PERSON_UNLINKED, actor, row))
    return len(rows)


def vouch(
    tx: Transaction,
    provider: str,
    groups: Mapping[str, frozenset[str]],
    roles: Mapping[str, frozenset[Role]] | None = None,
    *,
    others: bool = False,
) -> None:
    """A provider says in which groups the accounts of these subjects are, and in no others.

    Args:
        roles: those that they have by it; nobody has any else.
        others: whether it says of all other accounts that they are in none.
    """
    rows = select(IdentityRow).where(IdentityRow.provider == provider)
    for row in tx.session.exec(rows if others else rows.where(col(IdentityRow.subject).in_(groups))):
        said = sorted(groups.get(row.subject, ())), sorted((roles or {}).get(row.subject, ()))
        if said != (row.groups, row.roles):
            row.groups, row.roles = said
            tx.session.add(row)
            trusted = {"roles": row.roles} if roles is not None else {}
            tx.record(_event(Kind.PERSON_VOUCHED, BROKER, row, groups=row.groups, **trusted))
    tx.session.flush()


def subject_of(session: Session, provider: str, email: str) -> str | None:
    """A person's account at a provider."""
    theirs = select(IdentityRow.subject).where(
        IdentityRow.provider == provider, IdentityRow.email == normal_email(email)
    )
    return session.exec(theirs).first()


def everyone(session: Session) -> list[Identity]:
    """All of all people, by address and provider."""
    order = (col(IdentityRow.email), col(IdentityRow.provider))
    return [_from_row(row) for row in session.exec(select(IdentityRow).order_by(*order))]


def _event(kind: Kind, actor: str, row: IdentityRow, **more: object) -> Event:
    detail = {"person": row.email, "provider": row.provider, "subject": row.subject, **more}
    return Event(kind=kind, actor=actor, detail=detail)


def _from_row(row: IdentityRow) -> Identity:
    return Identity(
        row.provider, row.subject, row.email, row.at, frozenset(row.groups), frozenset(map(Role, row.roles))
    )
