"""`broker approvals`: reviewing from a terminal, over the HTTP API.

`BROKER_URL` says where the broker is (else the settings' public_url), `BROKER_TOKEN` who decides. What does not belong
here: the store; a decision goes through the same door as everybody's.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import quote

import typer

from broker.cli import output, store
from broker.cli.approval_lines import call_of, line, said_of, say_whole
from broker.cli.arguments import AsJson, Config
from broker.domain.approvals import Decision, State
from broker.errors import BrokerError, SettingsError

if TYPE_CHECKING:
    import httpx2

app = typer.Typer(help="Held calls: look at them and decide, over the HTTP API.", no_args_is_help=True)

EVERY = "all"


def _wanted(text: str) -> str:
    if text in (EVERY, *State):
        return text
    raise typer.BadParameter(f"{text!r} is not one of {EVERY}, {', '.join(State)}.")


ApprovalId = Annotated[str, typer.Argument(metavar="APPROVAL", help="Its id, as `broker approvals list` shows it.")]


@app.command("list")
def list_approvals(
    state: Annotated[str, typer.Option(metavar="STATE", help="Or `all`.", parser=_wanted)] = State.PENDING.value,
    limit: Annotated[int, typer.Option(min=1, help="The most approvals.")] = 50,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """List what waits for a person, newest first; with --state what is in another state, or all."""
    found: list[dict[str, Any]] = []
    query: dict[str, str] = {} if state == EVERY else {"state": state}
    more = True
    while more and len(found) <= limit:
        page = _ask(config, "GET", "", query=query)
        found.extend(page["items"])
        more = bool(page["next"])
        query["cursor"] = page["next"] or ""
    shown = found[:limit] if as_json else [line(item) for item in found[:limit]]
    nothing = "Nothing waits." if state == State.PENDING else "There is no such approval."
    columns = ("id", "left" if state == State.PENDING else "state", "tool", "agent", "marks")
    output.listing(columns, shown, as_json=as_json, nothing=nothing)
    if len(found) > limit:
        output.warn(f"These are the newest {limit}; --limit shows more.")


@app.command()
def show(approval: ApprovalId, config: Config = None, as_json: AsJson = False) -> None:
    """Show one approval: exactly what will run, who asks and why, who may decide, and what happened to it."""
    found = _ask(config, "GET", _path(approval))
    if as_json:
        output.say_json(found)
    else:
        say_whole(found)


@app.command()
def approve(
    approval: ApprovalId,
    reason: Annotated[str | None, typer.Option(metavar="TEXT", help="Kept with the decision.")] = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Let a held call run, once."""
    _decide(config, approval, Decision.APPROVE, reason, as_json=as_json)


@app.command()
def reject(
    approval: ApprovalId,
    reason: Annotated[str | None, typer.Option(metavar="TEXT", help="The agent is told.")] = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Refuse a held call."""
    _decide(config, approval, Decision.REJECT, reason, as_json=as_json)


@app.command()
def withdraw(approval: ApprovalId, config: Config = None, as_json: AsJson = False) -> None:
    """End a held or approved call, so that it does not run: for administrators."""
    ended = _ask(config, "POST", f"{_path(approval)}/withdraw")
    _say(ended, f"Withdrew {call_of(ended)}: it does not run.", as_json=as_json)


@app.command()
def forget(approval: ApprovalId, config: Config = None, as_json: AsJson = False) -> None:
    """Forget a rejection, so that the identical call asks again."""
    rejected = _ask(config, "POST", f"{_path(approval)}/forget")
    _say(rejected, f"Forgot the rejection of {call_of(rejected)}: it asks again.", as_json=as_json)


def _decide(config: Path | None, approval: str, decision: Decision, reason: str | None, *, as_json: bool) -> None:
    seen = _ask(config, "GET", _path(approval))
    body = {"decision": decision.value, "reason": reason, "revision": seen["revision"]}
    decided = _ask(config, "POST", f"{_path(approval)}/decision", body=body)
    _say(decided, said_of(decided, decision), as_json=as_json)


def _say(approval: dict[str, Any], sentence: str, *, as_json: bool) -> None:
    if as_json:
        output.say_json(approval)
    else:
        output.say(sentence)


def _path(approval: str) -> str:
    return "/" + quote(approval, safe="")


def _ask(
    config: Path | None,
    method: str,
    path: str,
    *,
    query: dict[str, str] | None = None,
    body: dict[str, Any] | None = None,
) -> Any:
    """One request to `/api/v1/approvals…`.

    Raises:
        SettingsError: there is no token.
        BrokerError: the broker cannot be reached, or says no; the message is its own.
    """
    import httpx2  # noqa: PLC0415 - slow to import

    if not (token := os.environ.get("BROKER_TOKEN")):
        raise SettingsError("BROKER_TOKEN is not set: `broker token create EMAIL --label L` makes an API token.")
    url = os.environ.get("BROKER_URL") or store.settings(config).public_url
    try:
        # A proxy of the environment has no business between a reviewer and the broker.
        with httpx2.Client(timeout=30.0, trust_env=False, headers={"Authorization": f"Bearer {token}"}) as client:
            answer = client.request(method, f"{url.rstrip('/')}/api/v1/approvals{path}", params=query, json=body)
    except (httpx2.HTTPError, httpx2.InvalidURL, ValueError) as error:
        raise BrokerError(f"The broker at {url} cannot be reached: {error or type(error).__name__}.") from error
    return _read(answer, url)


def _read(answer: httpx2.Response, url: str) -> Any:
    try:
        said: Any = json.loads(answer.content)
        if answer.is_success:
            return said
        sentence = said.get("detail") or said["title"]
    except (ValueError, LookupError, AttributeError) as error:
        raise BrokerError(f"{url} does not answer like a broker (HTTP {answer.status_code}).") from error
    raise BrokerError(str(sentence))
