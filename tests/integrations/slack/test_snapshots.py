"""The main messages as people see them, beside what they were when somebody last looked at them.

After a change on purpose: `python -m tests.integrations.slack.scenes`, and look at what git shows.
"""

from __future__ import annotations

import pytest

from broker.approvals.notices import ANNOUNCED, REMARKED
from broker.domain.approvals import State
from broker.domain.audit import Kind
from integrations.slack.messages import message
from tests.integrations.slack.limits import check_message
from tests.integrations.slack.scenes import PLACE, SNAPSHOTS, drawings, notice, remarks, states

DRAWN = dict(drawings())


@pytest.mark.parametrize("name", sorted(DRAWN))
def test_a_message_looks_as_it_did_when_somebody_looked_at_it(name: str) -> None:
    assert f"{DRAWN[name]}\n" == (SNAPSHOTS / f"{name}.txt").read_text()


def test_there_is_no_snapshot_of_what_is_not_said_any_more() -> None:
    assert {path.stem for path in SNAPSHOTS.iterdir()} == set(DRAWN)


def test_every_state_has_a_scene() -> None:
    assert {approval.state for _, approval in states()} == set(State)


def test_everything_that_is_remarked_on_or_announced_has_a_scene() -> None:
    scenes = {name for name, _ in remarks()}
    wanted = (REMARKED | ANNOUNCED | {Kind.CHAIN_WITNESSED}) - {Kind.APPROVAL_SUBMITTED}
    assert {kind.value.removeprefix("approval.").replace(".", "_") for kind in wanted} <= scenes


@pytest.mark.parametrize("name", [name for name, _ in states()])
def test_slack_takes_the_message_of_each_scene(name: str) -> None:
    check_message(message(notice(dict(states())[name]), PLACE))


@pytest.mark.parametrize("name", [name for name, _ in remarks()])
def test_slack_takes_the_remark_of_each_scene(name: str) -> None:
    check_message(dict(remarks())[name])
