"""How errors look: RFC 9457 problem details for programs, a page for people.

What belongs here: the one table from errors to HTTP statuses. What does not: the sentences; those are the errors' own.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, cast
from urllib.parse import urlencode

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import RedirectResponse, Response

from broker import errors
from broker.domain.mistakes import plain_mistake
from broker.errors import BrokerError
from broker.web.headers import SECURITY_HEADERS
from broker.web.templates import render

STATUS: dict[type[BrokerError], int] = {
    errors.NotSignedIn: 401,
    errors.AccountRefused: 403,
    errors.Forbidden: 403,
    errors.ForgedForm: 403,
    errors.NotEligible: 403,
    errors.SelfApproval: 403,
    errors.WrongChannel: 403,
    errors.NotFound: 404,
    errors.AlreadyResolved: 409,
    errors.AlreadyVoted: 409,
    errors.Changed: 409,
    errors.TransitionRefused: 409,
    errors.DeadlinePassed: 410,
    errors.Invalid: 422,
    errors.TooManyAttempts: 429,
    errors.ProviderFailed: 503,
    errors.StoreError: 503,
    errors.BrokerError: 500,
}
"""What an error means in HTTP; the nearest class counts."""

_TITLES = {
    400: "Not understood",
    401: "Not signed in",
    403: "Not allowed",
    404: "Not found",
    405: "Not possible here",
    409: "Too late",
    410: "Too late",
    411: "Length missing",
    413: "Too large",
    421: "Wrong address",
    422: "Not accepted",
    429: "Too many attempts",
    503: "Not available",
}
_OF_CODES = {
    errors.Changed.code: "Changed meanwhile",
    errors.AlreadyVoted.code: "Already voted",
    errors.TransitionRefused.code: "Not possible now",
}
"""Titles of what has another one than its status says."""


def status_of(error: BrokerError) -> int:
    """The HTTP status of `error`."""
    return next(STATUS[kind] for kind in type(error).__mro__ if kind in STATUS)


def json_response(content: Any, status: int = 200, media_type: str = "application/json") -> Response:
    """JSON in ASCII, so that any string an agent sent can be answered; integers are exact at any size."""
    return Response(json.dumps(content, allow_nan=False), status, media_type=media_type)


def problem(status: int, code: str, detail: str, **evidence: Any) -> Response:
    """Problem details (RFC 9457) with a stable `code`, and what else the caller needs."""
    body = {"type": "about:blank", "title": title_of(status, code), "status": status, "detail": detail, "code": code}
    headers = {"WWW-Authenticate": "Bearer"} if status == 401 else None
    response = json_response(body | evidence, status, "application/problem+json")
    response.headers.update(headers or {})
    return response


def problem_of(error: BrokerError, **evidence: Any) -> Response:
    """`error` as problem details."""
    return problem(status_of(error), error.code, str(error), **evidence)


def add_problems(app: FastAPI) -> None:
    """Let `app` answer every error in its form: JSON under /api, else a page."""
    app.add_exception_handler(BrokerError, _broker_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(Exception, _unexpected_error)


async def _broker_error(request: Request, error: Exception) -> Response:
    known = cast("BrokerError", error)
    if isinstance(known, errors.NotSignedIn) and _is_page(request) and request.method == "GET":
        here = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        return RedirectResponse(f"/sign-in?{urlencode({'next': here})}", 303)
    answer = _answer(request, status_of(known), known.code, str(known))
    if isinstance(known, errors.TooManyAttempts):
        answer.headers["Retry-After"] = str(known.retry_after)
    return answer


async def _validation_error(request: Request, error: Exception) -> Response:
    found = cast("RequestValidationError", error).errors()
    sentences = [sentence_of(each) for each in found]
    return _answer(request, 422, "invalid", " ".join(sentences))


async def _http_error(request: Request, error: Exception) -> Response:
    known = cast("HTTPException", error)
    codes = {
        400: ("invalid", "The request could not be read: nothing was done."),
        404: ("not_found", "There is nothing at this address."),
        405: ("method_not_allowed", "Not possible here."),
    }
    code, sentence = codes.get(known.status_code, ("invalid", str(known.detail)))
    return _answer(request, known.status_code, code, sentence)


async def _unexpected_error(request: Request, _: Exception) -> Response:
    sentence = (
        "Something in the broker failed, and it is unknown whether this was done. Look again; tell your operator."
    )
    answer = _answer(request, 500, "broker_error", sentence)
    answer.headers.update(SECURITY_HEADERS)  # this answer is made outside of the boundary
    return answer


def _answer(request: Request, status: int, code: str, sentence: str) -> Response:
    if _is_page(request):
        person = getattr(request.state, "asker", None)
        return render("error.html", status=status, asker=person, title=title_of(status, code), sentence=sentence)
    return problem(status, code, sentence)


def _is_page(request: Request) -> bool:
    return not request.url.path.startswith(("/api/", "/healthz", "/readyz"))


def title_of(status: int, code: str = "") -> str:
    """What a refusal is called."""
    return _OF_CODES.get(code) or _TITLES.get(status, "Failed")


def sentence_of(found: Mapping[str, Any]) -> str:
    """One mistake that pydantic found in a request, as a sentence."""
    steps = found["loc"][1:] if found["loc"][:1] in (("body",), ("query",), ("path",)) else found["loc"]
    if found["type"] == "json_invalid":  # there the steps are a place in the text
        steps = ()
    where = ".".join(str(step) for step in steps)
    if not where and found["type"] != "value_error":
        where = "The body"
    return f"{where}: {plain_mistake(found)}." if where else f"{plain_mistake(found)}."
