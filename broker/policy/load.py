"""Reading policy documents from files.

What belongs here: from bytes to a compiled policy, or to a `PolicyError` that names the file and every mistake. What
does not: what a document may say (`broker.policy.documents`) and what it means (`broker.policy.decide`).
"""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from typing import Any, NoReturn

from pydantic import ValidationError

from broker.domain.calls import Action
from broker.domain.canonical import canonical_json
from broker.errors import PolicyError
from broker.policy.decide import Policy, compile_policy
from broker.policy.documents import Document
from broker.policy.mistakes import mistakes
from broker.policy.model import Entry, Rulebook, Unfit
from broker.policy.native import rulebook

HOLD_EVERYTHING = compile_policy(
    source="no policy",
    digest=hashlib.sha256(canonical_json(None)).hexdigest(),
    book=Rulebook(Entry(Action.HOLD, "no policy", "This server has no policy, so every call waits for a person.")),
)
"""The policy of an upstream without one."""


def load_policy(path: Path) -> Policy:
    """The policy in the JSON file at `path`.

    Raises:
        PolicyError: the file cannot be read, or is not a policy (see `parse_policy`).
    """
    try:
        text = path.read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a path that no file can have
        why = getattr(error, "strerror", None) or error
        raise PolicyError(f"{path}: the policy cannot be read: {why}.") from error
    return parse_policy(text, str(path))


def parse_policy(text: str | bytes, source: str) -> Policy:
    """The policy that a JSON document describes.

    Args:
        source: what the document is called in errors and on the policy.

    Raises:
        PolicyError: names `source` and what is wrong: one sentence for a text that is not JSON, else a line for each
            mistake of the document.
    """
    try:
        canonical = canonical_json(_parse_json(text))
    except (ValueError, RecursionError) as error:
        raise PolicyError(f"{source}: the policy was not loaded: {_why(error)}.") from error
    try:
        document = Document.model_validate_json(canonical)
    except ValidationError as error:
        lines = mistakes(error)
        raise PolicyError("\n  ".join([f"{source}: the policy was not loaded:", *lines])) from error
    try:
        return compile_policy(rulebook(document), source, hashlib.sha256(canonical).hexdigest())
    except Unfit as error:
        lines = [f"{mistake.at}: {mistake.message}" for mistake in error.mistakes]
        raise PolicyError("\n  ".join([f"{source}: the policy was not loaded:", *lines])) from error


def _parse_json(text: str | bytes) -> Any:
    decoded = text if isinstance(text, str) else text.decode()
    if decoded.startswith("\ufeff"):
        raise ValueError("it starts with a byte-order mark; save it as UTF-8 without one")
    return json.loads(decoded, object_pairs_hook=_object, parse_constant=_refuse_constant)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Readers disagree on which of two equal keys counts, and on what 1e400 is, so neither is read."""
    parsed: dict[str, Any] = {}
    for key, value in pairs:
        if key in parsed:
            raise ValueError(f"the key {json.dumps(key)} is written twice in one object")
        if value in (math.inf, -math.inf):
            raise ValueError(f"the number of the key {json.dumps(key)} is too large")
        parsed[key] = value
    return parsed


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _why(error: ValueError | RecursionError) -> str:
    match error:
        case json.JSONDecodeError():
            place = f"line {error.lineno}, column {error.colno}"
            return f"it is not JSON, the one format that this version reads ({place}: {error.msg})"
        case UnicodeDecodeError():
            return f"it is not UTF-8 (byte {error.start + 1})"
        case UnicodeEncodeError():
            return "it holds half of a surrogate pair"
        case RecursionError():
            return "it is nested too deep"
        case _:
            return str(error)
