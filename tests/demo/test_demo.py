import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.demo import COUNT, DemoCase, load

# What mends each: known to this test alone.
FIXES = {
    1: ("shop/tickets.py", "if age <= 6:", "if age < 6:"),
    2: ("tools/lists.py", "item != wanted", "item == wanted"),
    3: ("shop/tickets.py", "total -= ticket_price(age)", "total += ticket_price(age)"),
}
NUMBERS = range(1, COUNT + 1)


def write(case: DemoCase, root: Path, fix: tuple[str, str, str] | None) -> None:
    for name, text in case.files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if fix and name == fix[0]:
            assert text.count(fix[1]) == 1
            text = text.replace(fix[1], fix[2])
        path.write_text(text)


def run(root: Path, *argv: str) -> int:
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(root), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(
        [sys.executable, *argv], cwd=root, env=environment, capture_output=True, check=False
    ).returncode


@pytest.mark.parametrize("number", NUMBERS)
def test_the_check_passes_only_where_the_bug_is_gone(number: int, tmp_path: Path) -> None:
    case = load(number)
    for state, fix, expected in (("planted", None, 1), ("fixed", FIXES[number], 0)):
        root = tmp_path / state
        write(case, root, fix)
        (tmp_path / "check.py").write_text(case.check)
        assert run(root, str(tmp_path / "check.py")) == expected, state
        assert run(root, "-m", "unittest", "discover") == 0, state
        assert run(root, "-m", "pytest", "-q", "-p", "no:cacheprovider") == 0, state


@pytest.mark.parametrize("number", NUMBERS)
def test_the_repository_knows_neither_check_nor_fix(number: int) -> None:
    case = load(number)
    path, before, after = FIXES[number]
    assert not any("check.py" in name or "issue.md" in name for name in case.files)
    assert case.files[path].count(before) == 1
    assert after not in case.files[path]
    assert case.issue.title
    assert path in case.issue.body
    modules = [name for name in case.files if name.endswith(".py") and "test" not in name and "__init__" not in name]
    assert 2 <= len(modules) <= 3
    assert all(10 <= len(case.files[name].splitlines()) <= 60 for name in modules)


def test_the_command_prints_one_object() -> None:
    shown = subprocess.run([sys.executable, "-m", "tests.demo", "2"], capture_output=True, text=True, check=True)
    case = json.loads(shown.stdout)
    assert set(case) == {"name", "title", "body", "files", "check"}
    assert case["files"] == load(2).files
    with pytest.raises(ValueError, match="1 to 3"):
        load(4)
