"""The benchmark runs and says what it is for; how fast anything is belongs in no test."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from tests.bench.findings import Findings
from tests.bench.measure import CELLS
from tests.bench.report import Report
from tests.servers import ROOT


def test_a_short_run_prints_the_table_the_goals_and_a_ratio_of_everything(tmp_path: Path) -> None:
    file = tmp_path / "bench.json"
    short = ("--quick", "--seconds", "0.05", "--callers", "16", "--parts", "calls", "judging")
    command = (sys.executable, "-m", "tests.bench", *short, "--json", str(file))
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    found = Findings.read(file)
    proxied = ["nginx"] if shutil.which("nginx") else []
    ways = {"http": ["direct", *proxied, "broker"], "stdio": ["direct", "broker"]}
    assert [one.way for one in found.measured] == [
        way for cell in CELLS if cell.callers == 16 for way in ways[cell.upstream]
    ]
    for one in found.measured:
        ratios = Report(found.measured).ratios(one)
        assert all(1e-6 < ratio < 1e6 for ratio in (ratios.rate, ratios.p50, ratios.p95, ratios.p99, ratios.cpu)), one
        assert one.calls > 0
    assert found.memory.keys() == {"sqlite", "postgresql"}
    table, _, rest = run.stdout.partition("\n\n")
    assert len(table.splitlines()) == 1 + len(found.measured)
    goals = [line for line in rest.splitlines() if "reached" in line]
    assert len(goals) == len(found.goals) >= 4
    assert ("nginx is not installed" in rest) == (not proxied)
    assert str(found.machine) in rest
