"""Counting what Python executes: its bytecodes, in every thread. The same work counts the same on every machine."""

from __future__ import annotations

import itertools
import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager
from types import FrameType
from typing import Any

_count = itertools.count()
_one_more = _count.__next__  # threads may come between a reading and a writing of a number


@contextmanager
def counting() -> Generator[None]:
    """Count from here on, in this thread and those that start in the block; what runs already in others is not."""
    threading.settrace(_entered)
    sys.settrace(_entered)
    try:
        yield
    finally:
        sys.settrace(None)
        threading.settrace(None)  # pyright: ignore[reportArgumentType] - typeshed forgets it


def executed() -> int:
    """Bytecodes so far."""
    return int(_count.__reduce__()[1][0])


def uncounted() -> None:
    """Count nothing in this thread."""
    sys.settrace(None)


def _entered(frame: FrameType, event: str, arg: Any) -> Any:
    frame.f_trace_opcodes, frame.f_trace_lines = True, False
    return _executes


def _executes(frame: FrameType, event: str, arg: Any) -> Any:
    if event == "opcode":
        _one_more()
    return _executes
