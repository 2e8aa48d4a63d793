"""What commands take: `--config`, `--json`, e-mail addresses, times, kinds and heads of the record."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from broker.domain.audit import Head, Kind, kind_named
from broker.domain.durations import parse_duration

T = TypeVar("T")


def parsed(parse: Callable[[str], T]) -> Callable[[str], T]:
    """`parse` for typer: its ValueError is a wrong usage."""

    def parser(text: str) -> T:
        try:
            return parse(text)
        except ValueError as error:
            raise typer.BadParameter(str(error)) from error

    return parser


def _email(text: str) -> str:
    if not re.fullmatch(r"[^@\s]+@[^@\s]+", text.strip()):
        raise ValueError(f"{text!r} is not an e-mail address.")
    return text.strip()


def _instant(text: str) -> datetime:
    try:
        instant = datetime.fromisoformat(text)
    except ValueError as error:
        raise ValueError(f"{text!r} is not an instant such as 2026-07-28 or 2026-07-28T12:00:00Z.") from error
    return instant.astimezone()  # without an offset it is the terminal's own time


def _moment(text: str) -> datetime:
    try:
        return datetime.now(UTC) - parse_duration(text)
    except ValueError:
        pass
    try:
        return _instant(text)
    except ValueError as error:
        raise ValueError(
            f"{text!r} is neither how long ago, such as 7d, nor an instant, such as 2026-07-28."
        ) from error


def _head(text: str) -> Head:
    if not re.fullmatch(r"[1-9][0-9]{0,17}:[0-9a-f]{64}", text.strip()):
        raise ValueError(f"{text!r} is not SEQ:DIGEST, such as `broker audit verify` prints it.")
    seq, _, digest = text.strip().partition(":")
    return Head(int(seq), digest)


Config = Annotated[
    Path | None,
    typer.Option("--config", metavar="FILE", help="The settings; else $BROKER_CONFIG, else broker.toml here."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
Email = Annotated[str, typer.Argument(metavar="EMAIL", parser=parsed(_email))]
EmailOption = Annotated[
    str, typer.Option(metavar="EMAIL", help="Whose agent it is: they never approve its calls.", parser=parsed(_email))
]
Length = Annotated[
    timedelta | None,
    typer.Option(
        metavar="DURATION", help="How long it counts, such as 30d; for ever without.", parser=parsed(parse_duration)
    ),
]
Instant = Annotated[datetime | None, typer.Option(metavar="TIME", parser=parsed(_instant))]
Since = Annotated[
    datetime | None,
    typer.Option(metavar="TIME", help="From when on: an instant, or how long ago, such as 7d.", parser=parsed(_moment)),
]
Until = Annotated[
    datetime | None,
    typer.Option(metavar="TIME", help="Before when, the same way; else until now.", parser=parsed(_moment)),
]
KindName = Annotated[Kind | None, typer.Option(metavar="KIND", help="Such as call.denied.", parser=parsed(kind_named))]
NotedHead = Annotated[
    Head | None,
    typer.Option(
        "--head",
        metavar="SEQ:DIGEST",
        help="A head that was noted elsewhere: the record has to contain it.",
        parser=parsed(_head),
    ),
]
