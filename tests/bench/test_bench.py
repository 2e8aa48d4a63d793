"""The benchmark runs and says what it is for; how fast anything is belongs in no test."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

from tests.bench.measure import CELLS
from tests.servers import ROOT


def test_a_short_run_prints_the_table_the_goals_and_a_ratio_of_everything(tmp_path: Path) -> None:
    file = tmp_path / "bench.json"
    command = ("-m", "tests.bench", "--quick", "--rounds", "1", "--seconds", "0.1", "--json", str(file))
    run = subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    told = json.loads(file.read_text())
    proxied = ["nginx"] if shutil.which("nginx") else []
    ways = {"http": ["direct", *proxied, "broker"], "stdio": ["direct", "broker"]}
    assert [line["way"] for line in told["measured"]] == [way for cell in CELLS for way in ways[cell.upstream]]
    for line in told["measured"]:
        ratios = [line["ratios"][name] for name in ("rate", "p50", "p99")]
        assert all(1e-6 < ratio < 1e6 for ratio in ratios), line
        assert line["calls"] > 0
    table, _, rest = run.stdout.partition("\n\n")
    assert len(table.splitlines()) == 1 + len(told["measured"])
    goals = [line for line in rest.splitlines() if "reached" in line]
    assert len(goals) == len(told["goals"]) >= 2
    assert ("nginx is not installed" in rest) == (not proxied)
