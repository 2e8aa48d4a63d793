"""Imports and what else a process makes once, for as long as it runs.

What belongs here: sparing them from the search for garbage, which takes a sixth of a start, and later a tenth of a
second each time. What does not: what is imported.
"""

from __future__ import annotations

import gc
from collections.abc import Generator
from contextlib import contextmanager


@contextmanager
def lasting() -> Generator[None]:
    """What is there at the end of the context stays for good: nobody looks through it for garbage, now or later."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
