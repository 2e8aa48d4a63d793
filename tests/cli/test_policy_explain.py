"""`broker policy explain`, as people and programs see it."""

from __future__ import annotations

import io
import json

import pytest

from tests.cli.conftest import Shell

POLICY = {
    "version": "1",
    "default": "deny",
    "redact": ["args.password"],
    "tools": {
        "look": {"limits": [{"counter": "looks", "window": "minute", "max": 3, "scope": "upstream"}]},
        "press": {
            "action": "hold",
            "risk": "high",
            "reason": "moves a desk",
            "approval": {
                "approvers": ["desktop-owners", "alice@example.com"],
                "quorum": 2,
                "timeout": "90m",
                "channels": ["web"],
                "escalate": {"after": "5m", "to": ["oncall"]},
                "remember": {"scopes": ["exact"], "max": "1h"},
                "allow_self": True,
            },
        },
        "sign_in": {
            "deny_if": [{"path": "args.password", "op": "eq", "value": "password", "message": "too easy"}],
            "approve_if": [{"path": "args.user", "op": "eq", "value": "root"}],
        },
    },
}


@pytest.fixture
def shell(shell: Shell) -> Shell:
    """A shell with a policy, which is that of the upstream `git`."""
    (shell.folder / "policies").mkdir()
    (shell.folder / "policies" / "desk.json").write_text(json.dumps(POLICY))
    settings = shell.folder / "broker.toml"
    settings.write_text(
        settings.read_text().replace("[upstreams.git]", '[upstreams.git]\npolicy = "policies/desk.json"')
    )
    return shell


def test_an_explanation_says_who_is_asked_and_how(shell: Shell) -> None:
    told = shell.lines("policy", "explain", "policies/desk.json", "press")
    facts = dict(line.split(maxsplit=1) for line in told[1 : told.index("")])
    assert told[0] == "hold  desk / press"
    assert facts["reason"] == "moves a desk"
    assert facts["rule"] == "tools.press.action"
    assert facts["risk"] == "high"
    assert facts["asked"] == "desktop-owners, alice@example.com; 2 have to agree"
    assert facts["within"] == "90m"
    assert facts["then"] == "oncall after 5m"
    assert facts["where"] == "web"
    assert facts["remember"] == "exact, up to 1h"
    assert facts["they"] == "may  be the agent's owner"


def test_an_explanation_has_the_limits_that_are_charged(shell: Shell) -> None:
    told = shell.lines("policy", "explain", "policies/desk.json", "look")
    assert told[0] == "allow  desk / look"
    counted = next(index for index, line in enumerate(told) if line == "counts  tools.look.limits[0]")
    assert told[counted + 1].strip() == "3 in a minute for all together"


def test_an_explanation_shows_every_rule_that_was_looked_at_also_of_an_allowed_call(shell: Shell) -> None:
    said = shell.json(
        "policy", "explain", "policies/desk.json", "sign_in", "--args", '{"user": "olga", "password": "x"}'
    )
    assert (said["action"], said["rule"]) == ("allow", "tools.sign_in")
    steps = {step["rule"]: (step["said"], step["saw"]) for step in said["steps"]}
    assert steps["tools.sign_in.deny_if[0]"][0] == "does not apply"
    assert steps["tools.sign_in.approve_if[0]"][0] == "does not apply"
    assert "olga" in steps["tools.sign_in.approve_if[0]"][1]


def test_what_the_policy_masks_is_masked_in_its_explanation_too(shell: Shell) -> None:
    call = ("policy", "explain", "policies/desk.json", "sign_in", "--args", '{"password": "open sesame"}')
    plain, machine = shell.run(*call), shell.run(*call, "--json")
    assert "tools.sign_in.deny_if[0]" in plain.stdout
    assert "sesame" not in plain.stdout + machine.stdout


def test_an_upstream_stands_for_its_policy_and_its_name(shell: Shell) -> None:
    said = shell.json("policy", "explain", "git", "press", "--session", "s-1")
    assert (said["upstream"], said["action"], said["session"]) == ("git", "hold", "s-1")
    assert said["policy"].endswith("policies/desk.json")
    assert said["requirement"]["timeout"] == 5400.0
    assert shell.json("policy", "explain", "desktop", "press")["rule"] == "no policy"


def test_who_calls_is_said_by_options(shell: Shell) -> None:
    by = ("--grant-label", "ci", "--owner", "olga@example.com", "--upstream", "office")
    said = shell.json("policy", "explain", "git", "press", *by)
    assert said["grant"] == {"label": "ci", "owner": "olga@example.com"}
    assert said["upstream"] == "office"


def test_arguments_come_from_a_file_as_well(shell: Shell) -> None:
    (shell.folder / "args.json").write_text('{"user": "root"}')
    said = shell.json("policy", "explain", "git", "sign_in", "--args", "@args.json")
    assert (said["action"], said["rule"]) == ("hold", "tools.sign_in.approve_if[0]")


def test_arguments_come_from_standard_input_as_well(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO('{"user": "root"}'))
    assert shell.json("policy", "explain", "git", "sign_in", "--args", "-")["action"] == "hold"


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ('{"a":\n]', "line 2, column 1"),
        ("[1]", "no JSON object"),
        ("@nowhere.json", "nowhere.json cannot be read: No such file"),
        ("@latin.json", "not UTF-8"),
        ("[" * 100_000, "nested too deep"),
    ],
)
def test_what_are_no_arguments_is_a_wrong_usage_that_says_where(given: str, told: str, shell: Shell) -> None:
    (shell.folder / "latin.json").write_bytes(b'{"a": "\xe9"}')
    ended = shell.run("policy", "explain", "git", "press", "--args", given)
    assert ended.status == 2
    assert told in " ".join(ended.stderr.split())


def test_what_is_neither_a_file_nor_an_upstream_is_told_with_those_that_there_are(shell: Shell) -> None:
    said = shell.refused("policy", "explain", "gti", "press", status=2)
    assert said == "broker: gti is neither a file nor a configured upstream (there is git, desktop)."
