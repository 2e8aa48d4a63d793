"""How a verdict came about, as it is stored with a call and shown: each rule that was looked at, bounded.

What belongs here: from steps to JSON. What does not: judging and masking what a step saw (`broker.policy`).
"""

from __future__ import annotations

import json

from broker.domain.calls import Step, Verdict

MOST_STEPS = 200
MOST_BYTES = 64 * 1024
LONGEST_TEXT = 1000
"""Characters of what one step saw or said."""

LEFT_OUT = "left out"
"""What stands for the rules beyond the bounds says, where others say `does not apply` or `denies`."""


def explanation(verdict: Verdict) -> list[dict[str, str | None]]:
    """The steps of `verdict` in order, as JSON. Its telling rule is always among them; a last entry says how many were
    too many."""
    entries = [_entry(step) for step in verdict.steps]
    first_the_telling = sorted(range(len(entries)), key=lambda place: verdict.steps[place].rule != verdict.rule)
    chosen: list[int] = []
    size = 0
    for place in first_the_telling[:MOST_STEPS]:
        size += len(json.dumps(entries[place]))
        if size > MOST_BYTES:
            break
        chosen.append(place)
    kept = [entries[place] for place in sorted(chosen)]
    missing = len(entries) - len(kept)
    why = f"{missing} more rules were looked at; only the first are kept"
    return [*kept, {"rule": "…", "said": LEFT_OUT, "saw": None, "why": why}] if missing else kept


def _entry(step: Step) -> dict[str, str | None]:
    return {"rule": step.rule, "said": step.said.value, "saw": _short(step.saw), "why": _short(step.why)}


def _short(text: str | None) -> str | None:
    return text if text is None or len(text) <= LONGEST_TEXT else text[:LONGEST_TEXT] + "…"
