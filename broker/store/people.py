"""People and what they prove themselves with: one-time links, browser sessions, API tokens (hashes only).

What belongs here: who there is, and what a secret is good for. What does not: who they are to others
(`broker.store.identities`), whose word on a person's groups and roles is added here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from itertools import groupby
from typing import Any

from sqlalchemy import bindparam, or_
from sqlalchemy import select as sql_select
from sqlmodel import Session, col, select

from broker.domain.audit import Event, Kind
from broker.domain.canonical import new_id, new_token, token_hash
from broker.domain.people import Person, Role, normal_email
from broker.errors import NotFound
from broker.store import identities
from broker.store.selected import Selected
from broker.store.tables import CredentialRow, IdentityRow, PersonRow, table_of
from broker.store.writer import Transaction


class CredentialKind(StrEnum):
    """What a secret is good for."""

    LINK = "link"
    SESSION = "session"
    TOKEN = "token"  # noqa: S105 - a name, not a secret


Proof = tuple[CredentialKind, str]
"""What a secret is good for, and the secret."""


@dataclass(frozen=True, slots=True)
class Credential:
    """A stored proof of who somebody is, without its secret."""

    id: str
    kind: CredentialKind
    person: str
    label: str | None
    created_at: datetime
    expires_at: datetime | None
    ended_at: datetime | None

    def live(self, now: datetime) -> bool:
        """Whether it still proves anything at `now`."""
        return self.ended_at is None and (self.expires_at is None or now < self.expires_at)


@dataclass(frozen=True, slots=True)
class NewCredential:
    """A credential together with its secret, which is shown once and not kept."""

    credential: Credential
    secret: str


_PRESENT = (
    sql_select(
        *(col(PersonRow.email), col(PersonRow.roles), col(PersonRow.groups)),
        *(col(IdentityRow.roles), col(IdentityRow.groups)),
    )
    .outerjoin(table_of(IdentityRow), col(IdentityRow.email) == col(PersonRow.email))
    .where(col(PersonRow.removed_at).is_(None))
)
_BY_EMAIL = Selected(_PRESENT.where(col(PersonRow.email) == bindparam("email")))
_BY_ADDRESS = _PRESENT.order_by(col(PersonRow.email))
_EVERYONE = Selected(_BY_ADDRESS)
_BY_EMAILS = _BY_ADDRESS.where(col(PersonRow.email).in_(bindparam("emails", expanding=True)))
_BY_SECRET = Selected(
    sql_select(table_of(CredentialRow)).where(
        col(CredentialRow.secret_hash) == bindparam("secret_hash"), col(CredentialRow.kind) == bindparam("kind")
    )
)
_LIVE_BY_SECRETS = sql_select(col(CredentialRow.kind), col(CredentialRow.secret_hash), col(CredentialRow.person)).where(
    col(CredentialRow.secret_hash).in_(bindparam("hashes", expanding=True)),
    col(CredentialRow.ended_at).is_(None),
    or_(col(CredentialRow.expires_at).is_(None), col(CredentialRow.expires_at) > bindparam("now")),
)
"""What is asked again and again, made once: that takes longer than asking."""

_PREFIXES = {CredentialKind.LINK: "bl", CredentialKind.SESSION: "bs", CredentialKind.TOKEN: "bt"}
_MADE = {
    CredentialKind.LINK: Kind.LINK_CREATED,
    CredentialKind.SESSION: Kind.SESSION_OPENED,
    CredentialKind.TOKEN: Kind.TOKEN_CREATED,
}
_ENDED = {CredentialKind.SESSION: Kind.SESSION_CLOSED, CredentialKind.TOKEN: Kind.TOKEN_REVOKED}


def save(tx: Transaction, actor: str, email: str, roles: frozenset[Role], groups: frozenset[str]) -> Person:
    """Add a person, or give them exactly these roles and groups."""
    person = Person(normal_email(email), roles, groups)
    found = tx.session.get(PersonRow, person.email)
    row = found or PersonRow(email=person.email, roles=[], groups=[], created_at=tx.now)
    row.roles, row.groups, row.removed_at = sorted(roles), sorted(groups), None
    tx.session.add(row)
    tx.record(Event(kind=Kind.PERSON_SAVED, actor=actor, detail=_detail(person)))
    return person


def remove(tx: Transaction, actor: str, email: str) -> None:
    """Take a person out, with everything they are signed in with, and who they are to others.

    Raises:
        NotFound: there is no such person.
    """
    row = _row(tx.session, email)
    row.removed_at = tx.now
    tx.session.add(row)
    for credential in tx.session.exec(select(CredentialRow).where(CredentialRow.person == row.email)):
        credential.ended_at = credential.ended_at or tx.now
        tx.session.add(credential)
    identities.end_all(tx, actor, row.email)
    tx.record(Event(kind=Kind.PERSON_REMOVED, actor=actor, detail={"person": row.email}))


def get(session: Session, email: str) -> Person | None:
    """A present person, with the groups and roles that others vouch for; or None."""
    return next(iter(_people(_BY_EMAIL.all(session.connection(), {"email": normal_email(email)}))), None)


def everyone(session: Session) -> list[Person]:
    """All present people, by address."""
    return _people(_EVERYONE.all(session.connection()))


# -- credentials ------------------------------------------------------------------------------------------------------


def issue(
    tx: Transaction,
    actor: str,
    kind: CredentialKind,
    email: str,
    *,
    label: str | None = None,
    lifetime: timedelta | None = None,
    via: str | None = None,
) -> NewCredential:
    """Make a link, a session or a token for a person, and record it.

    Args:
        via: how they signed in: `link`, or the provider that vouched for them.

    Raises:
        NotFound: there is no such person.
    """
    person = _row(tx.session, email)
    secret = new_token(_PREFIXES[kind])
    row = CredentialRow(
        id=new_id(kind.value),
        secret_hash=token_hash(secret),
        kind=kind.value,
        person=person.email,
        label=label,
        created_at=tx.now,
        expires_at=tx.now + lifetime if lifetime is not None else None,
    )
    tx.session.add(row)
    detail = {"person": person.email, "id": row.id, "label": label, **({"via": via} if via is not None else {})}
    tx.record(Event(kind=_MADE[kind], actor=actor, detail=detail))
    return NewCredential(credential_of(row), secret)


def use_link(tx: Transaction, secret: str, lifetime: timedelta, label: str | None = None) -> NewCredential:
    """Turn an unused sign-in link into a browser session. A link works once.

    Args:
        label: what tells the session from others of its person.

    Raises:
        NotFound: the link is unknown, used or too old.
    """
    row = _credential_row(tx.session, CredentialKind.LINK, secret)
    if row is None or not credential_of(row).live(tx.now):
        raise NotFound("This sign-in link was used already or is too old. Ask for a new one: `broker sign-in EMAIL`.")
    row.ended_at = tx.now
    tx.session.add(row)
    return issue(tx, row.person, CredentialKind.SESSION, row.person, label=label, lifetime=lifetime, via="link")


def end(tx: Transaction, actor: str, credential_id: str) -> None:
    """Sign a session out or revoke a token.

    Raises:
        NotFound: there is no such live session or token.
    """
    row = tx.session.get(CredentialRow, credential_id)
    kind = _ENDED.get(CredentialKind(row.kind)) if row is not None else None
    if row is None or row.ended_at is not None or kind is None:
        raise NotFound(f"There is no live session or token {credential_id}.")
    row.ended_at = tx.now
    tx.session.add(row)
    tx.record(Event(kind=kind, actor=actor, detail={"person": row.person, "id": row.id}))


def owner_of_link(session: Session, secret: str, now: datetime) -> str | None:
    """Whom a sign-in link would sign in now, or None. Looking does not use it up."""
    row = _credential_row(session, CredentialKind.LINK, secret)
    return row.person if row is not None and credential_of(row).live(now) else None


def authenticate(
    session: Session, kind: CredentialKind, secret: str, now: datetime
) -> tuple[Person, Credential] | None:
    """Who proves themselves with `secret`, and by what; None when it proves nothing."""
    proof = {"secret_hash": token_hash(secret), "kind": kind.value}
    row = _BY_SECRET.first(session.connection(), proof)
    if row is None or not (credential := credential_of(row)).live(now):
        return None
    person = get(session, row.person)
    return (person, credential) if person is not None else None


def known(session: Session, proofs: Iterable[Proof], now: datetime) -> dict[Proof, Person]:
    """Who proves themselves with each of many; what proves nothing is left out. Two statements, however many."""
    asked = {(kind.value, token_hash(secret)): (kind, secret) for kind, secret in proofs}
    connection = session.connection()
    hashes = [secret_hash for _, secret_hash in asked]
    live = connection.execute(_LIVE_BY_SECRETS, {"hashes": hashes, "now": now}).all()
    present = _people(connection.execute(_BY_EMAILS, {"emails": list({row.person for row in live})}))
    found = {person.email: person for person in present}
    return {
        asked[kind, secret_hash]: found[email]
        for kind, secret_hash, email in live
        if (kind, secret_hash) in asked and email in found
    }


def tokens(session: Session, email: str | None = None) -> list[Credential]:
    """API tokens that are not revoked, newest first; with `email`, only theirs."""
    statement = (
        select(CredentialRow)
        .where(CredentialRow.kind == CredentialKind.TOKEN, col(CredentialRow.ended_at).is_(None))
        .order_by(col(CredentialRow.created_at).desc())
    )
    if email is not None:
        statement = statement.where(CredentialRow.person == normal_email(email))
    return [credential_of(row) for row in session.exec(statement)]


def _row(session: Session, email: str) -> PersonRow:
    row = session.get(PersonRow, normal_email(email))
    if row is None or row.removed_at is not None:
        raise NotFound(f"There is no person {normal_email(email)}: add them with `broker user add`.")
    return row


def _credential_row(session: Session, kind: CredentialKind, secret: str) -> CredentialRow | None:
    statement = select(CredentialRow).where(CredentialRow.secret_hash == token_hash(secret), CredentialRow.kind == kind)
    return session.exec(statement).first()


def _people(rows: Iterable[Any]) -> list[Person]:
    """The people of these rows, which come one for each identity that a person has."""
    return [_person(list(theirs)) for _, theirs in groupby(rows, lambda row: row[0])]


def _person(rows: Sequence[Any]) -> Person:
    email, own_roles, own_groups, *_ = rows[0]
    roles = frozenset[str](own_roles).union(*(row[3] or () for row in rows))
    groups = frozenset[str](own_groups).union(*(row[4] or () for row in rows))
    return Person(email, frozenset(map(Role, roles)), groups)


def credential_of(row: Any) -> Credential:
    """A row of the table, without its secret."""
    return Credential(
        id=row.id,
        kind=CredentialKind(row.kind),
        person=row.person,
        label=row.label,
        created_at=row.created_at,
        expires_at=row.expires_at,
        ended_at=row.ended_at,
    )


def _detail(person: Person) -> dict[str, Any]:
    return {"person": person.email, "roles": sorted(person.roles), "groups": sorted(person.groups)}
