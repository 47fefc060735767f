"""The rules of the house: who may import whom, what lies at the top, how long a file may be."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGES = {"bot", "engine", "kernels"}
TOP = {"bot", "engine", "kernels", "deploy", "tests", "Dockerfile", "pyproject.toml", "Makefile"}
TOP |= {"README.md", "ARCHITECTURE.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "LICENSE", "docs"}


def tracked() -> list[str]:
    files = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return files.splitlines()


def lint(config: Path) -> str:
    """What import-linter says against the imports; "" where it is content.

    In a process of its own, since its logging configuration disables every logger that exists.
    """
    command = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    linting = [sys.executable, "-c", command, "--config", str(config), "--no-cache"]
    done = subprocess.run(linting, cwd=ROOT, capture_output=True, text=True)
    return (done.stdout + done.stderr) if done.returncode else ""


def test_imports_point_down() -> None:
    """The rooms and their order are the contracts in pyproject.toml."""
    assert not lint(ROOT / "pyproject.toml")


def test_an_import_that_points_up_would_be_noticed(tmp_path: Path) -> None:
    contract = "type = 'layers'\ncontainers = ['engine']\nlayers = ['errors', 'core']\nname = 'upside down'\n"
    (tmp_path / "house.toml").write_text(
        f"[tool.importlinter]\nroot_package = 'engine'\n[[tool.importlinter.contracts]]\n{contract}"
    )
    assert "engine.core -> engine.errors" in lint(tmp_path / "house.toml")


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


def too_large(source: str, most_lines: int = 60, most_parameters: int = 7) -> Iterator[str]:
    """Functions that nobody can hold in mind: too long, or with too many parameters (`self` not counted)."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            every = (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)
            parameters = [each for each in every if each.arg not in ("self", "cls")]
            lines = (node.end_lineno or 0) - node.lineno + 1
            if lines > most_lines or len(parameters) > most_parameters:
                yield f"{node.name}: {lines} lines, {len(parameters)} parameters"


def test_functions_fit_a_screen() -> None:
    """Of Triton kernels the tables of arguments are left out."""
    paths = [ROOT / name for name in tracked() if name.endswith(".py") and name.split("/")[0] in PACKAGES]
    assert len(paths) > 200
    found = {
        str(path.relative_to(ROOT)): large
        for path in paths
        if path.exists() and path.name != "triton.py" and (large := [*too_large(path.read_text())])
    }
    assert not found


def test_a_function_that_is_too_large_would_be_noticed() -> None:
    assert [*too_large("def f(self, a, b, c): pass", most_parameters=2)] == ["f: 1 lines, 3 parameters"]
    assert [*too_large("class A:\n    async def f(self):\n        pass\n", most_lines=1)] == [
        "f: 2 lines, 0 parameters"
    ]


def test_documents_name_files_that_are_there() -> None:
    documents = [name for name in tracked() if name.endswith(".md") and not name.startswith(("tests/", "CHANGELOG"))]
    named = {
        (document, path)
        for document in documents
        for path in re.findall(
            r"`((?:bot|engine|kernels|tests|deploy|docs|\.ci)/[\w./-]*)`", (ROOT / document).read_text()
        )
    }
    assert len(named) > 30
    assert not {(document, path) for document, path in named if not (ROOT / path).exists()}
