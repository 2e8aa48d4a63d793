"""All processes that came of one child, those included that left its process group.

What belongs here: finding and signalling them. What does not: when that is done (`process`).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

MARK = "APPROVAL_BROKER_TREE"
"""A variable in the environment of a child, which its children inherit, whatever sessions and parents they get."""


class Tree:
    """The group that a child leads and, on Linux, every process that carries its mark.

    A process that empties its environment and leaves the group is not found: this tidies up, it does not confine.

    Args:
        leader: the child's process id.
        mark: what `MARK` is set to in its environment; of this child only.
    """

    def __init__(self, leader: int, mark: str) -> None:
        self._leader = leader
        self._mark = f"\0{MARK}={mark}\0".encode()

    def signal(self, number: int) -> bool:
        """Signal all of it; False when none of it is left. Reads /proc, which takes milliseconds."""
        found = self.signal_group(number)
        for pid in self._strays():
            with suppress(OSError):
                os.kill(pid, number)
                found = True
        return found

    def signal_group(self, number: int) -> bool:
        """Signal the group alone; False when none of it is left."""
        try:
            os.killpg(self._leader, number)
        except ProcessLookupError:
            return False
        except PermissionError:  # somebody is there who may not be signalled
            return True
        return True

    def _strays(self) -> Iterator[int]:
        processes = Path("/proc")
        for name in os.listdir(processes) if processes.is_dir() else ():  # noqa: PTH208 - three times as fast
            with suppress(OSError):  # it is gone, or another user's
                if name.isdigit() and self._carries_mark(name) and os.getpgid(int(name)) != self._leader:
                    yield int(name)

    def _carries_mark(self, name: str) -> bool:
        with open(f"/proc/{name}/environ", "rb") as environment:  # noqa: PTH123 - as above
            return self._mark in b"\0" + environment.read()
