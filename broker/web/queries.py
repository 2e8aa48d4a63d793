"""What a request's query asks for, read strictly: a value that makes no sense is refused, never ignored.

What belongs here: filters and cursors from text. What does not: running them (`broker.store`, `broker.web.visibility`).
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated
from urllib.parse import urlencode

from fastapi import Depends, Query, Request

from broker.domain.approvals import State
from broker.domain.audit import Kind, kind_named
from broker.domain.calls import Risk
from broker.domain.searching import AuditFilter, Outcome
from broker.errors import Invalid
from broker.store.approvals import ApprovalFilter
from broker.web.visibility import Place

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_MOST_DIGITS = 18

Text = Annotated[str | None, Query(max_length=1000)]


_OF_APPROVALS = ("state", "upstream", "grant", "tool", "risk", "q", "cursor")
_OF_QUEUE = ("upstream", "grant", "tool", "risk", "q", "mine", "group", "cursor")
_OF_ROWS = (
    *("since", "until", "q", "actor", "upstream", "tool", "grant", "kind", "approval", "outcome", "channel"),
    *("cursor", "format"),
)


def _check_query(request: Request, known: Sequence[str]) -> None:
    for name in request.query_params:
        if name not in known:
            raise Invalid(f"{name}: there is nothing of this name to ask for; there are {', '.join(known)}.")
    if any("\0" in value for value in (*request.query_params.values(), *request.path_params.values())):
        raise Invalid("A NUL character cannot be looked for.")


def _approval_filter(
    request: Request,
    state: Annotated[str | None, Query(description="one state, or several with commas", max_length=200)] = None,
    upstream: Text = None,
    grant: Text = None,
    tool: Text = None,
    risk: Text = None,
    q: Text = None,
) -> ApprovalFilter:
    _check_query(request, _OF_APPROVALS)
    return ApprovalFilter(
        states=tuple(_state(name.strip()) for name in state.split(",")) if state else (),
        upstream=upstream or None,
        grant=grant or None,
        tool=tool or None,
        risk=_risk(risk) if risk else None,
        text=q or None,
    )


@dataclass(frozen=True, slots=True)
class QueueView:
    """What somebody looks at of what waits.

    Args:
        wanted: the filter, as for the API.
        mine: only what waits for its reader.
        grouped: by agent.
        before: where an earlier page ended; None for the newest.
    """

    wanted: ApprovalFilter
    mine: bool = False
    grouped: bool = False
    before: Place | None = None

    @property
    def narrowed(self) -> dict[str, str]:
        """The parameters of the filter that are in use."""
        wanted = self.wanted
        given = {
            "upstream": wanted.upstream,
            "grant": wanted.grant,
            "tool": wanted.tool,
            "risk": wanted.risk,
            "q": wanted.text,
        }
        return {name: value for name, value in given.items() if value}

    @property
    def whole(self) -> bool:
        """Whether it is all that waits, from the newest on."""
        return not self.narrowed and not self.mine and self.before is None

    def address(self, **other: str | None) -> str:
        """The page of this view with some `other` parameters, from the newest on."""
        ways = {"mine": "1" if self.mine else None, "group": "agent" if self.grouped else None}
        query = {name: value for name, value in (self.narrowed | ways | other).items() if value}
        return f"/?{urlencode(query)}" if query else "/"


def _rows_asked(
    request: Request,
    since: Annotated[str | None, Query(description="RFC 3339, from then on")] = None,
    until: Annotated[str | None, Query(description="RFC 3339, before then")] = None,
    q: Text = None,
    actor: Text = None,
    upstream: Text = None,
    tool: Text = None,
    grant: Annotated[str | None, Query(description="a grant's id or its label", max_length=1000)] = None,
    kind: Text = None,
    approval: Text = None,
    outcome: Annotated[str | None, Query(description="what a row says became of its call", max_length=1000)] = None,
    channel: Annotated[str | None, Query(description="one, or all of a kind: slack", max_length=1000)] = None,
) -> Callable[[], AuditFilter]:
    _check_query(request, _OF_ROWS)
    return lambda: AuditFilter(
        since=instant("since", since),
        until=instant("until", until),
        text=q or None,
        actor=actor or None,
        upstream=upstream or None,
        tool=tool or None,
        grant=grant or None,
        kind=_kind(kind) if kind else None,
        approval=approval or None,
        outcome=_outcome(outcome) if outcome else None,
        channel=channel or None,
    )


def _place(cursor: Annotated[str | None, Query(max_length=200)] = None) -> Place | None:
    if not cursor:
        return None
    try:
        return _decoded(cursor)
    except (ValueError, OverflowError) as error:
        raise Invalid("cursor: this is not one that a page gave.") from error


def _queue_view(
    request: Request,
    upstream: Text = None,
    grant: Text = None,
    tool: Text = None,
    risk: Text = None,
    q: Text = None,
    mine: Text = None,
    group: Text = None,
    before: Annotated[Place | None, Depends(_place)] = None,
) -> QueueView:
    _check_query(request, _OF_QUEUE)
    if mine not in (None, "", "1"):
        raise Invalid(f"mine: {mine!r} is not 1.")
    if group not in (None, "", "agent"):
        raise Invalid(f"group: {group!r} is not agent.")
    wanted = ApprovalFilter(
        states=(State.PENDING,),
        upstream=upstream or None,
        grant=grant or None,
        tool=tool or None,
        risk=_risk(risk) if risk else None,
        text=q or None,
    )
    return QueueView(wanted, bool(mine), bool(group), before)


def _decoded(cursor: str) -> Place:
    micros, _, last = base64.urlsafe_b64decode(cursor.encode()).decode("ascii").partition(" ")
    if not last.isprintable():
        raise ValueError("an id is printable")
    return _EPOCH + int(micros) * _MICROSECOND, last


def _seq(cursor: Annotated[str | None, Query(max_length=200)] = None) -> int | None:
    return row_number(cursor) if cursor else None


def row_number(text: str) -> int:
    """The number of an audit row.

    Raises:
        Invalid: it is not a number that a row can have.
    """
    if not (text.isascii() and text.isdecimal()) or len(text) > _MOST_DIGITS:
        raise Invalid("This is not the number of a row.")
    return int(text)


def cursor_of(place: Place | None) -> str | None:
    """The opaque text from which the next page is found again."""
    if place is None:
        return None
    at, last = place
    return base64.urlsafe_b64encode(f"{(at - _EPOCH) // _MICROSECOND} {last}".encode()).decode()


def _state(name: str) -> State:
    try:
        return State(name)
    except ValueError as error:
        raise Invalid(f"state: {name!r} is not one of {', '.join(State)}.") from error


def _risk(name: str) -> Risk:
    try:
        return Risk(name)
    except ValueError as error:
        raise Invalid(f"risk: {name!r} is not one of {', '.join(Risk)}.") from error


def _kind(name: str) -> Kind:
    try:
        return kind_named(name)
    except ValueError as error:
        raise Invalid(f"kind: {error}") from error


def _outcome(name: str) -> Outcome:
    try:
        return Outcome(name)
    except ValueError as error:
        raise Invalid(f"outcome: {name!r} is not one of {', '.join(Outcome)}.") from error


def instant(name: str, text: str | None) -> datetime | None:
    """The instant that the parameter `name` is set to; without a zone it is UTC.

    Raises:
        Invalid: it is none.
    """
    if not text:
        return None
    try:
        given = datetime.fromisoformat(text)
        return given.replace(tzinfo=UTC) if given.tzinfo is None else given.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise Invalid(f"{name}: {text!r} is not a time such as 2026-07-28T12:00:00Z.") from error


ApprovalsWanted = Annotated[ApprovalFilter, Depends(_approval_filter)]
ApprovalsBefore = Annotated[Place | None, Depends(_place)]
QueueViewed = Annotated[QueueView, Depends(_queue_view)]
RowsAsked = Annotated[Callable[[], AuditFilter], Depends(_rows_asked)]
"""A filter that is still to be read: reading it raises `Invalid`, whose sentence begins with the field."""


def _rows_wanted(asked: RowsAsked) -> AuditFilter:
    return asked()


RowsWanted = Annotated[AuditFilter, Depends(_rows_wanted)]
RowsBefore = Annotated[int | None, Depends(_seq)]
