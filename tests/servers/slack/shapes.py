"""A small language for what JSON may look like, whose complaints read as Slack's do.

What belongs here: kinds of checks. What does not: what Slack's objects look like (elements.py, blocks.py, views.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from tests.servers.slack.calls import SlackRefusal
from tests.servers.slack.objects import Json

Check = Callable[[Any, str], None]
"""Looks at a value which is at a JSON pointer; raises `Broken` if it may not be so."""


class Broken(Exception):
    """A rule is broken.

    Args:
        rule: in Slack's words.
        pointer: the JSON pointer to what broke it.
        page: the documentation of the object, filled in by the innermost shape around it.
    """

    def __init__(self, rule: str, pointer: str, page: str = "") -> None:
        super().__init__(rule)
        self.rule, self.pointer, self.page = rule, pointer, page

    def refusal(self, error: str) -> SlackRefusal:
        """The same as an answer of Slack's."""
        return SlackRefusal(error, f"{self.rule} [json-pointer:{self.pointer}] {self.page}".rstrip())


def string(most: int, least: int = 0) -> Check:
    """Text of so many characters."""

    def check(value: Any, at: str) -> None:
        if not isinstance(value, str):
            raise Broken("must be a string", at)
        if len(value) < least:
            raise Broken(f"must be more than {least - 1} characters", at)
        if len(value) > most:
            raise Broken(f"must be less than {most + 1} characters", at)

    return check


def web_address(most: int) -> Check:
    """An absolute URL that people can open."""
    length = string(most, 1)

    def check(value: Any, at: str) -> None:
        length(value, at)
        scheme, _, rest = value.partition("://")
        if scheme not in ("http", "https") or not rest or any(each.isspace() for each in value):
            raise Broken("must be a valid URL", at)

    return check


def one_of(*values: Any) -> Check:
    """One of these."""

    def check(value: Any, at: str) -> None:
        if not any(value == each and isinstance(value, type(each)) for each in values):
            raise Broken(f"must be one of {', '.join(map(repr, values))}", at)

    return check


boolean: Check = one_of(True, False)


def integer(least: int, most: int) -> Check:
    """A whole number in a range."""

    def check(value: Any, at: str) -> None:
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            raise Broken(f"must be a number from {least} to {most}", at)

    return check


def array(item: Check, most: int, least: int = 1) -> Check:
    """So many items."""

    def check(value: Any, at: str) -> None:
        if not isinstance(value, list):
            raise Broken("must be an array", at)
        items = cast("list[Any]", value)
        if len(items) < least:
            raise Broken(f"no fewer than {least} items allowed", at)
        if len(items) > most:
            raise Broken(f"no more than {most} items allowed", at)
        for number, each in enumerate(items):
            item(each, f"{at}/{number}")

    return check


def shape(page: str, required: Mapping[str, Check], optional: Mapping[str, Check] | None = None) -> Check:
    """An object with these members and no others; `page` documents it."""
    members = {**required, **(optional or {})}

    def check(value: Any, at: str) -> None:
        try:
            inside(json_object(value, at), at)
        except Broken as broken:
            broken.page = broken.page or page
            raise

    def inside(value: Json, at: str) -> None:
        for name in required:
            if value.get(name) is None:
                raise Broken(f"missing required field: {name}", at)
        for name, member in value.items():
            if name not in members:
                raise Broken(f"invalid additional property: {name}", at)
            members[name](member, f"{at}/{name}")

    return check


def by_type(kinds: Mapping[str, Check], place: str) -> Check:
    """An object whose `type` says which of these it is; no other belongs in that `place`."""

    def check(value: Any, at: str) -> None:
        kind = json_object(value, at).get("type")
        if not isinstance(kind, str) or kind not in kinds:
            raise Broken(f"unsupported type in {place}: {kind}", f"{at}/type")
        kinds[kind](value, at)

    return check


def every(*checks: Check) -> Check:
    """All of these, in their order."""

    def check(value: Any, at: str) -> None:
        for each in checks:
            each(value, at)

    return check


def distinct(name: str, of: Callable[[Any], Sequence[Json]], within: str) -> Check:
    """No two of the objects that `of` gives have the same member `name`."""

    def check(value: Any, at: str) -> None:
        given = [each[name] for each in of(value) if name in each]
        twice = next((each for each in given if given.count(each) > 1), None)
        if twice is not None:
            raise Broken(f"{name} {twice} exists more than once in {within}", at)

    return check


def json_object(value: Any, at: str) -> Json:
    """`value`, if it is a JSON object."""
    if not isinstance(value, dict):
        raise Broken("must be an object", at)
    return cast("Json", value)
