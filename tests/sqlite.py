"""A new SQLite file for every test: a copy of one that was migrated once, which takes a fiftieth of a migration.

What belongs here: making such files. What does not: what is in them.
"""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path

from broker.store.writer import Store
from tests.clock import MovableClock


def new_file(path: Path) -> str:
    """Make an empty store at `path`; gives its url."""
    path.touch(mode=0o600)
    path.write_bytes(_migrated())
    return f"sqlite:///{path}"


@functools.cache
def _migrated() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "broker.db"
        Store(f"sqlite:///{path}", MovableClock()).close()
        return path.read_bytes()
