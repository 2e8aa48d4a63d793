"""The parts of the broker, each made from its settings.

What belongs here: which setting becomes which value of a part. What does not: what holds them together (`composition`).
"""

from __future__ import annotations

import socket
from collections.abc import Sequence

from broker.approvals.ledger import Rules
from broker.approvals.notices import Channel
from broker.domain.clock import Clock
from broker.errors import SettingsError
from broker.gateway.patience import CLIENTS, Client, Patience
from broker.gateway.upstreams import Upstream
from broker.gateway.upstreams.http import HttpUpstream
from broker.gateway.upstreams.stdio import StdioUpstream
from broker.policy.load import HOLD_EVERYTHING, load_policy
from broker.policy.watch import InForce
from broker.settings import Settings


def rules(settings: Settings, channels: Sequence[Channel]) -> Rules:
    """What holds for every approval."""
    terms = settings.approvals
    return Rules(
        timeout=terms.timeout,
        execute_within=terms.execute_within,
        retry_grace=terms.retry_grace,
        reject_memory=terms.reject_memory,
        allow_self=terms.allow_self,
        keep_results=terms.results == "capped",
        max_pending=terms.max_pending,
        max_per_hour=terms.max_per_hour,
        channels=frozenset({"web", "api", *(channel.name for channel in channels)}),
    )


def in_force(settings: Settings, name: str, clock: Clock) -> InForce:
    """The policy of an upstream.

    Raises:
        PolicyError: it is wrong.
    """
    path = settings.policy_path(name)
    return InForce(name, load_policy(path) if path is not None else HOLD_EVERYTHING, clock.now())


def upstream(settings: Settings, name: str) -> Upstream:
    """An MCP server behind the broker.

    Raises:
        SettingsError: a secret of its headers is missing.
    """
    terms = settings.upstreams[name]
    answer_within = terms.answer_within.total_seconds()
    if terms.url is not None:
        return HttpUpstream(name, terms.url, settings.headers(name), answer_within=answer_within)
    idle = terms.idle.total_seconds()
    return StdioUpstream(name, terms.command or [], terms.env, settings.folder, answer_within=answer_within, idle=idle)


def patience(settings: Settings, name: str) -> Patience:
    """How long clients of an upstream wait."""
    said = {client: Client(terms.gives_up, terms.progress_resets) for client, terms in settings.clients.items()}
    return Patience(settings.approvals.patience, settings.upstreams[name].patience, {**CLIENTS, **said})


def public_url(settings: Settings, listener: socket.socket) -> str:
    """What links start with.

    Raises:
        SettingsError: nobody can tell.
    """
    if settings.server.public_url is not None:
        return settings.server.public_url
    host, port = settings.server.host, listener.getsockname()[1]
    if host in ("0.0.0.0", "::"):  # noqa: S104 - it is refused
        raise SettingsError(f"server.public_url has to be set when server.host is {host}: links need a name.")
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def card(url: str, approval_id: str) -> str:
    """The address of an approval's card."""
    return f"{url}/approvals/{approval_id}"
