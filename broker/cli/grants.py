"""`broker grant`: the tokens that identify agents."""

from __future__ import annotations

import difflib
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from broker.cli import output, store
from broker.cli.arguments import AsJson, Config, EmailOption, Length, parsed
from broker.domain.audit import timestamp
from broker.domain.durations import parse_duration, written_duration
from broker.domain.people import Grant
from broker.errors import NotFound

if TYPE_CHECKING:
    from broker.settings import Settings
    from broker.store.grants import NewGrant

app = typer.Typer(help="The tokens that identify agents.", no_args_is_help=True)

GrantId = Annotated[str, typer.Argument(metavar="GRANT", help="Its id, as `broker grant list` shows it.")]


Patience = Annotated[
    timedelta | None,
    typer.Option(
        metavar="DURATION",
        help="How long its agent waits for people before it gets a ticket, such as 4m; as its client does without.",
        parser=parsed(parse_duration),
    ),
]


def _label(text: str) -> str:
    if not text.strip():
        raise ValueError("Reviewers know an agent by its label: it cannot be empty.")
    return text


@app.command()
def create(
    upstream: Annotated[list[str], typer.Option(metavar="NAME", help="An upstream that it may use; may be repeated.")],
    label: Annotated[
        str, typer.Option(metavar="TEXT", help="What reviewers see as the agent's name.", parser=parsed(_label))
    ],
    owner: EmailOption,
    expires: Length = None,
    patience: Patience = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Make a grant. Its token is printed once, and only its hash is stored."""
    from broker.store import grants  # noqa: PLC0415

    settings = store.settings(config)
    for name in upstream:
        _check_upstream(settings, name)

    def work(tx: Any) -> NewGrant:
        return grants.create(
            tx,
            store.actor(),
            label=label,
            owner=owner,
            upstreams=frozenset(upstream),
            expires_at=tx.now + expires if expires is not None else None,
            patience=patience,
        )

    _print_new(store.change(config, work), settings, as_json=as_json)


@app.command("list")
def list_grants(config: Config = None, as_json: AsJson = False) -> None:
    """List grants, newest first."""
    from broker.store import grants  # noqa: PLC0415

    now = datetime.now(UTC)
    found = [_described(grant, now) for grant in store.read(config, grants.all_grants)]
    if not as_json:  # the day says enough, and leaves room for names
        found = [{**grant, "expires_at": (grant["expires_at"] or "")[:10] or None} for grant in found]
    columns = ("id", "state", "label", "owner", "upstreams", "expires_at", "patience")
    output.listing(columns, found, as_json=as_json, nothing="There is no grant yet: `broker grant create` makes one.")


@app.command()
def revoke(grant: GrantId, config: Config = None, as_json: AsJson = False) -> None:
    """End a grant. Within a second nothing runs for it any more."""
    from broker.store import grants  # noqa: PLC0415

    ended = store.change(config, lambda tx: grants.revoke(tx, store.actor(), grant))
    if as_json:
        output.say_json(_described(ended, datetime.now(UTC)))
    else:
        output.say(f"Revoked {ended.id} ({ended.label}).")


@app.command()
def rotate(grant: GrantId, config: Config = None, as_json: AsJson = False) -> None:
    """Give a grant a new token; the old one stops working."""
    from broker.store import grants  # noqa: PLC0415

    new = store.change(config, lambda tx: grants.rotate(tx, store.actor(), grant))
    _print_new(new, store.settings(config), as_json=as_json)


def _check_upstream(settings: Settings, name: str) -> None:
    if name in settings.upstreams:
        return
    known = sorted(settings.upstreams)
    nearest = difflib.get_close_matches(name, known, n=1)
    hint = f"the nearest is {nearest[0]}" if nearest else f"there are {', '.join(known)}" if known else "there is none"
    raise NotFound(f"There is no upstream {name} in the settings; {hint}. No grant was made.")


def _print_new(new: NewGrant, settings: Settings, *, as_json: bool) -> None:
    grant = new.grant
    if as_json:
        output.say_json({"id": grant.id, "token": new.token})
        return
    until = f"until {timestamp(grant.expires_at)}" if grant.expires_at else "until it is revoked"
    output.say(f'{grant.id} identifies "{grant.label}" of {grant.owner} {until}.')
    output.say("Its token, shown only now:")
    output.say(f"  {new.token}")
    output.say("Point the MCP client (Streamable HTTP) at the broker:")
    for name in sorted(grant.upstreams):
        output.say(f"  URL     {settings.public_url}/mcp/{name}")
    output.say("  Header  Authorization: Bearer <the token>")


def _described(grant: Grant, now: datetime) -> dict[str, Any]:
    return {
        "id": grant.id,
        "state": "live" if grant.live(now) else "revoked" if grant.revoked_at else "expired",
        "label": grant.label,
        "owner": grant.owner,
        "upstreams": sorted(grant.upstreams),
        "created_at": timestamp(grant.created_at),
        "expires_at": store.instant(grant.expires_at),
        "revoked_at": store.instant(grant.revoked_at),
        "patience": written_duration(grant.patience) if grant.patience is not None else None,
    }
