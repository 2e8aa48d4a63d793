"""Tables: what a policy must say of example calls, so that an edit which changes it is noticed.

A table is a YAML or JSON file. One row is one call and what is expected of it, best on one line::

    policy: ../kwin.json              # beside the table
    upstream: kwin                    # what rules see of the server; the policy's name when left out
    grant: {label: ci agent, owner: olga@example.com}
    calls:
      - {tool: screenshot, expect: allow}
      - {tool: launch_app, args: {command: kcalc}, expect: {action: hold, rule: tools.launch_app.action}}

A row may have `name`, `grant` and `session`; `expect` may have `rule`, `reason`, `risk` and `limits`, the counters that
the call is charged to. What is left out of `expect` is not looked at.

What belongs here: reading a table and running it. What does not: showing what came of it (`broker.cli`); whether a
limit is used up, which needs the record.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError, field_validator

from broker.domain.calls import Action, Call, Risk, Verdict
from broker.domain.canonical import canonical_json
from broker.domain.people import GrantRef
from broker.policy.judging.decide import Policy, decide
from broker.policy.language.documents import Terms
from broker.policy.language.mistakes import refusal, shape_mistakes
from broker.policy.language.source import read_tree
from broker.policy.language.tree import Unreadable
from broker.policy.language.values import Counter, Text
from broker.policy.load import load_policy, read_document

SUFFIXES = (".yaml", ".yml", ".json")
"""How the file of a table may end."""

EXAMPLE = GrantRef("grt_example", "an agent", "owner@example.com")
"""Who calls where nobody is named."""


class GrantTerms(Terms):
    """Whose call it is."""

    id: Text = EXAMPLE.id
    label: Text = EXAMPLE.label
    owner: Text = EXAMPLE.owner


class ExpectTerms(Terms):
    """What the policy must say."""

    action: Action
    rule: Text | None = None
    reason: Text | None = None
    risk: Risk | None = None
    limits: list[Counter] | None = None


class RowTerms(Terms):
    """One call, and what is expected of it."""

    name: Text | None = None
    tool: Text
    args: dict[str, Any] = Field(default_factory=dict[str, Any])
    grant: GrantTerms | None = None
    session: Text | None = None
    expect: ExpectTerms

    @field_validator("expect", mode="before")
    @classmethod
    def _short(cls, given: Any) -> Any:
        """`expect: hold` for `expect: {action: hold}`."""
        return {"action": given} if isinstance(given, str) else given


class TableTerms(Terms):
    """A whole table."""

    policy: Text
    upstream: Text | None = None
    grant: GrantTerms = GrantTerms()
    calls: list[RowTerms] = Field(min_length=1)


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a table.

    Args:
        at: the file and the line.
        expected: what is looked at, by its name: `action`, `rule`, `reason`, `risk`, `limits`.
    """

    at: str
    name: str | None
    call: Call
    expected: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Table:
    """A table with the policy that it is about."""

    file: Path
    policy: Policy
    rows: tuple[Row, ...]


@dataclass(frozen=True, slots=True)
class Difference:
    """A row to which the policy says something else than expected: what `came`, by the same names."""

    policy: Policy
    row: Row
    came: Mapping[str, Any]


def load_table(file: Path) -> Table:
    """The table in `file`, with its policy.

    Raises:
        PolicyError: one of the two cannot be read or is none; a line for each mistake, with its place.
    """
    try:
        tree = read_tree(read_document(file, "table"), str(file))
    except Unreadable as error:
        raise refusal(str(file), [error.finding]) from error
    mistakes, terms = list(tree.mistakes), None
    try:
        terms = TableTerms.model_validate_json(canonical_json(tree.value))
    except ValidationError as error:
        mistakes += shape_mistakes(error, TableTerms, tree)
    if terms is None or mistakes:
        raise refusal(str(file), mistakes)
    policy = Path(os.path.normpath(file.parent / terms.policy))
    upstream = terms.upstream or policy.stem
    lines = (tree.places["calls", index][1].line for index in range(len(terms.calls)))
    rows = (_row(f"{file}:{line}", row, terms, upstream) for line, row in zip(lines, terms.calls, strict=True))
    return Table(file, load_policy(policy), tuple(rows))


def differences(table: Table) -> list[Difference]:
    """The rows of `table` to which its policy says something else than expected, in their order."""
    found: list[Difference] = []
    for row in table.rows:
        came = _said(decide(table.policy, row.call))
        if any(came[what] != value for what, value in row.expected.items()):
            found.append(Difference(table.policy, row, came))
    return found


def _said(verdict: Verdict) -> dict[str, Any]:
    return {
        "action": verdict.action,
        "rule": verdict.rule,
        "reason": verdict.reason,
        "risk": verdict.risk,
        "limits": [charge.counter for charge in verdict.charges],
    }


def _row(at: str, row: RowTerms, terms: TableTerms, upstream: str) -> Row:
    who = row.grant or terms.grant
    params = {"name": row.tool, "arguments": row.args}
    call = Call(at, upstream, row.tool, params, GrantRef(who.id, who.label, who.owner), row.session)
    return Row(at, row.name, call, {name: getattr(row.expect, name) for name in row.expect.model_fields_set})
