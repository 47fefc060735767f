"""The rules of the house: who may import whom, what lies at the top, how long a file may be."""

import ast
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FORBIDDEN = {"bot": {"engine", "kernels"}, "engine": {"bot"}, "kernels": {"bot", "engine"}}
TOP = {"bot", "engine", "kernels", "deploy", "tests", "Dockerfile", "pyproject.toml", "Makefile"}
TOP |= {"README.md", "ARCHITECTURE.md", "CHANGELOG.md", "LICENSE", "docs"}


def tracked() -> list[str]:
    files = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return files.splitlines()


def imports(source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute here"
            yield node.module or ""


@pytest.mark.parametrize("package", sorted(FORBIDDEN))
def test_import_rules(package: str) -> None:
    for path in sorted((ROOT / package).rglob("*.py")):
        roots = {name.split(".")[0] for name in imports(path.read_text())}
        assert not roots & (FORBIDDEN[package] | {"tests"}), path.relative_to(ROOT)


def test_import_rule_would_notice() -> None:
    assert "engine" in set(imports("def f():\n    import engine\n"))


def test_stages_never_import_each_other() -> None:
    paths = sorted((ROOT / "bot" / "solver" / "stages").glob("*.py"))
    assert paths
    for path in paths:
        for name in imports(path.read_text()):
            if name.startswith("bot.solver.stages."):
                assert path.stem in PARTS_OF_STAGES.get(name.split(".")[3], ()), f"{path.name} imports {name}"


# A stage that passed 400 lines and was split by noun: part -> the stages that are made of it.
PARTS_OF_STAGES = {"test_machine": ("trajectories",), "edit_machine": ("trajectories",)}


def test_top_level_is_the_house() -> None:
    top = {name.split("/")[0] for name in tracked()}
    assert {name for name in top if not name.startswith(".")} <= TOP


def test_no_file_is_over_400_lines() -> None:
    long = {}
    for name in tracked():
        path = ROOT / name
        if name.endswith(".py") and not name.startswith("tests/") and path.exists():
            lines = len(path.read_text().splitlines())
            if lines > 400:
                long[name] = lines
    assert not long


def test_no_junk_drawers() -> None:
    assert not [name for name in tracked() if Path(name).name in {"utils.py", "helpers.py", "misc.py", "common.py"}]
