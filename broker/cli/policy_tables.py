"""`broker policy test`: running tables of calls and what a policy must say of each."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from broker.cli import output, store
from broker.cli.arguments import AsJson, Config
from broker.errors import PolicyError, SettingsError

if TYPE_CHECKING:
    from broker.policy.tables import Difference

FOLDER = Path("policies", "tests")
"""Where tables are looked for, beside the settings."""


@dataclass(frozen=True, slots=True)
class _Ran:
    """What came of one table: `mistake` is why it could not be run."""

    file: Path
    rows: int = 0
    differences: list[Difference] = field(default_factory=list["Difference"])
    mistake: str | None = None

    @property
    def passed(self) -> int:
        """How many rows got what they expected."""
        return self.rows - len(self.differences)

    @property
    def failed(self) -> int:
        """How many did not; a table that could not be run counts as one."""
        return len(self.differences) + (self.mistake is not None)


def run_tables(
    files: Annotated[
        list[Path] | None, typer.Argument(metavar="[FILE…]", help="Tables, or folders of them; else policies/tests.")
    ] = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Run tables: calls, and what a policy must say of each. Exit status 1 if it says anything else."""
    ran = [_run(file) for file in _tables(files or [store.settings(config).folder / FOLDER])]
    if as_json:
        output.say_json({**_sums(ran), "tables": [_as_json(table) for table in ran]})
    else:
        _tell(ran)
    if any(table.failed for table in ran):
        raise typer.Exit(1)


def _tables(given: Iterable[Path]) -> list[Path]:
    from broker.policy.tables import SUFFIXES  # noqa: PLC0415 - pydantic is slow to import

    found: list[Path] = []
    for place in given:
        inside = sorted(file for file in place.iterdir() if file.suffix in SUFFIXES) if place.is_dir() else [place]
        if not inside:
            raise SettingsError(f"There is no table in the folder {place}: their names end in {', '.join(SUFFIXES)}.")
        found.extend(inside)
    return found


def _run(file: Path) -> _Ran:
    from broker.policy.tables import differences, load_table  # noqa: PLC0415

    try:
        table = load_table(file)
    except PolicyError as error:
        return _Ran(file, mistake=str(error))
    return _Ran(file, len(table.rows), differences(table))


def _tell(ran: list[_Ran]) -> None:
    for table in ran:
        told = ", ".join(f"{count} {word}" for word, count in _sums([table]).items() if count)
        output.say(f"{table.file.stem}: {told}", output.colour("failed" if table.failed else "passed"))
        for line in (table.mistake or "").splitlines():
            output.say(f"  {line}")
        for difference in table.differences:
            _tell_difference(difference)
    if len(ran) > 1:
        output.say(f"{len(ran)} tables: " + ", ".join(f"{count} {word}" for word, count in _sums(ran).items()))


def _tell_difference(difference: Difference) -> None:
    row = difference.row
    came = {what: difference.came[what] for what in row.expected}
    output.say(f"  {row.at}: {row.name or row.call.tool}")
    output.say(f"    expected  {_written(row.expected)}")
    output.say(f"    came      {_written(came)}")
    output.say(f"    see       {_explanation(difference)}")


def _written(said: Mapping[str, Any]) -> str:
    """Such as `deny, rule tools.pay.deny_if[0]`."""
    facts = [f"{what} {output.cell(value)}" for what, value in said.items() if what != "action"]
    return ", ".join([str(said["action"]), *facts])


def _explanation(difference: Difference) -> str:
    """The command that shows every rule that was looked at."""
    from broker.policy.tables import EXAMPLE  # noqa: PLC0415

    call = difference.row.call
    policy = Path(difference.policy.source)
    options = {
        "--args": json.dumps(call.arguments, ensure_ascii=False) if call.arguments else None,
        "--upstream": call.upstream if call.upstream != policy.stem else None,
        "--grant-label": call.grant.label if call.grant.label != EXAMPLE.label else None,
        "--owner": call.grant.owner if call.grant.owner != EXAMPLE.owner else None,
        "--session": call.session,
    }
    given = [part for name, value in options.items() if value is not None for part in (name, value)]
    return shlex.join(["broker", "policy", "explain", str(policy), call.tool, *given])


def _sums(ran: Iterable[_Ran]) -> dict[str, int]:
    tables = list(ran)
    return {"passed": sum(table.passed for table in tables), "failed": sum(table.failed for table in tables)}


def _as_json(ran: _Ran) -> dict[str, Any]:
    failures = [
        {
            "at": found.row.at,
            "name": found.row.name,
            "tool": found.row.call.tool,
            "expected": found.row.expected,
            "came": found.came,
            "explain": _explanation(found),
        }
        for found in ran.differences
    ]
    return {"table": str(ran.file), **_sums([ran]), "mistake": ran.mistake, "failures": failures}
