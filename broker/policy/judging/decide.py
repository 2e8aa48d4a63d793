"""What a policy says of one call: pure and total.

What belongs here: the compiled policy, which entry counts for a tool, and the judgement. What does not: what an entry
says (`judge`); whether a slot of a limit is free, pauses, remembered rejections and open approvals, which
need the record (`broker.store`, `broker.approvals`).

The order is that of severity: hidden, unlisted under ``default: deny``, ``action: deny``, rules that deny and errors,
hold, allow.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import chain

from broker.domain.calls import Action, Call, Said, Step, Verdict
from broker.domain.paths import written
from broker.policy.judging.globs import Glob, is_glob, parse_glob, ties
from broker.policy.judging.judge import Judge, compile_judge
from broker.policy.judging.limits import finest_windows
from broker.policy.model import Entry, Mistake, Rulebook, Unfit

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
_REMEMBERED = 4096
"""How many names that an agent used are remembered beside those of the document."""


@dataclass(frozen=True, slots=True)
class _Globs:
    """What names match; the closest first."""

    globs: tuple[Glob, ...]

    def closest(self, name: str) -> str | None:
        """The closest glob that matches `name`, as it was written."""
        return next((glob.text for glob in self.globs if glob.matches(name)), None)


@dataclass(frozen=True, slots=True)
class Policy:
    """A compiled policy document.

    Args:
        source: where it came from, for people.
        digest: SHA-256, hex, over the document's canonical JSON: which policy judged.
        book: what the document means.
    """

    source: str
    digest: str
    book: Rulebook
    _hidden: _Globs = field(repr=False, compare=False)
    _entries: _Globs = field(repr=False, compare=False)
    _judges: dict[str | None, Judge] = field(repr=False, compare=False)  # by key of an entry; None: the unlisted
    _hider: Judge = field(repr=False, compare=False)
    _seen: dict[str, Judge] = field(default_factory=dict[str, Judge], repr=False, compare=False)

    @property
    def names(self) -> tuple[str, ...]:
        """The tools that the policy lists, as names and globs, in the order of the document."""
        return tuple(self.book.entries)

    @property
    def hides_some(self) -> bool:
        """Whether any tool leaves `tools/list`."""
        return bool(self.book.hide)

    def hides(self, tool: str) -> bool:
        """Whether `tool` leaves `tools/list`."""
        return self.hides_some and self.judge(tool) is self._hider

    def judge(self, tool: str) -> Judge:
        """Who judges the calls of `tool`."""
        return self._seen.get(tool) or self._meet(tool)

    def _meet(self, tool: str) -> Judge:
        if tool in self.book.hide or self._hidden.closest(tool) is not None:
            judge = self._hider
        else:
            judge = self._judges[tool if tool in self.book.entries else self._entries.closest(tool)]
        if len(self._seen) >= _REMEMBERED + len(self.book.entries):
            self._seen.clear()
        self._seen[tool] = judge
        return judge


def decide(policy: Policy, call: Call) -> Verdict:
    """What `policy` says of `call`. Never raises.

    Returns:
        The verdict. An allowed or held call takes its charges; a denied one has none. One that is not allowed carries
        the steps that led to it.
    """
    judge = policy.judge(call.tool)
    return judge.allowed(call) or judge.explained(call)


def explain(policy: Policy, call: Call) -> Verdict:
    """What `decide` says, with every rule that was looked at whatever the verdict."""
    return policy.judge(call.tool).explained(call)


def compile_policy(book: Rulebook, source: str, digest: str) -> Policy:
    """The policy that `book` describes (see `Policy` for the arguments).

    Raises:
        Unfit: it cannot be judged by; carries every mistake.
    """
    mistakes: list[Mistake] = []
    hidden = _globs([(f"hide[{index}]", text) for index, text in enumerate(book.hide)], mistakes)
    entries = _globs([(written("tools", text), text) for text in book.entries], mistakes)
    mistakes += _tied(entries)
    finest = finest_windows(chain(book.unlisted.limits, *(entry.limits for entry in book.entries.values())))
    looked = (Step("hide", Said.NOTHING),) if book.hide else ()
    judges: dict[str | None, Judge] = {}
    for key, entry in (*book.entries.items(), (None, book.unlisted)):
        general = (_UNLISTED if key is None else _LISTED)[entry.action]
        stated = replace(entry, reason=entry.reason or general)
        judges[key] = compile_judge(stated, looked, book.redact, finest, mistakes)
    hider = compile_judge(Entry(Action.DENY, "hide", _HIDDEN), (), book.redact, finest, mistakes)
    if mistakes:
        raise Unfit(tuple(dict.fromkeys(mistakes)))
    return Policy(source, digest, book, hidden, entries, judges, hider)


def _globs(places: list[tuple[str, str]], mistakes: list[Mistake]) -> _Globs:
    globs: list[Glob] = []
    for at, text in places:
        try:
            if is_glob(text):
                globs.append(parse_glob(text))
        except ValueError as error:
            mistakes.append(Mistake(at, str(error)))
    return _Globs(tuple(sorted(globs, key=lambda glob: glob.rank)))


def _tied(entries: _Globs) -> Iterator[Mistake]:
    for a, b in ties(entries.globs):
        why = f"some tools match both {a.text} and {b.text}, and neither is closer: make one of them more exact"
        yield Mistake(written("tools", a.text), why)
