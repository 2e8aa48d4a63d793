"""A call of a Web API method: its arguments, its refusal, and the table of the methods there are.

What belongs here: what all methods share. What does not: what any one of them does, and HTTP.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tests.servers.slack.objects import Json
from tests.servers.slack.workspace import Workspace


class SlackRefusal(Exception):
    """`ok: false`, https://docs.slack.dev/apis/web-api/#responses

    Args:
        error: Slack's documented error string.
        messages: what `response_metadata.messages` say.
        more: other members of the answer.
    """

    def __init__(self, error: str, *messages: str, **more: Any) -> None:
        super().__init__(error)
        self.body: Json = {"ok": False, "error": error, **more}
        if messages:
            self.body["response_metadata"] = {"messages": [f"[ERROR] {each}" for each in messages]}


@dataclass(frozen=True)
class Token:
    """A token of the installed app: a bot's (`xoxb-`) or the app's own (`xapp-`)."""

    value: str
    scopes: frozenset[str]
    trouble: str | None = None

    @property
    def is_app_level(self) -> bool:
        """Whether it is of the app and not of its bot."""
        return self.value.startswith("xapp-")


@dataclass(frozen=True)
class Call:
    """What was asked: form values are strings, JSON values are what they are."""

    method: str
    arguments: Json
    token: Token

    def text(self, name: str) -> str:
        """An argument that is a string, empty if it is missing."""
        value = self.arguments.get(name)
        if value is None:
            return ""
        if not isinstance(value, str):
            raise WrongType(name, "string")
        return value

    def flag(self, name: str) -> bool:
        """An argument that is a boolean; a form says it as `1` or `true`."""
        return self.arguments.get(name) in (True, 1, "1", "true")

    def structure(self, name: str, malformed: str = "invalid_arguments") -> Any:
        """An argument that is an array or object; a form has it as JSON text."""
        value = self.arguments.get(name)
        if not isinstance(value, str):
            return value
        try:
            return json.loads(value)
        except ValueError:
            raise SlackRefusal(malformed, f"{name} is not JSON") from None


class WrongType(SlackRefusal):
    """An argument of the wrong JSON type."""

    def __init__(self, name: str, wanted: str) -> None:
        super().__init__("invalid_arguments", f"must be a {wanted} [json-pointer:/{name}]")


Doing = Callable[[Workspace, Call], Awaitable[Json]]


@dataclass(frozen=True)
class Method:
    """A method that there is.

    Attributes:
        scopes: those that the token needs, all of them.
        required, optional: the arguments that its page names.
        json: whether its page says that it takes JSON.
        app_level: whether it wants the app's own token.
        tier: calls a minute, https://docs.slack.dev/apis/web-api/rate-limits
    """

    name: str
    do: Doing
    scopes: tuple[str, ...]
    required: tuple[str, ...]
    optional: tuple[str, ...]
    json: bool
    app_level: bool
    tier: int


class Methods(dict[str, Method]):
    """The methods of one page of the reference."""

    def add(
        self,
        name: str,
        *,
        scopes: Sequence[str] = (),
        required: str = "",
        optional: str = "",
        json: bool = True,
        app_level: bool = False,
        tier: int = 50,
    ) -> Callable[[Doing], Doing]:
        """Enter a method; `required` and `optional` are names with spaces between."""

        def enter(do: Doing) -> Doing:
            args = tuple(required.split()), tuple(optional.split())
            self[name] = Method(name, do, tuple(scopes), *args, json, app_level, tier)
            return do

        return enter
