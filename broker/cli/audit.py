"""`broker audit`: searching the record, taking it out, and verifying it."""

from __future__ import annotations

import os
import sys
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from itertools import islice, takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TextIO

import typer

from broker.cli import output, store
from broker.cli.arguments import AsJson, Config, Instant, KindName, NotedHead
from broker.domain import audit, exports
from broker.domain.audit import Head, Row
from broker.domain.searching import AuditFilter, Outcome
from broker.errors import BrokerError, SettingsError

if TYPE_CHECKING:
    from sqlmodel import Session

    from broker.settings import Settings

app = typer.Typer(help="The record of every call and decision.", no_args_is_help=True)


class Format(StrEnum):
    """How a row is written. Only JSON Lines can be verified."""

    JSONL = "jsonl"
    CSV = "csv"


@app.command()
def search(
    text: Annotated[str | None, typer.Argument(help="Looked for in names, actors, rules and details.")] = None,
    since: Instant = None,
    until: Instant = None,
    actor: str | None = None,
    upstream: str | None = None,
    tool: str | None = None,
    grant: Annotated[str | None, typer.Option(help="A grant's id or its label.")] = None,
    kind: KindName = None,
    approval: str | None = None,
    outcome: Annotated[Outcome | None, typer.Option(help="What a row says became of its call.")] = None,
    channel: Annotated[str | None, typer.Option(help="Where it was decided: slack:#desktop, or slack.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="The most rows.")] = 50,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Search the record, newest first."""
    from broker.store.searching import pages  # noqa: PLC0415

    wanted = AuditFilter(since, until, text, actor, upstream, tool, grant, kind, approval, outcome, channel)
    rows = store.read(config, lambda session: list(islice(pages(session, wanted), limit)))
    found = [audit.as_json(row) for row in rows]
    seconds = found if as_json else [{**row, "at": f"{row['at'][:19]}Z"} for row in found]
    columns = ("seq", "at", "kind", "actor", "upstream", "tool", "detail")
    output.listing(columns, seconds, as_json=as_json, nothing="Nothing in the record matches.")


@app.command()
def export(
    written: Annotated[
        Format, typer.Option("--format", help="JSON Lines can be verified; CSV is for spreadsheets.")
    ] = Format.JSONL,
    to: Annotated[
        Path | None, typer.Option("--output", metavar="FILE", help="Made with mode 0600; else standard output.")
    ] = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Write the whole record, oldest row first. `broker audit verify FILE` checks an export without the store."""
    from broker.store.audit import stream  # noqa: PLC0415

    count = 0

    def counted(rows: Iterable[Row]) -> Iterable[Row]:
        nonlocal count
        for count, row in enumerate(rows, 1):  # noqa: B007 - read below
            yield row

    def query(session: Session) -> None:
        rows = counted(stream(session))
        with _opened(to) as file:
            file.writelines(exports.as_jsonl(rows) if written is Format.JSONL else exports.as_csv(rows))

    store.read(config, query)
    if to is not None and as_json:
        output.say_json({"file": str(to), "rows": count})
    elif to is not None:
        output.say(f"Wrote {count} rows to {to}.")


@app.command()
def verify(
    file: Annotated[Path | None, typer.Argument(metavar="[FILE]", help="A JSON Lines export; else the store.")] = None,
    head: NotedHead = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Walk the hash chain of the store, or of an export without any store, and name the first broken row.

    In the store, the calls that are kept are compared with their rows as well. A record that was cut off, or written
    anew as a whole, is found by a head that was noted elsewhere: give it as --head.
    """
    if file is not None:
        verified = _Verified(_verify_file(file, head))
    else:
        settings = store.settings(config)
        verified = store.read(config, lambda session: _verify_store(session, settings, head))
    if as_json:
        reached = {"rows": verified.head.seq, "digest": verified.head.digest}
        output.say_json(reached if file is not None else reached | {"calls": verified.calls})
        return
    output.say(f"{verified.head.seq} rows verified. The last one's digest is {verified.head.digest}.")
    if verified.about_calls:
        output.say(verified.about_calls)
    if head is None:
        output.say(
            "Compare both with what was noted elsewhere, since a record that was cut off verifies too. For next time:"
        )
        output.say(f"  --head {verified.head.seq}:{verified.head.digest}")


@dataclass(frozen=True, slots=True)
class _Verified:
    """How far the chain holds, and of how many rows the call is kept and the recorded one (None: not looked at)."""

    head: Head
    calls: int | None = None
    about_calls: str = ""


def _verify_store(session: Session, settings: Settings, noted: Head | None) -> _Verified:
    from broker.domain.canonical import Keyring  # noqa: PLC0415
    from broker.store.audit import check_contents, head, stream  # noqa: PLC0415

    end = head(session)
    # A running server may append while this reads: what it adds behind the head that was read is not looked at.
    reached = audit.verify(takewhile(lambda row: row.seq <= end.seq, stream(session)), end, noted)
    try:
        keyring = Keyring(settings.present_secrets())
    except SettingsError as error:
        return _Verified(reached, None, f"The calls that are kept were not compared with their rows: {error}")
    calls = check_contents(session, keyring, end.seq)
    return _Verified(reached, calls, f"The calls that are kept for {calls} of them are the recorded ones.")


def _verify_file(file: Path, noted: Head | None) -> Head:
    try:
        with file.open(encoding="utf-8", newline="\n") as lines:
            reached = audit.verify(exports.rows_from_jsonl(lines), noted=noted)
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is not UTF-8"
        raise BrokerError(f"The export {file} cannot be read: {why}.") from error
    if reached.seq == 0:
        raise BrokerError(f"The export {file} is empty: there is nothing to verify.")
    return reached


@contextmanager
def _opened(file: Path | None) -> Generator[TextIO]:
    if file is None:
        yield sys.stdout
        return
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    except OSError as error:
        raise BrokerError(f"The file {file} cannot be written: {error.strerror}.") from error
    with os.fdopen(descriptor, "w", encoding="utf-8", newline="") as opened:
        os.fchmod(descriptor, 0o600)  # one that was there already may be open to others
        yield opened
