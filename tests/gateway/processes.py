"""The processes that this one started."""

from __future__ import annotations

import os
from pathlib import Path


def children_running(words: str) -> list[int]:
    """Those whose command line holds `words`."""
    tasks = Path(f"/proc/{os.getpid()}/task").iterdir()
    children = [int(child) for task in tasks for child in _read(task / "children").split()]
    return [child for child in children if words in _read(Path(f"/proc/{child}/cmdline")).replace("\0", " ")]


def _read(path: Path) -> str:
    """Nothing when the thread or the process has just ended."""
    try:
        return path.read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""
