"""What the pages say of speed: the table in README.md, those in docs/speed.md, the figure."""

from tests.bench.findings import Findings


def write(found: Findings) -> None: ...
