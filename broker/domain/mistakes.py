"""What is wrong with one value, in plain words.

What belongs here: from the terms of pydantic, by which settings and requests are judged, to words for whoever wrote the
value. What does not: where the value stands; its reader knows that.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_PLAIN = {
    "missing": "is missing",
    "extra_forbidden": "is not known here",
    "int_type": "expected a whole number",
    "int_parsing": "expected a whole number",
    "int_from_float": "expected a whole number",
    "greater_than_equal": "expected {ge} or more",
    "less_than_equal": "expected {le} or less",
    "bool_type": "expected true or false",
    "string_type": "expected text",
    "string_unicode": "expected text that can be written as UTF-8",
    "string_too_short": "expected some text",
    "string_too_long": "expected at most {max_length} characters",
    "path_type": "expected a path",
    "list_type": "expected a list",
    "too_short": "expected at least one",
    "dict_type": "expected an object",
    "model_type": "expected an object",
    "model_attributes_type": "expected an object",
    "enum": "expected {expected}",
    "literal_error": "expected {expected}",
    "json_invalid": "expected JSON",
}


def plain_mistake(found: Mapping[str, Any]) -> str:
    """One mistake, without a full stop.

    Args:
        found: one of the `errors()` of a pydantic ValidationError; its value is never repeated.
    """
    context: Mapping[str, Any] = found.get("ctx") or {}
    if found["type"] == "value_error":  # raised by our own check, in our own words
        return str(context.get("error", found["msg"])).rstrip(".")
    if (plain := _PLAIN.get(found["type"])) is not None:
        return plain.format_map(context)
    return str(found["msg"]).replace("Input should be", "expected", 1).rstrip(".")
