"""What happened to people, to what they have power by, and to policies, in one sentence each.

What belongs here: words, for whoever is told and whoever looks it up. What does not: which events are announced, and
where (`broker.approvals.notices`); what happens to a call (`history`).
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


def _vouched(row: Row) -> str:
    detail = row.detail
    groups, roles = _listed(detail.get("groups", ())) or "no group", _listed(detail.get("roles", ())) or "no role"
    return f"{detail.get('provider')} says of {detail.get('person')}: {groups}, {roles}."


def _refused(row: Row) -> str:
    why = _listed(row.detail.get("mistakes", ()))
    return f"A change of the policy of {row.upstream} was refused, and the old one stays. {why}"


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
    Kind.SESSION_OPENED: lambda row: f"{row.detail.get('person')} signed in{_labelled(row)}.",
    Kind.SESSION_CLOSED: lambda row: f"{row.actor} ended a session of {row.detail.get('person')}.",
    Kind.PERSON_LINKED: lambda row: (
        f"{row.detail.get('person')} was linked to an account: {row.detail.get('provider')}."
    ),
    Kind.PERSON_VOUCHED: _vouched,
    Kind.POLICY_LOADED: lambda row: f"The policy of {row.upstream} was loaded from {row.detail.get('source')}.",
    Kind.POLICY_REFUSED: _refused,
    Kind.CHAIN_WITNESSED: lambda _: "The end of the record was noted.",
}
