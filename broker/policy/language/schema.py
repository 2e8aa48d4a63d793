"""The JSON Schema of policy documents (draft 2020-12), from which editors complete and explain keys.

What belongs here: generating it from the models. What does not: checking a document; the broker never reads the schema,
and the schema is never stricter than the broker.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import core_schema

from broker.policy.language.dialects import NATIVE

_NO_WHEN_BESIDE_A_SETTLED_ACTION = {
    "if": {"properties": {"action": {"enum": ["hold", "deny"]}}, "required": ["action"]},
    "then": {"properties": {"when": False}},
}
"""What `broker.policy.language.native.contradictions` says of `when`."""


class _Schema(GenerateJsonSchema):
    """Without what says nothing to an editor: generated titles, null where none may be written, empty defaults."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False

    def nullable_schema(self, schema: core_schema.NullableSchema) -> dict[str, Any]:
        return self.generate_inner(schema["schema"])

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> dict[str, Any]:
        inner = self.generate_inner(schema["schema"])
        default = schema.get("default")
        return inner if default in (None, "") or isinstance(default, list | dict) else super().default_schema(schema)


@cache
def policy_schema() -> dict[str, Any]:
    """The schema. One object for all callers: not to be changed."""
    schema = NATIVE.terms.model_json_schema(by_alias=True, schema_generator=_Schema)
    for part in schema["$defs"].values():
        del part["title"]
    schema["$defs"]["ToolTerms"] |= _NO_WHEN_BESIDE_A_SETTLED_ACTION
    return {"$schema": _Schema.schema_dialect, **schema, "title": "Policy of the approval broker"}
