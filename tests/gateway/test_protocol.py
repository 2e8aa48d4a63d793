"""The broker's own words and rules of MCP, held against the SDK's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import mcp.shared.inbound as sdk
import mcp_types
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mcp.client.stdio import DEFAULT_INHERITED_ENV_VARS
from mcp.shared.subscriptions import SUBSCRIPTION_ID_META_KEY
from mcp_types import jsonrpc as sdk_jsonrpc
from mcp_types import version as sdk_version
from mcp_types.methods import is_input_required
from starlette.datastructures import Headers

from broker.gateway import jsonrpc, mirrored, protocol
from broker.gateway.jsonrpc import WireError
from broker.gateway.upstreams.stdio.environment import INHERITED
from broker.gateway.wire import check_param_headers

META = [protocol.PROTOCOL_VERSION_META_KEY, protocol.CLIENT_CAPABILITIES_META_KEY]
TEXTS = ["look", "Look", "ü", " edge ", "=?base64?bG9vaw==?=", "=?base64?bG9vaw=?=", "=?base64?ü?=", "a\nb", ""]
VERSIONS = ["2026-07-28", "2025-11-25", "x", 7, None]
values: st.SearchStrategy[Any] = st.sampled_from(
    [None, True, False, 0, 42, 42.0, 4.5, -7, 10**400, float("inf"), "42", [], {}, *TEXTS]
)
said = st.sampled_from(["true", "42", "42.0", "42.5", "042", "-7", "4.5", "1e3", "9" * 5000, *TEXTS])


@pytest.mark.parametrize(
    "name", ["PARSE_ERROR", "INVALID_REQUEST", "METHOD_NOT_FOUND", "INVALID_PARAMS", "INTERNAL_ERROR"]
)
def test_a_code_of_json_rpc_is_the_sdks(name: str) -> None:
    assert getattr(jsonrpc, name) == getattr(sdk_jsonrpc, name)


@pytest.mark.parametrize("name", [name for name in vars(protocol) if name.isupper() and not name.startswith("_")])
def test_a_word_of_mcp_is_the_sdks(name: str) -> None:
    theirs = {"SUBSCRIPTION_ID_META_KEY": SUBSCRIPTION_ID_META_KEY, **vars(sdk_jsonrpc), **vars(mcp_types)}
    assert getattr(protocol, name) == {**theirs, **vars(sdk_version), **vars(sdk)}[name]


def test_servers_that_are_started_inherit_what_the_sdk_lets_them() -> None:
    assert sorted(INHERITED) == sorted(DEFAULT_INHERITED_ENV_VARS)


@pytest.mark.parametrize("result", [{"resultType": "input_required"}, {"resultType": "complete"}, {}, None, "x", []])
def test_a_result_asks_for_input_when_the_sdk_says_so(result: object) -> None:
    assert protocol.is_input_required(result) == is_input_required(result)


@given(
    method=st.sampled_from(["tools/call", "resources/read", "tools/list"]),
    meta=st.none() | st.just(7) | st.dictionaries(st.sampled_from(META), st.sampled_from(VERSIONS)),
    version=st.sampled_from(VERSIONS),
    fields=st.dictionaries(st.sampled_from(["mcp-method", "mcp-name"]), st.sampled_from(["tools/call", *TEXTS[:5]])),
    name=values,
)
def test_an_envelope_is_refused_as_the_sdk_refuses_it(
    method: str, meta: Any, version: Any, fields: dict[str, str], name: Any
) -> None:
    body = {"method": method, "params": {"_meta": meta, "name": name, "uri": name}}
    _same_refusal(body, fields)
    whole = {"_meta": dict.fromkeys(META, version), "name": name, "uri": name}
    fields = {"mcp-method": method, "mcp-protocol-version": str(version), **fields}
    _same_refusal({"method": method, "params": whole}, fields)


@pytest.mark.parametrize("params", [None, [], "x", 7])
def test_a_request_without_an_object_of_parameters_is_refused_as_the_sdk_refuses_it(params: Any) -> None:
    _same_refusal({"method": "tools/list", "params": params}, {})


def _same_refusal(body: Mapping[str, Any], headers: Mapping[str, str]) -> None:
    theirs: Any
    try:
        theirs = sdk.classify_inbound_request(body, headers=headers)
    except ValueError:  # the SDK stumbles over a wrapping with characters beyond ASCII
        theirs = sdk.InboundLadderRejection(
            protocol.HEADER_MISMATCH, "mcp-name header does not match the request body's 'name' parameter"
        )
    ours = protocol.envelope_rejection(body, headers)
    if isinstance(theirs, sdk.InboundModernRoute):
        assert ours is None
    else:
        assert ours is not None
        assert (ours.code, ours.message, ours.data) == (theirs.code, theirs.message, theirs.data)


@given(st.text() | st.sampled_from(TEXTS))
def test_a_text_travels_in_a_field_as_the_sdk_sends_it(text: str) -> None:
    assert mirrored.encoded(text) == sdk.encode_header_value(text)
    assert mirrored.decoded(mirrored.encoded(text)) == text


@given(st.lists(st.sampled_from(["mcp-name", "Mcp-Name", "mcp-method", "accept"])))
def test_a_routing_field_that_is_there_twice_is_found_as_by_the_sdk(names: list[str]) -> None:
    pairs = [(name, "x") for name in names]
    assert protocol.duplicated_field(pairs) == sdk.find_duplicated_routing_header(pairs)


def _part(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    annotated = st.fixed_dictionaries(
        {"type": st.sampled_from(["string", "integer", "boolean", "number", ["string"]])},
        optional={"x-mcp-header": st.sampled_from(["Region", "region", "Size", "Zone", "a b", "", 7])},
    )
    named = st.dictionaries(st.sampled_from("abc"), inner, max_size=3)
    nested = st.fixed_dictionaries({"properties": named}, optional={"items": inner, "anyOf": st.lists(inner)})
    return annotated | nested | st.fixed_dictionaries({}, optional={"$defs": named, "const": inner, "enum": inner})


schemas: st.SearchStrategy[Any] = st.recursive(
    st.just({"type": "string"}) | st.none() | st.just({"x-mcp-header": "Region"}), _part
)
arguments: st.SearchStrategy[dict[str, Any]] = st.dictionaries(
    st.sampled_from("abc"), st.recursive(values, lambda inner: st.dictionaries(st.sampled_from("abc"), inner))
)
headers = st.lists(
    st.tuples(st.sampled_from(["mcp-param-region", "mcp-param-size", "mcp-param-zone", "accept"]), said), max_size=3
)


@given(schemas, arguments, headers)
def test_parameters_are_mirrored_as_the_sdk_mirrors_them(
    schema: Any, arguments: dict[str, Any], headers: list[tuple[str, str]]
) -> None:
    ours = mirrored.mirrored(schema)
    if sdk.find_invalid_x_mcp_header(schema) is not None:
        assert not ours
        return
    assert {one.path: one.token for one in ours} == (known := sdk.x_mcp_header_map(schema))
    assert mirrored.fields(ours, arguments) == sdk.mcp_param_headers(known, arguments)
    _same_verdict(schema, arguments, headers)
    _same_verdict(schema, arguments, list(mirrored.fields(ours, arguments).items()))


def test_a_field_that_a_broken_annotation_asks_for_is_refused_since_nobody_compares_it() -> None:
    untyped = {"properties": {"path": {"x-mcp-header": "Path"}}}
    with pytest.raises(WireError, match="mirrors no parameter"):
        check_param_headers(untyped, {"path": "/tmp"}, ((b"mcp-param-path", b"/etc"),))


@given(values, said, st.sampled_from(["string", "integer", "boolean"]))
def test_a_field_agrees_with_its_argument_where_the_sdk_finds_so(value: Any, field: str, kind: str) -> None:
    schema = {"properties": {"a": {"type": kind, "x-mcp-header": "Region"}}}
    _same_verdict(schema, {"a": value}, [("mcp-param-region", field)])


def _same_verdict(schema: Any, arguments: dict[str, Any], headers: list[tuple[str, str]]) -> None:
    sent = [(name.lower().encode(), value.encode("latin-1", "replace")) for name, value in headers]
    view = Headers(raw=sent)
    ours = mirrored.disagreement(mirrored.mirrored(schema), arguments, view.items())
    try:
        theirs = sdk.validate_mcp_param_headers(schema, arguments, view)
    except ValueError:  # the SDK stumbles over a wrapping with characters beyond ASCII
        assert ours is not None
        return
    assert ours == (theirs.message if theirs is not None else None)
