"""JSON-RPC on the wire: what is taken, what is refused, and the headers that speak of the body."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.gateway.wire import (
    WireError,
    check_envelope,
    check_param_headers,
    dumps,
    error_message,
    http_status,
    is_modern,
    loads,
    parse_message,
    result_message,
)

MODERN = "2026-07-28"
ENVELOPE: dict[str, Any] = {
    "io.modelcontextprotocol/protocolVersion": MODERN,
    "io.modelcontextprotocol/clientCapabilities": {},
}

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


def body(**members: Any) -> bytes:
    return json.dumps({"jsonrpc": "2.0", **members}).encode()


def call(name: str = "echo", /, **meta: Any) -> bytes:
    return body(id=1, method="tools/call", params={"name": name, "arguments": {}, "_meta": meta})


def modern_headers(**other: str) -> list[tuple[bytes, bytes]]:
    fields = {"mcp-protocol-version": MODERN, "mcp-method": "tools/call", "mcp-name": "echo"}
    return raw({**fields, **{name.replace("_", "-"): value for name, value in other.items()}})


def raw(fields: dict[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.encode(), value.encode()) for name, value in fields.items()]


def refusal(text: bytes) -> WireError:
    with pytest.raises(WireError) as caught:
        parse_message(text)
    return caught.value


def mismatch(text: bytes, headers: list[tuple[bytes, bytes]]) -> WireError:
    with pytest.raises(WireError) as caught:
        check_envelope(parse_message(text), headers)
    return caught.value


# -- parsing ----------------------------------------------------------------------------------------------------------


def test_a_request_a_notification_and_a_response_are_told_apart() -> None:
    request = parse_message(body(id="a", method="tools/list", params={"x": 1}, unknown=True))
    assert (request.kind, request.method, request.id, request.params) == ("request", "tools/list", "a", {"x": 1})
    assert request.body["unknown"] is True
    note = parse_message(body(method="notifications/initialized"))
    assert (note.kind, note.id, note.params) == ("notification", None, {})
    reply = parse_message(body(id=0, result={}))
    assert (reply.kind, reply.method, reply.id) == ("response", None, 0)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"\xef\xbb\xbf" + body(id=1, method="m"),
        body(id=1, method="m").decode().encode("utf-16"),
        body(id=1, method="m", params={"x": float("nan")}),
        body(id=1, method="m", params={"x": float("-inf")}),
        b'{"jsonrpc":"2.0","id":1,"method":"m","params":{"x":1e999}}',
        b'{"jsonrpc":"2.0","id":1,"method":"m","params":{"x":1e999,"y":123456789012345678901234}}',
        b'{"jsonrpc":"2.0","id":1,"method":"m","params":{"x":NaN,"y":123456789012345678901234}}',
        b'{"jsonrpc":"2.0","id":1,"method":"m","params":{"x":"\\ud800"}}',
        b'{"jsonrpc":"2.0","id":1,"method":"m","params":{"x":"\\ud800","y":123456789012345678901234}}',
        b'{"jsonrpc":"2.0","id":1,"method":"\xff"}',
        b'{"jsonrpc":"2.0","id":' + b"9" * 5000 + b"}",
    ],
)
def test_what_is_not_strict_json_is_a_parse_error(text: bytes) -> None:
    error = refusal(text)
    assert (error.rpc_code, error.status) == (-32700, 400)
    assert error.body["id"] is None


@pytest.mark.parametrize("text", [b"[" * 10_000, b"[" * 10_000 + b"1" * 30, b'{"a":' * 2000 + b"1" + b"}" * 2000])
def test_nesting_that_no_parser_takes_is_told_as_nesting(text: bytes) -> None:
    error = refusal(text)
    assert (error.rpc_code, str(error)) == (-32600, "Invalid Request: it nests more than 100 levels deep.")


@pytest.mark.parametrize(
    "text",
    [
        b"[]",
        b"[" + body(id=1, method="m") + b"]",
        b'"text"',
        b'{"id":1,"method":"m"}',
        b'{"jsonrpc":"1.0","id":1,"method":"m"}',
        body(id=None, method="m"),
        body(id=True, method="m"),
        body(id=1.5, method="m"),
        body(id={}, method="m"),
        body(id=1, method=5),
        body(id=1, method="m", params=[1]),
        body(id=1, method="m", result={}),
        body(id=1, result={}, error={}),
        body(result={}),
        body(id=1),
        body(id=None, error={}),
    ],
)
def test_what_is_not_one_message_is_an_invalid_request(text: bytes) -> None:
    error = refusal(text)
    assert (error.rpc_code, error.status) == (-32600, 400)


@pytest.mark.parametrize("member", ["Method", "METHOD", "Params", "param\u017f", "Id", "\u0131d", "RESULT"])
def test_a_member_that_some_servers_take_for_another_one_is_refused(member: str) -> None:
    error = refusal(body(id=1, method="tools/list", **{member: "tools/call"}))
    assert (error.rpc_code, error.request_id) == (-32600, 1)


def test_an_invalid_request_is_answered_under_its_id_when_that_is_known() -> None:
    assert refusal(body(id="seven", method="m", params=[1])).body["id"] == "seven"


def nested(levels: int) -> bytes:
    return b'{"jsonrpc":"2.0","id":1,"method":"m","params":{"x":' + b"[" * (levels - 2) + b"]" * (levels - 2) + b"}}"


def test_nesting_is_taken_to_100_levels_and_refused_beyond() -> None:
    assert parse_message(nested(100)).kind == "request"
    error = refusal(nested(101))
    assert (error.rpc_code, error.request_id) == (-32600, 1)


def test_many_brackets_that_do_not_nest_are_taken() -> None:
    assert len(parse_message(body(id=1, method="m", params={"x": [[]] * 500})).params["x"]) == 500


@given(json_values)
def test_what_was_parsed_is_serialised_to_the_same_value(value: Any) -> None:
    text = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "m", "params": {"x": value}}).encode()
    message = parse_message(text)
    assert message.params["x"] == value
    assert repr(loads(dumps(message.body))["params"]["x"]) == repr(message.params["x"])


@pytest.mark.parametrize("number", [2**63, -(2**63) - 1, 2**64, 10**18 + 1, -(10**30) + 7, 10**4000])
def test_integers_stay_exact_at_any_size(number: int) -> None:
    assert loads(dumps(parse_message(body(id=1, method="m", params={"x": number})).params)) == {"x": number}


@given(st.integers(10**18, 10**25), st.integers(0, 60))
def test_a_long_integer_is_found_wherever_it_stands(number: int, place: int) -> None:
    assert parse_message(body(id=1, method="m", params={"x" * place: -number})).params == {"x" * place: -number}


def test_of_duplicate_keys_only_the_one_that_was_read_goes_on() -> None:
    message = parse_message(b'{"jsonrpc":"2.0","id":1,"method":"a","method":"b"}')
    assert dumps(message.body).count(b'"method":"b"') == 1
    assert b'"a"' not in dumps(message.body)


def test_a_lone_surrogate_of_a_server_survives() -> None:
    assert loads(dumps(loads(b'{"x":"\\ud83d"}'))) == {"x": "\ud83d"}


@pytest.mark.parametrize("text", [b"NaN", b"1e999", b"[" * 100_000, b"\xff", b""])
def test_a_server_is_not_believed_what_json_does_not_have(text: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the parser's own words
        loads(text)


def test_nothing_that_is_no_json_is_ever_written() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        dumps([2**70, float("nan")])


def test_a_progress_token_is_a_string_or_an_integer() -> None:
    assert parse_message(call(progressToken="t")).progress_token == "t"
    assert parse_message(call(progressToken=0)).progress_token == 0
    assert parse_message(call(progressToken=True)).progress_token is None
    assert parse_message(call(progressToken=[1])).progress_token is None
    assert parse_message(body(id=1, method="m", params={"_meta": 5})).progress_token is None


def test_replies_are_json_rpc() -> None:
    assert result_message(1, {"a": 1}) == {"jsonrpc": "2.0", "id": 1, "result": {"a": 1}}
    assert error_message(None, -1, "no") == {"jsonrpc": "2.0", "id": None, "error": {"code": -1, "message": "no"}}
    assert error_message("x", -1, "no", [1])["error"]["data"] == [1]


@pytest.mark.parametrize(("code", "status"), [(-32601, 404), (-32602, 400), (-32020, 400), (-32603, 200), (7, 200)])
def test_modern_errors_have_the_status_of_their_code(code: int, status: int) -> None:
    assert http_status(error_message(1, code, "no")) == status


# -- eras and headers -------------------------------------------------------------------------------------------------


def test_a_modern_version_in_the_header_or_the_envelope_makes_a_request_modern() -> None:
    plain, enveloped = parse_message(call()), parse_message(call(**ENVELOPE))
    assert is_modern(raw({"mcp-protocol-version": MODERN}))
    assert is_modern(raw({"mcp-protocol-version": MODERN}), plain)
    assert is_modern([], enveloped)
    assert not is_modern(raw({"mcp-protocol-version": "2025-11-25"}), plain)
    assert not is_modern([], plain)


def test_a_whole_modern_request_passes() -> None:
    check_envelope(parse_message(call(**ENVELOPE)), modern_headers())


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        (modern_headers(mcp_method="tools/list"), -32020),
        (modern_headers(mcp_name="other"), -32020),
        (modern_headers(mcp_name="=?base64?!!?="), -32020),
        (modern_headers(mcp_protocol_version="2025-11-25"), -32020),
        ([], -32020),
        (modern_headers() + raw({"mcp-name": "other"}), -32020),
        (raw({"mcp-name": "other"}) + modern_headers(), -32020),
    ],
)
def test_a_modern_request_whose_headers_disagree_is_refused(headers: list[tuple[bytes, bytes]], code: int) -> None:
    error = mismatch(call(**ENVELOPE), headers)
    assert (error.rpc_code, error.status, error.request_id) == (code, 400, 1)


def test_a_modern_header_without_its_envelope_is_refused() -> None:
    assert mismatch(call(), modern_headers()).rpc_code == -32602


def test_a_modern_version_that_nobody_knows_is_refused_with_those_that_are_known() -> None:
    version = "2099-01-01"
    envelope = {**ENVELOPE, "io.modelcontextprotocol/protocolVersion": version}
    error = mismatch(call(**envelope), modern_headers(mcp_protocol_version=version))
    assert error.rpc_code == -32022
    assert error.body["error"]["data"] == {"supported": [MODERN], "requested": version}


def test_a_name_header_for_a_call_that_names_no_tool_is_refused() -> None:
    text = body(id=1, method="tools/call", params={"_meta": ENVELOPE})
    assert mismatch(text, modern_headers()).rpc_code == -32020


def test_a_modern_notification_needs_only_its_version() -> None:
    note = body(method="notifications/cancelled", params={"requestId": 1})
    check_envelope(parse_message(note), raw({"mcp-protocol-version": MODERN}))


def test_a_legacy_request_needs_no_routing_headers() -> None:
    check_envelope(parse_message(call()), raw({"mcp-protocol-version": "2025-11-25"}))


@pytest.mark.parametrize(
    "headers",
    [
        raw({"mcp-method": "tools/list"}),
        raw({"mcp-name": "other"}),
        raw({"mcp-name": "echo"}) + raw({"mcp-name": "other"}),
        raw({"mcp-name": "=?base64?b3RoZXI=?="}),
    ],
)
def test_a_legacy_request_whose_routing_headers_contradict_it_is_refused(headers: list[tuple[bytes, bytes]]) -> None:
    assert mismatch(call(), headers).rpc_code == -32020


def test_a_legacy_request_may_have_routing_headers_that_agree() -> None:
    check_envelope(parse_message(call("é")), raw({"mcp-method": "tools/call", "mcp-name": "=?base64?w6k=?="}))


SCHEMA = {"type": "object", "properties": {"region": {"type": "string", "x-mcp-header": "Region"}}}


def test_mirrored_arguments_have_to_agree_with_their_headers() -> None:
    check_param_headers(SCHEMA, {"region": "eu"}, raw({"mcp-param-region": "eu"}))
    check_param_headers(SCHEMA, {}, [])


@pytest.mark.parametrize(
    ("arguments", "headers"),
    [
        ({"region": "eu"}, raw({"mcp-param-region": "us"})),
        ({"region": "eu"}, []),
        ({}, raw({"mcp-param-region": "us"})),
        ({"region": "eu"}, raw({"mcp-param-region": "eu"}) + raw({"mcp-param-region": "us"})),
    ],
)
def test_a_mirrored_argument_that_disagrees_is_refused(
    arguments: dict[str, Any], headers: list[tuple[bytes, bytes]]
) -> None:
    with pytest.raises(WireError) as caught:
        check_param_headers(SCHEMA, arguments, headers, 7)
    assert (caught.value.rpc_code, caught.value.status, caught.value.request_id) == (-32020, 400, 7)
