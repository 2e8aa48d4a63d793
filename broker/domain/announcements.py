"""What is announced of people and what they have power by, in one sentence each.

What belongs here: words, for whoever is told. What does not: which events are announced, and where
(`broker.approvals.notices`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from broker.domain.audit import Kind, Row


def announcement(row: Row) -> str:
    """Who did what, with the names that the record has for it, as people and agents wrote them."""
    said = _SAID.get(row.kind)
    return said(row) if said is not None else f"{row.actor}: {row.kind.value}."


def _grant(row: Row) -> str:
    detail = row.detail
    reach = f" It may use {_listed(detail.get('upstreams', ()))}." if detail.get("upstreams") else ""
    return f"{row.actor} made a grant for {detail.get('label')}, an agent of {detail.get('owner')}.{reach}"


def _person(row: Row) -> str:
    detail = row.detail
    roles = _listed(detail.get("roles", ())) or "no role"
    groups = f", in {_listed(detail['groups'])}" if detail.get("groups") else ""
    return f"{row.actor} saved {detail.get('person')}: {roles}{groups}."


def _labelled(row: Row) -> str:
    label = row.detail.get("label")
    return f" ({label})" if label else ""


def _listed(names: Sequence[Any]) -> str:
    return ", ".join(str(name) for name in names)


_SAID: Mapping[Kind, Callable[[Row], str]] = {
    Kind.GRANT_CREATED: _grant,
    Kind.GRANT_ROTATED: lambda row: f"{row.actor} gave grant {row.grant} a new token; the old one works no more.",
    Kind.GRANT_REVOKED: lambda row: f"{row.actor} revoked grant {row.grant}.",
    Kind.PERSON_SAVED: _person,
    Kind.PERSON_REMOVED: lambda row: f"{row.actor} removed {row.detail.get('person')}.",
    Kind.PERSON_UNLINKED: lambda row: f"{row.actor} unlinked {row.detail.get('person')} from their account elsewhere.",
    Kind.TOKEN_CREATED: lambda row: f"{row.actor} made an API token for {row.detail.get('person')}{_labelled(row)}.",
    Kind.TOKEN_REVOKED: lambda row: f"{row.actor} revoked an API token of {row.detail.get('person')}.",
    Kind.LINK_CREATED: lambda row: f"{row.actor} made a sign-in link for {row.detail.get('person')}.",
}
