"""One call of a tool, the verdict on it, and what it is recognised by.

What belongs here: the values that pass between judging, recording, holding and forwarding. What does not: how a call
arrives (`broker.gateway`) or how it is judged (`broker.policy`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from typing import Any, cast

from broker.domain.canonical import Keyring, canonical_json
from broker.domain.paths import Path
from broker.domain.people import GrantRef

TRANSPORT_META = frozenset(
    {
        *("progressToken", "traceparent", "tracestate", "baggage"),
        *(
            f"io.modelcontextprotocol/{key}"
            for key in ("protocolVersion", "clientInfo", "clientCapabilities", "logLevel")
        ),
    }
)
"""The keys of `_meta` that belong to one request. What is not known to be harmless is not among them."""


class Action(StrEnum):
    """What policy says of one call."""

    ALLOW = "allow"
    DENY = "deny"
    HOLD = "hold"


class Risk(StrEnum):
    """How much a wrong call of a tool can cost."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    CRITICAL = "critical"


class Scope(StrEnum):
    """What a limit counts for: each legacy session (else each grant), each grant, or all together."""

    SESSION = "session"
    GRANT = "grant"
    UPSTREAM = "upstream"


@dataclass(frozen=True, slots=True)
class Escalation:
    """Who else is asked about a held call that nobody has decided for a while."""

    after: timedelta
    to: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Memory:
    """Which standing approvals a reviewer may give: `exact` calls or the whole `tool`, for how long at most."""

    scopes: tuple[str, ...]
    max: timedelta


@dataclass(frozen=True, slots=True)
class Requirement:
    """Who must agree before a held call runs.

    Args:
        approvers: groups and e-mail addresses; empty means everyone with the approver role.
        quorum: how many distinct eligible people must approve.
        timeout: how long the call waits for them; None means the configured default.
        channels: where it may be decided; empty means everywhere.
        allow_self: whether the grant's owner may be one of them; None means the configured default.
        allow_edit: whether they may change the arguments.
    """

    approvers: tuple[str, ...] = ()
    quorum: int = 1
    timeout: timedelta | None = None
    channels: tuple[str, ...] = ()
    allow_self: bool | None = None
    allow_edit: bool = False
    escalate: Escalation | None = None
    remember: Memory | None = None


UNIT = 1_000_000
"""What one call adds to a counter. Sums have six decimals; what is beyond is rounded up."""


@dataclass(frozen=True, slots=True)
class Charge:
    """What a call takes of one counter before it may run.

    In no interval as long as `window` are more than `max` times `UNIT` of (`upstream`, `counter`, `scope_value`).

    Args:
        amount: in parts of `UNIT`, not negative.
        calendar: the window is the calendar's (UTC) instead: the present second, minute, hour or day.
        refund: given back when the server answers with an error.
        finest: the shortest window that the policy puts on this counter; None means `window`.
    """

    upstream: str
    counter: str
    scope: Scope
    scope_value: str
    window: timedelta
    max: int
    rule: str
    message: str | None = None
    amount: int = UNIT
    calendar: bool = False
    refund: bool = False
    finest: timedelta | None = None


class Said(StrEnum):
    """What one rule said of one call."""

    NOTHING = "does not apply"
    MET = "is met"
    ALLOWS = "allows"
    DENIES = "denies"
    HOLDS = "holds"
    ERROR = "error"
    COUNTS = "counts"


@dataclass(frozen=True, slots=True)
class Step:
    """One rule that was looked at on the way to a verdict.

    Args:
        rule: where it stands in the policy.
        said: what it said.
        saw: what it found in the call, for people: masked where the policy redacts it, and shortened.
        why: its reason or its error.
    """

    rule: str
    said: Said
    saw: str | None = None
    why: str | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What policy says of one call: an action, the rule that led to it, and what goes with it.

    Args:
        redact: what of the call is masked for everybody.
        steps: every rule that was looked at, in order, of a call that is denied or held; empty for an allowed one.
    """

    action: Action
    rule: str
    reason: str | None = None
    risk: Risk | None = None
    requirement: Requirement = field(default_factory=Requirement)
    charges: tuple[Charge, ...] = ()
    redact: tuple[Path, ...] = ()
    steps: tuple[Step, ...] = ()


@dataclass(frozen=True, slots=True)
class Call:
    """A `tools/call` as a grant asked for it.

    Args:
        id: the broker's own identifier of this call.
        params: the request's `params` without what only concerns the transport (see `lasting_params`) or one round of
            it (see `broker.domain.rounds`).
        session: a stable key of the legacy session, or None in the modern era.
    """

    id: str
    upstream: str
    tool: str
    params: Mapping[str, Any]
    grant: GrantRef
    session: str | None = None

    @property
    def arguments(self) -> Mapping[str, Any]:
        """The tool's arguments; empty when the call gives none."""
        given = self.params.get("arguments")
        return cast("Mapping[str, Any]", given) if isinstance(given, Mapping) else {}

    @property
    def named_arguments(self) -> Mapping[str, Any]:
        """The arguments for readers: what is no object, such as a list or the mask, stands under its own name."""
        given = self.params.get("arguments", {})
        return cast("Mapping[str, Any]", given) if isinstance(given, Mapping) else {"arguments": given}

    @property
    def beside(self) -> dict[str, Any]:
        """What it carries beside name and arguments, such as `_meta`: it runs too, so it is shown too."""
        return {name: given for name, given in self.params.items() if name not in ("name", "arguments")}


def lasting_params(params: Mapping[str, Any]) -> dict[str, Any]:
    """`params` without what differs when the same call is made again.

    The progress token, W3C trace context and the protocol's envelope belong to one request; every other `_meta` key
    may change what a server does, so it stays part of what is judged, shown and run.
    """
    return _with_meta(params, lambda key: not _of_transport(key))


def transport_params(params: Mapping[str, Any], live: Mapping[str, Any]) -> dict[str, Any]:
    """`params` as stored, carried by the present request: `live`'s transport keys of `_meta` are put back."""
    meta = {**_meta(params), **{key: value for key, value in _meta(live).items() if _of_transport(key)}}
    return {**params, "_meta": meta} if meta else dict(params)


def _with_meta(params: Mapping[str, Any], keep: Callable[[str], bool]) -> dict[str, Any]:
    meta = {key: value for key, value in _meta(params).items() if keep(key)}
    rest = {key: value for key, value in params.items() if key != "_meta"}
    return {**rest, "_meta": meta} if meta else rest


def _meta(params: Mapping[str, Any]) -> Mapping[str, Any]:
    meta = params.get("_meta")
    return cast("Mapping[str, Any]", meta) if isinstance(meta, Mapping) else {}


def _of_transport(key: str) -> bool:
    return key in TRANSPORT_META


def fingerprints(keyring: Keyring, call: Call, definition: Mapping[str, Any] | None) -> list[str]:
    """What a retry of `call` is recognised by: HMAC-SHA-256, hex, over canonical JSON.

    Args:
        definition: the tool as its server describes it, so that a changed tool makes another call of the same words.

    Returns:
        The fingerprint, and those that it had under older secrets which still verify.

    Raises:
        ValueError: the call cannot be put in canonical form.
    """
    said = canonical_json([call.grant.id, call.upstream, call.tool, call.params, definition])
    return keyring.signatures("fingerprint", said)


def arguments_digest(keyring: Keyring, call: Call) -> str:
    """The keyed digest of a call's params that its audit row carries (hex); the params themselves may be emptied."""
    return keyring.sign("arguments", canonical_json(call.params))
