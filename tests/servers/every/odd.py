"""Whole answers over HTTP as bytes, which a request or a GET asks for by name: legal, and rarely seen.

What belongs here: status, fields and bytes. What does not: answering in earnest.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

ASKED = "example.com/answer"
"""The key of a request's `_meta` that names its answer."""
ASKED_FIELD = "X-Answer"
"""The same of a GET, as a header field."""

JSON = "application/json"
EVENTS = "text/event-stream"


@dataclass(frozen=True)
class Answer:
    """What is sent. `<id>` in `chunks` stands for the request's id, `<list>` for an empty list of tools."""

    chunks: tuple[bytes, ...] = (b"",)
    kind: str | None = JSON
    status: int = 200
    fields: tuple[tuple[str, str], ...] = ()

    def filled(self, request_id: Any) -> list[bytes]:
        """Its chunks for this request."""
        written = json.dumps(request_id).encode()
        return [chunk.replace(b"<id>", written).replace(b"<list>", _LIST) for chunk in self.chunks]


_LIST = b'"tools" : [ ] , "content":[]'
_RESULT = b'{"result":{<list>,"resultType":"complete"},"id":<id>,"jsonrpc":"2.0"}'
_ERROR = b'{"jsonrpc":"2.0","id":<id>,"error":{"code":-32099,"message":"No.\\u00e9","data":[1.0,{"b":1,"a":2}],"x":1}}'
_NOBODYS = b'{"jsonrpc":"2.0","id":%b,"error":{"code":-32700,"message":"Parse error"}}'
_NOTE = b'{"jsonrpc":"2.0","method":"notifications/unheard","params":{"z":1e2,"a":[]}}'

