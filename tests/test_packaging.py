"""What an installed broker consists of: the wheel carries everything that the source does, and nothing else."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path, PurePosixPath

import pytest

ROOT = Path(__file__).parents[1]


def _in_repository(*patterns: str) -> set[str]:
    """The files of the work tree that match, committed or not, without those that git ignores."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", *patterns]
    listing = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return {name for name in listing.split("\0") if name and (ROOT / name).is_file()}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """The names in a wheel built from the work tree."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    build = subprocess.run(command, capture_output=True, text=True)
    assert build.returncode == 0, build.stdout + build.stderr
    [built] = folder.glob("*.whl")
    with zipfile.ZipFile(built) as archive:
        return set(archive.namelist())


def test_the_wheel_holds_exactly_the_files_of_the_three_packages(wheel: set[str]) -> None:
    packaged = {name for name in wheel if ".dist-info" not in PurePosixPath(name).parts[0]}
    assert packaged == _in_repository("broker", "integrations", "policies")


@pytest.mark.parametrize(
    "pattern",
    [
        "broker/web/templates",
        "broker/web/static",
        "broker/store/migrations",
        "policies/*.json",
        "policies/schema",
        "policies/tests",
        "integrations",
    ],
)
def test_the_wheel_carries_what_is_not_only_code(pattern: str, wheel: set[str]) -> None:
    files = _in_repository(pattern)
    assert files
    assert files <= wheel


def test_the_licence_travels_with_the_wheel(wheel: set[str]) -> None:
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in wheel)
