"""What the pages say of speed is what is kept of the last runs, and the figure is one that browsers draw."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from tests.bench import pages
from tests.bench.figure import WIDTH, drawn
from tests.bench.findings import Findings
from tests.bench.grown import Growth
from tests.bench.measure import CELLS

FOUND, GROWN = Findings.read(), Growth.read()


@pytest.mark.parametrize(
    ("page", "name", "text"),
    [
        (pages.README, "speed", pages.short_table(FOUND)),
        (pages.SPEED, "measured", pages.measured(FOUND)),
        (pages.SPEED, "grown", pages.growth(GROWN)),
    ],
    ids=["the README", "calls", "growth"],
)
def test_a_page_says_what_was_measured(page: Path, name: str, text: str) -> None:
    shown = page.read_text()
    assert pages.between(shown, name, text) == shown


def test_a_table_is_put_between_its_comments_alone_and_nowhere_else() -> None:
    page = "a\n<!-- x -->\nold\n<!-- /x -->\nb\n"
    assert pages.between(page, "x", "new\n") == page.replace("old", "new")
    with pytest.raises(ValueError, match="nothing between <!-- y --> and <!-- /y -->"):
        pages.between(page, "y", "new\n")


def test_the_readme_has_a_short_table_with_machine_and_date() -> None:
    table = pages.short_table(FOUND)
    assert len(table.splitlines()) <= 8
    assert str(FOUND.machine) in table
    assert re.search(r"\b20\d\d-\d\d-\d\d\b", table)


def test_the_figure_shows_what_was_measured_in_both_colour_schemes() -> None:
    figure = pages.FIGURE.read_text()
    assert figure == drawn(FOUND)
    assert "prefers-color-scheme: dark" in figure
    root = ET.fromstring(figure)
    bars = list(root.iter("{http://www.w3.org/2000/svg}rect"))
    assert sum(bar.get("class") == "broker" for bar in bars) == 2 * len({cell.callers for cell in CELLS})
    assert all(float(bar.get("x", "")) + float(bar.get("width", "")) < WIDTH for bar in bars)
