"""The whole command: its nouns, and how it ends. Exit status 0 done, 1 refused or found wrong, 2 wrong usage."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial

import typer

from broker.cli import approvals, audit, connect, demo, grants, people, policy, serve, tokens
from broker.domain.text import visible
from broker.errors import BrokerError, SettingsError

app = typer.Typer(
    name="broker",
    help="A human-in-the-loop gateway for AI agents: risky MCP tool calls wait for a person.",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
    no_args_is_help=True,
)
app.command("serve")(serve.serve)
app.command("demo")(demo.demo)
app.command("connect")(connect.connect)
app.add_typer(policy.app, name="policy")
app.add_typer(grants.app, name="grant")
app.add_typer(people.app, name="user")
app.command("sign-in")(people.sign_in)
app.add_typer(tokens.app, name="token")
app.add_typer(approvals.app, name="approvals")
app.add_typer(audit.app, name="audit")


def main() -> None:
    """Run the command line of this process, and exit."""
    run(partial(app, prog_name="broker"))


def run(work: Callable[[], object]) -> None:
    """Do the work of this process. A mistake is one line on standard error, and the exit status."""
    try:
        work()
    except BrokerError as error:
        told = "\n".join(visible(line) for line in str(error).splitlines())  # a policy's mistakes are a line each
        print(f"broker: {told}", file=sys.stderr)  # noqa: T201 - this is the terminal's side
        sys.exit(2 if isinstance(error, SettingsError) else 1)
