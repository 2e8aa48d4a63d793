"""The matrix as the docs show it: a Markdown table between two markers in docs/clients.md.

What belongs here: words and rows. What does not: measuring what they say (`plays`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping

from tests.clients.matrix.cases import Case, First, Outcome, Scenario, Way
from tests.clients.matrix.drivers import Client
from tests.servers import ROOT

PAGE = ROOT / "docs" / "clients.md"
BEGIN, END = "<!-- matrix: python -m tests.clients.matrix --write -->\n", "<!-- /matrix -->\n"

_ANSWERS = {"approved": "result", "rejected: not today": "reason", "expired: unanswered": "expired"}
_Row = tuple[str, ...]


def table(outcomes: Mapping[Case, Outcome]) -> str:
    """What came of each case, in words. Clients of which the same is true share a row."""
    cells = defaultdict[tuple[Client, Way, bool, bool], dict[Scenario, str]](dict)
    for case, outcome in outcomes.items():
        cells[case.client, case.way, case.limited, case.token][case.scenario] = _cell(outcome)
    tokens = defaultdict[tuple[Client, Way, bool, _Row], list[bool]](list)
    for (client, way, limited, token), told in cells.items():
        tokens[client, way, limited, tuple(told[scenario] for scenario in Scenario)].append(token)
    clients = defaultdict[_Row, list[Client]](list)
    for (client, way, limited, row), with_token in tokens.items():
        clients[way, _either(with_token), "shorter" if limited else "none", *row].append(client)
    rows = sorted(((_names(mine), *row) for row, mine in clients.items()), key=lambda row: row[1:4])
    head = ("clients", "over", "progress token", "own limit", *Scenario)
    return "".join(f"| {' | '.join(row)} |\n" for row in (head, ("---",) * len(head), *rows))


def written() -> str:
    """The table that the docs show now."""
    return PAGE.read_text().split(BEGIN)[1].split(END)[0]


def write(shown: str) -> None:
    """Let the docs show another table."""
    before, rest = PAGE.read_text().split(BEGIN)
    PAGE.write_text(before + BEGIN + shown + END + rest.split(END)[1])


def _cell(outcome: Outcome) -> str:
    if not outcome.answer:
        return "withdrawn" if "withdrawn" in outcome.queue else "not told"
    answer = _ANSWERS[outcome.answer]
    return answer if outcome.first is First.ANSWER else f"{outcome.first} → {answer}"


def _either(tokens: Collection[bool]) -> str:
    return "with or without" if len(tokens) > 1 else "with" if True in tokens else "without"


def _names(clients: Collection[Client]) -> str:
    if len(clients) == len(Client):
        return "all"
    eras = defaultdict[str, list[str]](list)
    for client in clients:
        name, _, era = client.value.partition(", ")
        eras[name].append(era)
    both = {client.value.partition(", ")[0] for client in Client if client.modern}
    return ", ".join(name if name not in both or len(era) > 1 else f"{name} ({era[0]})" for name, era in eras.items())
