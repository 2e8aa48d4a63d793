"""What is wrong with a policy document, in words for the person who wrote it.

What belongs here: a finding for each mistake, with its path, what was expected, and the nearest legal key or value.
What does not: what is legal (`documents`), where it stands (`tree`).
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Any, get_args, get_origin

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from broker.domain.mistakes import plain_mistake
from broker.domain.text import visible
from broker.errors import Finding, PolicyError
from broker.policy.language.documents import Terms
from broker.policy.language.tree import Steps, Tree

_MEANT: Mapping[str, str] = {
    word: ours
    for ours, words in (
        ("eq", "= == is equals"),
        ("neq", "!= ne not_equals"),
        ("lt", "<"),
        ("lte", "<= le"),
        ("gt", ">"),
        ("gte", ">= ge"),
        ("regex", "match matches"),
        ("allow", "yes true pass permit"),
        ("deny", "no false block reject refuse forbid"),
        ("hold", "ask approve confirm review require_approval"),
    )
    for word in words.split()
}
"""What other languages call ours, where the letters are not alike."""


MOST_TOLD = 1000
"""The most mistakes of one document that are told: nobody reads more, and the last error of a file is kept."""


def refusal(source: str, mistakes: Iterable[Finding]) -> PolicyError:
    """The error that says each of `mistakes` on a line of its own, in the order of the text."""
    ordered = tuple(sorted(mistakes, key=lambda one: (one.line or 0, one.column or 0)))
    if (more := len(ordered) - MOST_TOLD) > 0:
        ordered = (*ordered[:MOST_TOLD], Finding(f"and {more} more mistakes; mend these first"))
    return PolicyError("\n".join(line(source, mistake) for mistake in ordered), ordered)


def line(source: str, finding: Finding, kind: str = "") -> str:
    """A finding as compilers tell it: ``FILE:LINE:COLUMN: kind: path: sentence``, with its hidden characters shown."""
    place = f"{source}:{finding.line}:{finding.column}" if finding.line else source
    return visible(": ".join(filter(None, [place, kind, finding.path, finding.message])))


def shape_mistakes(error: ValidationError, terms: type[Terms], tree: Tree) -> list[Finding]:
    """One finding for each mistake.

    Args:
        terms: the model that the document was judged by.
    """
    return [_finding(found, terms, tree) for found in error.errors(include_url=False)]


def _finding(found: ErrorDetails, terms: type[Terms], tree: Tree) -> Finding:
    steps: Steps = found["loc"]
    is_key = found["type"] == "extra_forbidden"
    if steps[-1:] == ("[key]",) and not is_key:  # how pydantic marks a wrong key of a mapping
        is_key, steps = True, steps[:-1]
    sentence, nearest = _sentence(found, terms)
    return tree.finding(sentence, steps, key=is_key, nearest=nearest)


def _sentence(found: ErrorDetails, terms: type[Terms]) -> tuple[str, str | None]:
    match found["type"]:
        case "extra_forbidden":
            legal = _keys(_terms_at(terms, found["loc"][:-1]))
            nearest = _nearest(found["loc"][-1], legal)
            hint = f"did you mean {nearest}?" if nearest else f"known are {', '.join(legal)}"
            return f"unknown key; {hint}", nearest
        case "missing":
            return _missing(found, terms), None
        case "too_short":
            return "is empty: name at least one, or take the key out", None
        case "null" | "path":
            return found["msg"], None
        case _ if found["loc"] and found["input"] is None:  # where an object belongs, such as all of a tool
            return "has no value: write {} when there is nothing to say, or take the key out", None
        case _:
            return _expected(found)


def _missing(found: ErrorDetails, terms: type[Terms]) -> str:
    *parents, key = found["loc"]
    expected = _terms_at(terms, parents).model_fields[str(key)].annotation
    if isinstance(expected, type) and issubclass(expected, StrEnum):
        *others, last = expected
        return f"is missing: expected {', '.join(others)} or {last}"
    return "is missing"


def _expected(found: ErrorDetails) -> tuple[str, str | None]:
    given = found["input"]
    nearest = _nearest(given, _legal(found))
    sentence = plain_mistake(found) + _got(given)
    if nearest is None:
        return sentence, None
    quoted = "" if str(given) != nearest or isinstance(given, str) else ", in quotes"
    return f"{sentence}; did you mean {nearest if not quoted else json.dumps(nearest)}{quoted}?", nearest


def _legal(found: ErrorDetails) -> Sequence[str]:
    """The words that are legal where a mistake was found, as far as they are a few."""
    context: dict[str, Any] = found.get("ctx") or {}
    return context.get("legal") or re.findall(r"'([^']*)'", str(context.get("expected", "")))


def _nearest(given: Any, legal: Sequence[str]) -> str | None:
    """The legal word for `given`, one text or number; for what holds others there is none."""
    if isinstance(given, dict | list):
        return None
    word = str(given).lower()
    near = [_MEANT[word]] if _MEANT.get(word) in legal else difflib.get_close_matches(word, legal, n=1)
    return near[0] if near else None


def _keys(terms: type[Terms]) -> list[str]:
    return [field.alias or name for name, field in terms.model_fields.items()]


def _terms_at(terms: type[Terms], steps: Sequence[Any]) -> type[Terms]:
    """The model of the object that `steps` lead to, from that of the document."""
    shape: Any = terms
    for step in steps:
        if isinstance(shape, type) and issubclass(shape, Terms):
            fields = {field.alias or name: field.annotation for name, field in shape.model_fields.items()}
            shape = _plain(fields[step])
        else:  # a list or a mapping
            shape = _plain(get_args(shape)[-1])
    return shape


def _plain(annotation: Any) -> Any:
    """`annotation` without None: the one model or container that stands there."""
    if get_origin(annotation) in (list, dict) or isinstance(annotation, type):
        return annotation
    return next(inner for inner in map(_plain, get_args(annotation)) if inner is not type(None))


def _got(value: Any) -> str:
    if isinstance(value, dict | list):
        return ""
    given = json.dumps(value, ensure_ascii=False)
    return f", not {given if len(given) <= 60 else given[:59] + '…'}"
