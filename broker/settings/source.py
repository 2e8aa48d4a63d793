"""Where a setting stands: the file and its lines, the variables of the environment; and errors that say so.

What belongs here: finding the place of a key, wording a mistake. What does not: what is legal (`shape`).
"""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path
from typing import Any, cast

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from broker.domain.mistakes import plain_mistake
from broker.errors import SettingsError
from broker.settings.shape import (
    ApprovalSettings,
    ClientSettings,
    OidcSettings,
    Sections,
    ServerSettings,
    SlackSettings,
    StoreSettings,
    UpstreamSettings,
)

PREFIX = "BROKER_"
DEFAULT_FILE = Path("broker.toml")

Steps = tuple[str, ...]
"""The way to a key, such as ``("upstreams", "git", "command")``."""

_TABLES: dict[Steps, type[BaseModel]] = {
    (): Sections,
    ("server",): ServerSettings,
    ("store",): StoreSettings,
    ("upstreams", "*"): UpstreamSettings,
    ("approvals",): ApprovalSettings,
    ("clients", "*"): ClientSettings,
    ("slack",): SlackSettings,
    ("oidc",): OidcSettings,
}

_HEADER = re.compile(r"\s*\[([^\[\]]+)\]")
_KEY = re.compile(r"""\s*((?:[\w-]+|"[^"]*"|'[^']*')(?:\s*\.\s*(?:[\w-]+|"[^"]*"|'[^']*'))*)\s*=""")
_STEP = re.compile(r"""[\w-]+|"[^"]*"|'[^']*'""")


@dataclass(frozen=True)
class Source:
    """A settings file, or none; its `text` is never shown whole, since it may hold secrets."""

    file: Path | None = None
    text: str = field(default="", repr=False)

    @classmethod
    def find(cls, path: Path | None) -> Source:
        """The file at `path`, else at `$BROKER_CONFIG`, else `broker.toml` here if there is one.

        Raises:
            SettingsError: the file that was named cannot be read.
        """
        named = path or (Path(found) if (found := os.environ.get("BROKER_CONFIG")) else None)
        file = named or (DEFAULT_FILE if DEFAULT_FILE.exists() else None)
        if file is None:
            return cls()
        try:
            text = file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            why = getattr(error, "strerror", None) or "it is not UTF-8"
            raise SettingsError(f"The settings file {file} cannot be read: {why}.") from error
        if text.startswith("\ufeff"):
            raise SettingsError(
                f"The settings file {file} starts with a byte-order mark: save it as UTF-8 without one."
            )
        return cls(file.absolute(), text)

    @property
    def folder(self) -> Path:
        """Where relative paths start."""
        return self.file.parent if self.file else Path.cwd()

    def values(self) -> dict[str, Any]:
        """What the file says.

        Raises:
            SettingsError: it is not TOML; names the line.
        """
        try:
            return tomllib.loads(self.text)
        except tomllib.TOMLDecodeError as error:
            raise SettingsError(f"{self.file} is not TOML: {error}.") from error

    def mistake(self, error: ValidationError) -> SettingsError:
        """The first mistake that was found, as one sentence; what is missing last, for it may only be misspelt."""
        found = min(error.errors(include_url=False), key=_is_missing)
        steps = tuple(str(step) for step in found["loc"] if step != "[key]")
        place = self._place(steps[:-1] if _is_missing(found) else steps)
        return SettingsError(f"{place}{'.'.join(steps)}: {_sentence(found, steps)}.")

    def error(self, steps: Steps, sentence: str) -> SettingsError:
        """An error about the key at `steps`, that says where it stands."""
        return SettingsError(f"{self._place(steps)}{'.'.join(steps)}: {sentence}.")

    def _place(self, steps: Steps) -> str:
        if (variable := _variable(steps)) is not None:
            return f"{variable} in the environment, "
        if self.file is None or not self._sets(steps):
            return ""  # a default, or made by a program: no place to look at
        line = _line(self.text, steps)
        return f"{self.file}, line {line}, " if line else f"{self.file}, "

    def _sets(self, steps: Steps) -> bool:
        """Whether the file says anything of the key at `steps`."""
        found: Any = self.values()
        for step in steps:
            if not isinstance(found, dict):
                break  # a value of the wrong kind stands where a table belongs
            if step not in found:
                return False
            found = cast("dict[str, Any]", found)[step]
        return True


def check_variables() -> None:
    """Look at the names of our variables, which the reader would pass over when they name nothing.

    Raises:
        SettingsError: a `BROKER_<SECTION>__<KEY>` names no section, only a section, or goes deeper than keys do.
    """
    for section in Sections.model_fields:
        if (variable := PREFIX + section.upper()) in os.environ:
            raise SettingsError(f"{variable} in the environment: expected one {variable}__KEY for each key.")
    for variable, steps in _variables().items():
        depth = 3 if steps[0] in ("upstreams", "clients") else 2
        if steps[0] not in Sections.model_fields:
            raise SettingsError(f"{variable} in the environment: {_unknown(steps[:1])}.")
        if len(steps) > depth:
            name = PREFIX + "__".join(steps[:depth]).upper()
            raise SettingsError(f"{variable} in the environment: expected a table as JSON in {name}.")


def _variables() -> dict[str, Steps]:
    """Our variables with the key each is for, in the order of their names."""
    mine = (name for name in sorted(os.environ) if name.upper().startswith(PREFIX) and "__" in name)
    return {name: tuple(name[len(PREFIX) :].lower().split("__")) for name in mine}


def _variable(steps: Steps) -> str | None:
    """The variable that gives the key at `steps`, or a table or a part of it."""
    for name, given in _variables().items():
        if steps[: len(given)] == given or (steps and given[: len(steps)] == steps):
            return name
    return None


def _line(text: str, steps: Steps) -> int | None:
    """The line where the key at `steps` stands, else the table it is in."""
    best, line, table = 0, None, ()
    for number, written in enumerate(text.splitlines(), 1):
        if header := _HEADER.match(written):
            table = at = _steps(header[1])
        elif key := _KEY.match(written):
            at = (*table, *_steps(key[1]))
        else:
            continue
        shared = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(at, steps, strict=False)))
        if shared > best:
            best, line = shared, number
    return line


def _steps(dotted: str) -> Steps:
    return tuple(step.strip("\"'") for step in _STEP.findall(dotted))


def _is_missing(found: ErrorDetails) -> bool:
    return found["type"] == "missing"


def _sentence(found: ErrorDetails, steps: Steps) -> str:
    if found["type"] == "extra_forbidden":
        return _unknown(steps)
    return plain_mistake(found).replace("expected an object", "expected a table")  # TOML's word


def _unknown(steps: Steps) -> str:
    table = tuple("*" if index == 1 else step for index, step in enumerate(steps[:-1]))
    legal = list(_TABLES[table].model_fields)
    nearest = difflib.get_close_matches(steps[-1], legal, n=1)
    hint = f"the nearest is {nearest[0]}" if nearest else f"there are {', '.join(legal)}"
    return f"this version has no such setting; {hint}"
