"""Audit events and the hash chain over them.

What belongs here: what can be recorded, and how a row is bound to the one before it. What does not: storing rows.
Arguments and results are not part of a row: it carries digests, so that contents may be emptied and the chain still
verifies.
"""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime
from enum import StrEnum
from typing import Any

from broker.domain.canonical import canonical_text, quoted
from broker.errors import ChainBroken

GENESIS = "0" * 64


class Kind(StrEnum):
    """Everything that is recorded, noun.verb."""

    CALL_ALLOWED = "call.allowed"
    CALL_DENIED = "call.denied"
    CALL_LIMITED = "call.limited"
    CALL_ANSWERED = "call.answered"
    APPROVAL_SUBMITTED = "approval.submitted"
    APPROVAL_REVIEWED = "approval.reviewed"
    APPROVAL_APPROVED = "approval.approved"
    APPROVAL_REJECTED = "approval.rejected"
    APPROVAL_EXPIRED = "approval.expired"
    APPROVAL_WITHDRAWN = "approval.withdrawn"
    APPROVAL_REMINDED = "approval.reminded"
    APPROVAL_ESCALATED = "approval.escalated"
    APPROVAL_FORGOTTEN = "approval.forgotten"
    APPROVAL_ABANDONED = "approval.abandoned"
    APPROVAL_RESUMED = "approval.resumed"
    APPROVAL_CLAIMED = "approval.claimed"
    APPROVAL_RELEASED = "approval.released"
    APPROVAL_ASKED = "approval.asked"
    APPROVAL_BROUGHT = "approval.brought"
    APPROVAL_CONTINUED = "approval.continued"
    APPROVAL_CANCELLED = "approval.cancelled"
    APPROVAL_SUCCEEDED = "approval.succeeded"
    APPROVAL_FAILED = "approval.failed"
    APPROVAL_INTERRUPTED = "approval.interrupted"
    APPROVAL_LATE = "approval.late"
    POLICY_LOADED = "policy.loaded"
    POLICY_REFUSED = "policy.refused"
    GRANT_CREATED = "grant.created"
    GRANT_ROTATED = "grant.rotated"
    GRANT_REVOKED = "grant.revoked"
    PERSON_SAVED = "person.saved"
    PERSON_REMOVED = "person.removed"
    PERSON_LINKED = "person.linked"
    PERSON_UNLINKED = "person.unlinked"
    PERSON_VOUCHED = "person.vouched"
    TOKEN_CREATED = "token.created"  # noqa: S105 - a name of an event
    TOKEN_REVOKED = "token.revoked"  # noqa: S105
    LINK_CREATED = "link.created"
    SESSION_OPENED = "session.opened"
    SESSION_CLOSED = "session.closed"
    CHAIN_WITNESSED = "chain.witnessed"


