"""What a CEL expression looks at and how much work it can be, read from its text.

What belongs here: the words of an expression, what each refers to, and the refusal of what cannot be bounded in time.
What does not: compiling and evaluating (`expressions`). The library shows no syntax tree, and it checks
the grammar; this reads only what the checks need, by the lexical rules of the CEL specification
(https://github.com/google/cel-spec/blob/master/doc/langdef.md#syntax).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import NamedTuple

from broker.domain.paths import Path
from broker.policy.facts import GRANT, ROOTS, TEXTS

FUNCTIONS = frozenset(
    {"has", "size", "matches", "string", "bytes", "double", "int", "uint", "timestamp", "duration", "type", "dyn"}
)
METHODS = frozenset(
    {
        *("size", "contains", "startsWith", "endsWith", "matches", "getFullYear", "getMonth", "getDayOfYear"),
        *("getDayOfMonth", "getDate", "getDayOfWeek", "getHours", "getMinutes", "getSeconds", "getMilliseconds"),
    }
)
MACROS = frozenset({"all", "exists", "exists_one", "existsOne", "map", "filter"})
TYPES = frozenset({"int", "uint", "double", "string", "bytes", "bool", "list", "map", "null_type", "type"})

_LONGEST = 4_000
_DEEPEST = 32
_WORDS = frozenset({"true", "false", "null", "in"})
_TOKEN = re.compile(
    r"""(?P<blank>[ \t\r\n\f]+|//[^\n]*)
    |(?P<string>[bB]?(?:[rR](?:"[^"\n\r]*"|'[^'\n\r]*')|"(?:[^"\\\n\r]|\\.)*"|'(?:[^'\\\n\r]|\\.)*'))
    |(?P<number>0x[0-9a-fA-F]+[uU]?|\d+\.\d+(?:[eE][+-]?\d+)?|\d+[eE][+-]?\d+|\.\d+(?:[eE][+-]?\d+)?|\d+[uU]?)
    |(?P<name>[_a-zA-Z][_a-zA-Z0-9]*)
    |(?P<sign>&&|\|\||[<>=!]=|[-+*/%<>!?:.,()\[\]{}])""",
    re.VERBOSE | re.ASCII,
)
_FREE = frozenset(".,()]}")  # signs that cost nothing of themselves
_QUOTES = frozenset("\"'")
_UNENDED = ": the text that begins here has no end"
_INSTEAD = {
    "=": ": write == to compare",
    "&": ": write && for and",
    "|": ": write || for or",
    **dict.fromkeys(_QUOTES, _UNENDED),
}
_OPERATORS = {"and": "&&", "or": "||", "not": "!"}
"""What other languages write, and CEL."""
_PLAIN_STRING = re.compile(r"""(["'])([^"'\\]*)\1""")


class Token(NamedTuple):
    """A word of the expression and where it begins."""

    kind: str
    text: str
    start: int


@dataclass(slots=True)
class Reading:
    """What was read of an expression.

    Args:
        names: every variable, type and function that it names.
        references: what of the call it looks at, as far as the text tells.
        searches: where a `matches` stands, and the text of its pattern, quoted as in the expression.
        operations: how many parts are evaluated.
        sums: how many `+` there are, each of which may make a value that is larger than what it was made of.
        order: the power of the input's size with which the work grows.
    """

    names: set[str] = field(default_factory=set[str])
    references: list[Path] = field(default_factory=list[Path])
    searches: list[tuple[int, str]] = field(default_factory=list[tuple[int, str]])
    operations: int = 0
    sums: int = 0
    order: int = 1


@dataclass(slots=True)
class _Bracket:
    """An open bracket: which function's, and which variable a macro binds in it."""

    opened: int
    function: str | None = None
    bound: str | None = None


def read_expression(source: str) -> Reading:
    """What `source` looks at and how much work it is.

    Raises:
        ValueError: it refers to what does not exist, or its work cannot be bounded; the message says what and where.
    """
    if len(source) > _LONGEST:
        raise ValueError(f"the expression has {len(source)} characters; at most {_LONGEST} are read")
    reader = _Reader(_tokens(source))
    reader.read()
    return reader.reading


def _tokens(source: str) -> list[Token]:
    tokens: list[Token] = []
    place = 0
    while place < len(source):
        found = _TOKEN.match(source, place)
        if found is None:
            hint = _INSTEAD.get(source[place], "")
            raise ValueError(f"column {place + 1}: {source[place]!r} cannot be read{hint}")
        if found["string"] and source[found.end() : found.end() + 1] in _QUOTES:
            raise ValueError(f"column {place + 1}: a string in three quotes is not read: use one quote on each side")
        if found.lastgroup != "blank":
            tokens.append(Token(str(found.lastgroup), found[0], place))
        place = found.end()
    return tokens


class _Reader:
    """One pass over the tokens, with the brackets that are open."""

    def __init__(self, tokens: list[Token]) -> None:
        self.reading = Reading()
        self._tokens = tokens
        self._open: list[_Bracket] = []
        self._maps = False
        self._reaches_out = False  # a macro's body looks at more than its own variable
        self._builds = False  # a macro makes a list

    def read(self) -> None:
        reading = self.reading
        for index, token in enumerate(self._tokens):
            reading.operations += token.text not in _FREE
            reading.sums += token.text == "+"
            if token.kind == "name" and token.text not in _WORDS:
                reading.names.add(token.text)
                self._name(index, token)
            elif token.kind == "sign":
                self._sign(index, token)
        reading.order += self._reaches_out + self._builds

    def _name(self, index: int, token: Token) -> None:
        called = self._text(index + 1) == "("
        if token.text in _OPERATORS and self._text(index - 1) != ".":
            raise _at(token, f"{token.text} is not known: write {_OPERATORS[token.text]}")
        if self._text(index + 1) == "{":
            raise _at(token, f"there is no type {token.text}")
        if self._text(index - 1) == ".":
            if index < 2 or not self._is_value(index - 2):
                raise _at(token, "a name does not begin with a dot")
            if called and token.text not in METHODS | MACROS:
                raise _at(token, f"there is no function .{token.text}()")
        elif called:
            if token.text not in FUNCTIONS:
                raise _at(token, f"there is no function {token.text}()")
        else:
            self._variable(index, token)

    def _variable(self, index: int, token: Token) -> None:
        inside = self._macro()
        if inside is not None and token.text == inside.bound:
            return
        if token.text in ROOTS:
            self._reaches_out |= inside is not None
            self.reading.references.append(self._reference(index, token))
        elif token.text not in TYPES:
            raise _at(token, f"{token.text} is not known: an expression sees args, tool, upstream, grant and session")

    def _reference(self, index: int, token: Token) -> Path:
        """The longest path that the text tells from the root at `index`."""
        steps: list[str | int] = [token.text]
        while True:
            here, following, after = self._text(index + 1), self._token(index + 2), self._text(index + 3)
            if here == "." and following.kind == "name" and after != "(":
                steps.append(following.text)
                index += 2
            elif here == "[" and after == "]" and (plain := _PLAIN_STRING.fullmatch(following.text)):
                steps.append(plain[2])
                index += 3
            else:
                break
        if steps[0] == "grant" and len(steps) > 1 and steps[1] not in GRANT:
            raise _at(token, f"grant has no {steps[1]}: it has {', '.join(GRANT)}")
        if steps[0] in TEXTS and len(steps) > 1:
            raise _at(token, f"{steps[0]} is a text and has no {steps[1]}: write {steps[0]} alone")
        return Path(tuple(steps))

    def _sign(self, index: int, token: Token) -> None:
        match token.text:
            case "(" | "[" | "{":
                self._opens(index, token)
            case ")" | "]" | "}":
                self._closes(index, token)
            case "-" if not self._is_value(index - 1) and self._token(index + 1).kind != "number":
                raise _at(token, "the sign of a value cannot be changed safely: write 0 - value")
            case _:
                pass

    def _opens(self, index: int, token: Token) -> None:
        if len(self._open) == _DEEPEST:
            raise _at(token, f"more than {_DEEPEST} brackets are open")
        before = self._token(index - 1)
        bracket = _Bracket(index, before.text if token.text == "(" and before.kind == "name" else None)
        if bracket.function in MACROS and self._text(index - 2) == ".":
            bracket.bound = self._bound(index, before)
        self._open.append(bracket)

    def _bound(self, index: int, macro: Token) -> str:
        variable = self._token(index + 1)
        if self._macro() is not None:
            raise _at(macro, f"{macro.text}() inside another such function takes too long on a large call")
        if variable.kind != "name" or variable.text in {*ROOTS, *TYPES, *_WORDS} or self._text(index + 2) != ",":
            raise _at(macro, f"{macro.text}() expects a new name, a comma, and what is tested: .{macro.text}(x, x > 1)")
        if macro.text == "map":
            if self._maps:
                raise _at(macro, "a second map() in one expression can grow a call without bounds")
            self._maps = True
        self._builds |= macro.text in ("map", "filter")
        return variable.text

    def _closes(self, index: int, token: Token) -> None:
        if not self._open:
            raise _at(token, "closes a bracket that is not open")
        bracket = self._open.pop()
        if bracket.function != "matches":
            return
        pattern, name = self._token(index - 1), self._token(bracket.opened - 1)
        alone = index - 2 == bracket.opened if self._text(bracket.opened - 2) == "." else self._text(index - 2) == ","
        if pattern.kind != "string" or pattern.text[0] in "bB" or not alone:
            raise _at(name, "matches() expects its pattern as a string that is written out")
        self.reading.searches.append((name.start, pattern.text))

    def _macro(self) -> _Bracket | None:
        return next((bracket for bracket in self._open if bracket.bound is not None), None)

    def _is_value(self, index: int) -> bool:
        """Whether the token at `index` ends a value, so that what follows is no prefix."""
        token = self._token(index)
        return (
            token.kind in ("string", "number")
            or token.text in (")", "]", "}")
            or (token.kind == "name" and token.text != "in")
        )

    def _token(self, index: int) -> Token:
        return self._tokens[index] if 0 <= index < len(self._tokens) else Token("end", "", 0)

    def _text(self, index: int) -> str:
        return self._token(index).text


def _at(token: Token, what: str) -> ValueError:
    return ValueError(f"column {token.start + 1}: {what}")
