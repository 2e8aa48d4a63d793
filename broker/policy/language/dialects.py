"""The languages that a policy can be written in, and which one a document is in.

What belongs here: telling them apart. What does not: the languages (`documents` and `native`, `intercept`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

from broker.domain.paths import written
from broker.policy.language import intercept, native
from broker.policy.language.documents import Document, Terms, ToolTerms
from broker.policy.language.intercept import InterceptDocument
from broker.policy.model import Mistake, Rulebook


@dataclass(frozen=True, slots=True)
class Dialect:
    """A language for policies.

    Args:
        terms: the shape of its documents.
        rulebook: what a document means; may raise `Unfit`.
        contradictions: keys that each are legal and mean nothing together.
    """

    terms: type[Terms]
    rulebook: Callable[[Any], Rulebook]
    contradictions: Callable[[Any], Iterable[Mistake]]


NATIVE = Dialect(Document, native.rulebook, native.contradictions)
INTERCEPT = Dialect(InterceptDocument, intercept.rulebook, lambda _: ())

_RULES = "rules"
_OWN = ("redact", "all_tools")
_OWN_OF_TOOLS = frozenset(ToolTerms.model_fields)


def dialect_of(value: Any) -> Dialect:
    """The language that a document is in.

    One without `default` that has keys of the broker's own language has forgotten it; so has one that says nothing yet,
    such as a file that is half written: what says nothing must not allow everything.
    """
    document = _object(value)
    tools = _object(document.get("tools")).values()
    if any(_RULES in _object(terms) for terms in tools):
        return INTERCEPT
    own = any(key in document for key in _OWN) or any(_OWN_OF_TOOLS & _object(terms).keys() for terms in tools)
    says_something = bool(document.get("tools") or document.get("hide"))
    return NATIVE if own or "default" in document or not says_something else INTERCEPT


def mixture(value: Any) -> Iterator[Mistake]:
    """The keys of the broker's own language in a document that has rules of the Intercept dialect."""
    tools = _object(_object(value).get("tools"))
    theirs = [name for name, terms in tools.items() if _RULES in _object(terms)]
    if not theirs:
        return
    why = (
        f"belongs to the broker's own language, and {written('tools', theirs[0], _RULES)} to the Intercept dialect: "
        "write the policy in one of the two"
    )
    yield from (Mistake(key, why) for key in _OWN if key in value)
    for name, terms in tools.items():
        yield from (Mistake(written("tools", name, key), why) for key in _object(terms) if key in _OWN_OF_TOOLS)


def _object(value: Any) -> Mapping[str, Any]:
    return cast("Mapping[str, Any]", value) if isinstance(value, dict) else {}
