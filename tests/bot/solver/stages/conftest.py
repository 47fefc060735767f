import subprocess
from pathlib import Path

import pytest

from tests.bot.solver.stages.sampling import MOD
from tests.github.fixtures import github, github_server

__all__ = ["github", "github_server"]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "mod.py").write_text(MOD)
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_mod.py").write_text("from mod import add\n")
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    subprocess.run(["git", "add", "."], cwd=tmp_path, check=True)
    return tmp_path
