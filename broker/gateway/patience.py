"""How long a caller can wait for an answer, whatever it is: then it gets a ticket.

What belongs here: what is known of well-known clients, and whose word counts. What does not: waiting (`holds`), whose
client it is (`inbound`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from math import inf

from broker.gateway.inbound import Inbound

MARGIN = timedelta(seconds=10)
"""So long before its client gives up an answer leaves here; of a short limit a quarter, if that is less."""


@dataclass(frozen=True, slots=True)
class Client:
    """What is known of a client.

    Args:
        gives_up: how long after it made a call it takes no answer to it any more.
        progress_resets: whether that counts from the last progress that it heard of, instead.
    """

    gives_up: timedelta
    progress_resets: bool = False

    @property
    def patience(self) -> timedelta:
        """How long it can be kept waiting."""
        return self.gives_up - min(MARGIN, self.gives_up / 4)


def _client(minutes: float, *, progress_resets: bool = False) -> Client:
    return Client(timedelta(minutes=minutes), progress_resets)


CLIENTS: Mapping[str, Client] = {
    "claude-code": _client(5, progress_resets=True),
    "claude-ai": _client(1),
    "cursor-vscode": _client(5),
    "visual studio code*": _client(5),
    "codex-mcp-client": _client(1),
    "gemini-cli-mcp-client*": _client(10),
    "zed": _client(1),
    "cline": _client(1),
    "goose*": _client(5),
    "opencode": _client(1, progress_resets=True),
}
"""Clients by the name that they give themselves (`clientInfo`), in lower case, or by its beginning and a `*`. Each
as it is where its user has set nothing. What that is known from: `docs/clients.md`."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long the callers of one upstream can wait.

    Args:
        default: for a client of which nothing is known.
        upstream: what the operator says of all clients of the upstream.
        clients: see `CLIENTS`.
    """

    default: timedelta
    upstream: timedelta | None = None
    clients: Mapping[str, Client] = field(default_factory=lambda: CLIENTS)

    def of(self, inbound: Inbound) -> float:
        """Seconds after its request came; infinite for a caller that waits as long as people take.

        What the operator says of its grant is said of this very agent, so it counts whatever else is known. Else one
        that asks for progress waits on, unless its client is known to give up all the same.
        """
        if inbound.grant.patience is not None:
            return inbound.grant.patience.total_seconds()
        client = self._known(inbound.client)
        if inbound.progress_token is not None and (client is None or client.progress_resets):
            return inf
        known = client.patience if client is not None else self.default
        return (self.upstream or known).total_seconds()

    def _known(self, name: str | None) -> Client | None:
        """By its own name, or else by the longest beginning of it."""
        called = (name or "").strip().lower()
        begins = [each for each in self.clients if each.endswith("*") and called.startswith(each[:-1])]
        return self.clients.get(called) or self.clients.get(max(begins, key=len, default=""))
