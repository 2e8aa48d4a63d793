"""A held call as a task of MCP's tasks extension: the approval is the task, and its id the task's.

What belongs here: where a task stands, and what its tool asks for meanwhile. What does not: its shape on the wire
(`broker.gateway.task_shapes`), keeping it (`broker.approvals.tasks`).

Source: the extension `io.modelcontextprotocol/tasks` (2026-07-28), sections Tasks and Task Update Requests.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, cast

from broker.domain.approvals import Approval, Cause, State
from broker.domain.rounds import RESPONSES, STATE

PREFIX = "apr_"
"""What the ids of approvals begin with. An id of an upstream's own task that does is not passed on."""


KNOWN_FOR = timedelta(days=1)
"""How long a task is known after it ended, at least, and its answer can be asked for."""


class TaskStatus(StrEnum):
    """Where a task stands, in the extension's words."""

    WORKING = "working"
    INPUT_REQUIRED = "input_required"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class Questions:
    """What a tool asks the agent for before it goes on (2026-07-28, Multi Round-Trip Requests).

    Args:
        state: its `requestState`, which is its own business; None when it gave none.
        requests: its `inputRequests`, under keys that are unique over the task's life.
        responses: what came for them so far.
    """

    state: Any
    requests: Mapping[str, Any]
    responses: Mapping[str, Any]

    @classmethod
    def of(cls, state: Any, requests: Any, nth: int) -> Questions:
        """What the `nth` result of type `input_required` of a task asks, whatever its server put there."""
        asked = cast("dict[str, Any]", requests) if isinstance(requests, dict) else dict[str, Any]()
        return cls(state, {f"{nth}.{key}": request for key, request in asked.items()}, {})

    @property
    def outstanding(self) -> dict[str, Any]:
        """The requests that nothing came for yet."""
        return {key: request for key, request in self.requests.items() if key not in self.responses}

    def answered(self, responses: Mapping[str, Any]) -> Questions:
        """With those of `responses` that something outstanding asks for; the others are of no use."""
        wanted = self.outstanding
        return replace(
            self, responses={**self.responses, **{key: responses[key] for key in responses if key in wanted}}
        )

    def brought(self) -> dict[str, Any]:
        """What the call that goes on brings, in the tool's own keys."""
        own = {key.partition(".")[2]: response for key, response in self.responses.items()}
        return ({RESPONSES: own} if self.requests else {}) | ({STATE: self.state} if self.state is not None else {})


@dataclass(frozen=True, slots=True)
class Task:
    """One task.

    Args:
        updated_at: when something last happened to its approval.
        expires_at: from when on it is not known any more, once it has ended.
        called_off: its agent wanted it to end while it ran.
        questions: what its tool asked last, until it ends.
        answer: what its server answered: `result` or `error`.
        began_at: when it was started last, if it is interrupted.
    """

    approval: Approval
    updated_at: datetime
    expires_at: datetime
    called_off: bool = False
    questions: Questions | None = None
    answer: Mapping[str, Any] | None = None
    began_at: datetime | None = None

    @property
    def status(self) -> TaskStatus:
        """Where it stands; once it has ended it stays so."""
        if self.answer is not None:
            return TaskStatus.FAILED if "error" in self.answer else TaskStatus.COMPLETED
        if not self.approval.state.final:
            return TaskStatus.INPUT_REQUIRED if self.outstanding else TaskStatus.WORKING
        end = self.approval.resolution
        in_doubt = self.called_off and self.approval.state is State.INTERRUPTED
        withdrawn = end is not None and end.cause is Cause.TASK
        return TaskStatus.CANCELLED if in_doubt or withdrawn else TaskStatus.COMPLETED

    @property
    def outstanding(self) -> Mapping[str, Any]:
        """What its tool waits for now."""
        waits = self.approval.awaiting is not None and self.questions is not None
        return self.questions.outstanding if waits and self.questions is not None else {}


@dataclass(frozen=True, slots=True)
class Errand:
    """A task that can go on without its agent: approved, or with all the input that its tool asked for.

    Args:
        request: the `headers` (pairs) and the `meta` that it was asked with, as JSON; None when they cannot be read.
        brought: the input (see `Questions.brought`); None for one approved just now, or when it cannot be read.
    """

    approval: Approval
    request: Mapping[str, Any] | None
    brought: Mapping[str, Any] | None = None

    @property
    def lost(self) -> bool:
        """Whether what it goes on with cannot be read any more."""
        return self.request is None or (self.approval.awaiting is not None and self.brought is None)
