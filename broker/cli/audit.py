"""`broker audit`: searching the record, taking it out, and verifying it."""

from __future__ import annotations

import os
import sys
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from enum import StrEnum
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TextIO

import typer

from broker.cli import output, store
from broker.cli.arguments import AsJson, Config, Instant
from broker.domain import audit, exports
from broker.domain.audit import Head, Row
from broker.errors import BrokerError

if TYPE_CHECKING:
    from sqlmodel import Session

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
    grant: str | None = None,
    kind: str | None = None,
    approval: str | None = None,
    limit: Annotated[int, typer.Option(min=1, help="The most rows.")] = 50,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Search the record, newest first."""
    from broker.store.audit import AuditFilter, page  # noqa: PLC0415

    wanted = AuditFilter(since, until, text, actor, upstream, tool, grant, kind, approval)
    found = [audit.as_json(row) for row in store.read(config, lambda session: page(session, wanted, limit=limit))]
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
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Walk the hash chain of the store, or of an export without any store, and name the first broken row."""
    head = _verify_file(file) if file is not None else store.read(config, _verify_store)
    if as_json:
        output.say_json({"rows": head.seq, "digest": head.digest})
    else:
        output.say(f"{head.seq} rows verified. The last one's digest is {head.digest}.")


def _verify_store(session: Session) -> Head:
    from broker.store.audit import head, stream  # noqa: PLC0415

    end = head(session)
    # A running server may append while this reads: what it adds behind the head that was read is not looked at.
    return audit.verify(takewhile(lambda row: row.seq <= end.seq, stream(session)), end)


def _verify_file(file: Path) -> Head:
    try:
        with file.open(encoding="utf-8", newline="\n") as lines:
            return audit.verify(exports.rows_from_jsonl(lines))
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is not UTF-8"
        raise BrokerError(f"The export {file} cannot be read: {why}.") from error


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
