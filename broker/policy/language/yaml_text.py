"""YAML as events: one document of plain JSON values by the core schema of YAML 1.2 (section 10.3), and nothing else.

What belongs here: which values a plain word is, what of YAML is refused (tags, anchors, aliases, merge keys, more than
one document), and its syntax mistakes in plain words. What does not: what the values are good for
(`tree` and up).

PyYAML reads YAML 1.1; only its parser is used, which knows no types: `on`, `012` and `1:30` are what YAML 1.2 says.
Nothing is ever constructed, so nothing in a document can run, and an alias cannot multiply.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import yaml
from yaml.error import Mark, MarkedYAMLError
from yaml.events import (
    AliasEvent,
    CollectionEndEvent,
    CollectionStartEvent,
    DocumentStartEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceStartEvent,
)
from yaml.reader import ReaderError

from broker.policy.language.tree import Event, Kind, Lines, Place, Unreadable

_BREAKS = re.compile("[\u0085\u2028\u2029]")
"""Line breaks in YAML 1.1 and in no other notation: they would be read as blanks."""

_CORE: tuple[tuple[re.Pattern[str], Callable[[str], Any]], ...] = (
    (re.compile(r"(?:null|Null|NULL|~|)"), lambda _: None),
    (re.compile(r"(?:true|True|TRUE)"), lambda _: True),
    (re.compile(r"(?:false|False|FALSE)"), lambda _: False),
    (re.compile(r"[-+]?[0-9]+"), int),
    (re.compile(r"0o[0-7]+"), lambda text: int(text, 0)),
    (re.compile(r"0x[0-9a-fA-F]+"), lambda text: int(text, 0)),
    (re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?"), float),
    (re.compile(r"[-+]?\.(?:inf|Inf|INF)"), lambda _: float("inf")),
    (re.compile(r"\.(?:nan|NaN|NAN)"), lambda _: float("nan")),
)

_ANCHOR = "anchors and aliases (& and *) are not read here: write the value out"
_ALIAS = f"{_ANCHOR}, and put a text that begins with * in quotes"
_MERGE = "merge keys (<<) are not read here: write the keys out"
_TAG = "tags such as {tag} are not read here: write a plain value, or a text in quotes"
_STANDARD = "tag:yaml.org,2002:"

_PLAIN: tuple[tuple[str, str], ...] = (
    (r"found character '\\t'", "a tab cannot indent a line of YAML: use spaces"),
    (r"found character '(?P<char>.)' that cannot start", "a text cannot begin with {char}: put it in quotes"),
    (r"mapping values are not allowed", "no key can stand here: is the indentation right, or a text not in quotes?"),
    (r"sequence entries are not allowed", "no item can begin here: put it on a line of its own"),
    (r"could not find expected ':'", "expected a colon after the key"),
    (r"scanning a quoted scalar", "the text in quotes that begins here has no end"),
    (r"found unknown escape character '(?P<char>.)'", "\\{char} is no escape: use single quotes, or write \\\\{char}"),
    (r"scanning an alias", "a text cannot begin with *: put it in quotes"),
    (r"scanning an anchor", "a text cannot begin with &: put it in quotes"),
    (r"flow sequence.*'<stream end>'", "the list that begins here has no end: expected ]"),
    (r"flow mapping.*'<stream end>'", "the object that begins here has no end: expected }}"),
    (r"expected ',' or '(?P<char>.)', but", "expected a comma or {char}"),
    (
        r"expected <block end>|expected '<document start>'",
        "this fits nothing above: is the indentation right, or a quote missing?",
    ),
    (r"expected the node content", "expected a value"),
    (r"undefined tag handle '(?P<char>.*)'", _TAG.format(tag="{char}")),
)
_BEGINS = "begins here"
"""What a sentence says that is about the beginning of something rather than the place where its end is missed."""


def yaml_events(text: str) -> Iterator[Event]:
    """The events of a YAML text.

    Raises:
        Unreadable: it is not YAML, empty, or more than one document; says where.
    """
    if (found := _BREAKS.search(text)) is not None:
        raise Unreadable(f"not YAML 1.2: write U+{ord(found[0]):04X} as an escape", Lines(text).place(found.start()))
    try:
        yield from _events(text)
    except ReaderError as error:
        what = f"not YAML: the character U+{ord(text[error.position]):04X} cannot stand here"
        raise Unreadable(what, Lines(text).place(error.position)) from error
    except MarkedYAMLError as error:
        raise _not_yaml(error) from error


def _events(text: str) -> Iterator[Event]:
    documents = 0
    for event in yaml.parse(text, yaml.SafeLoader):
        match event:
            case DocumentStartEvent():
                documents += 1
                if documents > 1:
                    raise Unreadable("a second document begins here: a policy is one", _place(event.start_mark))
            case ScalarEvent():
                yield _scalar(event)
            case MappingStartEvent():
                yield Event(Kind.OBJECT, _place(event.start_mark), wrong=_refused(event))
            case SequenceStartEvent():
                yield Event(Kind.ARRAY, _place(event.start_mark), wrong=_refused(event))
            case CollectionEndEvent():
                yield Event(Kind.END, _place(event.start_mark))
            case AliasEvent():
                yield Event(Kind.SCALAR, _place(event.start_mark), wrong=_ALIAS)
            case _:
                pass
    if not documents:
        raise Unreadable("the file is empty: expected an object with version and default", Place(1, 1))


def _refused(event: ScalarEvent | CollectionStartEvent) -> str | None:
    tag: str | None = event.tag
    if tag is not None:
        return _TAG.format(tag=tag.replace(_STANDARD, "!!", 1) if tag.startswith(_STANDARD) else tag)
    return _ANCHOR if event.anchor is not None else None


def _scalar(event: ScalarEvent) -> Event:
    place, wrong = _place(event.start_mark), _refused(event)
    if event.style:  # in quotes, or a block: a text, whatever it looks like
        return Event(Kind.SCALAR, place, event.value, wrong)
    if event.value == "<<":
        return Event(Kind.SCALAR, place, event.value, wrong or _MERGE)
    try:
        return Event(Kind.SCALAR, place, _core(event.value), wrong)
    except ValueError:  # a limit of Python's
        return Event(Kind.SCALAR, place, wrong="the number has too many digits")


def _core(plain: str) -> Any:
    """The value of a plain word by the core schema."""
    return next((read(plain) for form, read in _CORE if form.fullmatch(plain)), plain)


def _place(mark: Mark | Any) -> Place:
    return Place(mark.line + 1, mark.column + 1)


def _not_yaml(error: MarkedYAMLError) -> Unreadable:
    theirs = f"{error.context}: {error.problem}"
    sentence = error.problem or "this cannot be read"
    for form, plain in _PLAIN:
        if (found := re.search(form, theirs)) is not None:
            sentence = plain.format(**found.groupdict())
            break
    mark = (_BEGINS in sentence and error.context_mark) or error.problem_mark or error.context_mark
    return Unreadable(f"not YAML: {sentence}", _place(mark) if mark else Place(1, 1))
