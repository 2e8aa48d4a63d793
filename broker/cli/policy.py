"""`broker policy`: what policies say, before an agent hears it."""

from __future__ import annotations

import typer

from broker.cli.policy_explain import explain
from broker.cli.policy_replay import replay
from broker.cli.policy_tables import run_tables

app = typer.Typer(help="Policies: try out what they say.", no_args_is_help=True)
app.command("test")(run_tables)
app.command()(explain)
app.command()(replay)
