"""What is said of rows that are about no call."""

from __future__ import annotations

import pytest

from broker.domain.announcements import announcement
from broker.domain.audit import Kind, Row
from tests.domain.test_history import NOON

OF_NO_CALL = [kind for kind in Kind if not kind.startswith(("call.", "approval."))]


@pytest.mark.parametrize("kind", OF_NO_CALL)
def test_whatever_is_done_beside_calls_has_a_sentence(kind: Kind) -> None:
    sentence = announcement(
        Row(seq=1, at=NOON, kind=kind, actor="cli:root", prev="", detail={"person": "ann@example.com"})
    )
    assert kind.value not in sentence
    assert sentence.rstrip().endswith(".")
    assert "ann@example.com" in sentence or not kind.startswith(("person.", "token.", "link.", "session."))
