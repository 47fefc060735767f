"""The engine as a child process: found by the line it prints, ended with its context, explained where it fails."""

import os
from pathlib import Path

import pytest

from bot.errors import EndpointError
from bot.llm.bundled_engine import READY, engine_process


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package `engine` of the test's own, found before ours."""
    (tmp_path / "engine").mkdir()
    (tmp_path / "engine" / "__init__.py").touch()  # else ours, a whole package, comes first
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TROOP_TOKEN", "a secret")
    return tmp_path / "engine" / "__main__.py"


async def test_serves_until_the_context_ends(engine: Path, tmp_path: Path) -> None:
    engine.write_text(
        "import os, sys, time\n"
        "open('pid', 'w').write(str(os.getpid()))\n"
        "print('loading', 'TROOP_TOKEN' in os.environ, sys.argv[1:], flush=True)\n"
        f"print({READY!r} + 'http://127.0.0.1:8', flush=True)\n"
        "time.sleep(1000)\n"
    )
    async with engine_process(tmp_path / "log", model="folder", threads=3) as url:
        assert url == "http://127.0.0.1:8/v1"
        pid = int((tmp_path / "pid").read_text())
        os.kill(pid, 0)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    log = (tmp_path / "log").read_text()
    assert "loading False" in log, "the operator's secrets are not the engine's"
    assert "'--model', 'folder', '--threads', '3'" in log


async def test_says_where_to_look_if_it_ends(engine: Path, tmp_path: Path) -> None:
    engine.write_text("import sys\nprint('no checkpoint')\nsys.exit(3)\n")
    with pytest.raises(EndpointError, match=r"exit code 3 .*log"):
        async with engine_process(tmp_path / "log"):
            pass
    assert "no checkpoint" in (tmp_path / "log").read_text()


async def test_gives_up_on_one_that_never_listens(engine: Path, tmp_path: Path) -> None:
    engine.write_text("import time\ntime.sleep(1000)\n")
    with pytest.raises(EndpointError, match="did not come up"):
        async with engine_process(tmp_path / "log", start_timeout=0.5):
            pass
