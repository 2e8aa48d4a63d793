"""The JSON Schema of policy documents (draft 2020-12), from which editors complete and explain keys.

What belongs here: generating it from the models. What does not: checking a document; the broker never reads the schema,
and the schema is never stricter than the broker.
"""

from __future__ import annotations

import ast
import inspect
from functools import cache
from itertools import pairwise
from typing import Any, cast

from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import core_schema

from broker.policy.language.dialects import NATIVE
from broker.policy.language.documents import Terms

_NO_WHEN_BESIDE_A_SETTLED_ACTION = {
    "if": {"properties": {"action": {"enum": ["hold", "deny"]}}, "required": ["action"]},
    "then": {"properties": {"when": False}},
}
"""What `broker.policy.language.native.contradictions` says of `when`."""


def _said(model: type) -> dict[str, str]:
    """What stands below each field in the source of a model: read for the schema only, as that takes long."""
    said: dict[str, str] = {}
    for part in reversed(model.__mro__[: model.__mro__.index(Terms)]):
        [definition] = ast.parse(inspect.getsource(part)).body
        for field, text in pairwise(cast("ast.ClassDef", definition).body):
            match field, text:
                case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(words))):
                    said[name] = inspect.cleandoc(words)
                case _:
                    pass
    return said


class _Schema(GenerateJsonSchema):
    """Without what says nothing to an editor: generated titles, null where none may be written, empty defaults."""

    def model_schema(self, schema: core_schema.ModelSchema) -> dict[str, Any]:
        object_schema, model = super().model_schema(schema), schema["cls"]
        for name, said in _said(model).items():
            object_schema["properties"][model.model_fields[name].alias or name]["description"] = said
        return object_schema

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
