"""One request under way at a process, and the parts of a message that tell whose it is.

What belongs here: the values. What does not: when they change (`connection`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from broker.gateway.upstreams.stdio.readers import Reader
from broker.gateway.wire import RequestId, dumps

PROGRESS = "notifications/progress"
CANCELLED = "notifications/cancelled"
LISTEN = "subscriptions/listen"

REQUEST_CANCELLED = -32800
"""The Language Server Protocol's: MCP has no code for it, and its clients ignore what comes after they cancelled."""

MOST_TOGETHER = 1000
"""Messages of a batch: they are all looked at in one turn."""

LARGEST_ID = 1024
"""Bytes of the id of a server's request, as JSON: it is kept until it is answered."""

_EDGE = 200
_VERSION, _ID = rb'"jsonrpc"\s*:\s*"2\.0"', rb'"id"\s*:\s*([0-9]{1,18})'
_IN_FRONT = re.compile(rb"\s*\{\s*(?:%b\s*,\s*)?%b\s*," % (_VERSION, _ID))
_AT_THE_END = re.compile(rb",\s*%b\s*(?:,\s*%b\s*)?\}\s*\Z" % (_ID, _VERSION))


@dataclass(slots=True, eq=False)
class Exchange:
    """One request under way. `number` is its id at the process, where ids are the broker's own.

    Args:
        id: the client's.
        meta: the `_meta` of its params.
        streams: whether more than the answer may be sent to the client.
        began: the loop's time.
        heard: the last sign of life towards it.
        sent: whether the process has it.
        owes: whether silence is an offence; not that of a subscription.
        deaf: whether nobody waits for the answer any more.
    """

    number: int
    id: RequestId
    method: str
    meta: Mapping[str, Any]
    streams: bool
    reader: Reader
    began: float
    heard: float
    sent: bool = False
    owes: bool = True
    deaf: bool = False

    @property
    def token(self) -> Any:
        """The client's progress token, if it has one."""
        return self.meta.get("progressToken")

    @property
    def hears(self) -> bool:
        """Whether it takes what comes before the answer."""
        return self.streams and not self.deaf


def params_of(message: Mapping[str, Any]) -> dict[str, Any]:
    """The message's params; empty when it has none."""
    return object_of(message.get("params"))


def meta_of(part: Mapping[str, Any]) -> dict[str, Any]:
    """The `_meta` of params or of a result; empty when there is none."""
    return object_of(part.get("_meta"))


def object_of(value: Any) -> dict[str, Any]:
    """`value` if it is a JSON object, else an empty one."""
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def number_of(value: Any) -> int:
    """A number of ours that came back; 0 names nothing."""
    return value if type(value) is int else 0


def number_at_the_edge(line: bytes) -> int:
    """The number in a message that is too heavy to be parsed, from where servers write it; 0 when it is elsewhere."""
    found = _IN_FRONT.match(line[:_EDGE]) or _AT_THE_END.search(line[-_EDGE:])
    return int(found[1]) if found is not None else 0


def same(one: Any, other: Any) -> bool:
    """Whether two ids are the same: 1 is not "1", nor true."""
    return type(one) is type(other) and one == other


def is_short_id(value: Any) -> bool:
    """Whether a request may be kept under this id."""
    return type(value) in (int, str) and len(dumps(value)) <= LARGEST_ID
