"""What a server said while no client listened.

What belongs here: which of it is kept. What does not: what becomes of the rest (`session`).
"""

from __future__ import annotations

from broker.gateway.upstreams.stdio.readers import Said

MOST = 64
MOST_BYTES = 256 * 1024


class Backlog:
    """Messages in their order. When there are too many the oldest notification goes; a request waits for its answer."""

    def __init__(self) -> None:
        self._said: list[Said] = []

    def keep(self, said: Said) -> list[Said]:
        """Keep a message; returns what there is no room for."""
        if said.size > MOST_BYTES:
            return [said]
        self._said.append(said)
        dropped: list[Said] = []
        while len(self._said) > MOST or sum(kept.size for kept in self._said) > MOST_BYTES:
            first_note = next((place for place, kept in enumerate(self._said) if "id" not in kept.message), -1)
            dropped.append(self._said.pop(first_note))  # without any, the newest request
        return dropped

    def take(self) -> list[Said]:
        """Everything that was kept; it is kept no more."""
        kept, self._said = self._said, []
        return kept
