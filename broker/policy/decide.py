"""What a policy says of one call: pure and total.

What belongs here: the compiled policy and the judgement. What does not: whether a slot of a limit is free, pauses,
remembered rejections and open approvals, which need the record (`broker.store`, `broker.approvals`).

The order is that of severity: hidden, unlisted under ``default: deny``, ``action: deny``, hold, allow. It is settled
when the policy is compiled; judging is one look-up and the slots to take.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from broker.domain.calls import Action, Call, Requirement, Verdict
from broker.policy.documents import EVERY_TOOL, ApprovalTerms, Document, ToolTerms, path
from broker.policy.limits import Limit, limits_of

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
class Ruling:
    """What holds for every call of one tool: the verdict without its charges, and the limits to charge."""

    verdict: Verdict
    limits: tuple[Limit, ...] = ()


_HIDE = Ruling(Verdict(Action.DENY, "hide", _HIDDEN))


@dataclass(frozen=True, slots=True)
class Policy:
    """A compiled policy document.

    Args:
        source: where it came from, for people.
        digest: SHA-256, hex, over the document's canonical JSON: which policy judged.
        unlisted: the ruling on every tool that is not in `rulings`.
        rulings: the ruling on each tool that the document names.
    """

    source: str
    digest: str
    unlisted: Ruling
    rulings: Mapping[str, Ruling] = field(default_factory=dict[str, Ruling])

    @property
    def hides_some(self) -> bool:
        """Whether any tool leaves `tools/list`."""
        return self.unlisted is _HIDE or any(ruling is _HIDE for ruling in self.rulings.values())

    def hides(self, tool: str) -> bool:
        """Whether `tool` leaves `tools/list`."""
        return self.ruling(tool) is _HIDE

    def ruling(self, tool: str) -> Ruling:
        """What holds for every call of `tool`."""
        return self.rulings.get(tool, self.unlisted)


def decide(policy: Policy, call: Call) -> Verdict:
    """What `policy` says of `call`. Never raises.

    Returns:
        The verdict. An allowed or held call takes its charges; a denied one has none.
    """
    ruling = policy.ruling(call.tool)
    if not ruling.limits:
        return ruling.verdict
    return replace(ruling.verdict, charges=tuple(limit.charge(call) for limit in ruling.limits))


def compile_policy(document: Document, source: str, digest: str) -> Policy:
    """The policy that `document` describes (see `Policy` for the arguments)."""
    if EVERY_TOOL in document.hide:
        return Policy(source, digest, unlisted=_HIDE)
    rulings = {tool: _listed(tool, terms) for tool, terms in document.tools.items()}
    rulings |= dict.fromkeys(document.hide, _HIDE)
    unlisted = Ruling(Verdict(document.default, "default", _UNLISTED[document.default]))
    return Policy(source, digest, unlisted, MappingProxyType(rulings))


def _listed(tool: str, terms: ToolTerms) -> Ruling:
    said = "action" in terms.model_fields_set
    verdict = Verdict(
        action=terms.action,
        rule=path("tools", tool, "action") if said else path("tools", tool),
        reason=terms.reason or _LISTED[terms.action],
        risk=terms.risk,
        requirement=_requirement(terms.approval or ApprovalTerms()),
    )
    return Ruling(verdict, () if terms.action is Action.DENY else limits_of(tool, terms))


def _requirement(terms: ApprovalTerms) -> Requirement:
    return Requirement(tuple(terms.approvers), terms.quorum, terms.timeout, tuple(terms.channels), terms.allow_self)
