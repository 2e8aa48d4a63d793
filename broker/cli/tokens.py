"""`broker token`: what people's own programs use the HTTP API with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from broker.cli import output, store
from broker.cli.arguments import AsJson, Config, Email
from broker.domain.audit import timestamp

if TYPE_CHECKING:
    from broker.store.people import Credential

app = typer.Typer(help="API tokens of people.", no_args_is_help=True)


@app.command()
def create(
    email: Email,
    label: Annotated[str, typer.Option(metavar="TEXT", help="What it is for.")],
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Make an API token of a person. It is printed once, and only its hash is stored."""
    from broker.store import people  # noqa: PLC0415

    kind = people.CredentialKind.TOKEN
    new = store.change(config, lambda tx: people.issue(tx, store.actor(), kind, email, label=label))
    if as_json:
        output.say_json({"id": new.credential.id, "token": new.secret})
        return
    output.say(f'{new.credential.id} is the token "{label}" of {new.credential.person}, shown only now:')
    output.say(f"  {new.secret}")
    output.say("Commands such as `broker approvals list` take it from BROKER_TOKEN; requests send it as")
    output.say("  Authorization: Bearer <the token>")


@app.command("list")
def list_tokens(config: Config = None, as_json: AsJson = False) -> None:
    """List the tokens that are not revoked, newest first."""
    from broker.store import people  # noqa: PLC0415

    found = [_described(token) for token in store.read(config, people.tokens)]
    nothing = "There is no token: `broker token create` makes one."
    output.listing(("id", "person", "label", "created_at"), found, as_json=as_json, nothing=nothing)


@app.command()
def revoke(
    token: Annotated[str, typer.Argument(metavar="TOKEN", help="Its id, as `broker token list` shows it.")],
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """End a token."""
    from broker.store import people  # noqa: PLC0415

    store.change(config, lambda tx: people.end(tx, store.actor(), token))
    if as_json:
        output.say_json({"id": token})
    else:
        output.say(f"Revoked {token}.")


def _described(token: Credential) -> dict[str, Any]:
    return {
        "id": token.id,
        "person": token.person,
        "label": token.label,
        "created_at": timestamp(token.created_at),
        "expires_at": store.instant(token.expires_at),
    }
