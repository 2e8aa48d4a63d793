"""What is wrong with a policy document, in words for the person who wrote it.

What belongs here: one line for each mistake, with its path, what was expected, and the nearest legal key. What does
not: what is legal (`broker.policy.documents`).
"""

from __future__ import annotations

import difflib
import json
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from broker.domain.paths import written
from broker.policy.documents import ApprovalTerms, Document, LimitTerms, RateLimitTerms, Terms, ToolTerms

_TERMS: dict[tuple[str, ...], type[Terms]] = {
    (): Document,
    ("tools", "*"): ToolTerms,
    ("tools", "*", "approval"): ApprovalTerms,
    ("tools", "*", "limits", "*"): LimitTerms,
    ("tools", "*", "rate_limit"): RateLimitTerms,
}


def mistakes(error: ValidationError) -> list[str]:
    """One line for each mistake of a `Document`, such as ``tools.t.limits[0].max: expected a valid integer``."""
    return [_line(found) for found in error.errors(include_url=False)]


def _line(found: ErrorDetails) -> str:
    steps = found["loc"]
    if steps[-1:] == ("[key]",) and found["type"] != "extra_forbidden":  # how pydantic marks a wrong key of a mapping
        steps = steps[:-1]
    place = f"{written(*steps)}: " if steps else ""
    return place + _sentence(found)


def _sentence(found: ErrorDetails) -> str:
    match found["type"]:
        case "extra_forbidden":
            return _unknown(found["loc"])
        case "missing":
            return _missing(found["loc"])
        case "null" | "empty" | "pattern" | "never_held":
            return found["msg"]
        case _:
            return found["msg"].replace("Input should be", "expected", 1) + _got(found["input"])


def _unknown(steps: tuple[str | int, ...]) -> str:
    key, terms = str(steps[-1]), _terms_at(steps[:-1])
    legal = [field.alias or name for name, field in terms.model_fields.items()]
    nearest = difflib.get_close_matches(key, legal, n=1)
    return f"unknown key; did you mean {nearest[0]}?" if nearest else f"unknown key; known are {', '.join(legal)}"


def _terms_at(steps: tuple[str | int, ...]) -> type[Terms]:
    shape = tuple("*" if index == 1 or isinstance(step, int) else step for index, step in enumerate(steps))
    return _TERMS[shape]


def _missing(steps: tuple[str | int, ...]) -> str:
    if steps == ("default",):
        return (
            "is missing: expected 'allow', 'deny' or 'hold' (the Intercept dialect, which may leave it out, is not "
            "supported by this version)"
        )
    return "is missing"


def _got(value: Any) -> str:
    if isinstance(value, dict | list):
        return ""
    written = json.dumps(value, ensure_ascii=False)
    return f", not {written if len(written) <= 60 else written[:59] + '…'}"