BODIES = {
    "white-space": Answer((b'\r\n\t{ "jsonrpc" : "2.0" ,\n\n"id":<id>\r, "result":{ <list> } }\n\n',)),
    "escapes": Answer(
        (
            b'{"jsonrpc":"2.0","id":<id>,"result":{<list>,"\\u0061\\/":"\\u00e9\\ud83d\\ude00\\u0000\\u2028\xe2\x80\xa8"}}',
        )
    ),
    "lone-surrogate": Answer((b'{"jsonrpc":"2.0","id":<id>,"result":{<list>,"x":"\\udc00"}}',)),
    "numbers": Answer(
        (b'{"jsonrpc":"2.0","id":<id>,"result":{<list>,"x":[1.0,1e2,1E+2,1.50,-0,-0.0,9007199254740993,1e-400]}}',)
    ),
    "long-numbers": Answer(
        (
            b'{"jsonrpc":"2.0","id":<id>,"result":{<list>,"x":[123456789012345678901234567890,0.10000000000000000555111]}}',
        )
    ),
    "order": Answer((_RESULT,)),
    "fields-beside": Answer((b'{"jsonrpc":"2.0","x":{"b":1,"a":2},"id":<id>,"result":{<list>,"":null},"_meta":{}}',)),
    "deep": Answer((b'{"jsonrpc":"2.0","id":<id>,"result":{<list>,"x":' + b"[" * 300 + b"]" * 300 + b"}}",)),
    "empty-result": Answer((b'{"jsonrpc":"2.0","id":<id>,"result":{}}',)),
    "result-type-unheard": Answer((b'{"jsonrpc":"2.0","id":<id>,"result":{"resultType":"x/y","at":[1.0]}}',)),
    "error": Answer((_ERROR,)),
    "error-of-no-request": Answer((_NOBODYS % b"null",)),
    "charset": Answer((_RESULT,), "Application/JSON; Charset=UTF-8; x=y"),
    "json-suffix": Answer((_RESULT,), "application/vnd.example+json"),
    "mark": Answer((b"\xef\xbb\xbf" + _RESULT,)),
    "pieces": Answer((_ERROR[:20], _ERROR[20:21], _ERROR[21:70], _ERROR[70:])),
    "fields": Answer(
        (_RESULT,),
        fields=(
            ("X-Same", "one"),
            ("X-Same", "two"),
            ("X-Empty", ""),
            ("X-Latin", "b\u00fccher"),
            ("Mcp-Unheard", "kept"),
            ("Cache-Control", "private, max-age=1"),
            ("ETag", 'W/"1"'),
            ("Vary", "Accept"),
            ("Link", '<https://example.com/>; rel="x"'),
            ("Warning", '299 - "old"'),
            ("Content-Language", "de"),
        ),
    ),
}
STATUSES = {
    "bad-request": Answer((_ERROR,), status=400),
    "not-found": Answer((_ERROR,), status=404),
    "error-of-no-request": Answer((_NOBODYS % b"null",), status=400),
    "error-of-another-id": Answer((_NOBODYS % b'"server-error"',), status=404),
    "not-found-without-words": Answer(kind=None, status=404),
    "conflict": Answer((_ERROR,), status=409),
    "too-many": Answer((_ERROR,), status=429, fields=(("Retry-After", "7"),)),
    "forbidden": Answer((_ERROR,), status=403),
    "server-error": Answer((_ERROR,), status=500),
    "unavailable": Answer((_ERROR,), status=503, fields=(("Retry-After", "Fri, 31 Dec 2027 23:59:59 GMT"),)),
    "created": Answer((_RESULT,), status=201),
    "teapot": Answer((_ERROR,), status=418),
}
STREAMS = {
    "comments": Answer(
        (b":\n\n: one\n:two\n\n", b"data: " + _NOTE + b"\n:in\n\ndata: " + _RESULT + b"\n\n: end\n\n"), EVENTS
    ),
    "cr": Answer((b"data: " + _NOTE + b"\r\rdata: " + _RESULT + b"\r\r",), EVENTS),
    "crlf": Answer((b"data: " + _NOTE + b"\r\n\r\ndata: " + _RESULT + b"\r\n\r\n",), EVENTS),
    "mixed-ends": Answer((b"event: message\rdata: " + _NOTE + b"\r\n\ndata:" + _RESULT + b"\n\r\n",), EVENTS),
    "ends-in-pieces": Answer(
        (b"data: " + _NOTE + b"\r", b"\n\r", b"\ndata: " + _RESULT, b"\r", b"\n", b"\r", b"\n"), EVENTS
    ),
    "many-lines": Answer(
        (b'data: {"jsonrpc":"2.0",\ndata:"id":<id>,\nid: 7\ndata: "result"\ndata: : {<list>}\ndata: }\n\n',), EVENTS
    ),
    "retry": Answer((b"retry: 10\n\nid: 1\nretry: 20\ndata\n\nid: 2\ndata: " + _RESULT + b"\n\n",), EVENTS),
    "ids": Answer((b"id: \xc3\xa4/1 \ndata: " + _NOTE + b"\n\nid\ndata: " + _RESULT + b"\n\n",), EVENTS),
    "other-events": Answer(
        (b"event: ping\ndata: not json\n\nevent: x\nid: 3\n\ndata: " + _RESULT + b"\nevent: message\n\n",), EVENTS
    ),
    "no-space": Answer((b"event:message\ndata:" + _RESULT + b"\n\n",), EVENTS),
    "unheard-fields": Answer((b"unheard: 1\nunheard\nDATA: x\ndata: " + _RESULT + b"\n\n",), EVENTS),
    "mark": Answer((b"\xef\xbb\xbfdata: " + _NOTE + b"\n\ndata: " + _RESULT + b"\n\n",), EVENTS),
    "mark-in-pieces": Answer((b"\xef", b"\xbb\xbfdata: " + _RESULT + b"\n\n"), EVENTS),
    "after-the-answer": Answer((b"data: " + _RESULT + b"\n\ndata: " + _NOTE + b"\n\n",), EVENTS),
    "charset": Answer((b"data: " + _RESULT + b"\n\n",), "Text/Event-Stream;Charset=utf-8"),
    "numbers": Answer((b'data: {"jsonrpc":"2.0","id":<id>,"result":{<list>,"x":[1.0,1e2,-0]}} \n\n',), EVENTS),
    "never-ended": Answer((b"data: " + _RESULT + b"\n\ndata: " + _NOTE + b"\n",), EVENTS),
    "error": Answer((b"data: " + _ERROR + b"\n\n",), EVENTS),
    "fields": Answer((b"data: " + _RESULT + b"\n\n",), EVENTS, 200, (("X-Accel-Buffering", "no"), ("X-Own", "a, b"))),
}
ANSWERS = {
    **{f"body/{name}": answer for name, answer in BODIES.items()},
    **{f"status/{name}": answer for name, answer in STATUSES.items()},
    **{f"stream/{name}": answer for name, answer in STREAMS.items()},
}
