"""The tables. Each class is one; comments say what a column means where its name does not."""

from __future__ import annotations

from datetime import datetime
from typing import Any, ClassVar

from sqlalchemy import BigInteger, Index, Table, Text
from sqlmodel import Field, MetaData, SQLModel

from broker.store.columns import Instant, Json


def table_of(row: type[SQLModel]) -> Table:
    """The Core table of a row class, for statements on many rows at once."""
    table: Table = row.__table__  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType, reportUnknownVariableType]
    return table  # pyright: ignore[reportUnknownVariableType]


class Base(SQLModel):
    """Common parent, so that these tables have a metadata of their own."""

    metadata: ClassVar[MetaData] = MetaData(  # pyright: ignore[reportIncompatibleVariableOverride]
        naming_convention={
            "ix": "ix_%(column_0_label)s",
            "uq": "uq_%(table_name)s_%(column_0_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


class ChainHead(Base, table=True):
    """One row: the end of the audit chain. Who writes locks it first, so commits come in the order of `seq`."""

    __tablename__: ClassVar[Any] = "chain_head"
    id: int = Field(primary_key=True)
    seq: int = Field(sa_type=BigInteger)
    digest: str


class AuditRow(Base, table=True):
    """The record, append-only. See `broker.domain.audit`."""

    __tablename__: ClassVar[Any] = "audit"
    __table_args__: ClassVar[tuple[Any, ...]] = (
        # Of some rows only, as their migrations say: to say it here would load PostgreSQL's dialect in every process.
        Index("ix_audit_approvals_seq", "seq"),  # what the feed reads: approvals' rows
        Index("ix_audit_administrative_seq", "seq"),  # what channels announce: rows about no call
    )
    seq: int = Field(primary_key=True, sa_type=BigInteger, sa_column_kwargs={"autoincrement": False})
    at: datetime = Field(sa_type=Instant, index=True)
    kind: str
    actor: str
    call_id: str | None = Field(default=None, index=True)
    approval_id: str | None = Field(default=None, index=True)
    upstream: str | None = None
    tool: str | None = None
    grant_id: str | None = None
    verdict: str | None = None
    rule: str | None = None
    arguments_digest: str | None = None
    detail: Any = Field(sa_type=Json)
    prev: str
    digest: str


class AuditBlock(Base, table=True):
    """A run of rows of the record that is indexed, and the first and last instant in it. See `store.search_index`."""

    __tablename__: ClassVar[Any] = "audit_blocks"
    block: int = Field(primary_key=True, sa_column_kwargs={"autoincrement": False})
    since: datetime = Field(sa_type=Instant)
    until: datetime = Field(sa_type=Instant)


class AuditTerm(Base, table=True):
    """The rows of one block that have a term, as a packed bitmap."""

    __tablename__: ClassVar[Any] = "audit_terms"
    __table_args__: ClassVar[Any] = {"sqlite_with_rowid": False}
    term: int = Field(primary_key=True, sa_type=BigInteger, sa_column_kwargs={"autoincrement": False})
    block: int = Field(primary_key=True, sa_column_kwargs={"autoincrement": False})
    rows: bytes


class ContentRow(Base, table=True):
    """What is kept of a call beside the chain, so that it can be emptied.

    `what` is `arguments`, or `redacted` when something of them is masked; `explanation`; `result`.
    """

    __tablename__: ClassVar[Any] = "contents"
    call_id: str = Field(primary_key=True)
    what: str = Field(primary_key=True)
    body: Any = Field(sa_type=Json)


class ApprovalRow(Base, table=True):
    """An approval. Its moves are those of `broker.domain.approvals.TRANSITIONS`."""

    __tablename__: ClassVar[Any] = "approvals"
    __table_args__: ClassVar[tuple[Any, ...]] = (
        Index("ix_approvals_fingerprint_created_at", "fingerprint", "created_at"),
        Index("ix_approvals_upstream_tool_created_at", "upstream", "tool", "created_at"),
        # the queue: what waits, and what was decided lately
        Index("ix_approvals_state_created_at_id", "state", "created_at", "id"),
        Index("ix_approvals_resolved_at_id", "resolved_at", "id"),
    )
    id: str = Field(primary_key=True)
    # pending → approved | rejected | expired | withdrawn; approved → executing | expired | withdrawn;
    # executing → succeeded | failed | interrupted | approved
    state: str
    call_id: str
    upstream: str
    tool: str
    params: Any = Field(sa_type=Json)
    grant_id: str = Field(index=True)
    grant_label: str
    grant_owner: str
    session: str | None = Field(default=None, index=True)
    fingerprint: str
    revision: str
    rule: str
    reason: str | None = None
    risk: str | None = None
    requirement: Any = Field(sa_type=Json)
    definition: Any = Field(default=None, sa_type=Json, nullable=True)
    created_at: datetime = Field(sa_type=Instant, index=True)
    deadline: datetime = Field(sa_type=Instant)
    execute_by: datetime | None = Field(default=None, sa_type=Instant)
    caller: str
    # the process that its caller waits at
    waits_at: str | None = None
    resolution: Any = Field(default=None, sa_type=Json, nullable=True)
    holder: str | None = None
    lease_until: datetime | None = Field(default=None, sa_type=Instant)
    withdraw_at: datetime | None = Field(default=None, sa_type=Instant)
    reminded: int = Field(default=0, sa_column_kwargs={"server_default": "0"})
    escalated_at: datetime | None = Field(default=None, sa_type=Instant)
    rounds: int = Field(default=0, sa_column_kwargs={"server_default": "0"})
    awaiting: str | None = None
    forgotten_at: datetime | None = Field(default=None, sa_type=Instant)
    # that of the resolution
    resolved_at: datetime | None = Field(default=None, sa_type=Instant)
    # the next instant at which time does something to it
    due: datetime | None = Field(default=None, sa_type=Instant, index=True)
    # the params as asked, encrypted, when those above are masked; erased when the approval ends
    sealed: str | None = Field(default=None, sa_type=Text)


class ReviewRow(Base, table=True):
    """One person's word on one approval."""

    __tablename__: ClassVar[Any] = "reviews"
    __table_args__: ClassVar[tuple[Any, ...]] = (Index("ix_reviews_person_at", "person", "at"),)
    approval_id: str = Field(primary_key=True, foreign_key="approvals.id")
    person: str = Field(primary_key=True)
    place: int  # among the approval's reviews: several may be of one instant
    decision: str
    reason: Any = Field(default=None, sa_type=Json, nullable=True)  # a string: what a person writes may hold anything
    channel: str
    revision: str
    at: datetime = Field(sa_type=Instant)


class ProcessRow(Base, table=True):
    """A server process that serves from this store, until it ends or another finds it dead."""

    __tablename__: ClassVar[Any] = "processes"
    id: str = Field(primary_key=True)
    lease_until: datetime = Field(sa_type=Instant)
    # the advisory lock that it holds while it lives, on PostgreSQL
    lock: int | None = Field(default=None, sa_type=BigInteger)
    # what its secrets are recognised by, the newest first
    secrets: Any = Field(sa_type=Json)


class NoticeRow(Base, table=True):
    """What people outside are told in one place: of one approval, or, with none, of the administrative record."""

    __tablename__: ClassVar[Any] = "notices"
    __table_args__: ClassVar[tuple[Any, ...]] = (
        Index("ix_notices_approval_id_place", "approval_id", "place", unique=True),
        Index("ix_notices_channel_due", "channel", "due"),
    )
    id: int = Field(default=None, primary_key=True)
    channel: str
    place: str
    approval_id: str | None = Field(default=None, foreign_key="approvals.id")
    # counts the approval's changes; and what it was when the message was last posted or rewritten
    wanted: int = 0
    shown: int = 0
    # what the channel finds the message by
    reference: Any = Field(default=None, sa_type=Json, nullable=True)
    # the last audit row that was remarked on
    told: int = Field(default=0, sa_type=BigInteger)
    # from when on it is to be looked at; NULL: all is told
    due: datetime | None = Field(default=None, sa_type=Instant)
    # the process that tells it, and how long that is waited for
    holder: str | None = None
    lease_until: datetime | None = Field(default=None, sa_type=Instant)
    # how often it failed since it last went well
    attempts: int = 0


class TaskRow(Base, table=True):
    """What an approval has besides when it is a task. What is sealed is erased when it is of no more use."""

    __tablename__: ClassVar[Any] = "tasks"
    approval_id: str = Field(primary_key=True, foreign_key="approvals.id")
    # from when on an ended one is not known any more
    expires_at: datetime = Field(sa_type=Instant, index=True)
    # its agent wants it to end, while it runs
    called_off: bool = False
    # its tool waits for input of which something is still to come
    asks: bool = False
    # sealed: the fields and the `_meta` that it is sent with; what its tool asks for; what its server answered
    request: str | None = Field(default=None, sa_type=Text)
    questions: str | None = Field(default=None, sa_type=Text)
    answer: str | None = Field(default=None, sa_type=Text)


class CountRow(Base, table=True):
    """What calls of about the same time count for a counter. See `broker.store.slots`.

    `until` and `due` are instants: none of these calls is dispatched after the first, and at the second the row is
    looked at again. `amount` is in millionths.
    """

    __tablename__: ClassVar[Any] = "counts"
    __table_args__: ClassVar[Any] = {"sqlite_with_rowid": False}
    counter: str = Field(primary_key=True)
    until: int = Field(primary_key=True, sa_type=BigInteger, sa_column_kwargs={"autoincrement": False})
    amount: int = Field(sa_type=BigInteger)
    due: int = Field(sa_type=BigInteger, index=True)


class HeldSlotRow(Base, table=True):
    """What a held call counts for a counter: reserved, or counted with those until `until` while it runs."""

    __tablename__: ClassVar[Any] = "held_slots"
    call_id: str = Field(primary_key=True)
    counter: str = Field(primary_key=True, index=True)
    amount: int = Field(sa_type=BigInteger)
    until: int | None = Field(default=None, sa_type=BigInteger)
    refund: bool


class GrantRow(Base, table=True):
    """A grant; its token only as a hash."""

    __tablename__: ClassVar[Any] = "grants"
    id: str = Field(primary_key=True)
    token_hash: str = Field(unique=True)
    label: str
    owner: str
    upstreams: Any = Field(sa_type=Json)
    created_at: datetime = Field(sa_type=Instant)
    expires_at: datetime | None = Field(default=None, sa_type=Instant)
    revoked_at: datetime | None = Field(default=None, sa_type=Instant)
    # seconds
    patience: int | None = None


class PersonRow(Base, table=True):
    """Somebody who signs in; removed people keep their row for the record but can do nothing."""

    __tablename__: ClassVar[Any] = "people"
    email: str = Field(primary_key=True)
    roles: Any = Field(sa_type=Json)
    groups: Any = Field(sa_type=Json)
    created_at: datetime = Field(sa_type=Instant)
    removed_at: datetime | None = Field(default=None, sa_type=Instant)


class IdentityRow(Base, table=True):
    """Who a person is to somebody else: an account at a `provider`, such as a workspace of Slack. At most one at each.

    `groups` and `roles` are those that the provider vouches for, beside the administrator's.
    """

    __tablename__: ClassVar[Any] = "identities"
    __table_args__: ClassVar[tuple[Any, ...]] = (
        Index("ix_identities_email_provider", "email", "provider", unique=True),
    )
    provider: str = Field(primary_key=True)
    subject: str = Field(primary_key=True)
    email: str = Field(foreign_key="people.email")
    at: datetime = Field(sa_type=Instant)
    groups: Any = Field(sa_type=Json)
    roles: Any = Field(default_factory=list, sa_type=Json, sa_column_kwargs={"server_default": "[]"})


class CredentialRow(Base, table=True):
    """What a person proves themselves with: a one-time `link`, a browser `session`, or an API `token`. Hashes only."""

    __tablename__: ClassVar[Any] = "credentials"
    id: str = Field(primary_key=True)
    secret_hash: str = Field(unique=True)
    kind: str
    person: str = Field(foreign_key="people.email", index=True)
    label: str | None = None
    created_at: datetime = Field(sa_type=Instant)
    expires_at: datetime | None = Field(default=None, sa_type=Instant)
    ended_at: datetime | None = Field(default=None, sa_type=Instant)  # used up, signed out or revoked
