"""What the pages say of speed: a short table in README.md, all of it in docs/speed.md, the figure beside it.

What belongs here: which numbers are shown where, and putting them there. What does not: measuring, drawing (`figure`).
What stands between two comments of a page is written by the benchmark, and the tests compare it with what is kept.
"""

from __future__ import annotations

from tests.bench import holding
from tests.bench.figure import counted, drawn
from tests.bench.findings import Findings
from tests.bench.grown import Growth
from tests.bench.measure import CALLERS, Cell
from tests.bench.report import Report
from tests.bench.requests import MODERN
from tests.bench.sheet import Sheet, short
from tests.servers import ROOT

README, SPEED, FIGURE = ROOT / "README.md", ROOT / "docs" / "speed.md", ROOT / "docs" / "images" / "speed.svg"


def write() -> None:
    """Put what is kept into the pages."""
    found, grown = Findings.read(), Growth.read()
    FIGURE.write_text(drawn(found))
    SPEED.write_text(between(between(SPEED.read_text(), "measured", measured(found)), "grown", growth(grown)))
    README.write_text(between(README.read_text(), "speed", short_table(found)))


def between(page: str, name: str, text: str) -> str:
    """The page with `text` between the comments of this name.

    Raises:
        ValueError: it has no such comments.
    """
    begin, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
    before, _, rest = page.partition(begin)
    _, found, after = rest.partition(end)
    if not found:
        raise ValueError(f"There is nothing between {begin.strip()} and {end}.")
    return f"{before}{begin}{text}{end}{after}"


def short_table(found: Findings) -> str:
    """For README.md: at most eight lines."""
    report = Report(found.measured)
    names = {"calls/s": "rate", "half are answered within (p50)": "p50", "99 of 100 within (p99)": "p99"}
    lines = [(name, *(_in_short(report, field, callers) for callers in CALLERS)) for name, field in names.items()]
    head = ("broker (nginx), straight to the server = 1", *(counted(callers) for callers in CALLERS))
    return f"{Sheet(head, lines).markdown()}\n{_beside(found)}\n"


def _in_short(report: Report, field: str, callers: int) -> str:
    """The broker's ratio to the direct way, and that of nginx."""
    ways = (report.of(Cell(MODERN, callers), way) for way in ("broker", "nginx"))
    broker, *nginx = (short(getattr(report.ratios(one), field)) for one in ways if one is not None)
    return f"{broker} ({nginx[0]})" if nginx else broker


def _beside(found: Findings) -> str:
    largest = max(found.held, key=lambda one: one.held)
    decided = min(found.held, key=lambda one: abs(one.held - holding.DECIDED_AT))
    return (
        f"{largest.held:,} held calls take {short(largest.each / 1024)} KiB each; a decision reaches the agent within "
        f"{decided.from_sent.p99 * 1e3:.0f} ms (p99, {decided.held:,} held).\n"
        f"Measured on {found.machine}; [more, and how to repeat it](docs/speed.md)."
    )


def measured(found: Findings) -> str:
    """For docs/speed.md: all that a run of the benchmark found."""
    memory = Sheet(
        ("memory of the broker", "idle", "after the calls"),
        [(name, f"{of.idle / 2**20:.0f} MiB", f"{of.loaded / 2**20:.0f} MiB") for name, of in found.memory.items()],
    )
    told = [
        f"Measured on {found.machine}; medians of {found.rounds} rounds of {found.seconds:g} s.\n",
        Report(found.measured).sheet().markdown(),
        memory.markdown(),
        holding.sheet(found.held).markdown(),
        "".join(f"- {ended}\n" for ended in found.ended),
        "Where the goals stand:\n",
        "".join(f"- {goal}\n" for goal in found.goals),
    ]
    return "\n".join(told)


def growth(grown: Growth) -> str:
    """For docs/speed.md: how cost grows."""
    return f"Measured on {grown.machine}.\n\n{grown.sheet().markdown()}"
