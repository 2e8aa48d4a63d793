"""What of an audit row can be searched, and what it means that a search finds it.

What belongs here: the outcome and the channel that a row tells, its searched text, whether a filter matches. All of it
is computed here and not by a database, so both stores find the same. What does not: finding the rows quickly
(`broker.store.search_index`, `broker.store.searching`).
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from functools import lru_cache
from typing import Any, cast

from broker.domain.audit import Kind
from broker.domain.people import normal_email
from broker.domain.text import visible

GRAM = 3
"""A text with fewer letters is looked for row by row."""


_NAME = 100
"""Texts up to so many letters come again and again: tools, agents, rules."""


_DIGESTS = frozenset(("revision", "shown"))
"""Members of details that nobody looks for."""


class Outcome(StrEnum):
    """What a row says became of its call."""

    HELD = "held"
    APPROVED = "approved"
    ALLOWED = "allowed"
    RAN = "ran"
    FAILED = "failed"
    DENIED = "denied"
    LIMITED = "limited"
    REJECTED = "rejected"
    EXPIRED = "expired"
    WITHDRAWN = "withdrawn"
    INTERRUPTED = "interrupted"
    CANCELLED = "cancelled"
    UNREACHABLE = "unreachable"
    ASKED = "asked"


_OF_KIND: Mapping[str, Outcome] = {
    Kind.CALL_ALLOWED: Outcome.ALLOWED,
    Kind.CALL_DENIED: Outcome.DENIED,
    Kind.CALL_LIMITED: Outcome.LIMITED,
    Kind.APPROVAL_SUBMITTED: Outcome.HELD,
    Kind.APPROVAL_APPROVED: Outcome.APPROVED,
    Kind.APPROVAL_REJECTED: Outcome.REJECTED,
    Kind.APPROVAL_EXPIRED: Outcome.EXPIRED,
    Kind.APPROVAL_WITHDRAWN: Outcome.WITHDRAWN,
    Kind.APPROVAL_ASKED: Outcome.ASKED,
    Kind.APPROVAL_SUCCEEDED: Outcome.RAN,
    Kind.APPROVAL_FAILED: Outcome.FAILED,
    Kind.APPROVAL_INTERRUPTED: Outcome.INTERRUPTED,
}

_ANSWERED: Mapping[Any, Outcome] = {
    "succeeded": Outcome.RAN,
    "answered": Outcome.RAN,
    "failed": Outcome.FAILED,
    "asked": Outcome.ASKED,
    "interrupted": Outcome.INTERRUPTED,
    "cancelled": Outcome.CANCELLED,
    "unreachable": Outcome.UNREACHABLE,
}
"""By the word in the row of an answer (see `broker.gateway.outcome`)."""

_LATE: Mapping[Any, Outcome] = {Kind.APPROVAL_SUCCEEDED.value: Outcome.RAN, Kind.APPROVAL_FAILED.value: Outcome.FAILED}


@dataclass(frozen=True, slots=True)
class Searched:
    """What of one row is searched. `label` is what people call the agent; `kind` is text, since it may be altered."""

    kind: str | None = None
    detail: Mapping[str, Any] = field(default_factory=dict[str, Any])
    actor: str | None = None
    upstream: str | None = None
    tool: str | None = None
    rule: str | None = None
    grant: str | None = None
    label: str | None = None

    @property
    def outcome(self) -> Outcome | None:
        """What the row says became of its call."""
        return outcome_of(self.kind, self.detail)

    @property
    def channels(self) -> tuple[str, ...]:
        """Where a person said it: `slack:#desktop`, and `slack` in general."""
        given = self.detail.get("channel")
        if not isinstance(given, str):
            return ()
        family = given.partition(":")[0]
        return (given,) if family == given else (given, family)

    @property
    def agent(self) -> tuple[str, ...]:
        """What the agent is found by: the grant's id and its label, folded."""
        return tuple(folded(name) for name in (self.grant, self.label) if name and isinstance(name, str))

    @property
    def values(self) -> tuple[tuple[str, str], ...]:
        """The values that a filter compares as a whole, each with the name of its field."""
        named = {"kind": self.kind, "actor": self.actor, "upstream": self.upstream, "tool": self.tool}
        found = [(name, value) for name, value in (named | {"outcome": self.outcome}).items() if isinstance(value, str)]
        found += (("channel", channel) for channel in self.channels)
        return (*found, *(("agent", name) for name in self.agent))

    @property
    def texts(self) -> Iterator[str]:
        """The texts that a search looks into, folded. An agent is found by its label: its actor is but the grant's id."""
        actor = None if str(self.actor).startswith("agent:") else self.actor
        for text in (self.label, self.tool, self.upstream, self.kind, self.rule, actor):
            if text and isinstance(text, str):
                yield folded(text)
        for text in _strings(self.detail):
            yield folded(text)


