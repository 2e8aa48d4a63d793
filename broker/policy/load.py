"""Reading policy documents from files.

What belongs here: from bytes to a compiled policy, or to a `PolicyError` that names every mistake and its place. What
does not: notations (`language.source`), what a document may say (`language.documents`) and what it means
(`language.native`, `judging.decide`).
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from pydantic import ValidationError

from broker.domain.calls import Action
from broker.domain.canonical import canonical_json
from broker.domain.paths import written
from broker.errors import Finding
from broker.policy.judging.decide import Policy, compile_policy
from broker.policy.language.dialects import NATIVE, Dialect, dialect_of, mixture
from broker.policy.language.documents import Document
from broker.policy.language.mistakes import refusal, shape_mistakes
from broker.policy.language.source import LARGEST, read_tree
from broker.policy.language.tree import Tree, Unreadable
from broker.policy.model import Entry, Mistake, Rulebook, Unfit

_FIXED = {"version": "1", "default": "deny"}
"""What is judged by where these keys are wrong, to find what else is."""

HOLD_EVERYTHING = compile_policy(
    source="no policy",
    digest=hashlib.sha256(canonical_json(None)).hexdigest(),
    book=Rulebook(Entry(Action.HOLD, "no policy", "This server has no policy, so every call waits for a person.")),
)
"""The policy of an upstream without one."""


@dataclass(frozen=True, slots=True)
class Reading:
    """A document without a mistake: the policy, and its tree, in which warnings find their places."""

    policy: Policy
    tree: Tree


def load_policy(path: Path) -> Policy:
    """The policy in the JSON or YAML file at `path`.

    Raises:
        PolicyError: the file cannot be read, or is not a policy (see `parse_policy`).
    """
    return parse_policy(read_document(path), str(path))


def parse_policy(text: str | bytes, source: str) -> Policy:
    """The policy that a document describes.

    Args:
        source: the file's name. How the text is read depends on its suffix (see `read_tree`); errors and the policy are
            called by it.

    Raises:
        PolicyError: a line for each mistake, with its place.
    """
    return parse_document(text, source).policy


def read_document(path: Path, what: str = "policy") -> bytes:
    """The bytes of the file at `path`, no more of them than make clear that it is too large.

    Args:
        what: what the file should be, for the error.

    Raises:
        PolicyError: it cannot be read.
    """
    try:
        with open(path, "rb", opener=_at_once) as file:
            return file.read(LARGEST + 1) or b""
    except (OSError, ValueError) as error:  # ValueError: a path that no file can have
        why = getattr(error, "strerror", None) or error
        raise refusal(str(path), [Finding(f"the {what} cannot be read: {why}")]) from error


def _at_once(path: str, flags: int) -> int:
    """Opens a file without waiting: a pipe that took its place has no writer to wait for."""
    return os.open(path, flags | os.O_NONBLOCK)


def parse_document(text: str | bytes, source: str) -> Reading:
    """The same as `parse_policy`, with what warnings need."""
    try:
        tree = read_tree(text, source)
    except Unreadable as error:
        raise refusal(source, [error.finding]) from error
    canonical = canonical_json(tree.value)
    dialect = dialect_of(tree.value)
    mistakes = [*tree.mistakes, *(tree.finding(one.message, one.at, key=True) for one in mixture(tree.value))]
    policy = None
    try:
        document = dialect.terms.model_validate_json(canonical)
    except ValidationError as error:
        known = {(mistake.line, mistake.column) for mistake in mistakes}  # and what follows from them is none
        mistakes += [one for one in shape_mistakes(error, dialect.terms, tree) if (one.line, one.column) not in known]
        further = _beside_the_shape(tree.value, error) if dialect is NATIVE else ()
    else:
        policy, further = _compiled(dialect, document, source, hashlib.sha256(canonical).hexdigest())
    mistakes += [tree.finding(one.message, one.at) for one in further]
    if policy is None or mistakes:
        raise refusal(source, mistakes)
    return Reading(policy, tree)


def _compiled(dialect: Dialect, document: Any, source: str, digest: str) -> tuple[Policy | None, list[Mistake]]:
    mistakes = list(dialect.contradictions(document))
    try:
        return compile_policy(dialect.rulebook(document), source, digest), mistakes
    except Unfit as error:
        return None, [*mistakes, *error.mistakes]


def _beside_the_shape(value: Any, error: ValidationError) -> list[Mistake]:
    """What else is wrong with a document whose shape is: patterns, expressions and keys that mean nothing together.

    It is judged without the keys that are misshapen. Of what stands beside those no contradiction is told: the missing
    key might resolve it.
    """
    misshapen = [found["loc"] for found in error.errors(include_url=False)]
    document = _sound_part(value, misshapen)
    if document is None:
        return []
    contradictions = list(NATIVE.contradictions(document))
    unsure = [written(*steps[:2]) if steps[0] == "tools" else "tools" for steps in misshapen if steps[0] not in _FIXED]
    _, mistakes = _compiled(NATIVE, document, "", "")
    return [one for one in mistakes if one not in contradictions or not one.at.startswith(tuple(unsure))]


def _sound_part(value: Any, misshapen: Iterable[tuple[str | int, ...]]) -> Document | None:
    if not isinstance(value, dict):
        return None
    parts = cast("dict[str, Any]", value)
    dropped = {steps[0] for steps in misshapen if steps[0] != "tools" or len(steps) == 1}
    kept = {key: part for key, part in parts.items() if key not in dropped}
    if "tools" in kept:
        kept["tools"] = {name: _sound_terms(name, terms, misshapen) for name, terms in parts["tools"].items()}
    try:
        return Document.model_validate_json(canonical_json(_FIXED | kept))
    except ValidationError:  # the name of a tool
        return None


def _sound_terms(name: str, terms: Any, misshapen: Iterable[tuple[str | int, ...]]) -> dict[str, Any]:
    dropped = {steps[2] for steps in misshapen if steps[:2] == ("tools", name) and len(steps) > 2}
    entry = cast("dict[str, Any]", terms) if isinstance(terms, dict) else {}
    return {key: said for key, said in entry.items() if key not in dropped}
