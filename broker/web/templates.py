"""The Jinja environment: everything is escaped, a missing name is an error, hidden characters have a filter.

What belongs here: filters and globals for templates. What does not: what a page is about (`broker.web.pages`).
"""

from __future__ import annotations

import asyncio
import re
from datetime import datetime
from functools import partial
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from starlette.responses import HTMLResponse

from broker.domain.announcements import announcement
from broker.domain.audit import Row
from broker.domain.history import happening, moment, ran_before
from broker.domain.reviewers import place
from broker.domain.searching import Outcome, outcome_of
from broker.domain.standing import standing
from broker.domain.values import shown, telling_argument
from broker.store.columns import EPOCH, MICROSECOND
from broker.web import words
from broker.web.text import beginning, cut, visible

_MOMENT = re.compile(r"(\d{4}-\d\d-\d\d) (\d\d:\d\d:\d\d) UTC", re.ASCII)
"""As `moment` spells them."""


def _outcome(row: Row) -> Outcome | None:
    return outcome_of(row.kind, row.detail)


def _microseconds(at: datetime) -> int:
    return (at - EPOCH) // MICROSECOND


def _iso(at: datetime) -> str:
    return f"{at:%Y-%m-%dT%H:%M:%SZ}"


def _times(text: Markup) -> Markup:
    """A sentence of ours, each moment in it as a page has times: told in the zone of whoever reads."""
    made = r'<time datetime="\1T\2Z" title="\g<0>">\g<0></time>'
    return Markup(_MOMENT.sub(made, str(text)))  # noqa: S704 - digits in what is escaped


_environment = Environment(
    loader=PackageLoader("broker.web"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    auto_reload=False,  # looking for changes of a file takes longer than a row
)
_filters: dict[str, Any] = {
    "visible": visible,
    "cut": cut,
    "shown": shown,
    "telling": telling_argument,
    "moment": moment,
    "times": _times,
    "iso": _iso,
    "microseconds": _microseconds,
    "ago": words.ago,
    "apart": words.apart,
    "left": words.left,
    "hurry": words.hurry,
    "beginning": beginning,
    "tone": words.tone,
    "standing": standing,
    "happening": happening,
    "announcement": announcement,
    "ran_before": ran_before,
    "kept_as": words.kept_as,
    "brief": words.brief,
    "outcome": _outcome,
    "outcome_tone": words.outcome_tone,
    "place": place,
}
_environment.filters.update(_filters)


async def render_large(template: str, **values: Any) -> HTMLResponse:
    """The same in a thread: a page of what agents sent may be large, and calls do not wait for it."""
    return await asyncio.to_thread(partial(render, template, **values))


def fragment(template: str, **values: Any) -> Markup:
    """A piece of a page."""
    return Markup(_environment.get_template(template).render(**values))  # noqa: S704 - escaped by the environment


def render(template: str, *, status: int = 200, **values: Any) -> HTMLResponse:
    """The page that `template` makes of `values`; `asker` is who looks at it, or None."""
    return HTMLResponse(_environment.get_template(template).render(**values), status)
