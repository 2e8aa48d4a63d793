"""Reading policy documents from files.

What belongs here: from bytes to a compiled policy, or to a `PolicyError` that names every mistake and its place. What
does not: notations (`broker.policy.source`), what a document may say (`broker.policy.documents`) and what it means
(`broker.policy.native`, `broker.policy.decide`).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from broker.domain.calls import Action
from broker.domain.canonical import canonical_json
from broker.errors import Finding
from broker.policy.decide import Policy, compile_policy
from broker.policy.dialects import Dialect, dialect_of, mixture
from broker.policy.mistakes import refusal, shape_mistakes
from broker.policy.model import Entry, Mistake, Rulebook, Unfit
from broker.policy.source import LARGEST, read_tree
from broker.policy.tree import Tree, Unreadable

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
        with path.open("rb") as file:
            return file.read(LARGEST + 1)
    except (OSError, ValueError) as error:  # ValueError: a path that no file can have
        why = getattr(error, "strerror", None) or error
        raise refusal(str(path), [Finding(f"the {what} cannot be read: {why}")]) from error


def parse_document(text: str | bytes, source: str) -> Reading:
    """The same as `parse_policy`, with what warnings need."""
    try:
        tree = read_tree(text, source)
    except Unreadable as error:
        raise refusal(source, [error.finding]) from error
    canonical = canonical_json(tree.value)
    dialect = dialect_of(tree.value)
    mistakes = [*tree.mistakes, *(tree.finding(one.message, one.at, key=True) for one in mixture(tree.value))]
    try:
        document = dialect.terms.model_validate_json(canonical)
    except ValidationError as error:
        known = {(mistake.line, mistake.column) for mistake in mistakes}  # and what follows from them is none
        mistakes += [one for one in shape_mistakes(error, dialect.terms, tree) if (one.line, one.column) not in known]
        document = _sound_part(tree.value, dialect, error)
    policy = None
    if document is not None:
        policy, unfit = _compiled(dialect, document, source, hashlib.sha256(canonical).hexdigest())
        mistakes += [tree.finding(one.message, one.at) for one in unfit]
    if policy is None or mistakes:
        raise refusal(source, mistakes)
    return Reading(policy, tree)


def _compiled(dialect: Dialect, document: Any, source: str, digest: str) -> tuple[Policy | None, list[Mistake]]:
    mistakes = list(dialect.contradictions(document))
    try:
        return compile_policy(dialect.rulebook(document), source, digest), mistakes
    except Unfit as error:
        return None, [*mistakes, *error.mistakes]


def _sound_part(value: Any, dialect: Dialect, error: ValidationError) -> Any:
    """The document without the tools that are misshapen, so that what is wrong with the others is told as well.

    None when something else is misshapen: what is left would mean another thing.
    """
    places = [found["loc"][:2] for found in error.errors(include_url=False)]
    if any(len(steps) < 2 or steps[0] != "tools" for steps in places):
        return None
    misshapen = {steps[1] for steps in places}
    sound = {name: terms for name, terms in value["tools"].items() if name not in misshapen}
    return dialect.terms.model_validate_json(canonical_json(value | {"tools": sound}))
