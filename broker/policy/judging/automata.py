"""Whether the automaton of a regular expression is small, so that RE2 searches any text at one step a byte.

What belongs here: building that automaton as RE2 builds it, up to a bound. What does not: the syntax
(`regex_text`), searching (`patterns`).

RE2 follows all threads of a search at once; each set of threads that occurs is a state, remembered while memory lasts
(https://swtch.com/~rsc/regexp/regexp3.html). It goes forwards in the order of preference, to find where a match ends,
and then backwards, to find where it begins. Here both are built over characters instead of bytes, and every place may
or may not be the edge of a word, so that no state is missed.
"""

from __future__ import annotations

from typing import NamedTuple

from broker.policy.judging.characters import LAST, Spans, holds
from broker.policy.judging.regex_text import Chars, Choice, Look, Node, Repeat, Sequence, Unread, read_pattern

_MEMORY = 2 << 20  # bytes of states: of the 8 MiB that RE2 has, each of its automata gets a third
_STEPS = 60_000  # of building
_INSTRUCTIONS = 400


class _Instruction(NamedTuple):
    """A thread's next step: read a character of `spans`, pass where `look` holds, or just go on, in this order."""

    spans: Spans | None
    look: Look | None
    goes: tuple[int, ...]


_Threads = tuple[int, ...]


class _Place(NamedTuple):
    """The threads that are alive between two characters, and what holds there beside the edges of words."""

    threads: _Threads
    held: frozenset[Look]


def is_small(pattern: str) -> bool:
    """Whether RE2's automata for `pattern`, which it accepts, surely stay within their memory on every text."""
    try:
        node = read_pattern(pattern)
        return _fits(_program(node), forwards=True) and _fits(_program(_reversed(node)), forwards=False)
    except (Unread, _TooLarge):
        return False


class _TooLarge(Exception):
    """The automaton is larger than what is looked for."""


def _program(node: Node) -> list[_Instruction]:
    """Instructions; the first is the end, the last is the start."""
    program = [_Instruction(None, None, ())]
    _compile(node, 0, program)
    return program


def _compile(node: Node, after: int, program: list[_Instruction]) -> int:
    """Add what matches `node` and then goes on at `after`; where that begins."""
    match node:
        case Chars(spans):
            return _add(program, _Instruction(spans, None, (after,)))
        case Look():
            return _add(program, _Instruction(None, node, (after,)))
        case Sequence(parts):
            for part in reversed(parts):
                after = _compile(part, after, program)
            return _add(program, _Instruction(None, None, (after,)))
        case Choice(parts):
            return _add(program, _Instruction(None, None, tuple(_compile(part, after, program) for part in parts)))
        case Repeat():
            return _compile_repeat(node, after, program)


def _compile_repeat(node: Repeat, after: int, program: list[_Instruction]) -> int:
    start = after
    if node.most is None:
        start = _add(program, _Instruction(None, None, ()))
        inner = _compile(node.part, start, program)
        program[start] = _fork(inner, after, node.lazy)
    for _ in range((node.most or node.least) - node.least):
        start = _add(program, _fork(_compile(node.part, start, program), after, node.lazy))
    for _ in range(node.least):
        start = _compile(node.part, start, program)
    return _add(program, _Instruction(None, None, (start,)))


def _fork(inner: int, after: int, lazy: bool) -> _Instruction:
    return _Instruction(None, None, (after, inner) if lazy else (inner, after))


def _add(program: list[_Instruction], instruction: _Instruction) -> int:
    if len(program) == _INSTRUCTIONS:
        raise _TooLarge
    program.append(instruction)
    return len(program) - 1


def _reversed(node: Node) -> Node:
    match node:
        case Sequence(parts):
            return Sequence(tuple(_reversed(part) for part in reversed(parts)))
        case Choice(parts):
            return Choice(tuple(map(_reversed, parts)))
        case Repeat(part, least, most, lazy):
            return Repeat(_reversed(part), least, most, lazy)
        case _:
            return node


def _fits(program: list[_Instruction], *, forwards: bool) -> bool:
    """Whether all states fit into memory: forwards, where a thread may start at every place, or backwards."""
    symbols, wide = _symbols(program)
    edges = [frozenset({look}) for look in (Look.EDGE, Look.INSIDE)]  # one of the two holds at every place
    size = (64 + 8 * (len(symbols) + wide) + 8 * len(program)) * wide * 2  # 2: the last character was of a word or not
    opening = Look.START if forwards else Look.END
    start: _Threads = (len(program) - 1,)
    first = _Place(start, frozenset({opening}))
    waiting, states, steps = [first], {first}, 0
    while waiting and steps <= _STEPS and len(states) * size <= _MEMORY:
        place = waiting.pop()
        for held in edges:
            here = _followed(program, place.threads, place.held | held, stops=forwards)
            steps += len(symbols) * (len(here) + 1)
            for symbol in symbols:
                reached = dict.fromkeys(program[at].goes[0] for at in here if holds(program[at].spans or (), symbol))
                following = _Place((*reached, *start) if forwards else tuple(sorted(reached)), frozenset())
                if following not in states:
                    states.add(following)
                    waiting.append(following)
    return not waiting


def _followed(program: list[_Instruction], threads: _Threads, held: frozenset[Look], *, stops: bool) -> list[int]:
    """The threads that read a character next, in order of preference, where `held` holds; a match may stop the rest."""
    waiting, seen, reading = list(reversed(threads)), set[int](), list[int]()
    while waiting:
        at = waiting.pop()
        if at in seen:
            continue
        seen.add(at)
        if at == 0 and stops:
            break
        instruction = program[at]
        if instruction.spans is not None:
            reading.append(at)
        elif instruction.look is None or instruction.look in held:
            waiting.extend(reversed(instruction.goes))
    return reading


def _symbols(program: list[_Instruction]) -> tuple[list[int], int]:
    """A character of each kind that the program tells apart, and how many states the bytes of one may lead through."""
    edges = {0}
    for instruction in program:
        for first, last in instruction.spans or ():
            edges |= {first, last + 1}
    return [edge for edge in edges if edge <= LAST], 7 + 3 * sum(0x7F < edge <= LAST for edge in edges)
