"""Which policies are in force and what is wrong with their files, for programs and on the page."""

from __future__ import annotations

import json
import re
from typing import Any

from broker.errors import PolicyError
from broker.policy.load import HOLD_EVERYTHING, parse_policy
from broker.policy.watch import InForce
from tests.clock import NOON
from tests.web.desk import Desk

DOCUMENT: dict[str, Any] = {
    "version": "1",
    "default": "deny",
    "hide": ["git_reset"],
    "redact": ["args.token"],
    "tools": {
        "git_status": {"rate_limit": {"max": 5, "window": 90}},
        "git_push": {
            "action": "hold",
            "risk": "high",
            "reason": "Writes to a shared branch",
            "deny_if": [{"path": "args.branch", "op": "eq", "value": "main"}],
            "require": [{"path": "args.remote", "op": "exists", "value": True, "message": "say where"}],
            "limits": [{"counter": "pushed", "window": "hour", "max": 1000, "scope": "upstream", "add": "args.size"}],
        },
        "git_log": {"approve_if": [{"path": "args.all", "op": "eq", "value": True}], "when": "args.n > 10"},
    },
}


def in_force(document: dict[str, Any] = DOCUMENT, source: str = "policies/git.json") -> InForce:
    return InForce("git", parse_policy(json.dumps(document), source), NOON)


def plain(page: str) -> str:
    """What is read on a page, the white space made one."""
    return " ".join(re.sub(r"<[^>]*>", " ", page.split("<main", 1)[1]).split())


async def test_a_program_reads_what_is_in_force_since_when_and_from_where(desk: Desk) -> None:
    desk.in_force["git"] = in_force()
    got = (await (await desk.program("policy_manager")).get("/api/v1/policies")).json()
    (policy,) = got.pop("items")
    assert got == {"next": None}
    facts = {name: policy[name] for name in ("upstream", "source", "digest", "loaded_at", "error", "mistakes")}
    assert facts == {
        "upstream": "git",
        "source": "policies/git.json",
        "digest": desk.in_force["git"].policy.digest,
        "loaded_at": "2026-07-28T12:00:00.000000Z",
        "error": None,
        "mistakes": [],
    }
    assert (policy["default"], policy["hide"], policy["redact"]) == ("deny", ["git_reset"], ["args.token"])


async def test_a_program_reads_every_tool_with_its_rules_and_limits(desk: Desk) -> None:
    desk.in_force["git"] = in_force()
    (policy,) = (await (await desk.program("auditor")).get("/api/v1/policies")).json()["items"]
    tools = {tool["name"]: tool for tool in policy["tools"]}
    assert set(tools) == {"git_status", "git_push", "git_log"}
    push = tools["git_push"]
    assert (push["action"], push["risk"], push["reason"]) == ("hold", "high", "Writes to a shared branch")
    assert push["rules"][1] == {
        "rule": "tools.git_push.require[0]",
        "then": "deny",
        "unless": True,
        "tests": ["args.remote exists true"],
        "message": "say where",
    }
    assert push["limits"] == [
        {
            "rule": "tools.git_push.limits[0]",
            "counter": "pushed",
            "window": 3600,
            "max": 1000,
            "scope": "upstream",
            "add": "args.size",
            "calendar": False,
            "message": None,
        }
    ]
    assert (tools["git_status"]["action"], tools["git_status"]["limits"][0]["add"]) == ("allow", 1)


async def test_the_page_says_what_each_tool_gets_in_words(desk: Desk) -> None:
    desk.in_force["git"] = in_force()
    text = plain((await (await desk.browser("policy_manager")).get("/policies")).text)
    for told in (
        "In force since 2026-07-28 12:00:00 UTC from policies/git.json",
        "git_push hold high Writes to a shared branch",
        "denied if args.branch is &#34;main&#34;",
        "denied unless args.remote is there",
        "at most 1,000 of args.size in an hour for all together, counted as pushed",
        "at most 5 in 90 seconds for each session",
        "held if args.all is true",
        "held if args.n &gt; 10",
        "every other tool deny",
        "Hidden, and denied if called anyway: git_reset .",
        "Masked in every call: args.token .",
    ):
        assert told in text, told
    assert "stays in force" not in text


async def test_the_trouble_of_a_file_is_told_line_by_line_as_in_the_log(desk: Desk) -> None:
    desk.in_force["git"] = in_force()
    desk.in_force["git"].trouble = PolicyError("git.json:3:1: hdie: unknown key\ngit.json:4:1: default: is missing")
    page = (await (await desk.browser("admin")).get("/policies")).text
    assert "policies/git.json has 2 mistakes. The policy loaded at 2026-07-28 12:00:00 UTC stays in force." in page
    for mistake in desk.in_force["git"].mistakes:
        assert f'<li class="mono">{mistake}</li>' in page
    (policy,) = (await (await desk.program("admin")).get("/api/v1/policies")).json()["items"]
    assert policy["mistakes"] == ["git.json:3:1: hdie: unknown key", "git.json:4:1: default: is missing"]
    assert policy["error"].startswith("policies/git.json has 2 mistakes.")


async def test_an_upstream_without_a_policy_says_that_every_call_waits_for_a_person(desk: Desk) -> None:
    desk.in_force["bare"] = InForce("bare", HOLD_EVERYTHING, NOON)
    text = plain((await (await desk.browser("auditor")).get("/policies")).text)
    assert "from no policy" in text
    assert "every other tool hold" in text


async def test_what_a_document_says_is_text_on_the_page(desk: Desk) -> None:
    evil = "<script>alert(1)</script>\u202e"
    rule = {"path": "args.a", "op": "eq", "value": evil}
    tools = {"*": {"action": "deny", "reason": evil}, "x": {"deny_if": [rule]}}
    desk.in_force["git"] = in_force({**DOCUMENT, "tools": tools}, source=evil)
    desk.in_force["git"].trouble = PolicyError(f"{evil} one\n{evil} two")
    page = (await (await desk.browser("admin")).get("/policies")).text
    assert "<script>alert" not in page
    assert "\u202e" not in page
    assert page.count("&lt;script&gt;alert(1)&lt;/script&gt;") == 6


async def test_only_who_may_read_policies_is_shown_the_way_to_them(desk: Desk) -> None:
    for name, shown in (("admin", True), ("policy_manager", True), ("auditor", True), ("approver", False)):
        assert ('href="/policies"' in (await (await desk.browser(name)).get("/")).text) is shown, name


async def test_a_broker_with_an_old_policy_in_force_still_works(desk: Desk) -> None:
    desk.readiness.update(status="degraded")
    assert (await desk.client().get("/readyz")).status_code == 200
