"""Tests in the Common Expression Language, evaluated within bounds.

What belongs here: compiling an expression once, showing it a call, and turning what goes wrong into a sentence. What
does not: what an expression refers to and whether it can be bounded (`cel_text`).

The library cannot be interrupted, so the bounds are on what it is shown. Measured: one operation costs some 100 ns for
each value that it looks at, which are copied; inside a macro, a tenth of that.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

from broker.domain.calls import Call
from broker.domain.paths import MISSING, Path
from broker.policy.facts import GRANT, Unjudged, finder, grant_facts, kind
from broker.policy.judging.cel_library import Context, Program, compile_source
from broker.policy.judging.cel_text import Reading, read_expression
from broker.policy.judging.patterns import WORK, Pattern, compile_pattern

_BUDGET = 132_000  # values times operations: some 20 ms; a text of 4 MiB with one comparison just fits
_DISCOUNT = 25  # how much cheaper each is in work that grows with a power of the size
_LEAST = 16  # values; less is no use
_TEXT = 128  # characters that weigh as much as one value
_TOO_LARGE = "the call is too large for this expression to be evaluated quickly"
_INTEGERS = 1 << 63
_SEARCH = "searched_"  # what `matches` is called in what the library compiles, which has its own for text

_SENTENCES: Mapping[type[BaseException], str] = {
    KeyError: "it looks for something that the call does not have",
    IndexError: "it looks for an item that a list does not have",
    TypeError: "it puts values together whose types do not fit",
    ZeroDivisionError: "it divides by zero",
    OverflowError: "a number leaves the range of 64 bits",
}


class CompiledExpression:
    """An expression that calls are tested by.

    Args:
        source: in CEL.

    Raises:
        ValueError: it cannot be used; the message says why and in which column.
    """

    def __init__(self, source: str) -> None:
        reading = read_expression(source)
        _check_same(reading, _compiled(source))  # whose mistakes are told in the columns of what was written
        self.references = tuple(dict.fromkeys(reading.references))
        self._most = _most_values(reading)
        self._patterns = {_literal(text): compile_pattern(_literal(text)) for _, text in reading.searches}
        self._program = _compiled(_with_own_search(source, reading))
        self._shows = _shows(self.references)
        self._finds = [(str(path), finder(path)) for path in self.references]

    def test(self, call: Call, args: Mapping[str, Any]) -> bool:
        """Whether `call`, whose arguments are given apart, passes.

        Raises:
            Unjudged: it cannot be said.
        """
        context, searches = Context(), _Searches(self._patterns)
        if self._patterns:
            context.add_function(_SEARCH, searches.search)
        try:
            for name, show in self._shows:
                value = show(call, args)
                if name == "args":
                    _check_size(value, self._most)
                context.add_variable(name, value)
            said = self._program.execute(context)
        except Unjudged:
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, the call was not judged
            raise Unjudged(self._why(error, call, args)) from None
        except BaseException as error:
            if type(error).__module__ != "pyo3_runtime":
                raise
            raise Unjudged("the library that evaluates it failed") from None  # a panic of Rust is no Exception
        if searches.trouble is not None:
            raise Unjudged(f"matches(): {searches.trouble}")
        if not isinstance(said, bool):
            raise Unjudged("its expression gives neither true nor false")
        return said

    def _why(self, error: Exception, call: Call, args: Mapping[str, Any]) -> str:
        """A sentence of our own: the library's own repeat what the call says."""
        missing = [path for path, find in self._finds if find(call, args) is MISSING]
        if isinstance(error, KeyError) and missing:
            return f"{missing[0]} is missing"
        return next((said for known, said in _SENTENCES.items() if isinstance(error, known)), "a value does not fit")


class _Searches:
    """`matches` on the bounded engine, for one evaluation; a callback that raised would be printed by the library."""

    def __init__(self, patterns: Mapping[str, Pattern]) -> None:
        self.trouble: str | None = None
        self._patterns = patterns
        self._left = WORK

    def search(self, text: Any, pattern: Any) -> bool:
        if not isinstance(text, str):
            self.trouble = f"it looks into text, and this is {kind(text)}"
            return False
        try:
            found, self._left = self._patterns[pattern].found_in(text, self._left)
        except Unjudged as error:
            self.trouble = str(error)
            self._left = -1
            return False
        return found


