"""The engine as a child process: how it is found, how it ends, and what is said if it fails."""

import os
from pathlib import Path

import pytest

from bot.errors import EndpointError, ModelMissing
from bot.llm import bundled_engine
from bot.llm.bundled_engine import READY, configured_engine, engine_process
from bot.llm.published_models import SMOLLM2
from bot.settings import Settings

LISTENS = f"""import sys, time
print(sys.argv[1:], flush=True)
print("INFO engine.loading: unpacking", flush=True)
print("50 %\\r" * 100_000, flush=True)
print({READY!r} + "http://127.0.0.1:8", flush=True)
time.sleep(1000)
"""


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package `engine` of the test's own, found before ours."""
    (tmp_path / "engine").mkdir()
    (tmp_path / "engine" / "__init__.py").touch()  # else ours comes first, as a regular package
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TROOP_TOKEN", "a secret")
    path = tmp_path / "engine" / "__main__.py"
    path.write_text(LISTENS)
    return path


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
    with pytest.raises(EndpointError, match="did not start"):
        async with engine_process(tmp_path / "log", start_timeout=0.5):
            pass


# -- which model it is started with ------------------------------------------------------------------------------------


def settings(**changes: object) -> Settings:
    return Settings(_env_file=None, **changes)  # type: ignore[arg-type]


async def test_a_published_model_is_served_under_its_name(engine: Path, tmp_path: Path) -> None:
    with SMOLLM2.path(tmp_path).open("wb") as file:
        file.truncate(SMOLLM2.size)
    said: list[str] = []
    chosen = settings(engine_model="SmolLM2-135M", models_dir=tmp_path, engine_arguments="--threads 1")
    async with configured_engine(chosen, tmp_path / "log", said.append) as url:
        assert url == "http://127.0.0.1:8/v1"
    log = (tmp_path / "log").read_text()
    asked = ["--model", str(SMOLLM2.path(tmp_path)), "--served-model-name", "smollm2-135m", "--threads", "1"]
    assert str(asked)[1:-1] in log
    assert said == [f"starting the engine with SmolLM2-135M; its output is in {tmp_path / 'log'}", "engine: unpacking"]


async def test_a_path_keeps_its_own_name_and_none_is_the_bundled_model(engine: Path, tmp_path: Path) -> None:
    async with configured_engine(settings(engine_model=str(tmp_path)), tmp_path / "log"):
        pass
    log = (tmp_path / "log").read_text()
    assert f"'--model', '{tmp_path}'" in log
    assert "--served-model-name" not in log
    async with configured_engine(settings(), tmp_path / "bundled"):
        pass
    assert "--model" not in (tmp_path / "bundled").read_text()


def test_one_that_is_not_there_is_told_before_anything_starts(tmp_path: Path) -> None:
    for name, mend in (("smollm2-135m", "make models"), ("nowhere.gguf", "GGUF file")):
        with pytest.raises(ModelMissing, match=mend):
            configured_engine(settings(engine_model=name, models_dir=tmp_path), tmp_path / "log")


async def test_what_the_engine_says_against_a_model_is_passed_on(engine: Path, tmp_path: Path) -> None:
    engine.write_text("import sys\nprint('troop engine: the file is cut short', file=sys.stderr)\nsys.exit(1)\n")
    with pytest.raises(EndpointError, match="exit code 1 before it listened: the file is cut short; its output"):
        async with configured_engine(settings(engine_model=str(tmp_path)), tmp_path / "log"):
            pass


async def test_a_long_start_is_not_silent(engine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = tmp_path / "told"
    engine.write_text(
        "import os, time\n"
        f"while not os.path.exists({str(told)!r}): time.sleep(0.01)\n"
        f"print({READY!r} + 'http://127.0.0.1:8', flush=True)\ntime.sleep(1000)\n"
    )
    monkeypatch.setattr(bundled_engine, "TELL", 0.01)
    said: list[str] = []

    def say(words: str) -> None:
        said.append(words)
        if words.startswith("still loading"):
            told.touch()

    async with configured_engine(settings(engine_model=str(tmp_path)), tmp_path / "log", say):
        assert any(words.startswith("still loading, 0 s") for words in said)
