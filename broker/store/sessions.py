"""Browser sessions: opened for an account that a provider vouches for, listed, ended.

What belongs here: what is only true of sessions. What does not: credentials in general, and links that become sessions
(`broker.store.people`); whose an account is (`broker.store.identities`).
"""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlmodel import Session, col, select

from broker.domain.people import Account, normal_email
from broker.errors import NotFound
from broker.store import identities, people
from broker.store.people import Credential, CredentialKind, NewCredential
from broker.store.tables import CredentialRow, IdentityRow, PersonRow
from broker.store.writer import Transaction

MOST_LISTED = 200


def open_for(tx: Transaction, account: Account, lifetime: timedelta, label: str | None = None) -> NewCredential:
    """Sign in whoever an account is, with the groups and roles that its provider vouches for now, and no others.

    Somebody who was never here comes in when one of their groups stands for a role; who was removed does not.

    Args:
        label: what tells the session from others of its person.

    Raises:
        AccountRefused: nobody here is meant by it; the message says what to ask for.
    """
    _admit(tx, account)
    identity = identities.link(tx, account.provider, account.subject, account.email)
    subject = account.subject
    identities.vouch(tx, account.provider, {subject: account.groups}, {subject: account.roles})
    return people.issue(
        tx,
        identity.email,
        CredentialKind.SESSION,
        identity.email,
        label=label,
        lifetime=lifetime,
        via=account.provider,
    )


def _admit(tx: Transaction, account: Account) -> None:
    if account.email is None or not account.roles:
        return
    known = tx.session.get(IdentityRow, (account.provider, account.subject)) is not None
    if not known and tx.session.get(PersonRow, normal_email(account.email)) is None:
        people.save(tx, identities.BROKER, account.email, frozenset(), frozenset())
        tx.session.flush()


def live(
    session: Session, now: datetime, email: str | None = None, *, limit: int | None = MOST_LISTED
) -> list[Credential]:
    """Sessions that are open at `now`, newest first; with `email`, only theirs."""
    statement = (
        select(CredentialRow)
        .where(
            CredentialRow.kind == CredentialKind.SESSION,
            col(CredentialRow.ended_at).is_(None),
            col(CredentialRow.expires_at) > now,
        )
        .order_by(col(CredentialRow.created_at).desc(), col(CredentialRow.id))
        .limit(limit)
    )
    if email is not None:
        statement = statement.where(CredentialRow.person == normal_email(email))
    return [people.credential_of(row) for row in session.exec(statement)]


def end(tx: Transaction, actor: str, session_id: str, owner: str | None = None) -> None:
    """End a session.

    Args:
        owner: whose it has to be, if not anybody's.

    Raises:
        NotFound: there is no such live session.
    """
    row = tx.session.get(CredentialRow, session_id) if session_id.isprintable() else None  # PostgreSQL takes no NUL
    if row is None or row.kind != CredentialKind.SESSION or (owner is not None and row.person != owner):
        raise NotFound("There is no such session, or it is not yours to end: nothing was done.")
    people.end(tx, actor, session_id)


def end_others(tx: Transaction, email: str, kept: str) -> None:
    """End all sessions of a person but the one whose id is `kept`."""
    for each in live(tx.session, tx.now, email, limit=None):
        if each.id != kept:
            people.end(tx, email, each.id)
