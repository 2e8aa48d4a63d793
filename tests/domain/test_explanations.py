"""How a verdict came about, as it is stored: whole when it is short, bounded whatever a call and a policy are."""

from __future__ import annotations

import json

from broker.domain.calls import Action, Said, Step, Verdict
from broker.domain.explanations import LEFT_OUT, LONGEST_TEXT, MOST_BYTES, MOST_STEPS, explanation


def denied(*steps: Step, rule: str = "tools.pay.deny_if[0]") -> Verdict:
    return Verdict(Action.DENY, rule, steps=steps)


def test_each_rule_is_told_in_order_with_what_it_saw_and_said() -> None:
    first = Step("all_tools.require[0]", Said.NOTHING, 'args.to is "x"')
    second = Step("tools.pay.deny_if[0]", Said.DENIES, "args.amount is 7", "too much")
    assert explanation(denied(first, second)) == [
        {"rule": "all_tools.require[0]", "said": "does not apply", "saw": 'args.to is "x"', "why": None},
        {"rule": "tools.pay.deny_if[0]", "said": "denies", "saw": "args.amount is 7", "why": "too much"},
    ]


def test_of_very_many_rules_the_telling_one_is_kept_and_it_says_how_many_are_not() -> None:
    looked = [Step(f"all_tools.deny_if[{number}]", Said.NOTHING) for number in range(1000)]
    told = explanation(denied(*looked, Step("tools.pay.deny_if[0]", Said.DENIES)))
    assert len(told) == MOST_STEPS + 1
    assert told[-2]["rule"] == "tools.pay.deny_if[0]"
    assert told[-1]["said"] == LEFT_OUT
    assert told[-1]["why"] == "801 more rules were looked at; only the first are kept"


def test_long_texts_are_shortened_and_no_explanation_is_larger_than_its_bound() -> None:
    long = "\u202e" * 10_000
    told = explanation(denied(*[Step(f"tools.pay.deny_if[{n}]", Said.DENIES, long, long) for n in range(100)]))
    assert told[0]["rule"] == "tools.pay.deny_if[0]"
    assert told[0]["saw"] == "\u202e" * LONGEST_TEXT + "…"
    assert len(json.dumps(told[:-1])) <= MOST_BYTES + 2 * len(told)
    assert told[-1]["said"] == LEFT_OUT
