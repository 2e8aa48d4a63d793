"""The `views.` methods: opening and rewriting a modal.

What belongs here: what these methods refuse and do. What does not: what a view may look like (blocks.py).
"""

from __future__ import annotations

from tests.servers.slack.blocks import checked_view
from tests.servers.slack.calls import Call, Methods, SlackRefusal
from tests.servers.slack.objects import Json, Person, View
from tests.servers.slack.workspace import Workspace

VIEWS = Methods()


def _exchange(slack: Workspace, name: str) -> Person:
    """Use a trigger id up, once and within 3 s; gives whose it is.

    Source: https://docs.slack.dev/interactivity/handling-user-interaction#modal_responses
    """
    permit = slack.triggers.get(name)
    if permit is None:
        raise SlackRefusal("invalid_trigger_id")
    if not permit.uses:
        raise SlackRefusal("exchanged_trigger_id")
    if slack.now() > permit.until:
        raise SlackRefusal("expired_trigger_id")
    permit.uses -= 1
    return permit.user


@VIEWS.add("views.open", required="view", optional="trigger_id interactivity_pointer", tier=100)
async def views_open(slack: Workspace, call: Call) -> Json:
    """https://docs.slack.dev/reference/methods/views.open"""
    given = checked_view(slack, call.structure("view"))
    view = View(slack.new_id("V"), _exchange(slack, call.text("trigger_id")), given, slack.new_ts())
    slack.views[view.id] = view
    return {"view": view.told()}


@VIEWS.add("views.update", required="view", optional="view_id external_id hash", tier=100)
async def views_update(slack: Workspace, call: Call) -> Json:
    """https://docs.slack.dev/reference/methods/views.update"""
    given = checked_view(slack, call.structure("view"))
    view = slack.views.get(call.text("view_id"))
    if view is None or not view.open:
        raise SlackRefusal("not_found")
    if call.text("hash") not in ("", view.hash):
        raise SlackRefusal("hash_conflict")
    view.show(given, slack.new_ts())
    return {"view": view.told()}