@dataclass(frozen=True, slots=True)
class AuditFilter:
    """What to look for; every field that is given must match.

    `text` is found where any one text of the row contains it: who did it, the agent's label, upstream, tool, kind,
    rule, and every text in the detail, such as reasons. It is compared as the page shows it, so a hidden character is
    found by its escape; case, the form of letters and the amount of white space do not matter. Or it is the whole id of
    a call, an approval or a grant. Arguments and results are not searched: they may be erased, and an index would keep
    them.

    `grant` is a grant's id or its label; `channel` one such as `slack:#desktop`, or all of a kind: `slack`.
    """

    since: datetime | None = None
    until: datetime | None = None
    text: str | None = None
    actor: str | None = None
    upstream: str | None = None
    tool: str | None = None
    grant: str | None = None
    kind: str | None = None
    approval: str | None = None
    outcome: Outcome | None = None
    channel: str | None = None

    @property
    def values(self) -> list[tuple[str, str]]:
        """The values that are compared as a whole, as `Searched.values` has them."""
        given = {
            "kind": self.kind,
            "actor": normal_email(self.actor) if self.actor and "@" in self.actor else self.actor,
            "upstream": self.upstream,
            "tool": self.tool,
            "agent": folded(self.grant) if self.grant is not None else None,
            "outcome": self.outcome,
            "channel": self.channel,
        }
        return [(name, value) for name, value in given.items() if value is not None]

    @property
    def needle(self) -> str:
        """The text as it is compared; empty for none."""
        return folded(self.text or "")


class Comparison:
    """Whether rows match what no database compares like the other: a filter's agent, outcome, channel and text."""

    def __init__(self, wanted: AuditFilter) -> None:
        self._agent = folded(wanted.grant) if wanted.grant is not None else None
        self._outcome = wanted.outcome
        self._channel = wanted.channel
        self._text = wanted.text
        self._needle = wanted.needle

    def finds(self, row: Searched, *ids: str | None) -> bool:
        """Whether a row matches; `ids` are those of its call and its approval."""
        return (
            (self._agent is None or self._agent in row.agent)
            and (self._outcome is None or self._outcome is row.outcome)
            and (self._channel is None or self._channel in row.channels)
            and (not self._needle or self._text in ids or self._says(row))
        )

    def _says(self, row: Searched) -> bool:
        needle = self._needle
        return any(needle in text for text in row.texts) or needle in row.agent


def outcome_of(kind: str | None, detail: Mapping[str, Any]) -> Outcome | None:
    """What a row of this kind with this detail says became of its call."""
    word = detail.get("outcome")
    if not isinstance(word, str) or kind not in (Kind.CALL_ANSWERED, Kind.APPROVAL_LATE):
        return _OF_KIND.get(kind or "")
    return (_ANSWERED if kind == Kind.CALL_ANSWERED else _LATE).get(word)


def folded(text: str) -> str:
    """`text` as it is compared: letters in one form and case, runs of white space as one blank, hidden ones escaped."""
    return _folded_name(text) if len(text) <= _NAME else _folded(text)


@lru_cache(maxsize=10_000)
def _folded_name(text: str) -> str:
    return _folded(text)


def _folded(text: str) -> str:
    if text.isascii() and text.isprintable():
        return " ".join(text.lower().split())
    plain = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    return visible(" ".join(plain.split()))


def grams(text: str) -> set[str]:
    """Every run of `GRAM` letters in a folded text."""
    return {text[place : place + GRAM] for place in range(len(text) - GRAM + 1)}


def _strings(value: Any) -> Iterator[str]:
    match value:
        case str():
            yield value
        case Mapping():
            for name, each in cast("Mapping[str, Any]", value).items():
                if name not in _DIGESTS:
                    yield from _strings(each)
        case list():
            for each in cast("list[Any]", value):
                yield from _strings(each)
        case _:
            pass
