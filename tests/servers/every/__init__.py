"""A server that uses every feature of the protocol, in both eras, over stdio and Streamable HTTP, without an SDK.

It is deterministic: its ids, sessions, tasks and times are counted, so that two clients that do the same are answered
with the same bytes. Tools do what their arguments say, so that a script decides what a server asks and tells.

- `speech`: how a message becomes bytes, plainly or oddly.
- `session`: one client's requests, and what the server asks and tells on its own account.
- `content`: what there is to list and read.
- `tools`, `legacy`, `modern`: what each tool and method does.
- `odd`: whole answers over HTTP as bytes.
- `over_http`, `over_stdio`: the transports.
"""
