"""From the text of a file, in JSON or YAML, to a tree with places."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from broker.domain.canonical import canonical_json
from broker.errors import PolicyError
from broker.policy.language.source import LARGEST, read_tree
from broker.policy.language.tree import Place, Unreadable
from broker.policy.load import parse_policy
from tests.servers import BOUND

EMPTY = '{"version": "1", "default": "deny"}'


def unreadable(text: str | bytes, source: str) -> str:
    """Where and why a text is refused."""
    with pytest.raises(Unreadable) as refused:
        read_tree(text, source)
    found = refused.value.finding
    return f"{found.line}:{found.column}: {found.message}"


def wrong(text: str, source: str = "p.yaml") -> list[str]:
    """What is said of a text that has a tree, and where."""
    return [f"{one.line}:{one.column}: {one.path}: {one.message}" for one in read_tree(text, source).mistakes]


@pytest.mark.parametrize("source", ["p.json", "p.yaml", "p"])
@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"\xef\xbb\xbf" + EMPTY.encode(), "1:1: starts with a byte-order mark; save it as UTF-8 without one"),
        ("\ufeff" + EMPTY, "1:1: starts with a byte-order mark; save it as UTF-8 without one"),
        (EMPTY.encode("utf-16"), "1:1: not UTF-8; save it in that encoding"),
        (b'{"version":\r\n"\xc3\xa9\xe9"}', "2:3: not UTF-8; save it in that encoding"),
        (b"#" * (LARGEST + 1), "1:1: larger than 1024 KiB"),
        ("[" * 100_000, "1:101: nested more than 100 levels deep"),
        ('{"a":' * 101 + "1" + "}" * 101, "1:501: nested more than 100 levels deep"),
    ],
)
def test_bytes_that_are_no_document_are_refused_in_both_notations(text: str | bytes, said: str, source: str) -> None:
    assert unreadable(text, source) == said


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "1:1: not JSON: expected a value, not the end of the file"),
        ("version: '1'", "1:1: not JSON: expected a value, not version"),
        (EMPTY[:-1], "1:35: not JSON: expected a comma, or the end of what is open, not the end of the file"),
        ('{"a": 1\n "b": 2}', '2:2: not JSON: expected a comma, or the end of what is open, not "'),
        ('{"a" 1}', "1:6: not JSON: expected a colon after the key, not 1"),
        ('{"a": 1,\n}', "2:1: not JSON: nothing follows the comma before this: take the comma out"),
        ("[1, ]", "1:5: not JSON: nothing follows the comma before this: take the comma out"),
        ("{'a': 1}", "1:2: not JSON: expected a key in double quotes, not '"),
        (
            '{"a": 1 // one\n}',
            "1:9: not JSON: JSON has no comments: take it out, or write the document as YAML",
        ),
        ('{"a": True}', "1:7: not JSON: expected a value, not True"),
        ("{} {}", "1:4: not JSON: expected the end of the file, not {"),
        ('{"a": "b}', "1:7: not JSON: the string that begins here has no end"),
        ('"a\tb"', "1:3: not JSON: a string has no line break, tab or other control character: write \\n or \\t"),
        (r'{"a": "\d"}', "1:8: not JSON: JSON has no such escape: a backslash is written twice"),
    ],
)
def test_what_is_not_json_is_told_in_plain_words_with_its_place(text: str, said: str) -> None:
    assert unreadable(text, "p.json") == said


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("# nothing\n", "1:1: the file is empty: expected an object with version and default"),
        ("a:\n\tb: 1", "2:1: not YAML: a tab cannot indent a line of YAML: use spaces"),
        ("hide: [*]", "1:9: not YAML: a text cannot begin with *: put it in quotes"),
        ("hide: @x", "1:7: not YAML: a text cannot begin with @: put it in quotes"),
        ("a: [1,\n2", "1:4: not YAML: the list that begins here has no end: expected ]"),
        ("a: {b: 1", "1:4: not YAML: the object that begins here has no end: expected }"),
        ("a: {b: 1]", "1:9: not YAML: expected a comma or }"),
        ("a: 'b\nc: d", "1:4: not YAML: the text in quotes that begins here has no end"),
        (r'a: "\d+"', r"1:6: not YAML: \d is no escape: use single quotes, or write \\d"),
        ("a: b: c", "1:5: not YAML: no key can stand here: is the indentation right, or a text not in quotes?"),
        ("a: 1\n---\nb: 1", "2:1: a second document begins here: a policy is one"),
        ("a: 1\n--- x", "2:1: a second document begins here: a policy is one"),
        ("a: \x01", "1:4: not YAML: the character U+0001 cannot stand here"),
        ('a: "\u2028"', "1:5: not YAML 1.2: write U+2028 as an escape"),
        ("a: !e!x 1", "1:4: not YAML: tags such as !e! are not read here: write a plain value, or a text in quotes"),
        ("[a]: 1", "1:1: a key is a text, not an object or a list"),
    ],
)
def test_what_is_not_yaml_is_told_in_plain_words_with_its_place(text: str, said: str) -> None:
    assert unreadable(text, "p.yml") == said


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *((word, word) for word in ("on", "off", "yes", "No", "y", "1_000", "1:30", "2026-07-28", "0b1", "=", "nULL")),
        ("2026-07-28T12:00:00Z", "2026-07-28T12:00:00Z"),
        *((word, None) for word in ("null", "~", "Null", "")),
        *((word, True) for word in ("true", "TRUE")),
        ("012", 12),
        ("0o12", 10),
        ("0x1f", 31),
        ("-7", -7),
        ("1e3", 1000.0),
        ("1.", 1.0),
        (".5", 0.5),
        ("'012'", "012"),
        ('"null"', "null"),
        ("|\n  true", "true"),
        (r'"\ud83d\ude00"', "😀"),
    ],
)
def test_a_plain_word_of_yaml_is_what_the_core_schema_of_yaml_1_2_says(text: str, value: Any) -> None:
    read = read_tree(f"a: {text}", "p.yaml")
    assert (read.value, read.mistakes) == ({"a": value}, ())
    assert type(read.value["a"]) is type(value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: 1\na: 2", "2:1: a: is written twice in one object: keep one of them"),
        ("t: {x: {}, 'x': {}}", "1:12: t.x: is written twice in one object: keep one of them"),
        ("t:\n  123: {}", '2:3: t.123: a key is a text: write it in quotes, "123"'),
        ("true: 1", '1:1: true: a key is a text: write it in quotes, "true"'),
        ("a: .inf", "1:4: a: is no number that JSON can write: too large, infinite or NaN"),
        ("a: .NaN", "1:4: a: is no number that JSON can write: too large, infinite or NaN"),
        ("a: 1e400", "1:4: a: is no number that JSON can write: too large, infinite or NaN"),
        ("a: " + "9" * 5000, "1:4: a: the number has too many digits"),
        (r'a: "\ud800"', "1:4: a: holds half of a surrogate pair, which is no character"),
        ("a: &x 1", "1:4: a: anchors and aliases (& and *) are not read here: write the value out"),
        (
            "a: [*x]",
            (
                "1:5: a[0]: anchors and aliases (& and *) are not read here: write the value out, "
                "and put a text that begins with * in quotes"
            ),
        ),
        ("<<: {a: 1}", '1:1: ["<<"]: merge keys (<<) are not read here: write the keys out'),
        (
            "a: !!python/object/apply:os.system ['true']",
            (
                "1:4: a: tags such as !!python/object/apply:os.system are not read here: "
                "write a plain value, or a text in quotes"
            ),
        ),
        ("a: !mine 1", "1:4: a: tags such as !mine are not read here: write a plain value, or a text in quotes"),
    ],
)
def test_what_readers_of_yaml_understand_differently_is_refused(text: str, said: str) -> None:
    assert wrong(text) == [said]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"a": 1, "a": 2}', "1:10: a: is written twice in one object: keep one of them"),
        ('{"t": {"x": {},\r\n "x": {}}}', "2:2: t.x: is written twice in one object: keep one of them"),
        ('{"a": NaN}', "1:7: a: is no number that JSON can write: too large, infinite or NaN"),
        ('{"a": -Infinity}', "1:7: a: is no number that JSON can write: too large, infinite or NaN"),
        ('{"a": [1e999]}', "1:8: a[0]: is no number that JSON can write: too large, infinite or NaN"),
        ('{"a": "\\ud800"}', "1:7: a: holds half of a surrogate pair, which is no character"),
        (f'{{"a": {"9" * 5000}}}', "1:7: a: the number has too many digits"),
    ],
)
def test_what_readers_of_json_understand_differently_is_refused(text: str, said: str) -> None:
    assert wrong(text, "p.json") == [said]


def test_what_is_wrong_with_the_text_is_told_with_what_is_wrong_with_the_document() -> None:
    with pytest.raises(PolicyError) as refused:
        parse_policy("version: '1'\ndefault: deny\ndefault: hold\ntools:\n  x: *y\n  z: {action: hodl}\n", "p.yaml")
    assert [(one.line, one.path) for one in refused.value.mistakes] == [
        (3, "default"),
        (5, "tools.x"),
        (6, "tools.z.action"),
    ]


def test_a_bomb_of_aliases_is_told_as_a_mistake_and_never_unfolded() -> None:
    bomb = "a: &a [x, x]\n" + "".join(
        f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
    )
    assert len(wrong(bomb)) == 9 + 8 * 9


@pytest.mark.parametrize("source", ["p.json", "p.yaml"])
def test_a_file_of_the_greatest_size_is_read_or_refused_in_bounded_time(source: str) -> None:
    began = time.monotonic()
    with pytest.raises(Unreadable):
        read_tree("{" + "[" * (LARGEST - 1), source)
    assert time.monotonic() - began < BOUND


@pytest.mark.parametrize("source", ["noted", "noted.txt", "p.conf"])
def test_without_a_suffix_that_says_it_a_brace_means_json(source: str) -> None:
    assert read_tree(f"\n {EMPTY}", source).value == read_tree("version: '1'\ndefault: deny", source).value
    assert unreadable("{a: 1}", source).startswith("1:2: not JSON")


def test_yaml_holds_json_as_it_is() -> None:
    assert read_tree(EMPTY, "p.yaml").value == json.loads(EMPTY)


def test_every_value_and_key_has_its_place_in_both_notations() -> None:
    value, key = Place(2, 8), Place(2, 3)
    for text, source in (('{"t":\n  {"x": [1]}}', "p.json"), ("t:\n  x:   [1]", "p.yaml")):
        tree = read_tree(text, source)
        assert tree.places["t", "x"][1].line == tree.places["t", "x", 0][1].line == 2
    assert read_tree("t:\n  x:   [1]", "p.yaml").places["t", "x"] == (key, value)
    assert read_tree('{"t":\n  {"x": [1]}}', "p.json").places["t", "x"] == (Place(2, 4), Place(2, 9))


texts = st.text(st.characters(codec="utf-8"))
scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts
keys = st.text(st.characters(codec="utf-8"), max_size=80)  # YAML 1.2, 7.4.2: a key in a line has at most 1024 signs
values = st.recursive(scalars, lambda inner: st.lists(inner) | st.dictionaries(keys, inner), max_leaves=20)


class Quoting(yaml.SafeDumper):
    """Quotes every text: the library writes some plain that are texts in YAML 1.1 and numbers in 1.2, such as 0E0."""


def quoted(_: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return yaml.ScalarNode("tag:yaml.org,2002:str", text, style='"')


Quoting.add_representer(str, quoted)


@given(values, st.booleans(), st.sampled_from([None, 1, 4]))
def test_a_document_is_the_same_as_json_and_as_yaml(value: Any, ascii_only: bool, indent: int | None) -> None:
    written = json.dumps(value, ensure_ascii=ascii_only, indent=indent)
    as_json = read_tree(written, "p.json")
    dumped = yaml.dump(value, Dumper=Quoting, default_flow_style=indent == 1)
    as_yaml = read_tree(dumped, "p.yaml")
    assert as_json.value == value
    assert canonical_json(as_json.value) == canonical_json(as_yaml.value) == canonical_json(value)
    assert as_json.places.keys() == as_yaml.places.keys()
    assert as_json.mistakes == as_yaml.mistakes == ()


@given(values)
def test_json_in_a_yaml_file_is_what_it_is_in_a_json_file(value: Any) -> None:
    written = json.dumps(value)
    assert canonical_json(read_tree(written, "p.yaml").value) == canonical_json(value)


def test_a_policy_has_one_digest_whatever_its_notation() -> None:
    document = {
        "version": "1",
        "default": "deny",
        "tools": {"x": {"limits": [{"counter": "c", "window": 60, "max": 3}]}},
    }
    as_json = parse_policy(json.dumps(document), "p.json")
    as_yaml = parse_policy(yaml.safe_dump(document), "p.yaml")
    assert as_json.digest == as_yaml.digest
    assert as_json.book == as_yaml.book
