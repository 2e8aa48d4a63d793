"""What is read from payloads: where a click came from."""

from __future__ import annotations

from typing import Any

import pytest

from integrations.slack.clicks import homes


@pytest.mark.parametrize(
    ("payload", "found"),
    [
        ({"team": {"id": "T1", "domain": "x"}, "enterprise": None}, {"T1"}),
        ({"team": {"id": "T2"}, "enterprise": {"id": "E1", "name": "Org"}}, {"T2", "E1"}),
        ({"team": None, "enterprise": {"id": "E1"}, "is_enterprise_install": True}, {"E1"}),
        ({"team_id": "T1", "team_domain": "x"}, {"T1"}),
        ({"team_id": "T2", "enterprise_id": "E1"}, {"T2", "E1"}),
        ({"team": {"id": 1}}, set[str]()),
        ({}, set[str]()),
    ],
)
def test_where_something_came_from_is_a_workspace_and_perhaps_an_organisation(
    payload: dict[str, Any], found: set[str]
) -> None:
    assert homes(payload) == found
