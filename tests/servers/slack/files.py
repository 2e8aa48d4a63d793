"""Uploading a file in three steps: a URL, the content, and where it is shared.

What belongs here: `files.getUploadURLExternal`, the upload URL, `files.completeUploadExternal`.
What does not: the messages that share a file (workspace.py).
Source: https://docs.slack.dev/messaging/working-with-files#upload
"""

from __future__ import annotations

from typing import Any, cast

from aiohttp import web

from tests.servers.slack.blocks import checked_message
from tests.servers.slack.calls import Call, Methods, SlackRefusal
from tests.servers.slack.chat import by_id, parent_ts, writable
from tests.servers.slack.objects import File, Json, Message, Version
from tests.servers.slack.workspace import Workspace

FILES = Methods()

LARGEST_SNIPPET = 1_000_000
"""https://docs.slack.dev/reference/methods/files.getUploadURLExternal#errors, `snippet_too_large`"""
SNIPPET_TYPES = {"auto", "text", "json", "javascript", "markdown", "python", "shell", "sql", "xml", "yaml", "diff"}
"""Some of https://docs.slack.dev/reference/objects/file-object#types"""


@FILES.add(
    "files.getUploadURLExternal",
    scopes=["files:write"],
    required="filename length",
    optional="snippet_type alt_txt",
    json=False,
    tier=100,
)
async def get_upload_url(slack: Workspace, call: Call) -> Json:
    """https://docs.slack.dev/reference/methods/files.getUploadURLExternal"""
    length, kind = call.text("length"), call.text("snippet_type")
    if not length.isdigit() or int(length) == 0:
        raise SlackRefusal("missing_argument", "length")
    if kind and kind not in SNIPPET_TYPES:
        raise SlackRefusal("unknown_snippet_type")
    if kind and int(length) > LARGEST_SNIPPET:
        raise SlackRefusal("snippet_too_large")
    file = File(slack.new_id("F"), call.text("filename"), int(length), kind)
    slack.files[file.id] = file
    return {"upload_url": f"{slack.url}/upload/v1/{file.id}", "file_id": file.id}


async def upload(slack: Workspace, request: web.Request) -> web.Response:
    """The content, as the body of a POST, or as a form's only file; of the length that was announced."""
    file = slack.files.get(request.match_info["file"])
    content = await _content(request)
    if file is None or file.content is not None or len(content) != file.length:
        return web.Response(status=400, text="ERROR - bad upload")
    file.content = content
    return web.Response(text=f"OK - {file.length}")


async def _content(request: web.Request) -> bytes:
    if not request.content_type.startswith("multipart/"):
        return await request.read()
    fields = [field for field in (await request.post()).values() if isinstance(field, web.FileField)]
    return fields[0].file.read() if fields else b""


@FILES.add(
    "files.completeUploadExternal",
    scopes=["files:write"],
    required="files",
    optional="channel_id thread_ts channels initial_comment blocks",
    tier=100,
)
async def complete_upload(slack: Workspace, call: Call) -> Json:
    """https://docs.slack.dev/reference/methods/files.completeUploadExternal"""
    given: Any = call.structure("files")
    if not isinstance(given, list) or not given:
        raise SlackRefusal("invalid_arguments", "files must be an array")
    files = [_finished(slack, each) for each in cast("list[Any]", given)]
    if call.text("channel_id"):
        channel = by_id(slack, call.text("channel_id"))
        writable(channel, call)
        thread = parent_ts(slack, channel, call)
        version = Version(call.text("initial_comment"), checked_message(slack, call.structure("blocks")))
        message = Message(slack.new_ts(), channel, [version], thread, asked=call.arguments, files=files)
        slack.posted.append(message)
    return {"files": [{"id": file.id, "title": file.title} for file in files]}


def _finished(slack: Workspace, given: Json) -> File:
    file = slack.files.get(given.get("id", ""))
    if file is None or file.content is None:
        raise SlackRefusal("file_not_found")
    file.title = given.get("title") or file.filename
    return file
