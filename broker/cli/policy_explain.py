"""`broker policy explain`: what a policy says of one call, and every rule that it looked at on the way."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from broker.cli import output, store
from broker.cli.arguments import AsJson, Config, parsed
from broker.domain.calls import UNIT, Action, Call, Charge, Requirement, Verdict
from broker.domain.durations import written_duration
from broker.domain.people import GrantRef
from broker.errors import SettingsError

if TYPE_CHECKING:
    from broker.policy.judging.decide import Policy


def _arguments(given: str) -> dict[str, Any]:
    """The arguments that are given as JSON, in a file, or on standard input."""
    try:
        text = sys.stdin.read() if given == "-" else Path(given[1:]).read_text() if given[:1] == "@" else given
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"it is not JSON: line {error.lineno}, column {error.colno}: {error.msg}.") from error
    except OSError as error:
        raise ValueError(f"{given[1:]} cannot be read: {error.strerror}.") from error
    except (UnicodeDecodeError, RecursionError) as error:
        raise ValueError("it is not UTF-8, or nested too deep.") from error
    if not isinstance(value, dict):
        raise ValueError(  # noqa: TRY004 - a wrong usage
            'it is no JSON object: expected the call\'s arguments, such as {"path": "a.txt"}.'
        )
    return cast("dict[str, Any]", value)


def explain(
    file: Annotated[
        str, typer.Argument(metavar="FILE", help="A policy, or the name of an upstream for the one it has.")
    ],
    tool: Annotated[str, typer.Argument(metavar="TOOL", help="The tool that is called.")],
    arguments: Annotated[
        Any,
        typer.Option("--args", metavar="JSON", help="Its arguments; @FILE or - reads them.", parser=parsed(_arguments)),
    ] = "{}",
    label: Annotated[str | None, typer.Option("--grant-label", metavar="LABEL", help="Whose call it is.")] = None,
    owner: Annotated[str | None, typer.Option(metavar="EMAIL", help="Who owns that agent.")] = None,
    session: Annotated[str | None, typer.Option(metavar="ID", help="The session that it comes in.")] = None,
    upstream: Annotated[str | None, typer.Option(metavar="NAME", help="The server; else the policy's name.")] = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Show what a policy says of a call and every rule that it looked at. Nothing is called, counted or recorded."""
    from broker.policy.judging.decide import explain as explained  # noqa: PLC0415 - pydantic is slow to import
    from broker.policy.tables import EXAMPLE  # noqa: PLC0415

    policy, name = _policy(file, config)
    grant = GrantRef(EXAMPLE.id, label or EXAMPLE.label, owner or EXAMPLE.owner)
    call = Call("explained", upstream or name, tool, {"name": tool, "arguments": arguments}, grant, session)
    verdict = explained(policy, call)
    if as_json:
        output.say_json(_as_json(policy, call, verdict))
    else:
        _tell(policy, call, verdict)


def _policy(named: str, config: Path | None) -> tuple[Policy, str]:
    """The policy that is meant, and what its upstream is called."""
    from broker.policy.load import HOLD_EVERYTHING, load_policy  # noqa: PLC0415

    if Path(named).is_file():
        return load_policy(Path(named)), Path(named).stem
    settings = store.settings(config)
    if named not in settings.upstreams:
        known = ", ".join(settings.upstreams) or "none"
        raise SettingsError(f"{named} is neither a file nor a configured upstream (there is {known}).")
    path = settings.policy_path(named)
    return (load_policy(path) if path is not None else HOLD_EVERYTHING), named


# -- for people -------------------------------------------------------------------------------------------------------


def _tell(policy: Policy, call: Call, verdict: Verdict) -> None:
    output.say(f"{verdict.action}  {call.upstream} / {call.tool}", output.colour(verdict.action))
    held = _asked(verdict.requirement) if verdict.action is Action.HOLD else {}
    facts = {
        "reason": verdict.reason if verdict.action is not Action.ALLOW else None,
        "rule": verdict.rule,
        "risk": verdict.risk,
        **held,
        "agent": f"{call.grant.label} of {call.grant.owner}",
        "session": call.session,
        "policy": policy.source,
    }
    output.facts({key: value for key, value in facts.items() if value is not None})
    output.say()
    width = max(len(step.said) for step in verdict.steps)
    for step in verdict.steps:
        output.say(f"{step.said:{width}}  {step.rule}", output.colour(step.said))
        for line in filter(None, (step.saw, step.why)):
            output.say(f"{'':{width}}  {line}")


def _asked(requirement: Requirement) -> dict[str, str | None]:
    """Who is asked, and how."""
    people = ", ".join(requirement.approvers) or "everyone with the approver role"
    few = "one has to agree" if requirement.quorum == 1 else f"{requirement.quorum} have to agree"
    may = {"edit the arguments": requirement.allow_edit, "be the agent's owner": requirement.allow_self}
    escalate, remember = requirement.escalate, requirement.remember
    return {
        "asked": f"{people}; {few}",
        "within": _within(requirement.timeout),
        "then": f"{', '.join(escalate.to)} after {written_duration(escalate.after)}" if escalate else None,
        "where": ", ".join(requirement.channels) or None,
        "they may": ", ".join(what for what, allowed in may.items() if allowed) or None,
        "remember": f"{', '.join(remember.scopes)}, up to {written_duration(remember.max)}" if remember else None,
    }


def _within(timeout: timedelta | None) -> str:
    return written_duration(timeout) if timeout is not None else "the configured time (approvals.timeout)"


# -- for programs -----------------------------------------------------------------------------------------------------


def _as_json(policy: Policy, call: Call, verdict: Verdict) -> dict[str, Any]:
    held = verdict.action is Action.HOLD
    return {
        "policy": policy.source,
        "upstream": call.upstream,
        "tool": call.tool,
        "grant": {"label": call.grant.label, "owner": call.grant.owner},
        "session": call.session,
        "action": verdict.action,
        "rule": verdict.rule,
        "reason": verdict.reason,
        "risk": verdict.risk,
        "requirement": _plain(asdict(verdict.requirement)) if held else None,
        "limits": [_charge(charge) for charge in verdict.charges],
        "steps": [asdict(step) for step in verdict.steps],
    }


def _charge(charge: Charge) -> dict[str, Any]:
    """A limit, with what this call adds; the window in seconds."""
    return {
        "counter": charge.counter,
        "scope": charge.scope,
        "window": charge.window.total_seconds(),
        "calendar": charge.calendar,
        "max": charge.max,
        "amount": charge.amount / UNIT,
        "rule": charge.rule,
        "message": charge.message,
    }


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """Lengths of time in seconds."""
    return {
        key: value.total_seconds()
        if isinstance(value, timedelta)
        else _plain(cast("Mapping[str, Any]", value))
        if isinstance(value, Mapping)
        else value
        for key, value in values.items()
    }
