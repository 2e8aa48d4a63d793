"""Regular expressions whose time is bounded, on RE2 (https://github.com/google/re2/wiki/Syntax).

What belongs here: compiling a pattern, and how much text it may be looked for in. What does not: which value is looked
at (`conditions`, `expressions`).

RE2 takes one step for each byte of text while its automaton fits into memory; where it does not, as many as the program
has instructions. So the product of text and program is bounded, as work, but for patterns whose automaton surely fits.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, cast

import re2

from broker.policy.facts import Unjudged
from broker.policy.judging.automata import is_small

WORK = 4_250_000
"""Steps of RE2 that one judgement may take, some 10 ns each: all of a call of 4 MiB with one step for each byte."""

_CALL_WORK = 500  # of looking into any text at all
_LARGEST_PROGRAM = 20_000  # instructions
_LONGEST = 4_000  # characters
_MEMORY = 8 << 20  # bytes


@dataclass(frozen=True, slots=True)
class Pattern:
    """A compiled pattern.

    Args:
        weight: the work of each byte of text.
    """

    weight: int
    _search: Callable[[bytes], Any]

    def found_in(self, text: str, budget: int = WORK) -> tuple[bool, int]:
        """Whether the pattern occurs in `text`, and what is left of `budget` after that.

        Raises:
            Unjudged: the text is too long for the budget, or cannot be written as UTF-8.
        """
        try:
            encoded = text.encode()
        except UnicodeEncodeError:
            raise Unjudged("it holds half of a surrogate pair, which is no text") from None
        left = budget - _CALL_WORK - self.weight * len(encoded)
        if left < 0:
            raise Unjudged(f"{len(encoded)} bytes of text are more than can be searched quickly for this pattern")
        return self._search(encoded) is not None, left


@lru_cache(maxsize=1024)
def compile_pattern(text: str) -> Pattern:
    """The pattern that `text` writes; it is searched for, not anchored.

    Raises:
        ValueError: it cannot be used; the message says why.
    """
    if len(text) > _LONGEST:
        raise ValueError(f"the pattern has {len(text)} characters; at most {_LONGEST} are read")
    engine = cast("Any", re2)  # it has no types
    options = engine.Options()
    options.max_mem, options.never_capture, options.log_errors = _MEMORY, True, False
    try:
        compiled = engine.compile(text, options)
    except UnicodeEncodeError:
        raise ValueError("the pattern holds half of a surrogate pair, which is no text") from None
    except engine.error as error:
        raise ValueError(_why(error)) from None
    size = int(compiled.programsize)
    if size > _LARGEST_PROGRAM:
        raise ValueError(
            f"the pattern makes a program of {size} steps; at most {_LARGEST_PROGRAM} are run: repeat less"
        )
    return Pattern(1 if is_small(text) else size, compiled.search)


def _why(error: Exception) -> str:
    [said] = error.args
    why = said.decode(errors="replace") if isinstance(said, bytes) else str(said)
    if why.startswith(("invalid perl operator: (?=", "invalid perl operator: (?!", "invalid perl operator: (?<")):
        return f"{why}: this engine has no look-around, which cannot be bounded in time"
    if why.startswith("invalid escape sequence: \\") and why[-1:].isdigit():
        return f"{why}: this engine has no backreferences, which cannot be bounded in time"
    return f"it is not a pattern that RE2 knows: {why}"
