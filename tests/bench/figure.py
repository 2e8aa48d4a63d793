"""The figure of speed: calls a second and what a call takes longer, of the broker beside nginx, as an SVG.

What belongs here: drawing. What does not: which numbers there are (`findings`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape

from tests.bench.findings import Findings
from tests.bench.measure import CALLERS, Cell, Measured
from tests.bench.report import Report
from tests.bench.requests import MODERN
from tests.bench.sheet import short

WIDTH, LINE, BAR = 840, 24, 15
LEFT, ROOM, BETWEEN = 150, 190, 440
"""Where the bars of the first panel begin, how long the longest is, and how far the second panel is from the first."""

STYLE = """
  text { font: 13px system-ui, sans-serif; fill: #1f2328 }
  .faint { fill: #59636e }
  .title { font-weight: 600 }
  .direct { fill: #c4cad1 } .nginx { fill: #8c959f } .broker { fill: #0b62c4 }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3 } .faint { fill: #9aa4ae }
    .direct { fill: #3d444d } .nginx { fill: #767f89 } .broker { fill: #5aa5ff }
  }
"""


def drawn(found: Findings) -> str:
    """The figure."""
    report = Report(found.measured)
    cells = [(counted(many), Cell(MODERN, many)) for many in CALLERS]
    lines = [(where, one) for where, cell in cells for one in report.measured if one.cell == cell]
    height = 60 + LINE * len(lines) + 12 * len(cells) + 22
    body = "\n".join((*_panel("calls/s", lines, 0), *_panel("p50, ms", lines, BETWEEN)))
    foot = f"{escape(str(found.machine))}; revision {MODERN}, SQLite, policy, limit and record on"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        f'role="img" aria-label="Calls a second and their median time, direct, through nginx and through the broker">\n'
        f"<style>{STYLE}</style>\n{body}\n"
        f'<text class="faint" x="0" y="{height - 8}">{foot}</text>\n</svg>\n'
    )


def counted(callers: int) -> str:
    """So many, in words."""
    return f"{callers} caller{'s' * (callers > 1)}"


def _panel(title: str, lines: Sequence[tuple[str, Measured]], x: int) -> Iterator[str]:
    """A bar for each line: as long as its number."""
    values = [one.rate if title == "calls/s" else one.p50 * 1e3 for _, one in lines]
    longest, y, last = max(values), 24, ""
    yield f'<text class="title" x="{x + LEFT}" y="16">{title}</text>'
    for (where, one), value in zip(lines, values, strict=True):
        if where != last:
            y, last = y + 12, where
            yield f'<text x="{x}" y="{y + 13}">{where}</text>'
        yield f'<text class="faint" x="{x + LEFT - 8}" y="{y + 13}" text-anchor="end">{one.way}</text>'
        width = max(1.0, ROOM * value / longest)
        yield f'<rect class="{one.way}" x="{x + LEFT}" y="{y + 2}" width="{width:.1f}" height="{BAR}" rx="2"/>'
        yield f'<text x="{x + LEFT + width + 6:.1f}" y="{y + 13}">{short(value)}</text>'
        y += LINE