def kind_named(text: str) -> Kind:
    """The kind of this name.

    Raises:
        ValueError: there is none; the message is a sentence with the nearest.
    """
    try:
        return Kind(text)
    except ValueError as error:
        nearest = difflib.get_close_matches(text, list(Kind), n=1)
        hint = f"the nearest is {nearest[0]}" if nearest else f"there are {', '.join(Kind)}"
        raise ValueError(f"{text!r} is no kind of event; {hint}.") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """What happened, before it has a place in the chain.

    Args:
        actor: who did it: `agent:<grant id>`, a person's e-mail, `cli:<user>` or `broker`.
        detail: small JSON for people; never arguments, results or secrets.
    """

    kind: Kind
    actor: str
    call_id: str | None = None
    approval_id: str | None = None
    upstream: str | None = None
    tool: str | None = None
    grant: str | None = None
    verdict: str | None = None
    rule: str | None = None
    arguments_digest: str | None = None
    detail: Mapping[str, Any] = field(default_factory=dict[str, Any])

    def followed_by(self, kind: Kind, detail: Mapping[str, Any]) -> Event:
        """Something else that happened to the same."""
        return Event(
            kind=kind,
            actor=self.actor,
            call_id=self.call_id,
            approval_id=self.approval_id,
            upstream=self.upstream,
            tool=self.tool,
            grant=self.grant,
            verdict=self.verdict,
            rule=self.rule,
            arguments_digest=self.arguments_digest,
            detail=detail,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Row(Event):
    """An event with its place: `digest` is SHA-256 over the canonical JSON of all else, `prev` is the row before's."""

    seq: int
    at: datetime
    prev: str
    digest: str = ""


_ROW = tuple(each.name for each in fields(Row))


def chained(event: Event, seq: int, at: datetime, prev: str) -> Row:
    """The row that `event` becomes as number `seq` (from 1), after the row whose digest is `prev`."""
    return Row(
        seq=seq,
        at=at,
        kind=event.kind,
        actor=event.actor,
        call_id=event.call_id,
        approval_id=event.approval_id,
        upstream=event.upstream,
        tool=event.tool,
        grant=event.grant,
        verdict=event.verdict,
        rule=event.rule,
        arguments_digest=event.arguments_digest,
        detail=event.detail,
        prev=prev,
        digest=digest_of(event, seq, at, prev),
    )


def row_digest(row: Row) -> str:
    """SHA-256, hex, over the canonical JSON of every field of `row` but the digest itself."""
    return digest_of(row, row.seq, row.at, row.prev)


def as_json(row: Row) -> dict[str, Any]:
    """A row as programs read it: every field, the instant in RFC 3339 with microseconds."""
    said = {name: getattr(row, name) for name in _ROW}
    return {**said, "kind": row.kind.value, "at": timestamp(row.at), "detail": dict(row.detail)}


def timestamp(instant: datetime) -> str:
    """RFC 3339, UTC, microseconds always there: one instant has one spelling."""
    return instant.replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


def split(event: Event, at: datetime) -> list[str]:
    """The text of which a row has the digest, in three parts: the digest of the row before stands between the first
    two, the row's number behind the second. So the rest can be worked out before these are known.
    """
    return _said(event, _GAP, at, _GAP).split(_GAP)


def digest_of(event: Event, seq: int, at: datetime, prev: str) -> str:
    """The digest of the row that `event` becomes as number `seq`, after the row whose digest is `prev`."""
    return hashlib.sha256(_said(event, str(seq), at, quoted(prev)[1:-1]).encode()).hexdigest()


_GAP = "\0"
"""Never part of JSON."""


def _said(event: Event, seq: str, at: datetime, prev: str) -> str:
    """Every call has this twice, and once more when its rows are verified: so the canonical JSON is put together."""
    return (
        f'{{"actor":{_json(event.actor)},"approval_id":{_json(event.approval_id)},'
        f'"arguments_digest":{_json(event.arguments_digest)},"at":"{timestamp(at)}","call_id":{_json(event.call_id)},'
        f'"detail":{canonical_text(event.detail) if event.detail else "{}"},"grant":{_json(event.grant)},'
        f'"kind":"{event.kind.value}","prev":"{prev}","rule":{_json(event.rule)},"seq":{seq},'
        f'"tool":{_json(event.tool)},"upstream":{_json(event.upstream)},"verdict":{_json(event.verdict)}}}'
    )


def _json(text: str | None) -> str:
    return "null" if text is None else quoted(text)


def _intact(row: Row) -> bool:
    try:
        return row_digest(row) == row.digest
    except (ValueError, TypeError):  # what has no canonical form was never written
        return False


@dataclass(frozen=True, slots=True)
class Head:
    """The end of a chain: how many rows it has, and the digest of the last."""

    seq: int = 0
    digest: str = GENESIS


def verify(
    rows: Iterable[Row], expected: Head | None = None, noted: Head | None = None, *, start: Head | None = None
) -> Head:
    """Walk the chain from its first row, or from behind `start`, which was verified before.

    Args:
        rows: in ascending order of `seq`.
        expected: the head that the store believes in, so that a cut-off end is seen.
        noted: a head of an earlier time that was kept elsewhere, and that the chain has to contain: who can write
            the store can also cut it off, or chain it anew, and make its own head agree.

    Returns:
        The head that was reached.

    Raises:
        ChainBroken: names the first row that is missing, altered or not bound to the one before.
    """
    head = start or Head()
    for row in rows:
        if row.seq != head.seq + 1:
            raise ChainBroken(head.seq + 1, "it is missing")
        if row.prev != head.digest:
            raise ChainBroken(row.seq, "it does not follow from the row before it")
        if not _intact(row):
            raise ChainBroken(row.seq, "its content was altered")
        if noted is not None and row.seq == noted.seq and row.digest != noted.digest:
            raise ChainBroken(row.seq, "its digest is not the one that was noted")
        head = Head(row.seq, row.digest)
    if expected is not None and head != expected:
        raise ChainBroken(head.seq + 1, f"the record says that it ends at row {expected.seq}")
    if noted is not None and noted.seq > head.seq:
        raise ChainBroken(head.seq + 1, f"it is missing, and row {noted.seq} was noted")
    return head
