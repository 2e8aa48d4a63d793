"""The API in the words of OpenAPI: what FastAPI reads from the routes, and what stands around every route.

What belongs here: which refusals a route can answer with, the shape of a refusal, how somebody proves who they are.
What does not: the routes' own answers (each says its own), the sentences of refusals (`broker.errors`).
"""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from broker.domain.people import Permission
from broker.web.identity import PERMISSIONS
from broker.web.problems import title_of

_PROBLEM: dict[str, Any] = {
    "type": "object",
    "description": "Problem details (RFC 9457). `code` is stable; `detail` is a sentence for people.",
    "required": ["type", "title", "status", "detail", "code"],
    "properties": {
        "type": {"const": "about:blank"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "code": {"type": "string"},
        "resolution": {"description": "How the approval was decided, for whom is late.", "type": ["object", "null"]},
    },
}


def describe(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document of `app`, made at the first call."""
    if app.openapi_schema is None:
        app.openapi_schema = _described(get_openapi(title=app.title, version=app.version, routes=app.routes))
    return app.openapi_schema


def _described(document: dict[str, Any]) -> dict[str, Any]:
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            permission = PERMISSIONS[method.upper(), path]
            if permission is not Permission.ANYONE:
                operation["security"] = [{"token": []}]
            operation["responses"].pop("422", None)
            for status in _refusals(path, method, operation, permission):
                operation["responses"].setdefault(str(status), _problem(status))
    parts = document["components"]
    parts["schemas"]["Problem"] = _PROBLEM
    for name in ("HTTPValidationError", "ValidationError"):
        parts["schemas"].pop(name, None)
    parts["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer", "description": "`broker token create`"}}
    return document


def _refusals(path: str, method: str, operation: dict[str, Any], permission: Permission) -> list[int]:
    """Every status, beside its own answers, with which a route can answer."""
    statuses = {421, 500, 503}
    if permission is not Permission.ANYONE:
        statuses |= {401, 403, 429}
    if "{" in path:
        statuses |= {404}
    if "parameters" in operation or "requestBody" in operation:
        statuses |= {422}
    if "requestBody" in operation:
        statuses |= {400}
    if method == "post":
        statuses |= {403, 409, 410, 411, 413}
    return sorted(statuses)


def _problem(status: int) -> dict[str, Any]:
    shape = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {"description": title_of(status), "content": shape}
