"""`broker policy replay`: what the calls of the last days would get under a policy."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
import sqlalchemy as sa

from broker.domain.audit import timestamp
from broker.store.writer import Store, Transaction
from tests.cli.conftest import Shell
from tests.clock import NOON, MovableClock
from tests.store.past import Past

DAY = ("--since", "2026-07-28T00:00:00Z", "--until", "2026-07-29T00:00:00Z")
POLICY = {
    "version": "1",
    "default": "deny",
    "tools": {
        "look": {"limits": [{"counter": "looks", "window": "minute", "max": 4}]},
        "press": {"action": "hold", "deny_if": [{"path": "args.hard", "op": "eq", "value": True}]},
    },
}


async def happen(store: Store) -> None:
    """Five looks and two presses at the desk, one hard; one look at git; and the gentle press's arguments are lost."""
    past = await Past.begin(store, MovableClock())
    for _ in range(5):
        await past.allowed(past.call("look"))
    await past.held(past.call("press", hard=True))
    await past.denied(past.call("wipe"))
    await past.held(past.call("press", hard=False))
    await past.allowed(past.call("look", upstream="git"))

    def forget(tx: Transaction) -> Any:
        return tx.connection.execute(sa.text("UPDATE contents SET body = '{}' WHERE call_id = 'call_8'"))

    await store.write(forget)


@pytest.fixture
def shell(shell: Shell) -> Shell:
    """A shell with a past and a policy for it."""
    store = Store(f"sqlite:///{shell.folder / 'broker.db'}", MovableClock())
    asyncio.run(happen(store))
    store.close()
    (shell.folder / "new.json").write_text(json.dumps(POLICY))
    return shell


def test_it_shows_what_would_differ_and_says_what_it_cannot_judge(shell: Shell) -> None:
    told = shell.lines("policy", "replay", "new.json", "--upstream", "desk", *DAY)
    noon = timestamp(NOON)
    assert sorted(line.split("\t") for line in told[:3]) == [
        ["look", "allow", "limited", "1", noon, noon, "call_5", "tools.look.limits[0]"],
        ["press", "hold", "deny", "1", noon, noon, "call_6", "tools.press.deny_if[0]"],
        ["wipe", "deny", "deny", "1", noon, noon, "call_7", "default"],
    ]
    assert told[3:] == [
        "8 calls of desk: 4 the same, 1 the same by another rule, 1 would be denied, 1 would be refused by a limit.",
        "1 cannot be judged: their arguments were not kept.",
    ]


def test_programs_get_the_same(shell: Shell) -> None:
    said = shell.json("policy", "replay", "new.json", "--upstream", "desk", *DAY)
    assert (said["calls"], said["same"], said["not_judged"]) == (8, 4, {"args": 1})
    assert (said["upstream"], said["since"]) == ("desk", "2026-07-28T00:00:00.000000Z")
    limited = next(one for one in said["changes"] if one["would_be"] == "limited")
    assert limited == {
        "tool": "look",
        "was": "allow",
        "would_be": "limited",
        "was_rule": "tools.look",
        "rule": "tools.look.limits[0]",
        "first": timestamp(NOON),
        "last": timestamp(NOON),
        "example": "call_5",
        "calls": 1,
    }


def test_the_upstream_is_the_one_whose_policy_it_is(shell: Shell) -> None:
    settings = shell.folder / "broker.toml"
    settings.write_text(settings.read_text().replace("[upstreams.git]", '[upstreams.git]\npolicy = "new.json"'))
    assert shell.json("policy", "replay", "new.json", *DAY)["upstream"] == "git"


def test_where_it_could_be_several_it_asks(shell: Shell) -> None:
    said = shell.refused("policy", "replay", "new.json", *DAY, status=2)
    assert said == "broker: It may be the policy of desk, git: say whose calls are meant with --upstream."


def test_a_time_without_calls_is_told(shell: Shell) -> None:
    assert "No call of that time is in the record" in shell.refused(
        "policy", "replay", "new.json", "--until", "3650d", status=2
    )
    told = shell.lines("policy", "replay", "new.json", "--upstream", "desk", "--until", "3650d")
    assert told == ["0 calls of desk: none judged."]


def test_a_time_that_is_none_is_a_wrong_usage(shell: Shell) -> None:
    ended = shell.run("policy", "replay", "new.json", "--since", "a week")
    assert ended.status == 2
    assert "neither how long ago, such as 7d, nor an instant" in " ".join(ended.stderr.split())
