"""A process of its own that sends as much as a limit admits: `python -m tests.store.sender URL MAX SECONDS`."""

from __future__ import annotations

import asyncio
import json
import sys
from datetime import timedelta

from broker.domain.calls import Charge
from broker.domain.clock import SystemClock
from broker.store import slots
from broker.store.slots import LimitReached, Taken
from broker.store.writer import Store
from tests.domain.values import charge


async def send(store: Store, limit: Charge, seconds: float) -> list[int]:
    """Try for so long; returns when calls were sent, in microseconds."""
    sent: list[int] = []
    until = store.now() + timedelta(seconds=seconds)
    while (at := store.now()) < until:
        taken: Taken | LimitReached = await store.write(lambda tx: slots.take(tx.connection, [limit], tx.now))
        while isinstance(taken, Taken) and taken.late(at := store.now()):
            taken = await store.write(lambda tx, late=taken: slots.take_anew(tx.connection, late, [limit], tx.now))
        if isinstance(taken, Taken):
            sent.append(slots.micros(at))
    return sent


async def main(url: str, maximum: int, seconds: float) -> None:
    """Several at once, when a line comes on standard input."""
    store = Store(url, SystemClock())
    print("ready", flush=True)  # noqa: T201 - whoever started it waits for this word
    sys.stdin.readline()
    limit = charge(window=timedelta(seconds=1), maximum=maximum)
    sent = await asyncio.gather(*(send(store, limit, seconds) for _ in range(4)))
    store.close()
    print(json.dumps([at for each in sent for at in each]))  # noqa: T201


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3])))