def _compiled(source: str) -> Program:
    try:
        return compile_source(source)
    except Exception as error:  # noqa: BLE001 - a library's errors, in the terms of its parser
        raise ValueError(_syntax(str(error))) from None
    except BaseException as error:
        if type(error).__module__ != "pyo3_runtime":
            raise
        raise ValueError("the library that evaluates expressions cannot read it") from None


def _check_same(reading: Reading, program: Program) -> None:
    """Refuse what the library reads otherwise than we do, for then the bounds are not those of what it evaluates."""
    known = program.references()
    named = {name for names in known.values() for name in names if name.isidentifier()}
    if not named <= reading.names or "-_" in known["functions"]:
        raise ValueError("it is written in a way that cannot be checked: write it more simply")


def _syntax(said: str) -> str:
    """The first of the parser's complaints: ``ERROR: <input>:1:4: Syntax error: mismatched input …``."""
    _, found, complaint = said.partition("ERROR: <input>:")
    line, _, rest = complaint.partition(":")
    column, _, what = rest.partition(":")
    if not found:
        return "it is not an expression in CEL"
    place = f"column {column}" if line == "1" else f"line {line}, column {column}"
    first = what.strip().splitlines()[0].removeprefix("Syntax error: ").split(" expecting {")[0]
    if first.startswith("Incomplete"):  # what follows are names of the library's own
        first = "a part is missing in what begins here"
    ended = first.replace("mismatched input '<EOF>'", "it ends too early")
    return f"{place}: {ended.replace(chr(39) + '<EOF>' + chr(39), 'the end')}"


def _literal(quoted: str) -> str:
    """The value of a string literal, as the library reads it."""
    return str(compile_source(quoted).execute())


def _with_own_search(source: str, reading: Reading) -> str:
    for start, _ in sorted(reading.searches, reverse=True):
        source = source[:start] + _SEARCH + source[start + len("matches") :]
    return source


def _most_values(reading: Reading) -> int:
    """How many values of a call the expression may look at."""
    budget = _BUDGET if reading.order == 1 else _BUDGET * _DISCOUNT
    most = int((budget / reading.operations) ** (1 / reading.order) / (1 + reading.sums)) - reading.operations
    if most < _LEAST:
        raise ValueError("it has too many parts to be evaluated quickly: make it shorter")
    return most


def _shows(references: tuple[Path, ...]) -> list[tuple[str, Callable[[Call, Mapping[str, Any]], Any]]]:
    """The variables that are looked at, and how much of each must be shown."""
    members: dict[str, set[str] | None] = {}
    for path in references:
        root, seen = str(path.steps[0]), members.setdefault(str(path.steps[0]), set())
        if len(path.steps) == 1:
            members[root] = None
        elif seen is not None:
            seen.add(str(path.steps[1]))
    return [(root, _show(root, seen)) for root, seen in members.items()]


def _show(root: str, members: set[str] | None) -> Callable[[Call, Mapping[str, Any]], Any]:
    if root == "args":
        if members is None:
            return lambda _call, args: args if isinstance(args, dict) else dict(args)
        names = tuple(members)
        return lambda _call, args: {name: args[name] for name in names if name in args}
    if root == "grant":
        facts = GRANT if members is None else tuple(members)
        return lambda call, _args: {name: value for name, value in grant_facts(call).items() if name in facts}
    find = finder(Path((root,)))
    return lambda call, args: None if (value := find(call, args)) is MISSING else value


def _check_size(value: Any, most: int) -> None:
    """Refuse what would take too long, and integers that the library would round."""
    waiting: list[Any] = [value]
    weight = 0
    while waiting:
        item = waiting.pop()
        weight += 1
        if isinstance(item, str):
            weight += len(item) // _TEXT
        elif isinstance(item, dict | list):
            inner = cast("dict[str, Any] | list[Any]", item)
            if weight + len(inner) > most:
                raise Unjudged(_TOO_LARGE)
            if isinstance(inner, dict):
                weight += 2 * len(inner) + sum(map(len, inner)) // _TEXT
                inner = inner.values()
            waiting.extend(inner)
        elif isinstance(item, int) and not -_INTEGERS < item < _INTEGERS:
            raise Unjudged(_SENTENCES[OverflowError])
        if weight + len(waiting) > most:
            raise Unjudged(_TOO_LARGE)
