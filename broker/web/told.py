"""What a server says of its own tool, and why a call is as risky as it is said to be.

What belongs here: reading a tool's definition as its server gave it, in words that never make a fact of it. What does
not: judging risk (`broker.policy`), markup.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

from broker.domain.approvals import Approval

_HINTS: Mapping[str, tuple[str, str]] = {
    "readOnlyHint": ("it changes nothing", "it may change something"),
    "destructiveHint": ("it may destroy something", "it only adds"),
    "idempotentHint": ("doing it twice is as doing it once", "doing it twice does it twice"),
    "openWorldHint": ("it reaches what is outside of the server", "it stays within the server"),
}
"""What an annotation says when it is true, and when it is false (MCP 2025-11-25, `ToolAnnotations`)."""


@dataclass(frozen=True, slots=True)
class Told:
    """A tool in its server's words.

    Args:
        hints: what its annotations say.
        others: the annotations that say nothing known.
    """

    title: Any
    description: Any
    hints: tuple[str, ...]
    others: Mapping[str, Any]

    @property
    def anything(self) -> bool:
        """Whether the server says anything at all."""
        return bool(self.title or self.description or self.hints or self.others)


def told_of(definition: Mapping[str, Any] | None) -> Told:
    """What `definition`, a tool as `tools/list` gave it, says."""
    given = definition or {}
    found = given.get("annotations")
    annotations = cast("dict[str, Any]", found) if isinstance(found, dict) else {}
    known = {name: said for name, said in annotations.items() if name in _HINTS and isinstance(said, bool)}
    others = {name: said for name, said in annotations.items() if name not in known and name != "title"}
    return Told(
        title=given.get("title") or annotations.get("title"),
        description=given.get("description"),
        hints=tuple(_HINTS[name][not said] for name, said in known.items()),
        others=others if isinstance(found, dict) or found is None else {"annotations": found},
    )


def risk_reasons(approval: Approval, said: Told) -> Iterator[str]:
    """Why the call is as risky as its card says, each a sentence: the policy's word, then its server's."""
    yield "So says the policy." if approval.risk is not None else "The policy says nothing of it."
    telling = [hint for hint in said.hints if hint in (*_HINTS["readOnlyHint"], *_HINTS["destructiveHint"])]
    yield (
        f"The server says that {' and that '.join(telling)}." if telling else "The server does not say what it changes."
    )
