"""A person's decision as it comes in, from a form or as JSON.

What belongs here: what a body may say. What does not: whether the decision is taken (`broker.approvals`).
"""

from __future__ import annotations

import unicodedata
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from broker.domain.approvals import Decision

LONGEST_REASON = 2000

_NOT_YET = {
    "arguments": "Arguments cannot be edited yet: nothing was decided.",
    "remember": "A decision cannot be remembered yet: nothing was decided.",
}


def _readable(reason: str | None) -> str | None:
    if reason is None:
        return None
    text = reason.replace("\r\n", "\n").strip()
    if any(unicodedata.category(char) in ("Cc", "Cs") and char not in "\n\t" for char in text):
        raise ValueError("a reason has no control characters: nothing was decided")
    return text or None


Reason = Annotated[str | None, Field(max_length=LONGEST_REASON), AfterValidator(_readable)]


class DecisionBody(BaseModel):
    """One person's word: what they decide, the revision they saw, and why."""

    model_config = ConfigDict(extra="forbid")

    decision: Decision
    revision: Annotated[str | None, Field(max_length=200)] = None
    reason: Reason = None

    @model_validator(mode="before")
    @classmethod
    def _only_what_is_possible(cls, given: Any) -> Any:
        for key, sentence in _NOT_YET.items():
            if isinstance(given, dict) and key in given:
                raise ValueError(sentence)
        return given  # pyright: ignore[reportUnknownVariableType] - judged by pydantic next
