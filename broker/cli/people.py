"""`broker user` and `broker sign-in`: who may decide, and their way in."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from broker.cli import output, store
from broker.cli.arguments import AsJson, Config, Email
from broker.domain.people import Person, Role, normal_email

if TYPE_CHECKING:
    from broker.store.identities import Identity

app = typer.Typer(help="People: reviewers, auditors, administrators.", no_args_is_help=True)

LINK_LIFETIME = timedelta(minutes=15)
"""How long a sign-in link can be used (design section 4)."""


@app.command()
def add(
    email: Email,
    role: Annotated[list[Role] | None, typer.Option(help="What they are trusted with; may be repeated.")] = None,
    group: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="A group that policies name as approvers; may be repeated.")
    ] = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Add a person, or give them exactly these roles and groups."""
    from broker.store import people  # noqa: PLC0415

    roles, groups = frozenset(role or ()), frozenset(group or ())
    person = store.change(config, lambda tx: people.save(tx, store.actor(), email, roles, groups))
    if as_json:
        output.say_json(_described(person))
        return
    output.say(f"{person.email} has {_all(person.roles, 'role')} and {_all(person.groups, 'group')}.")
    if not person.roles:
        output.say("Without a role they see only their own grants.")


@app.command("list")
def list_people(config: Config = None, as_json: AsJson = False) -> None:
    """List people, by address."""
    from broker.store import identities, people  # noqa: PLC0415

    everyone, accounts = store.read(config, lambda session: (people.everyone(session), identities.everyone(session)))
    found = [
        {**_described(person), "accounts": [_account(each) for each in accounts if each.email == person.email]}
        for person in everyone
    ]
    nothing = "There is nobody yet: `broker user add` adds a person."
    if as_json:
        output.say_json(found)
    else:
        lines = [{**each, "accounts": list(map(_named, each["accounts"]))} for each in found]
        output.listing(("email", "roles", "groups", "accounts"), lines, as_json=False, nothing=nothing)


@app.command()
def remove(email: Email, config: Config = None, as_json: AsJson = False) -> None:
    """Take a person out, with their sessions and tokens."""
    from broker.store import people  # noqa: PLC0415

    store.change(config, lambda tx: people.remove(tx, store.actor(), email))
    if as_json:
        output.say_json({"email": normal_email(email)})
    else:
        output.say(f"Removed {normal_email(email)}, their sessions and tokens.")


@app.command()
def unlink(email: Email, config: Config = None, as_json: AsJson = False) -> None:
    """Let go of a person's accounts elsewhere, such as in Slack; the next that has their address is linked anew."""
    from broker.store import identities  # noqa: PLC0415

    store.change(config, lambda tx: identities.unlink(tx, store.actor(), email))
    if as_json:
        output.say_json({"email": normal_email(email)})
    else:
        output.say(f"Unlinked {normal_email(email)}: the next account with that confirmed address is theirs.")


def sign_in(email: Email, config: Config = None, as_json: AsJson = False) -> None:
    """Print a link that signs a person in, once, within 15 minutes."""
    from broker.store import people  # noqa: PLC0415

    kind = people.CredentialKind.LINK
    new = store.change(config, lambda tx: people.issue(tx, store.actor(), kind, email, lifetime=LINK_LIFETIME))
    url = f"{store.settings(config).public_url}/sign-in?token={new.secret}"
    if as_json:
        output.say_json({"url": url, "expires_at": store.instant(new.credential.expires_at)})
    else:
        output.say(url)


def _all(names: frozenset[Any], noun: str) -> str:
    return f"the {noun}{'s' if len(names) > 1 else ''} {', '.join(sorted(names))}" if names else f"no {noun}"


def _account(identity: Identity) -> dict[str, Any]:
    return {
        "provider": identity.provider,
        "subject": identity.subject,
        "groups": sorted(identity.groups),
        "roles": sorted(identity.roles),
        "since": store.instant(identity.at),
    }


def _named(account: Mapping[str, Any]) -> str:
    names = [*account["groups"], *account["roles"]]
    vouched = f" ({', '.join(names)})" if names else ""
    return f"{account['provider']} {account['subject']}{vouched}"


def _described(person: Person) -> dict[str, Any]:
    return {"email": person.email, "roles": sorted(person.roles), "groups": sorted(person.groups)}
