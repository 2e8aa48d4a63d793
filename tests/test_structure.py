"""The shape of the source: who may import whom, and how long a module is."""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("broker", "integrations")
MODULES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
LONGEST = 350

IN_ORDER = (
    ("broker.cli",),
    ("broker.demo",),
    ("broker.app",),
    ("broker.settings",),
    ("broker.bridge",),
    ("integrations", "broker.gateway", "broker.web", "broker.front", "broker.ticks"),
    ("broker.approvals",),
    ("broker.store", "broker.policy"),
    ("broker.domain",),
    ("broker.stop_points",),
    ("broker.errors",),
)
"""The layers, highest first. Each may import those below it; those of one layer may not import each other."""

LEVEL = {name: level for level, names in enumerate(IN_ORDER) for name in names}
UPWARD_OR_ASIDE = [(a, b) for a in LEVEL for b in LEVEL if a != b and LEVEL[a] >= LEVEL[b]]
DOWNWARD = [(a, b) for a in LEVEL for b in LEVEL if LEVEL[a] < LEVEL[b]]


def _lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache", "--no-logo"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


def _skeleton(folder: Path, imports: list[tuple[str, str]]) -> Path:
    """Every layer as an empty package under the project's own contracts, with a module that does these `imports`."""
    shutil.copy(ROOT / "pyproject.toml", folder)
    for name in LEVEL:
        package = folder.joinpath(*name.split("."))
        package.mkdir(parents=True)
        (package.parent if "." in name else package).joinpath("__init__.py").touch()
        package.joinpath("__init__.py").touch()
        package.joinpath("module.py").write_text("".join(f"import {b}.module\n" for a, b in imports if a == name))
    return folder


@pytest.fixture(scope="module")
def complaints(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What the contracts say of a project that breaks each of them."""
    return _lint_imports(_skeleton(tmp_path_factory.mktemp("skeleton"), UPWARD_OR_ASIDE)).stdout


def test_the_imports_of_this_project_go_one_way() -> None:
    run = _lint_imports(ROOT)
    assert run.returncode == 0, run.stdout


def test_a_layer_may_import_every_layer_below_it(tmp_path: Path) -> None:
    run = _lint_imports(_skeleton(tmp_path, DOWNWARD))
    assert run.returncode == 0, run.stdout


@pytest.mark.parametrize(("importer", "imported"), UPWARD_OR_ASIDE)
def test_an_import_upwards_or_of_a_sibling_is_found(importer: str, imported: str, complaints: str) -> None:
    assert f"{importer}.module -> {imported}.module" in complaints


def test_everything_in_the_source_has_its_layer() -> None:
    parts = {f"broker.{path.stem}" for path in (ROOT / "broker").iterdir() if path.stem.isidentifier()}
    assert parts - {"broker.__init__", "broker.__pycache__", "broker.__main__"} <= set(LEVEL)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_says_what_it_is_is_short_and_imports_no_tests(path: Path) -> None:
    source = path.read_text()
    tree = ast.parse(source)
    assert ast.get_docstring(tree)
    assert len(source.splitlines()) <= LONGEST
    assert "tests" not in {name.split(".")[0] for name in _imported(tree)}


def _imported(tree: ast.Module) -> set[str]:
    """The absolute names that any statement of `tree` imports from."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names.add(node.module)
    return names
