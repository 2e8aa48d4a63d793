"""`broker policy`: looking at policy documents before they count."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from broker.cli import output, store
from broker.cli.arguments import AsJson, Config
from broker.cli.policy_explain import explain
from broker.cli.policy_replay import replay
from broker.cli.policy_tables import run_tables
from broker.domain.text import visible
from broker.errors import BrokerError, Finding, PolicyError, SettingsError

if TYPE_CHECKING:
    from broker.domain.people import Person
    from broker.policy.model import Rulebook

app = typer.Typer(help="Policies: what is done with the calls of a server's tools.", no_args_is_help=True)

_WIDTH = 120
"""Columns of a line from a file where no terminal says how many there are."""


@dataclass(frozen=True, slots=True)
class _Checked:
    """What there is to say of one file; `told` is for people, when it has no mistakes."""

    file: Path
    text: str
    told: str = ""
    mistakes: Sequence[Finding] = ()
    warnings: Sequence[Finding] = ()


@app.command()
def check(
    files: Annotated[
        list[Path] | None, typer.Argument(metavar="FILE", help="Else the policies that the settings name.")
    ] = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Find every mistake of policies, and what is probably wrong with them. Exit status 1: there are mistakes."""
    people = cache(lambda: _people(config))
    checked = [_check(file, people) for file in files or _configured(config)]
    if as_json:
        output.say_json({"files": [_as_json(one) for one in checked]})
    else:
        for one in checked:
            _tell(one)
        _summary(checked)
    if any(one.mistakes for one in checked):
        raise typer.Exit(1)


app.command()(explain)
app.command("test")(run_tables)
app.command()(replay)


@app.command("schema")
def print_schema() -> None:
    """Print the JSON Schema of policies, for editors."""
    from broker.policy.language.schema import policy_schema  # noqa: PLC0415

    output.say_json(policy_schema())


def _configured(config: Path | None) -> list[Path]:
    settings = store.settings(config)
    named = [path for upstream in settings.upstreams if (path := settings.policy_path(upstream)) is not None]
    if not named:
        raise typer.BadParameter("The settings name no policy: name a file to check.")
    return list(dict.fromkeys(named))


def _check(file: Path, people: Callable[[], Sequence[Person] | None]) -> _Checked:
    from broker.policy.language.warnings import asks_for_people, warnings  # noqa: PLC0415
    from broker.policy.load import parse_document, read_document  # noqa: PLC0415

    text = b""
    try:
        text = read_document(file)
        reading = parse_document(text, str(file))
    except PolicyError as error:
        return _Checked(file, text.decode(errors="replace"), mistakes=error.mistakes)
    book = reading.policy.book
    found = warnings(reading.tree, book, people() if asks_for_people(book) else None)
    return _Checked(file, text.decode(), _told(book), warnings=found)


def _told(book: Rulebook) -> str:
    tools = _counted(len(book.entries), "tool")
    return f"{tools}, default {book.unlisted.action.value}"


def _people(config: Path | None) -> Sequence[Person] | None:
    """All people, or None when there is no store to ask; one that is not there is not made."""
    from broker.store.people import everyone  # noqa: PLC0415

    try:
        url = store.settings(config).store_url()
        is_there = not url.startswith("sqlite:///") or Path(url.removeprefix("sqlite:///")).is_file()
        return store.read(config, everyone) if is_there else None
    except SettingsError:
        if config is not None:
            raise
        return None
    except BrokerError:
        return None


# -- how it is told ---------------------------------------------------------------------------------------------------


def _as_json(checked: _Checked) -> dict[str, Any]:
    return {
        "file": str(checked.file),
        "ok": not checked.mistakes,
        "mistakes": [_finding_as_json(finding) for finding in checked.mistakes],
        "warnings": [_finding_as_json(finding) for finding in checked.warnings],
    }


def _finding_as_json(finding: Finding) -> dict[str, Any]:
    nearest = {} if finding.nearest is None else {"nearest": finding.nearest}
    place = {"line": finding.line, "column": finding.column, "path": finding.path}
    return {**place, "message": finding.message, **nearest}


def _tell(checked: _Checked) -> None:
    from broker.policy.language.mistakes import line  # noqa: PLC0415

    if not checked.mistakes:
        output.say(f"{checked.file}: {checked.told}", "green")
    lines = re.split(r"\r\n|\r|\n", checked.text)
    for kind, style, findings in (("", "red", checked.mistakes), ("warning", "yellow", checked.warnings)):
        for finding in findings:
            output.say(line(str(checked.file), finding, kind), style)
            if finding.line is not None and finding.column is not None and lines[finding.line - 1]:
                for shown in _excerpt(lines[finding.line - 1], finding.column):
                    output.say(f"    {shown}")


def _excerpt(line: str, column: int) -> tuple[str, str]:
    """The line of a file, as much as fits, and a mark under a column of it."""
    from rich.cells import cell_len, set_cell_size  # noqa: PLC0415

    width = shutil.get_terminal_size((_WIDTH, 0)).columns - 6
    start = max(0, column - 1 - width // 2) if len(line) > width else 0
    before = visible(line[start : column - 1].replace("\t", " "))
    before = "…" + before[1:] if start and before else before
    shown = before + visible(line[column - 1 : column + width].replace("\t", " "))
    if cell_len(shown) > width:
        shown = set_cell_size(shown, width - 1).rstrip() + "…"
    return shown, " " * cell_len(before) + "^"


def _summary(checked: Sequence[_Checked]) -> None:
    mistakes = sum(len(one.mistakes) for one in checked)
    warnings = sum(len(one.warnings) for one in checked)
    if len(checked) > 1 or mistakes or warnings:
        said = [_counted(mistakes, "mistake") if mistakes else "no mistakes"]
        said += [_counted(warnings, "warning")] if warnings else []
        output.say(f"{_counted(len(checked), 'file')} checked: {', '.join(said)}.")


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
