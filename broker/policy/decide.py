"""What a policy says of one call: pure and total.

What belongs here: the compiled policy and the judgement. What does not: whether a slot of a limit is free, pauses,
remembered rejections and open approvals, which need the record (`broker.store`, `broker.approvals`).

The order is that of severity: hidden, unlisted under ``default: deny``, ``action: deny``, hold, allow. It is settled
when the policy is compiled; judging is one look-up and the slots to take.
"""

from __future__ import annotations

from dataclasses import dataclass

from broker.domain.calls import Action, Call, Verdict
from broker.policy.limits import charge
from broker.policy.model import Rulebook

_LISTED = {
    Action.ALLOW: None,
    Action.DENY: "the policy denies this tool; use another one or ask the operator",
    Action.HOLD: "The policy holds every call of this tool.",
}
_UNLISTED = {
    Action.ALLOW: None,
    Action.DENY: "the policy does not list this tool; use another one or ask the operator",
    Action.HOLD: "The policy does not list this tool.",
}
_HIDDEN = "this tool is not available here; use one from the tool list"


@dataclass(frozen=True, slots=True)
class Policy:
    """A compiled policy document.

    Args:
        source: where it came from, for people.
        digest: SHA-256, hex, over the document's canonical JSON: which policy judged.
    """

    source: str
    digest: str
    book: Rulebook

    @property
    def hides_some(self) -> bool:
        """Whether any tool leaves `tools/list`."""
        return bool(self.book.hide)

    def hides(self, tool: str) -> bool:
        """Whether `tool` leaves `tools/list`."""
        return tool in self.book.hide or "*" in self.book.hide


def decide(policy: Policy, call: Call) -> Verdict:
    """What `policy` says of `call`. Never raises.

    Returns:
        The verdict. An allowed or held call takes its charges; a denied one has none.
    """
    if policy.hides(call.tool):
        return Verdict(Action.DENY, "hide", _HIDDEN)
    entry = policy.book.entries.get(call.tool)
    listed = entry is not None
    entry = entry or policy.book.unlisted
    charges = () if entry.action is Action.DENY else tuple(charge(limit, call) for limit in entry.limits)
    reason = entry.reason or (_LISTED if listed else _UNLISTED)[entry.action]
    return Verdict(entry.action, entry.rule, reason, entry.risk, entry.requirement, charges)


def compile_policy(book: Rulebook, source: str, digest: str) -> Policy:
    """The policy that `book` describes (see `Policy` for the arguments)."""
    return Policy(source, digest, book)
