"""The channel `slack`: approvals are posted in Slack, rewritten there as they change, and remarked on in the thread.

What belongs here: which calls of the Web API show and say something, and what leads back to a message. What does not:
how it looks (`messages`, `remarks`), when it is told and tried again (`broker.approvals.outbox`).

A place is `slack:#channel`, or `slack:@ann@example.com`: the direct messages of the app and that person.
"""

from __future__ import annotations

from broker.approvals.notices import Notice, Reference, Remark
from broker.domain.audit import Kind
from broker.errors import PlaceMissing
from integrations.slack.directory import Directory
from integrations.slack.messages import Message, message
from integrations.slack.remarks import remark as remark_of
from integrations.slack.web_api import WebApi

_STYLE = {"parse": "none", "unfurl_links": False, "unfurl_media": False}


class SlackChannel:
    """The port `Channel`, for one workspace.

    A reference has the `channel` (an id) and the `ts` of a message, and `shown`: the digest of what it shows of the
    call.

    Args:
        default: the channel of what names no place, such as `#approvals`.
    """

    name = "slack"
    direct = True

    def __init__(self, web: WebApi, directory: Directory, default: str) -> None:
        self._web = web
        self._directory = directory
        self.default = f"{self.name}:{default}"

    async def show(self, place: str, notice: Notice, reference: Reference | None) -> Reference:
        """Post the message of an approval, or rewrite it; as `Channel.show` says."""
        shown = message(notice, place)
        if reference is None:
            return {**await self._post(await self._conversation(place), shown), "shown": shown.shown}
        where = {"channel": reference["channel"], "ts": reference["ts"]}
        await self._web.call("chat.update", **where, text=shown.text, blocks=shown.blocks, parse="none")
        return {**where, "shown": shown.shown}

    async def say(self, place: str, remark: Remark, thread: Reference | None) -> None:
        """Say something in the thread of a message, or announce it; as `Channel.say` says."""
        if thread is not None and remark.notice is not None and remark.row.kind is Kind.APPROVAL_SUBMITTED:
            whole = message(remark.notice, place).whole
            if whole is not None:
                await self._share(whole, thread)
        found = [await self._mention(name) for name in remark.mentions]
        words = remark_of(remark, [mention for mention in found if mention is not None])
        if words is None:
            return
        if thread is None:
            await self._post(await self._conversation(place), words)
        else:
            await self._post(thread["channel"], words, thread["ts"])

    async def _post(self, channel: str, words: Message, thread: str | None = None) -> Reference:
        text, blocks = words.text, words.blocks
        posted = await self._web.call(
            "chat.postMessage", channel=channel, text=text, blocks=blocks, thread_ts=thread, **_STYLE
        )
        return {"channel": posted["channel"], "ts": posted["ts"]}

    async def _conversation(self, place: str) -> str:
        """What Slack calls a place.

        Raises:
            PlaceMissing: nobody in the workspace has that address.
            ChannelError: Slack did not say.
        """
        name = place.partition(":")[2]
        if not name.startswith("@"):
            return name
        user = await self._directory.user_id(name[1:])
        if user is None:
            raise PlaceMissing("nobody in the workspace has this address: add them there, or ask a group instead")
        opened = await self._web.call("conversations.open", users=user)
        return opened["channel"]["id"]

    async def _mention(self, name: str) -> str | None:
        """A group or an address as Slack spells a mention; None: nobody there goes by it."""
        if "@" not in name:
            group = self._directory.groups.get(name)
            return f"<!subteam^{group}>" if group is not None else None
        user = await self._directory.user_id(name)
        return f"<@{user}>" if user is not None else None

    async def _share(self, whole: str, thread: Reference) -> None:
        """All that a call says, as a file in the thread: https://docs.slack.dev/messaging/working-with-files."""
        content = whole.encode()
        place = await self._web.call("files.getUploadURLExternal", filename="call.txt", length=len(content))
        await self._web.upload(place["upload_url"], content)
        await self._web.call(
            "files.completeUploadExternal",
            files=[{"id": place["file_id"], "title": "The whole call"}],
            channel_id=thread["channel"],
            thread_ts=thread["ts"],
        )
