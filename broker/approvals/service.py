"""All that can be done to approvals, in one place to hand around.

Each change of state is one method of one part and one transaction: what the agent does (`requests`), what its process
does with an approved call (`claims`), and what people do (`reviews`); an approval may be a task of its agent (`tasks`).
"""

from __future__ import annotations

from collections.abc import Sequence

from broker.approvals.claims import Claims
from broker.approvals.feed import Feed
from broker.approvals.ledger import Ledger, Rules
from broker.approvals.notices import Channel
from broker.approvals.processes import Process
from broker.approvals.requests import Requests
from broker.approvals.reviews import Reviews
from broker.approvals.tasks import Tasks
from broker.domain.canonical import Keyring
from broker.domain.clock import Clock
from broker.store.writer import Store


class Approvals(Ledger):
    """The ledger with its sides."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        keyring: Keyring,
        feed: Feed,
        rules: Rules,
        channels: Sequence[Channel] = (),
        process: Process | None = None,
    ) -> None:
        super().__init__(store, clock, keyring, feed, rules, channels, process)
        self.requests = Requests(self)
        self.claims = Claims(self)
        self.reviews = Reviews(self)
        self.tasks = Tasks(self)
