"""Buckets: calls of about the same time are counted together, by the instant that their bucket is named by.

What belongs here: which bucket an instant lies in, and how wide it may be. What does not: what counts, and why that is
exact (`broker.store.slots`). Instants are microseconds since 1970.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from broker.domain.calls import Charge
from broker.store.columns import MICROSECOND

SECOND = 1_000_000

PARTS = 256
"""A bucket is at most this part of every window that may reach it."""

WIDTHS = (
    *(3_125, 6_250, 12_500, 25_000, 50_000, 100_000, 200_000),
    *(seconds * SECOND for seconds in (1, 2, 10, 60, 300, 900, 3_600, 21_600, 86_400)),
)
"""Of buckets. Each divides the next, so that they can be joined, and none lies across the end of a longer one."""

SHORTEST, LONGEST = 50_000, SECOND
"""Bounds of the time from the commit that admits a call to its dispatch, after which it takes anew."""

KEPT = 366 * 86_400 * SECOND
"""An edited policy may ask for a longer window than what was taken was taken under: a year at most."""

MOST = 2**62
"""What a bucket holds at most: more than every maximum."""


def bucket(charges: Sequence[Charge], at: int, tries: int) -> tuple[int, int]:
    """How wide the bucket of a call that is admitted now is, and the instant that names it."""
    finest = min(charge.finest or charge.window for charge in charges) // MICROSECOND
    if charges[0].calendar:
        return finest, end_of(at, finest)
    width = width_of(finest)
    return width, end_of(at + (min(max(finest // PARTS, SHORTEST), LONGEST) << tries), width)


@lru_cache(1024)
def width_of(reach: int) -> int:
    """The widest bucket that is fine enough for a window, or an age, of `reach`."""
    fine = [width for width in WIDTHS if width * PARTS <= reach]
    return fine[-1] if fine else WIDTHS[0]


def end_of(instant: int, width: int) -> int:
    """The last instant of the bucket that `instant` lies in."""
    return (instant // width + 1) * width - 1


def row(counter: str, until: int, amount: int, width: int) -> dict[str, Any]:
    """A row of the table `counts`."""
    wider = next((one for one in WIDTHS if one > width), None)
    due = until + (wider * PARTS if wider is not None else KEPT)
    return {"counter": counter, "until": until, "amount": amount, "due": due}
