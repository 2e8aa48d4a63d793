"""What the web side is given by the composition root, and how an endpoint asks for it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import urlsplit

from fastapi import Depends, Request

from broker.approvals.feed import Feed
from broker.approvals.service import Approvals
from broker.domain.canonical import Keyring
from broker.domain.clock import Clock
from broker.policy.watch import InForce
from broker.store.chain_watch import ChainWatch
from broker.store.writer import Store
from broker.web.attempts import Attempts
from broker.web.board import Board
from broker.web.rollcall import RollCall

if TYPE_CHECKING:
    from broker.web.oidc.provider import Provider


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """The parts of a broker that its pages and its API work with.

    Args:
        provider: who signs people in beside one-time links, if somebody does.
        wrong_secrets: attempts with links and tokens; `wrong_answers`: with what providers are said to answer.
    """

    store: Store
    approvals: Approvals
    feed: Feed
    board: Board
    roll_call: RollCall
    clock: Clock
    keyring: Keyring
    public_url: str
    policies: Mapping[str, InForce]
    ready: Callable[[], Awaitable[dict[str, Any]]]
    channels: Callable[[], Awaitable[Mapping[str, Mapping[str, Any]]]]
    chain: ChainWatch
    provider: Provider | None
    wrong_secrets: Attempts
    wrong_answers: Attempts

    @property
    def https(self) -> bool:
        """Whether browsers reach the broker over TLS."""
        return urlsplit(self.public_url).scheme == "https"


def parts_of(request: Request) -> Parts:
    """The parts of the application that answers `request`."""
    return request.app.state.parts


PartsOf = Annotated[Parts, Depends(parts_of)]
