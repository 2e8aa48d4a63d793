"""Tasks: approvals whose agent asks from time to time, and which run though nobody is connected.

What belongs here: what an agent does to its task, what of tasks can go on, and what is kept of each, sealed. What does
not: asking for an approval (`requests`), the sole right to run it (`claims`), running it (`broker.gateway`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from typing import Any

from sqlmodel import Session

from broker.approvals.journal import BROKER, agent
from broker.approvals.ledger import Ledger, held_call
from broker.domain import answers, moves
from broker.domain.approvals import Approval, Caller, Cause, State
from broker.domain.audit import Kind
from broker.domain.canonical import Keyring
from broker.domain.sealing import opened, sealed
from broker.domain.tasks import KNOWN_FOR, Errand, Questions, Task
from broker.errors import NotFound
from broker.store import tasks as stored
from broker.store.tasks import Kept
from broker.store.writer import Transaction

LARGEST_ANSWER = 16 * 1024 * 1024
"""The most characters of a server's answer, sealed, that are kept for a task."""

CALLED_OFF = "the agent cancelled its task while the tool waited for input: it may or may not have run"


class Tasks:
    """The tasks of a ledger."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def opened(self, approval: Approval) -> Task:
        """The task that `approval` has just been made. It is not read again: it is there, and may run."""
        until = _known_until(approval, self._ledger.clock.now(), self._ledger.rules.execute_within)
        return Task(approval, approval.created_at, until)

    async def get(self, task_id: str, grant_id: str, upstream: str) -> Task:
        """A task of this grant on this upstream.

        Raises:
            NotFound: it has none with this id, or its time is over.
        """
        now = self._ledger.clock.now()
        return await self._ledger.store.look_up(
            lambda session: self._read(session, _own(session, task_id, grant_id, upstream, now))
        )

    async def cancel(self, task_id: str, grant_id: str, upstream: str) -> None:
        """Its agent wants it to end. What runs is only told so (see `called_off`); what has ended stays as it is.

        Raises:
            NotFound: see `get`.
        """

        def work(tx: Transaction) -> None:
            approval = _own(tx.session, task_id, grant_id, upstream, tx.now)
            if approval.state.final:
                return
            stored.call_off(tx.session, task_id)
            by = agent(approval.call.grant)
            if approval.state is not State.EXECUTING:
                withdrawn = moves.withdraw(approval, Cause.TASK, tx.now)
                self._ledger.journal.end(tx, withdrawn, Kind.APPROVAL_WITHDRAWN, by)
            elif approval.awaiting is not None:
                given_up = moves.interrupt(approval)
                self._ledger.journal.save(tx, given_up, Kind.APPROVAL_INTERRUPTED, by, {"why": CALLED_OFF})

        await self._ledger.change(work, durable=True)

    async def update(self, task_id: str, grant_id: str, upstream: str, responses: Mapping[str, Any]) -> None:
        """Its agent brings input. What nothing outstanding asks for is left.

        Raises:
            NotFound: see `get`.
        """

        def work(tx: Transaction) -> None:
            approval = _own(tx.session, task_id, grant_id, upstream, tx.now)
            questions = self._read(tx.session, approval).questions
            if approval.awaiting is None or questions is None or not questions.outstanding.keys() & responses.keys():
                return
            keep_questions(tx, self._ledger.keyring, task_id, questions.answered(responses))
            by, detail = agent(approval.call.grant), {"round": approval.rounds}
            self._ledger.journal.note(tx, approval, Kind.APPROVAL_BROUGHT, by, detail)

        await self._ledger.change(work, durable=True)

    async def give_up(self, task_id: str) -> None:
        """What it was sealed with is gone, so it can never go on: it ends now and not in its time."""

        def work(tx: Transaction) -> None:
            approval, journal = held_call(tx.session, task_id), self._ledger.journal
            if approval.state is State.APPROVED:
                journal.end(tx, moves.withdraw(approval, Cause.SECRET, tx.now), Kind.APPROVAL_WITHDRAWN, BROKER)
            elif approval.awaiting is not None:
                told = answers.not_continued(approval, Cause.SECRET)
                journal.save(tx, moves.interrupt(approval), Kind.APPROVAL_INTERRUPTED, BROKER, {"why": told.reason})

        await self._ledger.change(work, durable=True)

    async def due(self) -> list[Errand]:
        """Those that can go on now; whoever claims one first runs it.

        Raises:
            StoreError: the store cannot be read.
        """
        found = await self._ledger.store.look_up(stored.due)
        return [self._errand(approval, kept) for approval, kept in found]

    async def called_off(self, ids: Collection[str]) -> Collection[str]:
        """Those of `ids` that their agents want to end.

        Raises:
            StoreError: the store cannot be read.
        """
        return await self._ledger.store.look_up(lambda session: stored.called_off(session, ids)) if ids else ()

    # -- parts --------------------------------------------------------------------------------------------------------

    def _read(self, session: Session, approval: Approval) -> Task:
        kept = stored.get(session, approval.id)
        if kept is None:
            raise NotFound(f"There is no task {approval.id}.")
        answer = self._opened(approval, "answer", kept.answer)
        updated_at = stored.updated_at(session, approval)
        began_at = stored.began_at(session, approval) if approval.state is State.INTERRUPTED else None
        questions = self._questions(approval, kept)
        return Task(approval, updated_at, kept.expires_at, kept.called_off, questions, answer, began_at)

    def _errand(self, approval: Approval, kept: Kept) -> Errand:
        questions = self._questions(approval, kept) if approval.awaiting is not None else None
        request = self._opened(approval, "request", kept.request)
        return Errand(approval, request, questions.brought() if questions is not None else None)

    def _questions(self, approval: Approval, kept: Kept) -> Questions | None:
        values = self._opened(approval, "questions", kept.questions)
        return Questions(values["state"], values["requests"], values["responses"]) if values is not None else None

    def _opened(self, approval: Approval, what: str, text: str | None) -> dict[str, Any] | None:
        return opened(self._ledger.keyring, _name(approval.id, what), text) if text is not None else None


# -- within the transactions of others --------------------------------------------------------------------------------


def open_task(
    tx: Transaction, keyring: Keyring, approval: Approval, request: Mapping[str, Any], usable: timedelta
) -> None:
    """`approval` is a task from now on.

    Args:
        request: see `Errand`.
        usable: how long what is approved can be used.
    """
    text = sealed(keyring, _name(approval.id, "request"), request)
    stored.add(tx.session, approval.id, text, _known_until(approval, tx.now, usable))


def _known_until(approval: Approval, now: datetime, usable: timedelta) -> datetime:
    return max(approval.deadline, now) + usable + KNOWN_FOR


def close_task(tx: Transaction, approval: Approval) -> None:
    """Nobody knows of this task: its agent left before it was told the id."""
    if approval.caller is Caller.TASK:
        stored.remove(tx.session, approval.id)


def keep_questions(tx: Transaction, keyring: Keyring, task_id: str, questions: Questions) -> None:
    """Keep what the tool of a task asks for, and what came of that."""
    said = {"state": questions.state, "requests": questions.requests, "responses": questions.responses}
    text = sealed(keyring, _name(task_id, "questions"), said)
    stored.ask(tx.session, task_id, text, asks=bool(questions.outstanding))


def keep_answer(tx: Transaction, keyring: Keyring, task_id: str, answer: Mapping[str, Any]) -> None:
    """Keep what the server answered, `result` or `error`, whole, unless it is too large."""
    text = sealed(keyring, _name(task_id, "answer"), answer)
    if len(text) <= LARGEST_ANSWER:
        stored.answer(tx.session, task_id, text)


def is_called_off(tx: Transaction, approval: Approval) -> bool:
    """Whether it is a task that its agent wants to end."""
    kept = stored.get(tx.session, approval.id) if approval.caller is Caller.TASK else None
    return kept is not None and kept.called_off


def _own(session: Session, task_id: str, grant_id: str, upstream: str, now: datetime) -> Approval:
    possible = task_id.isascii() and task_id.isprintable()  # else a database may not even take it
    found = stored.of_grant(session, task_id, grant_id, upstream, now) if possible else None
    if found is None:
        raise NotFound(f"There is no task {task_id}.")
    return found


def _name(task_id: str, what: str) -> str:
    """What it is sealed under: nothing of one task can be put in the place of another, or of something else of it."""
    return f"{task_id}/{what}"
