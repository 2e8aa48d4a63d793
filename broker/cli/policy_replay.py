"""`broker policy replay`: what recorded calls would get under a policy, where it differs from what they got."""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from broker.cli import output, store
from broker.cli.arguments import AsJson, Config, Since, Until
from broker.domain.recorded import Fate
from broker.errors import SettingsError

if TYPE_CHECKING:
    from sqlmodel import Session

    from broker.domain.recorded import RecordedCall
    from broker.policy.judging.decide import Policy
    from broker.policy.replay import Change, Replay
    from broker.settings import Settings
    from broker.store.calls import Span

WEEK = timedelta(days=7)

_WOULD_BE = {"allow": "allowed", "hold": "held", "deny": "denied", "limited": "refused by a limit"}

_COLUMNS = ("tool", "was", "would_be", "calls", "first", "last", "example", "rule")


def replay(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The policy to judge by.")],
    since: Since = None,
    until: Until = None,
    upstream: Annotated[str | None, typer.Option(metavar="NAME", help="Else the one that has this policy.")] = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Judge the calls of the last days by a policy and show what would differ. Nothing is called or recorded."""
    from broker.policy.load import load_policy  # noqa: PLC0415 - pydantic is slow to import
    from broker.store.calls import recorded, span  # noqa: PLC0415 - SQLAlchemy is slow to import

    policy, settings = load_policy(file), store.settings(config)
    begin, end = since or datetime.now(UTC) - WEEK, until or datetime.now(UTC)

    def query(session: Session) -> tuple[str, Replay]:
        rows = span(session, begin, end)
        name = upstream or _upstream(settings, file, session, rows)
        return name, _replayed(policy, rows, recorded(session, rows, name))

    name, replayed = store.read(config, query)
    if as_json:
        span_told = {"policy": str(file), "upstream": name, "since": store.instant(begin), "until": store.instant(end)}
        output.say_json(span_told | _as_json(replayed))
    else:
        _tell(replayed, name)


def _upstream(settings: Settings, file: Path, session: Session, rows: Span) -> str:
    """Whose calls are meant: the upstream's that has this policy, else that of the only one that was called."""
    from broker.store.calls import upstreams  # noqa: PLC0415

    configured = (settings.policy_path(name) for name in settings.upstreams)
    paths = dict(zip(settings.upstreams, configured, strict=True))
    found = [name for name, path in paths.items() if path is not None and path.resolve() == file.resolve()]
    found = found or upstreams(session, rows)
    if len(found) == 1:
        return found[0]
    if not found:
        raise SettingsError("No call of that time is in the record, so there is nothing to judge.")
    raise SettingsError(f"It may be the policy of {', '.join(found)}: say whose calls are meant with --upstream.")


def _replayed(policy: Policy, rows: Span, calls: Iterable[tuple[int, RecordedCall]]) -> Replay:
    from broker.policy.replay import Replay  # noqa: PLC0415

    replayed = Replay(policy)
    with _progress(rows) as reached:
        for seq, call in calls:
            replayed.judge(call)
            reached(seq)
    return replayed


@contextmanager
def _progress(rows: Span) -> Generator[Callable[[int], object]]:
    """A bar on a terminal's standard error, told how far the record was read; gone when it is done."""
    from rich.console import Console  # noqa: PLC0415 - slow to import
    from rich.progress import Progress  # noqa: PLC0415

    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("Judging", total=rows.last - rows.first + 1)
        yield lambda seq: bar.update(task, completed=seq - rows.first + 1)


# -- for people -------------------------------------------------------------------------------------------------------


def _tell(replayed: Replay, upstream: str) -> None:
    if replayed.changes and not sys.stdout.isatty():
        output.listing(_COLUMNS, [_change(one) for one in replayed.changes], as_json=False, nothing="")
    elif replayed.changes:
        _table(replayed.changes)
    output.say(_summary(replayed, upstream))
    for missing, calls in replayed.unjudged.most_common():
        kept = "their arguments were not kept" if missing == "args" else f"a rule looks at {missing}, which is not kept"
        output.say(f"{calls:,} cannot be judged: {kept}.")


def _summary(replayed: Replay, upstream: str) -> str:
    """Such as `1,204 calls of git: 1,180 the same, 18 would be held, 6 denied.`"""
    told = [(replayed.same, "the same"), (replayed.by_another_rule, "the same by another rule")]
    told += [(replayed.would_be[Fate(fate)], f"would be {word}") for fate, word in _WOULD_BE.items()]
    parts = [f"{calls:,} {words}" for calls, words in told if calls]
    return f"{replayed.calls:,} calls of {upstream}: {', '.join(parts) or 'none judged'}."


def _table(changes: list[Change]) -> None:
    from rich.box import SIMPLE_HEAD  # noqa: PLC0415 - slow to import
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("calls", justify="right", no_wrap=True)
    table.add_column("tool", overflow="fold")
    table.add_column("was → would be", no_wrap=True)
    table.add_column("rule, when, and the first call", overflow="fold")
    for one in changes:
        verdicts = Text.assemble(one.was, " → ", (one.would_be, output.colour(one.would_be)))
        rule = f"{one.was_rule} → {one.rule}" if one.was is one.would_be else one.rule
        when = " to ".join(dict.fromkeys(f"{at:%Y-%m-%d %H:%M}" for at in (one.first, one.last)))
        about = Text.assemble(output.cell(rule), (f"\n{when}\n{one.example}", "dim"))
        table.add_row(f"{one.calls:,}", Text(output.cell(one.tool)), verdicts, about)
    Console().print(table)


# -- for programs -----------------------------------------------------------------------------------------------------


def _change(one: Change) -> dict[str, Any]:
    times = {"first": store.instant(one.first), "last": store.instant(one.last)}
    return asdict(one) | times


def _as_json(replayed: Replay) -> dict[str, Any]:
    return {
        "calls": replayed.calls,
        "same": replayed.same,
        "changes": [_change(one) for one in replayed.changes],
        "not_judged": dict(replayed.unjudged),
    }
