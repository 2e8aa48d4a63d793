"""The queue: what waits for people, live, and what was decided lately.

What belongs here: which approvals a view of the queue has, for the page and for the stream that keeps it true. What
does not: the rows' markup (`rows`), reading what changed (`board`), deciding several (`batches`).
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime
from itertools import islice

from fastapi import APIRouter
from markupsafe import Markup
from sqlmodel import Session
from starlette.responses import HTMLResponse, Response

from broker.domain.approvals import Approval, State
from broker.domain.calls import Risk
from broker.domain.people import GrantRef, Permission, Person
from broker.domain.standing import standing
from broker.domain.text import is_hidden
from broker.store import approvals as stored
from broker.store import audit
from broker.store import listed as lists
from broker.store.approvals import ApprovalFilter
from broker.store.listed import Agent, Listed
from broker.web.board import News, RowPlace
from broker.web.events import event_stream
from broker.web.identity import Asker, AskerOf, GuardedRoute
from broker.web.parts import Parts, PartsOf
from broker.web.queries import QueueView, QueueViewed, cursor_of
from broker.web.rows import created, decided, row, waits_for
from broker.web.templates import render
from broker.web.visibility import Page, Place, of_their_own, sees, sifted

MOST_ROWS, LATELY, MOST_CHOICES = 50, 10, 40
MOST_MARKUP, MOST_LATELY = 60_000, 12_000
"""Characters of rows on a page: what agents send may be long in markup, and a page has 100 kB at most."""

MOST_NAME = 160
"""Characters of a choice and its words."""

RETRY = (1000, 4000)
"""Milliseconds after which a page that was cut off comes back; not all of them at once."""

router = APIRouter(route_class=GuardedRoute, include_in_schema=False)


@dataclass(frozen=True, slots=True)
class Group:
    """Rows under one heading: those of an agent, or all under none."""

    agent: GrantRef | None
    rows: list[Markup]


@dataclass(frozen=True, slots=True)
class Found:
    """What a page of the queue shows.

    Args:
        seq: while this is the last audit row about an approval, all of it is still so.
        total: how many the view has; None when that is not known.
        choices: what waits, for everybody, to narrow the view to.
        last_held: when a call was held last.
        label: what the agent is called that the view is narrowed to.
    """

    seq: int
    waiting: Page[Listed]
    lately: list[Listed]
    total: int | None
    choices: list[Agent]
    last_held: datetime | None
    label: str | None


@router.get("/")
async def queue(parts: PartsOf, asker: AskerOf, view: QueueViewed) -> Response:
    """What waits for a person, and what was decided lately."""
    now = parts.clock.now()
    found = await parts.store.read(lambda session: _found(session, asker.person, view, now))
    told = (await parts.channels()).values() if asker.may(Permission.SEE_QUEUE) else ()
    troubles = [channel["error"] for channel in told if not channel["ok"]]
    return await asyncio.to_thread(_page, asker, view, found, troubles, now)


@router.get("/queue/events")
async def changes(parts: PartsOf, asker: AskerOf, view: QueueViewed) -> Response:
    """The stream of a page of the queue: `ready`, then `rows` whenever some of them changed."""
    return event_stream(parts, asker, b"retry: %d\n\n" % random.randint(*RETRY), _told(parts, asker, view))  # noqa: S311


# -- the page ---------------------------------------------------------------------------------------------------------


def _found(session: Session, person: Person, view: QueueView, now: datetime) -> Found:
    seq = lists.last_row(session)  # first: what is read after it is at least as new
    wanted = of_their_own(person, view.wanted)
    waiting = _waiting(session, person, view, now)
    if not view.mine:
        total = stored.count(session, wanted)
    else:
        total = len(waiting.items) if waiting.next is None and view.before is None else None
    grant = view.wanted.grant
    return Found(
        seq=seq,
        waiting=waiting,
        lately=_lately(session, person) if view.whole else [],
        total=total,
        choices=lists.choices(session, wanted.owner),
        last_held=_last_held(session, person),
        label=audit.labels_of(session, {grant}).get(grant, grant) if grant is not None else None,
    )


def _waiting(session: Session, person: Person, view: QueueView, now: datetime) -> Page[Listed]:
    def fetch(before: Place | None, limit: int) -> list[Listed]:
        return lists.page(session, wanted, before=before, limit=limit)

    wanted = of_their_own(person, view.wanted)
    if not view.mine:
        return sifted(fetch, lambda _: True, created, view.before, MOST_ROWS, at_once=MOST_ROWS + 1)
    return sifted(fetch, lambda each: waits_for(person, each.approval, now), created, view.before, MOST_ROWS)


def _lately(session: Session, person: Person) -> list[Listed]:
    """The latest; somebody who may see few of them sees those that are among the last hundreds."""
    owner = None if person.may(Permission.SEE_QUEUE) else person.email
    return sifted(
        lambda before, limit: lists.decided(session, owner=owner, before=before, limit=limit),
        lambda each: sees(person, each.approval),
        decided,
        None,
        LATELY,
        at_once=2 * LATELY,
        most_looks=10,
    ).items


def _last_held(session: Session, person: Person) -> datetime | None:
    if person.may(Permission.SEE_QUEUE):
        return stored.last_held(session)
    own = lists.page(session, ApprovalFilter(owner=person.email), limit=1)
    return own[0].approval.created_at if own else None


def _page(asker: Asker, view: QueueView, found: Found, troubles: list[str], now: datetime) -> HTMLResponse:
    """In a thread: rendering takes longer than a call should wait."""

    def markup(listed: Listed) -> Markup:
        waits = listed.approval.state is State.PENDING
        return row(listed, now, mine=waits and waits_for(asker.person, listed.approval, now))

    shown = list(_within(MOST_MARKUP, found.waiting.items, markup))
    left_out = found.waiting.items[len(shown) :]
    last = created(found.waiting.items[len(shown) - 1]) if left_out else found.waiting.next
    return render(
        "queue.html",
        asker=asker,
        now=now,
        view=view,
        found=found,
        troubles=troubles,
        groups=_grouped(found.waiting.items, shown) if view.grouped else [Group(None, shown)],
        shown=len(shown),
        older=view.address(cursor=cursor_of(last)) if last is not None else None,
        lately=list(_within(MOST_LATELY, found.lately, markup)),
        choices=_choices(view, found),
    )


def _choices(view: QueueView, found: Found) -> dict[str, dict[str, str]]:
    """What each field of the filter can be set to, with its words: what waits, and what it is set to."""
    waiting = found.choices
    present = {
        "upstream": {each.upstream: each.upstream for each in waiting},
        "grant": {each.grant.id: f"{each.grant.label}, {each.grant.owner}" for each in waiting},
        "tool": {each.tool: each.tool for each in waiting},
        "risk": {risk.value: risk.value for risk in reversed(Risk)},
    }
    words = {name: dict(islice(filter(_choosable, options.items()), MOST_CHOICES)) for name, options in present.items()}
    for name, value in view.narrowed.items():
        if name in words:
            words[name].setdefault(value, (found.label if name == "grant" else None) or value)
    return words


def _choosable(option: tuple[str, str]) -> bool:
    """Whether it can be told from others: what is long, or has what is not seen, can only be looked for."""
    value, words = option
    return len(value) + len(words) <= MOST_NAME and not any(map(is_hidden, value))


def _within(most: int, listed: list[Listed], markup: Callable[[Listed], Markup]) -> Iterator[Markup]:
    """The rows of the first, as many as fit; one at least."""
    room = most
    for each in listed:
        made = markup(each)
        room -= len(made)
        if room < 0 and room + len(made) < most:
            return
        yield made


def _grouped(listed: list[Listed], rows: list[Markup]) -> list[Group]:
    """By agent, each where its newest row stands."""
    groups: dict[str, Group] = {}
    for each, made in zip(listed, rows, strict=False):
        agent = each.approval.call.grant
        groups.setdefault(agent.id, Group(agent, [])).rows.append(made)
    return list(groups.values())


# -- the stream -------------------------------------------------------------------------------------------------------


async def _told(parts: Parts, asker: Asker, view: QueueView) -> AsyncIterator[bytes]:
    async with aclosing(parts.board.follow(view.wanted)) as news:
        await anext(news)
        yield f"event: ready\ndata: {json.dumps({'seq': await parts.store.read(lists.last_row)})}\n\n".encode()
        async for each in news:
            places = tuple(_place(asker.person, view, each.at, listed.approval) for listed in each.listed)
            told = None if view.mine else each.totals.get(view.wanted), places
            if told not in each.events:
                each.events[told] = _event(each, *told)
            yield each.events[told]


def _place(person: Person, view: QueueView, now: datetime, approval: Approval) -> RowPlace:
    mine = approval.state is State.PENDING and waits_for(person, approval, now)
    return _list_of(person, view, approval, mine=mine), mine


def _list_of(person: Person, view: QueueView, approval: Approval, *, mine: bool) -> str | None:
    if approval.state is State.PENDING:
        return "waiting" if view.wanted.matches(approval) and (mine or not view.mine) else None
    return "lately" if view.whole and sees(person, approval) else None


def _event(news: News, total: int | None, places: Iterable[RowPlace]) -> bytes:
    rows = ",".join(_told_row(news, *each) for each in zip(news.listed, places, strict=True))
    return f'event: rows\ndata: {{"total":{json.dumps(total)},"rows":[{rows}]}}\n\n'.encode()


def _told_row(news: News, listed: Listed, place: RowPlace) -> str:
    """One approval for the pages that have it in this place: its row there, if any, and how it stands with it."""
    approval, (name, mine) = listed.approval, place
    markup = news.markup[approval.id, mine] if name is not None else "null"
    told = json.dumps({"id": approval.id, "list": name, "mine": mine, "stands": _stands(approval)})
    return f'{told[:-1]},"row":{markup}}}'


def _stands(approval: Approval) -> str:
    end = approval.resolution
    return f"{standing(approval).word}{f' by {end.by}' if end is not None and end.by else ''}"
