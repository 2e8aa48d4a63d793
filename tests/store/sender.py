"""A process of its own that sends as much as a limit admits: `python -m tests.store.sender URL MAX SECONDS`."""

from __future__ import annotations

import asyncio
import json
import sys
from datetime import timedelta

from broker.domain.calls import Charge
from broker.domain.clock import SystemClock
from broker.store import slots
from broker.store.engine import is_sqlite
from broker.store.slots import LimitReached, Taken
from broker.store.writer import Store
from tests.domain.values import charge


async def send(store: Store, limit: Charge, seconds: float, within: float | None) -> list[int]:
    """Try for so long, in works that are brief if `within` is given; returns when calls were sent, in microseconds."""
    sent: list[int] = []
    until = store.now() + timedelta(seconds=seconds)
    while (at := store.now()) < until:
        taken: Taken | LimitReached = await store.submit(lambda tx: tx.take([limit]), within=within)
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
    brief = (
        None if is_sqlite(store.engine) else 0.0
    )  # on SQLite a process that only works briefly leaves others no turn
    sent = await asyncio.gather(*(send(store, limit, seconds, within) for within in (None, None, brief, brief)))
    store.close()
    print(json.dumps([at for each in sent for at in each]))  # noqa: T201


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3])))
