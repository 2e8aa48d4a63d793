"""Noticing that a policy file changed, and when what is there now may be loaded.

What belongs here: one file, looked at again and again; and what is in force for one upstream. What does not: what a
change leads to (`broker.approvals.policies`), reading a document (`broker.policy.load`).

A look is a `stat`, which sees what editors do (write in place, or rename over it), what Kubernetes does (a symlinked
folder that is swapped), and what no notification tells of (network file systems). It costs so little that there are no
notifications beside it.
"""

from __future__ import annotations

import logging
import stat
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from broker.domain.audit import timestamp
from broker.errors import PolicyError
from broker.policy.judging.decide import Policy
from broker.policy.load import load_policy

log = logging.getLogger(__name__)

LOOK_EVERY = 0.25
"""Seconds between looks. An edit is loaded at the second or third look after it."""

PATIENCE = 0.5
"""Seconds after which a file that is saved again and again is loaded although it does not come to rest."""

_Mark = tuple[int, ...] | str
"""What tells one state of a file from another; a text says why there is nothing to load."""


@dataclass(slots=True)
class InForce:
    """What is in force for one upstream. Whoever judges by it reads `policy` for each call, so a swap counts at once.

    Args:
        policy: what is in force.
        loaded_at: since when.
        trouble: why the file as it is now is not in force; None when it is.
    """

    upstream: str
    policy: Policy
    loaded_at: datetime
    trouble: PolicyError | None = None

    @property
    def error(self) -> str | None:
        """The trouble in short, and what is in force instead."""
        if self.trouble is None:
            return None
        *others, last = self.mistakes
        what = f"{self.policy.source} has {len(others) + 1} mistakes" if others else last.rstrip(".")
        stop = "" if what.endswith("?") else "."
        return f"{what}{stop} The policy loaded at {self.loaded_at:%Y-%m-%d %H:%M:%S} UTC stays in force."

    @property
    def mistakes(self) -> list[str]:
        """What is wrong with the file as it is now, a line for each mistake."""
        lines = str(self.trouble).splitlines() if self.trouble is not None else []
        return [line.strip() for line in lines]

    def present(self) -> dict[str, Any]:
        """Which policy judges, and what is wrong with its file now, for programs."""
        return {
            "source": self.policy.source,
            "digest": self.policy.digest,
            "loaded_at": timestamp(self.loaded_at),
            "error": self.error,
            "mistakes": self.mistakes,
        }


class Watched:
    """One policy file. It counts as it is from here on: what changes before its first reading is noticed too."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._told = self._last = _mark(path)
        self._restless_since: float | None = None

    def look(self, now: float) -> Policy | PolicyError | None:
        """What the file says now, if that is news: when it changed since it was last told, and came to rest.

        A file rests when two looks find it the same, so that one that is still being written does not count. One that
        does not rest is told after `PATIENCE` when it is a whole document, unless it only grows.

        Args:
            now: seconds on a clock that never goes back.
        """
        mark = _mark(self._path)
        before, self._last = self._last, mark
        if mark == self._told:
            self._restless_since = None
            return None
        rests = mark == before
        if self._restless_since is None:
            self._restless_since = now
        if not rests and (now - self._restless_since < PATIENCE or _grows(before, mark)):
            return None
        return self._news(mark, rests=rests)

    def forget(self) -> None:
        """What was told could not be used: tell it again."""
        self._told = ""

    def _news(self, mark: _Mark, *, rests: bool) -> Policy | PolicyError | None:
        found = self._load(mark)
        if _was_written(mark, _mark(self._path)):  # while it was read
            return None
        self._restless_since = None
        if rests:
            self._told = mark
        elif isinstance(found, PolicyError):  # a mistake that is being mended
            return None
        return found

    def _load(self, mark: _Mark) -> Policy | PolicyError:
        if isinstance(mark, str):
            return PolicyError(f"{self._path} {mark}.")
        try:
            return load_policy(self._path)
        except PolicyError as error:
            return error
        except Exception:
            log.exception("The broker failed over the policy %s.", self._path)
            return PolicyError(f"{self._path}: the policy was not loaded: the broker failed over it; its log says why.")


def _mark(path: Path) -> _Mark:
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return "is gone"
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    if not stat.S_ISREG(found.st_mode):  # reading a pipe would wait for its writer
        return "is not a file any more"
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _grows(before: _Mark, after: _Mark) -> bool:
    """Whether somebody may be writing the file piece by piece. One that replaces another is whole."""
    return isinstance(before, str) or isinstance(after, str) or (_was_written(before, after) and before[2] < after[2])


def _was_written(before: _Mark, after: _Mark) -> bool:
    """Whether the very same file changed."""
    return before != after and before[:2] == after[:2]
